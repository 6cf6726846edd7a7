export { type BarArea, VirtualBar } from "./bars.ts";
export { type AccessControlServicesOptions, acs } from "./capabilities/access-control-services.ts";
export { type AddressTranslationServicesOptions, ats } from "./capabilities/address-translation-services.ts";
export { type AdvancedErrorReportingOptions, aer } from "./capabilities/advanced-error-reporting.ts";
export { type AdvancedFeaturesOptions, af } from "./capabilities/advanced-features.ts";
export { type AlternativeRoutingIdOptions, ari } from "./capabilities/alternative-routing-id.ts";
export { type DeviceSerialNumberOptions, dsn } from "./capabilities/device-serial-number.ts";
export { type LatencyToleranceReportingOptions, ltr } from "./capabilities/latency-tolerance-reporting.ts";
export { type MsiOptions, msi } from "./capabilities/msi.ts";
export { type BarPlace, type MsiXOptions, msix } from "./capabilities/msi-x.ts";
export { type PciExpressOptions, pcie } from "./capabilities/pci-express.ts";
export { type PowerManagementOptions, pm } from "./capabilities/power-management.ts";
export { type ProcessAddressSpaceIdOptions, pasid } from "./capabilities/process-address-space-id.ts";
export { type ResizableBarDeclaration, type ResizableBarOptions, rebar } from "./capabilities/resizable-bar.ts";
export { type SubsystemIdOptions, subsystem } from "./capabilities/subsystem-id.ts";
export {
  type DesignatedVendorSpecificOptions,
  dvsec,
  type ExtendedVendorSpecificOptions,
  type VendorContent,
  vendorSpecific,
  vsec,
} from "./capabilities/vendor-specific.ts";
export { type VitalProductDataOptions, vpd } from "./capabilities/vital-product-data.ts";
export type {
  CapabilityBuilder,
  CapabilityPlace,
  CapabilityState,
  ConfigListener,
  RegisterWrite,
} from "./capability-builder.ts";
export { type ResetKind, VirtualConfig } from "./config.ts";
export type { RegisterDescription } from "./config-description.ts";
export {
  type AccessWidth,
  type BarDeclaration,
  type BarDeclarations,
  type BarHandlers,
  type BarKind,
  type FunctionDeclaration,
  handled,
  type InterruptPin,
} from "./declaration.ts";
export { DirtyLog, type DirtyLogOptions } from "./dirty-log.ts";
export type { AerInjection, CorrectableError, ErrorMessage, UncorrectableError } from "./error-recording.ts";
export { type FunctionHost, VirtualFunction } from "./function.ts";
export {
  type MappedRange,
  type VirtualFunctionEventMap,
  VirtualFunctionEvents,
  type VirtualPowerState,
} from "./function-events.ts";
export { goldenMap } from "./golden.ts";
export {
  type DmaFault,
  GuestMemory,
  type GuestMemoryOptions,
  type MapBacking,
  type MemoryMap,
} from "./guest-memory.ts";
export { InProcessFunction, type InProcessHandle, type InProcessOptions, inProcess } from "./in-process.ts";
export {
  type InterruptKind,
  type InterruptMode,
  type InterruptSink,
  VirtualInterrupts,
} from "./interrupts.ts";
export { decodeState, encodeState, type StateRecord, type StateValue } from "./state.ts";
export { StateFields } from "./state-fields.ts";
export { encodeVpd, type VpdContent, type VpdKeywords } from "./vpd-content.ts";
