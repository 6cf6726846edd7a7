// Every declared register by name: what setpci's field names, completion and documentation go through. Layouts that only the
// content of a capability chooses (kinds of HyperTransport and CXL, entries of lists) have no place of their own to be named by.
import { AcceleratedGraphicsPort } from "./capabilities/accelerated-graphics-port.ts";
import { AccessControlServices } from "./capabilities/access-control-services.ts";
import { AddressTranslationServices } from "./capabilities/address-translation-services.ts";
import { AdvancedErrorReporting } from "./capabilities/advanced-error-reporting.ts";
import { AdvancedFeatures } from "./capabilities/advanced-features.ts";
import { AlternativeRoutingId } from "./capabilities/alternative-routing-id.ts";
import { DataObjectExchange } from "./capabilities/data-object-exchange.ts";
import { DebugPort } from "./capabilities/debug-port.ts";
import { Device3 } from "./capabilities/device-3.ts";
import { DeviceSerialNumber } from "./capabilities/device-serial-number.ts";
import { DownstreamPortContainment } from "./capabilities/downstream-port-containment.ts";
import { EnhancedAllocation } from "./capabilities/enhanced-allocation.ts";
import { EventCollectorAssociation } from "./capabilities/event-collector-association.ts";
import { FlitErrorInjection } from "./capabilities/flit-error-injection.ts";
import { FlitLogging } from "./capabilities/flit-logging.ts";
import { HyperTransport } from "./capabilities/hyper-transport.ts";
import { IntegrityAndDataEncryption } from "./capabilities/integrity-and-data-encryption.ts";
import { L1PmSubstates } from "./capabilities/l1-pm-substates.ts";
import { LaneMargining } from "./capabilities/lane-margining.ts";
import { LatencyToleranceReporting } from "./capabilities/latency-tolerance-reporting.ts";
import { MmioRegisterBlockLocator } from "./capabilities/mmio-register-block-locator.ts";
import { Msi } from "./capabilities/msi.ts";
import { MsiX } from "./capabilities/msi-x.ts";
import { Multicast } from "./capabilities/multicast.ts";
import { PageRequest } from "./capabilities/page-request.ts";
import { PciExpress } from "./capabilities/pci-express.ts";
import { PciX } from "./capabilities/pci-x.ts";
import { PhysicalLayer16, PhysicalLayer32, PhysicalLayer64 } from "./capabilities/physical-layer.ts";
import { PowerManagement } from "./capabilities/power-management.ts";
import { PrecisionTimeMeasurement } from "./capabilities/precision-time-measurement.ts";
import { ProcessAddressSpaceId } from "./capabilities/process-address-space-id.ts";
import { ResizableBar } from "./capabilities/resizable-bar.ts";
import { RootComplexLink } from "./capabilities/root-complex-link.ts";
import { SecondaryExpress } from "./capabilities/secondary-express.ts";
import { SerialAta } from "./capabilities/serial-ata.ts";
import { SingleRootIoVirtualization } from "./capabilities/single-root-io-virtualization.ts";
import { SlotIdentification } from "./capabilities/slot-identification.ts";
import { SubsystemId } from "./capabilities/subsystem-id.ts";
import { TransactionProcessingHints } from "./capabilities/transaction-processing-hints.ts";
import { DesignatedVendorSpecific, ExtendedVendorSpecific, VendorSpecific } from "./capabilities/vendor-specific.ts";
import { VirtualChannel } from "./capabilities/virtual-channel.ts";
import { VitalProductData } from "./capabilities/vital-product-data.ts";
import { Header, Header0, Header1, Header2 } from "./header.ts";
import type { RegisterGroup } from "./register.ts";

/** The header's groups: what all have, then types 0, 1 and 2. */
export const headerGroups: readonly RegisterGroup[] = [Header, Header0, Header1, Header2];

/** Every declared capability, standard ones first, by id. */
export const capabilityGroups: readonly RegisterGroup[] = [
  PowerManagement,
  AcceleratedGraphicsPort,
  VitalProductData,
  SlotIdentification,
  Msi,
  PciX,
  HyperTransport,
  VendorSpecific,
  DebugPort,
  SubsystemId,
  PciExpress,
  MsiX,
  SerialAta,
  AdvancedFeatures,
  EnhancedAllocation,
  AdvancedErrorReporting,
  VirtualChannel,
  DeviceSerialNumber,
  RootComplexLink,
  EventCollectorAssociation,
  ExtendedVendorSpecific,
  AccessControlServices,
  AlternativeRoutingId,
  AddressTranslationServices,
  SingleRootIoVirtualization,
  Multicast,
  PageRequest,
  ResizableBar,
  TransactionProcessingHints,
  LatencyToleranceReporting,
  SecondaryExpress,
  ProcessAddressSpaceId,
  DownstreamPortContainment,
  L1PmSubstates,
  PrecisionTimeMeasurement,
  DesignatedVendorSpecific,
  PhysicalLayer16,
  LaneMargining,
  PhysicalLayer32,
  DataObjectExchange,
  Device3,
  IntegrityAndDataEncryption,
  PhysicalLayer64,
  FlitLogging,
  FlitErrorInjection,
  MmioRegisterBlockLocator,
];
