export {
  type AccessedFunction,
  type AccessMethod,
  type FunctionFacts,
  type FunctionResource,
  type RcdLink,
  ResourceFlag,
  readConfig,
} from "./access.ts";
export { accessFunction, freeAddresses } from "./access-function.ts";
export { PciAddress } from "./address.ts";
export { type BarDescription, barSize, decodeBars, readBars, romSize } from "./bar.ts";
export { type BridgeForwarding, type BridgeWindow, readBridge } from "./bridge.ts";
export { AccessControlServices } from "./capabilities/access-control-services.ts";
export { AddressTranslationServices } from "./capabilities/address-translation-services.ts";
export {
  AdvancedErrorReporting,
  type RecordedErrors,
  readErrors,
} from "./capabilities/advanced-error-reporting.ts";
export { AdvancedFeatures } from "./capabilities/advanced-features.ts";
export { AlternativeRoutingId } from "./capabilities/alternative-routing-id.ts";
export { DeviceSerialNumber, readSerialNumber } from "./capabilities/device-serial-number.ts";
export { LatencyToleranceReporting, latencyNs } from "./capabilities/latency-tolerance-reporting.ts";
export { Msi, type MsiLayout, msiLayout, msiVectors } from "./capabilities/msi.ts";
export { MsiX, type MsiXLayout, readMsiXLayout } from "./capabilities/msi-x.ts";
export { PciExpress } from "./capabilities/pci-express.ts";
export { PowerManagement } from "./capabilities/power-management.ts";
export { ProcessAddressSpaceId } from "./capabilities/process-address-space-id.ts";
export { ResizableBar, type ResizableBarSizes, readResizableBars } from "./capabilities/resizable-bar.ts";
export {
  readVirtualFunctions,
  SingleRootIoVirtualization,
  type VirtualFunctions,
  virtualFunctionAddress,
} from "./capabilities/single-root-io-virtualization.ts";
export { SubsystemId } from "./capabilities/subsystem-id.ts";
export {
  DesignatedVendorSpecific,
  ExtendedVendorSpecific,
  findDesignated,
  VendorSpecific,
} from "./capabilities/vendor-specific.ts";
export { readVpd, VitalProductData, type VpdReadOptions } from "./capabilities/vital-product-data.ts";
export { capabilityName, extendedCapabilityNames, standardCapabilityNames } from "./capability-ids.ts";
export type { CapabilityEntry, CapabilityWalk, WalkReader } from "./capability-walk.ts";
export { walkCapabilities, walkExtendedCapabilities } from "./capability-walk.ts";
export { type ClassName, classDescription, className } from "./class-codes.ts";
export { bytesConfigAccess, type ConfigAccess, ConfigSpace } from "./config-space.ts";
export { DmaPool, type DmaPoolOptions } from "./dma-pool.ts";
export { type DumpExtent, type DumpOptions, formatDump, parseDump } from "./dump.ts";
export { FunctionEventSource, type FunctionEventSourceOptions } from "./events.ts";
export {
  type ExpressDescription,
  encodeRequestSize,
  type Link,
  linkSpeed,
  portTypeName,
  readExpress,
  requestSizeBytes,
} from "./express.ts";
export type * from "./function.ts";
export {
  type FilteredIds,
  type FunctionFilter,
  matchesFilter,
  parseIdFilter,
  parseSlotFilter,
} from "./function-filter.ts";
export { Header, Header0, Header1, Header2 } from "./header.ts";
export { type Identification, identify } from "./identification.ts";
export { PciIds } from "./ids.ts";
export {
  capability,
  type Declared,
  decodeRegister,
  encodeWrite,
  extendedCapability,
  type FieldDeclaration,
  type FieldDeclarations,
  type FieldsOf,
  header,
  type Register,
  type RegisterDeclaration,
  type RegisterDeclarations,
  RegisterField,
  type RegisterGroup,
  type RegisterKind,
  type RegisterMasks,
  type RegisterPlace,
  type Registers,
  type RegisterValues,
  registerMasks,
  registerPath,
  type WritableKind,
  type WritableValues,
} from "./register.ts";
export { capabilityGroups, headerGroups } from "./register-groups.ts";
export {
  beyondReach,
  type FieldOperation,
  type FieldOutcome,
  fieldMeaning,
  formatRegisterNames,
  type MaskedValue,
  parseFieldOperation,
  parseSetpciOperation,
  parseSetpciWord,
  type RegisterName,
  registerNames,
  runFieldOperation,
  runSetpciOperation,
  type SetpciOperation,
  type SetpciOutcome,
  type SetpciWrite,
  traceSetpci,
} from "./setpci/index.ts";
export { decodeTransactionHeader, type TransactionHeader, transactionHeaderText } from "./transaction-header.ts";
export { parseVpd, type Vpd, type VpdKeyword, vpdText } from "./vpd.ts";
