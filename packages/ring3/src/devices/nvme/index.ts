export {
  type BlockBacking,
  type Cancellation,
  checkBacking,
  memoryBacking,
  nullBacking,
} from "../block-backing.ts";
export { type DeviceClock, machineClock } from "../clock.ts";
export { NvmeDevice, type NvmeStatistics } from "./device.ts";
export type { NamespaceOptions } from "./namespace.ts";
export type { NvmeDeviceOptions } from "./options.ts";
