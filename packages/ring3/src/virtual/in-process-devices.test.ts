// The devices that come with the library, in process: both contracts, by registers alone, as a driver that never gives up would.
import { pciFunctionContract } from "../../../../tests/contract/pci-function.ts";
import { deviceContract } from "../../../../tests/contract/virtual-function.ts";
import { NvmeHost } from "../../../../tests/fakes/nvme-host.ts";
import { EduDevice } from "../devices/edu/index.ts";
import { memoryBacking, NvmeDevice } from "../devices/nvme/index.ts";
import type { PciFunction } from "../pci/function.ts";
import { Edu, EduBuffer, EduDma } from "../specs/edu/registers.ts";
import { AdminOpcode } from "../specs/nvme/commands.ts";
import { Nvme } from "../specs/nvme/registers.ts";
import { inProcess } from "./index.ts";

/** Lets the device's turns pass. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Registers only, so that it also runs where nothing answers. */
async function transfer(fn: PciFunction, from: number, to: number, size: number, command: number): Promise<void> {
  const bar = fn.bar(0);
  bar.write64(Edu.DMA_SOURCE, BigInt(from));
  bar.write64(Edu.DMA_DESTINATION, BigInt(to));
  bar.write64(Edu.DMA_COUNT, BigInt(size));
  bar.write64(Edu.DMA_COMMAND, BigInt(EduDma.START.mask | command));
  await turns(4);
}

pciFunctionContract("edu in process", async (t) => {
  const fn = inProcess(new EduDevice());
  t.after(() => fn[Symbol.asyncDispose]());
  return {
    fn,
    constant: { bar: 0, offset: Edu.IDENTIFICATION },
    copyBelow: 2 ** 28,
    async copy(source, target, size) {
      await transfer(fn, source, EduBuffer.ADDRESS, size, 0);
      await transfer(fn, EduBuffer.ADDRESS, target, size, EduDma.TO_MEMORY.mask);
    },
  };
});

deviceContract("edu in process", async (t) => {
  const device = new EduDevice();
  const fn = inProcess(device);
  t.after(() => device[Symbol.dispose]());
  return {
    fn,
    below: 2 ** 28,
    async work(user, buffer) {
      user.bar(0).write32(Edu.FACTORIAL, 5);
      using source = user.dma.allocate(4096, { below: 2 ** 28 });
      source.bytes.fill(0x21);
      await transfer(user, source.iova, EduBuffer.ADDRESS, 4096, 0);
      await transfer(user, EduBuffer.ADDRESS, buffer.iova, 4096, EduDma.TO_MEMORY.mask);
    },
    worked: ({ bytes }) => bytes.every((byte) => byte === 0x21),
    reopen: async () => inProcess(device),
    registers: [
      { bar: 0, offset: Edu.LIVENESS, write: 1 },
      { bar: 0, offset: Edu.STATUS, write: 0x80 },
      { bar: 0, offset: Edu.INTERRUPT_STATUS },
      { bar: 0, offset: Edu.DMA_SOURCE, write: 7 },
    ],
    state: { save: async () => device.save(), restore: async (state) => device.restore(state) },
  };
});

pciFunctionContract("nvme in process", async (t) => {
  const fn = inProcess(new NvmeDevice({ namespaces: [{ backing: memoryBacking(2 ** 20) }] }));
  t.after(() => fn[Symbol.asyncDispose]());
  return { fn, constant: { bar: 0, offset: Nvme.VS }, scratch: { bar: 0, offset: Nvme.ASQ_LOW, mask: 0xffff_f000 } };
});

for (const mappableDoorbells of [false, true]) {
  deviceContract(`nvme in process, doorbells ${mappableDoorbells ? "mapped" : "trapped"}`, async (t) => {
    const namespaces = [{ backing: memoryBacking(2 ** 20) }];
    const device = new NvmeDevice({ namespaces, mappableDoorbells, serialNumber: "contract" });
    const fn = inProcess(device);
    t.after(() => device[Symbol.dispose]());
    return {
      fn,
      // Identify controller: 4096 bytes. No driver, which would recover by itself.
      async work(user, buffer) {
        user.bar(0).write32(Nvme.CC, 0);
        const host = new NvmeHost(user);
        host.enable();
        await host.ok({ opcode: AdminOpcode.IDENTIFY, cdw10: 1, prp1: buffer.iova });
      },
      worked: ({ bytes }) => new TextDecoder().decode(bytes.slice(4, 12)) === "contract",
      reopen: async () => inProcess(device),
      registers: [
        { bar: 0, offset: Nvme.AQA, write: 0x001f_001f },
        { bar: 0, offset: Nvme.ASQ_LOW, write: 0x1000 },
        { bar: 0, offset: Nvme.CC },
        { bar: 0, offset: Nvme.CSTS },
        { bar: 0, offset: Nvme.INTMS },
      ],
      state: { save: async () => device.save(), restore: async (state) => device.restore(state) },
    };
  });
}
