// Devices in process whose function somebody stands before, as the contract of PciFunction wants them.
import type { TestContext } from "node:test";
import { NvmeDevice } from "../../packages/ring3/src/devices/nvme/index.ts";
import { EduDevice } from "../../packages/ring3/src/devices/edu/index.ts";
import { memoryBacking } from "../../packages/ring3/src/devices/block-backing.ts";
import type { PciFunction } from "../../packages/ring3/src/pci/function.ts";
import { inProcess } from "../../packages/ring3/src/virtual/in-process.ts";
import type { VirtualFunction } from "../../packages/ring3/src/virtual/function.ts";
import type { ContractFixture } from "../contract/fixture.ts";
import { libraryDevices } from "../contract/library-devices.ts";

interface WatchedDevice {
  readonly name: string;
  readonly open: (t: TestContext, watch: (fn: PciFunction) => PciFunction) => ContractFixture;
}

const models: Readonly<Record<string, () => VirtualFunction>> = {
  edu: () => new EduDevice(),
  "nvme, doorbells trapped": () => new NvmeDevice({ namespaces: [{ backing: memoryBacking(2 ** 20) }] }),
};

/** Devices that work by registers, and one that moves data by DMA. */
export const watchedDevices: readonly WatchedDevice[] = Object.entries(models).map(([name, make]) => ({
  name,
  open(t, watch) {
    const fn = watch(inProcess(make()));
    t.after(() => fn[Symbol.asyncDispose]());
    const device = libraryDevices.find((one) => one.name.startsWith(name.split(",")[0] ?? ""));
    if (device === undefined) throw new Error(`no contract device ${name}`);
    const { constant, scratch, below, copy } = device;
    return {
      fn,
      constant,
      ...(scratch === undefined ? {} : { scratch }),
      ...(below === undefined ? {} : { copyBelow: below }),
      ...(copy === undefined ? {} : { copy: (source, target, size) => copy(fn, source, target, size) }),
    };
  },
}));
