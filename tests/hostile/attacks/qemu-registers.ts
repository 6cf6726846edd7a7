// QEMU's functions as an attacker drives them: by hand, for one access of the device's to an address of the attacker's choice.
import assert from "node:assert/strict";
import { type FileDescriptor, MappedMemory } from "../../../packages/ring3/src/linux/index.ts";
import { Header } from "../../../packages/ring3/src/pci/header.ts";
import { Edu, EduBuffer, EduDma } from "../../../packages/ring3/src/specs/edu/registers.ts";
import { Nvme } from "../../../packages/ring3/src/specs/nvme/registers.ts";
import { type FakeClient, turn } from "../../../packages/ring3/src/vfio-user/fake-client.ts";
import { Command, Irq, IrqSetFlag } from "../../../packages/ring3/src/vfio-user/messages.ts";
import type { DeviceRegisters } from "./attack.ts";
import {
  configRead,
  configWrite,
  event,
  file,
  irqs,
  map,
  nameOf,
  PATIENCE_MS,
  peek,
  poke,
  SIGNALS,
  unmap,
} from "./wire.ts";

const COMMAND = Header.COMMAND.offset;
/** Where an engine that needs memory of its own has it. */
const SCRATCH = 0x0e00_0000;
const PAGE = 0x1000;
const SEED = 0xeeee_eeee;
/** Runs `use` with a page that the device reaches at {@link SCRATCH}. */
async function withScratch<T>(client: FakeClient, use: (words: Uint32Array) => Promise<T>): Promise<T> {
  using memory = file(PAGE);
  using mapped = MappedMemory.file(memory, 0, PAGE);
  assert.equal(nameOf(await client.errno(Command.DMA_MAP, map(SCRATCH, PAGE), { fds: [memory] })), "done");
  try {
    const { bytes } = mapped;
    return await use(new Uint32Array(bytes.buffer, bytes.byteOffset, PAGE / 4));
  } finally {
    assert.equal(nameOf(await client.errno(Command.DMA_UNMAP, unmap(SCRATCH, PAGE))), "done");
  }
}

// === edu ===========================================================================================================

/** Has edu move 4 bytes; an access that faults ends like any other. */
async function move(client: FakeClient, source: number, destination: number, direction: number): Promise<void> {
  await poke(client, Edu.DMA_SOURCE, source);
  await poke(client, Edu.DMA_DESTINATION, destination);
  await poke(client, Edu.DMA_COUNT, 4);
  await poke(client, Edu.DMA_COMMAND, EduDma.START.mask | direction);
  const until = performance.now() + PATIENCE_MS;
  while (EduDma.START.test(await peek(client, Edu.DMA_COMMAND))) assert.ok(performance.now() < until, "edu hangs");
}

/** Has edu move 4 bytes between its buffer and the attacker's own page, and leaves bus mastering as it was. */
async function exchange(client: FakeClient, direction: number, value: number): Promise<number> {
  const command = (await configRead(client, COMMAND)) & 0xffff;
  return await withScratch(client, async (words) => {
    words[0] = value;
    await configWrite(client, COMMAND, 2, command | 6);
    if (direction === 0) await move(client, SCRATCH, EduBuffer.ADDRESS, 0);
    else await move(client, EduBuffer.ADDRESS, SCRATCH, direction);
    await configWrite(client, COMMAND, 2, command | 2);
    return words[0];
  });
}

async function eduReads(client: FakeClient, address: number, expected: number): Promise<boolean> {
  await exchange(client, 0, SEED);
  await move(client, address, EduBuffer.ADDRESS, 0);
  return (await exchange(client, EduDma.TO_MEMORY.mask, SEED)) === expected;
}

export const eduRegisters: DeviceRegisters = {
  interrupts: Irq.MSI,
  reads: eduReads,
  writes: async (client, address) => {
    await exchange(client, 0, ~SEED >>> 0);
    await move(client, EduBuffer.ADDRESS, address, EduDma.TO_MEMORY.mask);
    return await eduReads(client, address, ~SEED >>> 0);
  },
};

// === NVMe ==========================================================================================================

/** CC with everything set up, but not enabled; a reset clears it. */
const CC_READY = 0x0046_0000;
const CC_ENABLE = 1;
/** 16 entries each. */
const AQA = 0x000f_000f;
const CSTS_RDY = 1;
/** The controller could not reach its queues. */
const CSTS_CFS = 2;
/** Of the first completion: its phase, status and command; never all zero. */
const COMPLETION_WORD = 3;
const SQ0TDBL: number = Nvme.DOORBELLS;

/**
 * Has the controller take a command of zeros from one address and complete it at another; whether it could. Its queues are the
 * accesses that QEMU's controller reports as failed: those to the data of commands it does not look after.
 */
async function command(
  client: FakeClient,
  submissions: number,
  completions: number,
  completed: () => boolean,
): Promise<boolean> {
  await poke(client, Nvme.CC, CC_READY);
  await poke(client, Nvme.AQA, AQA);
  await poke(client, Nvme.ASQ_LOW, submissions);
  await poke(client, Nvme.ACQ_LOW, completions);
  await poke(client, Nvme.CC, CC_READY | CC_ENABLE);
  const until = performance.now() + PATIENCE_MS;
  let status = 0;
  while (((status = await peek(client, Nvme.CSTS)) & (CSTS_RDY | CSTS_CFS)) === 0) {
    assert.ok(performance.now() < until, "the controller does not start");
  }
  await poke(client, SQ0TDBL, 1);
  while (!completed() && (status & CSTS_CFS) === 0) {
    assert.ok(performance.now() < until, "the controller neither completes nor fails");
    status = await peek(client, Nvme.CSTS);
    await turn();
  }
  await poke(client, Nvme.CC, 0);
  return (status & CSTS_CFS) === 0;
}

export const nvmeRegisters: DeviceRegisters = {
  interrupts: Irq.MSIX,
  mark: { offset: Nvme.CC, value: CC_READY },
  ranges: {
    hidden: Nvme.INTMS,
    // Reads as INTMS does.
    shadow: Nvme.INTMC,
    readOnly: Nvme.ASQ_HIGH,
    limited: Nvme.ACQ_HIGH,
    writesPerSecond: 5,
  },
  // Whatever lies there is taken for a command, and completed in the attacker's page.
  reads: (client, address) =>
    withScratch(client, (words) => command(client, address, SCRATCH, () => words[COMPLETION_WORD] !== 0)),
  // Of a completion that it cannot write the controller does not interrupt.
  writes: async (client, address) => {
    using signal = event();
    const switched = (flags: number, count: number, fds: readonly FileDescriptor[]): Promise<number> =>
      client.errno(Command.DEVICE_SET_IRQS, irqs(Irq.MSIX, 0, count, flags), { fds });
    assert.equal(await switched(SIGNALS, 1, [signal.fd]), 0);
    const reached = await withScratch(client, () => command(client, SCRATCH, address, () => signal.read() > 0));
    assert.equal(await switched(IrqSetFlag.DATA_NONE | IrqSetFlag.ACTION_TRIGGER, 0, []), 0);
    return reached;
  },
};

// === A virtual function of igb =====================================================================================

export const vfRegisters: DeviceRegisters = { interrupts: Irq.MSIX };
