// What the tests of a controller that misbehaves have in common: quick time-outs, starts that must fail, and words for the
// commands at which something happens.
import assert from "node:assert/strict";
import { NvmeDriver, type NvmeOptions } from "../../packages/ring3/src/drivers/nvme/index.ts";
import { AdminOpcode, IoOpcode } from "../../packages/ring3/src/specs/nvme/commands.ts";
import { type FakeCommand, FakeNvme, type FakeNvmeOptions } from "./fake-nvme.ts";
import { VirtualClock } from "./virtual-clock.ts";

export const quick: NvmeOptions = { timeoutMs: 500, adminTimeoutMs: 500, abortTimeoutMs: 100, shutdownTimeoutMs: 100 };

export async function running(
  body: (nvme: NvmeDriver, device: FakeNvme) => Promise<void>,
  options: NvmeOptions = {},
  fake: FakeNvmeOptions = {},
): Promise<void> {
  const device = new FakeNvme(fake);
  await using fn = device.fn;
  await using nvme = await NvmeDriver.start(fn, { clock: new VirtualClock(), ...quick, ...options });
  await body(nvme, device);
}

export function startFails(
  prepare: (device: FakeNvme) => void,
  code: string,
  fake: FakeNvmeOptions = {},
): Promise<void> {
  const device = new FakeNvme(fake);
  prepare(device);
  return assert.rejects(NvmeDriver.start(device.fn, { clock: new VirtualClock(), ...quick }), { code }).then(() => {
    if (device.fn.gone.aborted) return;
    assert.equal(device.fn.dma.mappedBytes, 0, "nothing stays mapped");
    assert.equal(device.fn.busMaster, false);
    assert.equal(device.fn.interrupts.active, "none");
  });
}

export const isRead = ({ queueId, opcode }: FakeCommand): boolean => queueId > 0 && opcode === IoOpcode.READ;
export const isWrite = ({ queueId, opcode }: FakeCommand): boolean => queueId > 0 && opcode === IoOpcode.WRITE;
export const identifies = ({ queueId, opcode, words }: FakeCommand, cns: number): boolean =>
  queueId === 0 && opcode === AdminOpcode.IDENTIFY && ((words[10] as number) & 0xff) === cns;
export const turns = async (count: number): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};
