// The functions of the guest's machine as fixtures of the contract suite, over each kernel interface that the guest has.
import { existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { PciFunction } from "../../packages/ring3/src/pci/function.ts";
import type { VfioFunction } from "../../packages/ring3/src/vfio/function.ts";
import { openVfio, type VfioOpenOptions } from "../../packages/ring3/src/vfio/open.ts";
import type { ContractFixture, OpenFixture } from "./fixture.ts";

/** The interfaces of the guest's kernel: Debian's has groups only. */
export const backends: readonly ("group" | "iommufd")[] = existsSync("/dev/iommu") ? ["group", "iommufd"] : ["group"];

/** Opens a function and has the test close it. */
export async function opened(
  t: { after(fn: () => Promise<void>): void },
  address: string,
  options: VfioOpenOptions = {},
): Promise<VfioFunction> {
  const fn = await openVfio(address, options);
  t.after(() => fn[Symbol.asyncDispose]());
  return fn;
}

/** A fixture for the function at `address`. */
export function guestFunction(
  address: string,
  backend: "group" | "iommufd",
  parts: (fn: PciFunction) => Omit<ContractFixture, "fn">,
): OpenFixture {
  return async (t) => {
    const fn = await opened(t, address, { backend });
    return { fn, ...parts(fn) };
  };
}

const eduBuffer = 0x40000;
const eduRun = 1;
const eduToMemory = 2;

/** Runs one transfer of edu's DMA engine and waits until it says that it is done. */
export async function eduTransfer(
  fn: PciFunction,
  source: number,
  target: number,
  size: number,
  command: number,
): Promise<void> {
  const registers = fn.bar(0).registers();
  for (const [at, value] of [
    [0x80, source],
    [0x88, target],
    [0x90, size],
  ] as const)
    registers.write64(at, BigInt(value));
  registers.write64(0x98, BigInt(command));
  while ((registers.read32(0x98) & eduRun) !== 0) await delay(2);
}

/** edu (QEMU docs/specs/edu.rst): identification, DMA source address as scratch, and its 4 KiB buffer to copy through. */
export function eduParts(fn: PciFunction): Omit<ContractFixture, "fn"> {
  return {
    constant: { bar: 0, offset: 0 },
    scratch: { bar: 0, offset: 0x80, mask: 0xffff_ffff },
    copyBelow: 2 ** 28,
    copy: async (source, target, size) => {
      await eduTransfer(fn, source, eduBuffer, size, eduRun);
      await eduTransfer(fn, eduBuffer, target, size, eduRun | eduToMemory);
    },
  };
}

/** nvme: the version, and the admin queue's attributes, which act only when the controller is enabled. */
export function nvmeParts(): Omit<ContractFixture, "fn"> {
  return { constant: { bar: 0, offset: 0x08 }, scratch: { bar: 0, offset: 0x24, mask: 0x0fff_0fff } };
}

/** pci-testdev with `membar-backed`: BAR 2 is memory. */
export function testdevParts(): Omit<ContractFixture, "fn"> {
  return { constant: { bar: 2, offset: 0x200 }, scratch: { bar: 2, offset: 0x100, mask: 0xffff_ffff } };
}
