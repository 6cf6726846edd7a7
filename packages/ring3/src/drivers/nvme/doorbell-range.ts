// Which part of BAR0 holds the doorbells, and how many queues that is. NVMe base 2.0, section 3.1.4.
import type { ByteRange, PciFunction } from "../../pci/function.ts";
import { completionDoorbell, Nvme } from "../../specs/nvme/registers.ts";
import type { ControllerCapabilities } from "./controller.ts";

const PAGE = 4096;

/** The doorbells of the admin queue and of up to `maxIoQueues` others, in whole pages, as a part of BAR0. */
export function doorbellRange(
  fn: PciFunction,
  { doorbellStride }: ControllerCapabilities,
  maxIoQueues: number,
): ByteRange {
  const end = completionDoorbell(maxIoQueues, doorbellStride) + 4;
  const size = Math.min(Math.ceil(end / PAGE) * PAGE, fn.bar(0).size) - Nvme.DOORBELLS;
  return { offset: Nvme.DOORBELLS, size };
}

/** Highest I/O queue id whose doorbells lie in `range`. */
export function doorbellQueues(range: ByteRange, { doorbellStride }: ControllerCapabilities): number {
  return Math.floor(range.size / (2 * (4 << doorbellStride))) - 1;
}
