// A function that does what it is told, so that what it could reach shows: a DMA engine, interrupts on demand, and every
// capability that rules treat in a way of its own.
import assert from "node:assert/strict";
import type { BarRangeRule } from "../../../packages/ring3/src/mediation/index.ts";
import type { BarIndex } from "../../../packages/ring3/src/pci/function.ts";
import type { FakeClient } from "../../../packages/ring3/src/vfio-user/fake-client.ts";
import { Irq } from "../../../packages/ring3/src/vfio-user/messages.ts";
import * as virtual from "../../../packages/ring3/src/virtual/index.ts";
import type { DeviceRegisters } from "./attack.ts";
import { peek, poke } from "./wire.ts";

/** Registers of BAR 0: an address, and what is done there; the others hold what was written. */
const Engine = { ADDRESS: 0x00, READ: 0x08, WRITE: 0x0c, DATA: 0x10, RAISE: 0x14, FAULTS: 0x18, SHADOW: 0x1c } as const;
/** One of those that hold what was written. */
export const MARK = 0x40;
const Kept = { LIMITED: 0x1000, HIDDEN: 0x2000, READ_ONLY: 0x3000, SIZE: 0x1000, WRITES_PER_SECOND: 10 } as const;
const BAR_BYTES = 0x4000;
const RESIZABLE_BYTES = 0x10_0000;
const TABLE = { bar: 4, bytes: 0x2000, pendingBits: 0x1000 } as const;
const VECTORS = 8;
const HIDDEN_AT_FIRST = 0x1234;

export const TARGET_IDS = { vendorId: 0x1234, deviceId: 0x5678 } as const;

export class TargetDevice extends virtual.VirtualFunction {
  readonly #words: Uint32Array = new Uint32Array(BAR_BYTES / 4);

  constructor() {
    super({
      name: "target",
      ...TARGET_IDS,
      classCode: 0xff0000,
      interruptPin: "A",
      bars: {
        0: { size: BAR_BYTES },
        2: { size: RESIZABLE_BYTES, memory: true },
        [TABLE.bar]: { size: TABLE.bytes, kind: "memory64" },
      },
      capabilities: [
        virtual.pm(),
        virtual.msi({ vectors: 4 }),
        virtual.msix({
          vectors: VECTORS,
          table: { bar: TABLE.bar },
          pendingBits: { bar: TABLE.bar, offset: TABLE.pendingBits },
        }),
        virtual.pcie(),
        virtual.vendorSpecific({ content: Uint8Array.of(1, 2, 3, 4), writable: new Uint8Array(4).fill(0xff) }),
        virtual.aer({}),
        virtual.rebar({ bars: [{ bar: 2, sizes: [RESIZABLE_BYTES, 2 * RESIZABLE_BYTES] }] }),
      ],
    });
    this.onReset();
  }

  protected override read32(bar: BarIndex, offset: number): number {
    if (bar !== 0) return 0;
    if (offset === Engine.FAULTS) return this.memory.faults;
    return this.#words[(offset === Engine.SHADOW ? Kept.HIDDEN : offset) / 4] ?? 0;
  }

  protected override write32(bar: BarIndex, offset: number, value: number): void {
    if (bar !== 0) return;
    this.#words[offset / 4] = value;
    const address = (this.#words[0] ?? 0) + (this.#words[1] ?? 0) * 2 ** 32;
    if (offset === Engine.READ) this.#words[Engine.DATA / 4] = this.memory.read32(address);
    else if (offset === Engine.WRITE) this.memory.write32(address, value);
    else if (offset === Engine.RAISE) this.interrupts.raise(value);
  }

  protected override onReset(): void {
    this.#words.fill(0);
    this.#words[Kept.HIDDEN / 4] = HIDDEN_AT_FIRST;
  }
}

/** Has the engine access `address`, and tells whether it could. */
async function engine(client: FakeClient, address: number, register: number, value: number): Promise<boolean> {
  await poke(client, Engine.ADDRESS, address >>> 0);
  await poke(client, Engine.ADDRESS + 4, Math.floor(address / 2 ** 32));
  const before = await peek(client, Engine.FAULTS);
  await poke(client, register, value);
  return (await peek(client, Engine.FAULTS)) === before;
}

export const targetRegisters: DeviceRegisters = {
  interrupts: Irq.MSIX,
  mark: { offset: MARK, value: 0x5e_c2e7 },
  raise: Engine.RAISE,
  ranges: {
    hidden: Kept.HIDDEN,
    shadow: Engine.SHADOW,
    readOnly: Kept.READ_ONLY,
    limited: Kept.LIMITED,
    writesPerSecond: Kept.WRITES_PER_SECOND,
  },
  reads: async (client, address, expected) => {
    await poke(client, Engine.DATA, ~expected >>> 0);
    const reached = await engine(client, address, Engine.READ, 4);
    assert.equal((await peek(client, Engine.DATA)) === expected, reached, "it faulted, or got what was there");
    return reached;
  },
  writes: (client, address) => engine(client, address, Engine.WRITE, 0xbad),
};

/** The owner's rules for it, as `ring3d` has them in its configuration. */
export const targetRanges: readonly BarRangeRule[] = [
  { bar: 0, offset: Kept.HIDDEN, size: Kept.SIZE, access: "hidden" },
  { bar: 0, offset: Kept.READ_ONLY, size: Kept.SIZE, access: "read-only" },
  { bar: 0, offset: Kept.LIMITED, size: Kept.SIZE, access: "limited", writesPerSecond: Kept.WRITES_PER_SECOND },
];

const ENTRY_BYTES = 16;

/** The hardware as its owner sees it. */
export function hardwareOf(device: TargetDevice): { readonly config: Uint8Array; readonly tableEntry: Uint8Array } {
  const config = new Uint8Array(device.config.size);
  device.config.readInto(0, config);
  const tableEntry = new Uint8Array(ENTRY_BYTES);
  device.readBar(TABLE.bar, 0, tableEntry);
  return { config, tableEntry };
}
