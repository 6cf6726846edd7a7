export { AddressSpace, type AddressSpaceOptions } from "./address-space.ts";
export {
  descriptorsOf,
  listDescriptors,
  openVfioDescriptors,
  type VfioDescriptors,
  type VfioDescriptorsOptions,
} from "./descriptors.ts";
export { DeviceFeatures, type IovaSpan, type MigrationSupport } from "./features.ts";
export { VfioFunction, type VfioFunctionOptions } from "./function.ts";
export { AttachedFunction, attachFunction, type VfioFunctionHandle } from "./handle.ts";
export type { AffectedFunction, HotResetScope } from "./hot-reset.ts";
export type { DirtyPages } from "./iommu.ts";
export type { KernelInterface } from "./locate.ts";
export { openVfio, type VfioOpenOptions } from "./open.ts";
export type { Region } from "./region.ts";
export type { FeatureName, MigrationState } from "./uapi.ts";
export { WARNINGS, type Warning } from "./warnings.ts";
