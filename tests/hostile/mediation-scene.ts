// The place of the attacks on mediated functions: two users at two functions of one process, of which one attacks. The
// function has a DMA engine that does what it is told, so that what it could reach shows.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMemoryFile, EventFd, type FileDescriptor, MappedMemory } from "../../packages/ring3/src/linux/index.ts";
import { type MediatedFunction, type MediationOptions, mediate } from "../../packages/ring3/src/mediation/index.ts";
import type { BarIndex, PciFunction } from "../../packages/ring3/src/pci/function.ts";
import { FakeClient } from "../../packages/ring3/src/vfio-user/fake-client.ts";
import {
  Command,
  DmaMap,
  DmaUnmap,
  IrqSet,
  IrqSetFlag,
  Region,
  RegionAccess,
  WireErrno,
} from "../../packages/ring3/src/vfio-user/messages.ts";
import { type FunctionServer, serve } from "../../packages/ring3/src/vfio-user/server.ts";
import * as virtual from "../../packages/ring3/src/virtual/index.ts";

/** Registers of BAR 0: an address, and what is done there. The others hold what was written, SECRET too. */
export const Engine = { ADDRESS: 0x00, READ: 0x08, WRITE: 0x0c, DATA: 0x10, RAISE: 0x14, SECRET: 0x40 } as const;
/** Ranges of BAR 0 that rules keep from users. */
export const Kept = { HIDDEN: 0x2000, READ_ONLY: 0x3000, LIMITED: 0x1000 } as const;
/** Where the victim's memory lies, in its own addresses. */
export const VICTIM_IOVA = 0x40_0000;
const LOCKED_BYTES = 0x10_0000;

/** The real function: on the other side of the mediator. */
class TargetDevice extends virtual.VirtualFunction {
  readonly words: Uint32Array = new Uint32Array(0x4000 / 4);
  resets = 0;

  constructor() {
    super({
      name: "target",
      vendorId: 0x1234,
      deviceId: 0x5678,
      classCode: 0xff0000,
      interruptPin: "A",
      bars: { 0: { size: 0x4000 }, 2: { size: 0x10_0000, memory: true }, 4: { size: 0x2000, kind: "memory64" } },
      capabilities: [
        virtual.pm(),
        virtual.msi({ vectors: 4 }),
        virtual.msix({ vectors: 8, table: { bar: 4 }, pendingBits: { bar: 4, offset: 0x1000 } }),
        virtual.pcie(),
        virtual.vendorSpecific({ content: Uint8Array.of(1, 2, 3, 4), writable: new Uint8Array(4).fill(0xff) }),
        virtual.aer({}),
        virtual.rebar({ bars: [{ bar: 2, sizes: [0x10_0000, 0x20_0000] }] }),
      ],
    });
  }

  protected override read32(bar: BarIndex, offset: number): number {
    return bar === 0 ? (this.words[offset / 4] ?? 0) : 0;
  }

  protected override write32(bar: BarIndex, offset: number, value: number): void {
    if (bar !== 0) return;
    this.words[offset / 4] = value;
    const address = (this.words[0] ?? 0) + (this.words[1] ?? 0) * 2 ** 32;
    if (offset === Engine.READ) this.words[Engine.DATA / 4] = this.memory.read32(address);
    else if (offset === Engine.WRITE) this.memory.write32(address, value);
    else if (offset === Engine.RAISE) this.interrupts.raise(value);
  }

  protected override onReset(): void {
    this.resets++;
    this.words.fill(0);
  }
}

/** One function with its mediator and its server. */
export interface Place {
  readonly device: TargetDevice;
  readonly real: PciFunction;
  readonly mediated: MediatedFunction;
  readonly server: FunctionServer;
  readonly path: string;
}

/** An attacker's client, and what there is to attack. */
export class Scene implements AsyncDisposable {
  readonly own: Place;
  readonly other: Place;
  readonly client: FakeClient;
  readonly victim: FakeClient;
  /** The victim's memory, whose content nobody but its own device may change. */
  readonly treasure: MappedMemory;
  readonly hits: string[] = [];
  readonly #stack = new AsyncDisposableStack();

  private constructor(own: Place, other: Place, client: FakeClient, victim: FakeClient, treasure: MappedMemory) {
    this.own = own;
    this.other = other;
    this.client = client;
    this.victim = victim;
    this.treasure = treasure;
  }

  static async open(): Promise<Scene> {
    await using stack = new AsyncDisposableStack();
    const directory = mkdtempSync(join(tmpdir(), "ring3-attack-"));
    stack.defer(() => rmSync(directory, { recursive: true }));
    const place = async (name: string): Promise<Place> => {
      const device = stack.use(new TargetDevice());
      const real = stack.use(virtual.inProcess(device));
      const options: MediationOptions = {
        name,
        lockedBytes: LOCKED_BYTES,
        maps: 64,
        now: () => 0,
        ranges: [
          { bar: 0, offset: Kept.HIDDEN, size: 0x1000, access: "hidden" },
          { bar: 0, offset: Kept.READ_ONLY, size: 0x1000, access: "read-only" },
          { bar: 0, offset: Kept.LIMITED, size: 0x1000, access: "limited", writesPerSecond: 10 },
        ],
      };
      const mediated = stack.use(await mediate(real, options));
      const path = join(directory, name);
      const server = stack.use(await serve(mediated, path, { clientTimeoutMs: 200 }));
      return { device, real, mediated, server, path };
    };
    const own = await place("own");
    const other = await place("other");
    const victim = stack.use(await FakeClient.open(other.path, { max_msg_fds: 16 }));
    const file = stack.use(createMemoryFile(0x4000));
    const treasure = stack.use(MappedMemory.file(file, 0, 0x4000));
    treasure.bytes.fill(0x5a);
    const mapped = DmaMap.bytes({ argsz: 32, flags: 3, offset: 0n, address: BigInt(VICTIM_IOVA), size: 0x4000n });
    assert.equal(await victim.errno(Command.DMA_MAP, mapped, { fds: [file] }), 0);
    const client = stack.use(await FakeClient.open(own.path, { max_msg_fds: 16 }));
    const scene = new Scene(own, other, client, victim, treasure);
    own.mediated.observe({ rule: ({ rule }) => scene.hits.push(rule) });
    scene.#stack.use(stack.move());
    return scene;
  }

  /** What must hold whatever was done: the victim untouched and served, the real BARs where they were. */
  async check(): Promise<void> {
    assert.ok(
      this.treasure.bytes.every((byte) => byte === 0x5a),
      "the victim's memory was changed",
    );
    const reply = await this.victim.request(Command.REGION_READ, access(Region.CONFIG, 0, 4));
    assert.deepEqual(Array.from(reply.payload.subarray(16)), [0x34, 0x12, 0x78, 0x56], "the victim is not served");
    for (let at = 0x10; at < 0x28; at += 4) {
      assert.equal(this.own.real.config.read32(at) & ~0xf, 0, "a real BAR was moved");
    }
  }

  /** What the next user of the attacked function finds. */
  async next(): Promise<FakeClient> {
    this.client[Symbol.dispose]();
    const until = performance.now() + 5000;
    while (this.own.mediated.connectedTo !== undefined && performance.now() < until) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    return FakeClient.open(this.own.path, { max_msg_fds: 16 });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

export function access(
  region: number,
  offset: number | bigint,
  count: number,
  data: readonly number[] = [],
): Uint8Array {
  return Uint8Array.of(...RegionAccess.bytes({ offset: BigInt(offset), region, count }), ...data);
}

export function bytesOf(value: number, width: number): number[] {
  return Array.from({ length: width }, (_, i) => (value >>> (8 * i)) & 0xff);
}

export function map(address: number | bigint, size: number | bigint, offset = 0n, flags = 3): Uint8Array {
  return DmaMap.bytes({ argsz: 32, flags, offset, address: BigInt(address), size: BigInt(size) });
}

export function unmap(address: number | bigint, size: number | bigint): Uint8Array {
  return DmaUnmap.bytes({ argsz: 24, flags: 0, address: BigInt(address), size: BigInt(size) });
}

export function irqs(index: number, start: number, count: number, flags: number): Uint8Array {
  return IrqSet.bytes({ argsz: 20, flags, index, start, count });
}

export const SIGNALS: number = IrqSetFlag.DATA_EVENTFD | IrqSetFlag.ACTION_TRIGGER;

/** `EINVAL` for the number. */
export function nameOf(errno: number): string {
  if (errno === 0) return "done";
  return Object.entries(WireErrno).find(([, number]) => number === errno)?.[0] ?? `errno ${errno}`;
}

/** Writes a register of the attacker's BAR 0 by message. */
export async function poke(client: FakeClient, offset: number, value: number, bar = 0): Promise<number> {
  return client.errno(Command.REGION_WRITE, access(bar, offset, 4, bytesOf(value, 4)));
}

export async function peek(client: FakeClient, offset: number, bar = 0): Promise<number> {
  const { payload } = await client.request(Command.REGION_READ, access(bar, offset, 4));
  return new DataView(payload.buffer, payload.byteOffset).getUint32(16, true);
}

export async function configWrite(client: FakeClient, offset: number, width: number, value: number): Promise<void> {
  await client.errno(Command.REGION_WRITE, access(Region.CONFIG, offset, width, bytesOf(value, width)));
}

export async function configRead(client: FakeClient, offset: number): Promise<number> {
  const { payload } = await client.request(Command.REGION_READ, access(Region.CONFIG, offset, 4));
  return new DataView(payload.buffer, payload.byteOffset).getUint32(16, true);
}

/** Memory of the attacker's own, by a file. */
export function file(size = 0x4000): FileDescriptor {
  return createMemoryFile(size);
}

export function event(): EventFd {
  return new EventFd();
}

export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}
