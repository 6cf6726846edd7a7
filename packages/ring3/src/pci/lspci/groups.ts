// Which declared registers a capability has, and where: most have one group, some repeat a block as often as they say, and
// some have a layout that hangs on their own content.
import { AcceleratedGraphicsPort } from "../capabilities/accelerated-graphics-port.ts";
import { AccessControlServices } from "../capabilities/access-control-services.ts";
import { AddressTranslationServices } from "../capabilities/address-translation-services.ts";
import { AdvancedErrorReporting } from "../capabilities/advanced-error-reporting.ts";
import { AdvancedFeatures } from "../capabilities/advanced-features.ts";
import { AlternativeRoutingId } from "../capabilities/alternative-routing-id.ts";
import * as cxl from "../capabilities/compute-express-link.ts";
import { DataObjectExchange } from "../capabilities/data-object-exchange.ts";
import { DebugPort } from "../capabilities/debug-port.ts";
import { Device3 } from "../capabilities/device-3.ts";
import { DeviceSerialNumber } from "../capabilities/device-serial-number.ts";
import { DownstreamPortContainment } from "../capabilities/downstream-port-containment.ts";
import { EnhancedAllocation, EnhancedAllocationEntry } from "../capabilities/enhanced-allocation.ts";
import { EventCollectorAssociation } from "../capabilities/event-collector-association.ts";
import { FlitErrorInjection } from "../capabilities/flit-error-injection.ts";
import { FlitLogging } from "../capabilities/flit-logging.ts";
import * as ht from "../capabilities/hyper-transport.ts";
import * as ide from "../capabilities/integrity-and-data-encryption.ts";
import { L1PmSubstates } from "../capabilities/l1-pm-substates.ts";
import { LaneMargining } from "../capabilities/lane-margining.ts";
import { LatencyToleranceReporting } from "../capabilities/latency-tolerance-reporting.ts";
import { MmioRegisterBlock, MmioRegisterBlockLocator } from "../capabilities/mmio-register-block-locator.ts";
import { Msi, msiLayout } from "../capabilities/msi.ts";
import { MsiX } from "../capabilities/msi-x.ts";
import { Multicast } from "../capabilities/multicast.ts";
import { PageRequest } from "../capabilities/page-request.ts";
import { PciExpress } from "../capabilities/pci-express.ts";
import { PciX, PciXBridge } from "../capabilities/pci-x.ts";
import { PhysicalLayer16, PhysicalLayer32, PhysicalLayer64 } from "../capabilities/physical-layer.ts";
import { PowerManagement } from "../capabilities/power-management.ts";
import { PrecisionTimeMeasurement } from "../capabilities/precision-time-measurement.ts";
import { ProcessAddressSpaceId } from "../capabilities/process-address-space-id.ts";
import { ResizableBar } from "../capabilities/resizable-bar.ts";
import { RootComplexLink, RootComplexLinkEntry } from "../capabilities/root-complex-link.ts";
import { SecondaryExpress } from "../capabilities/secondary-express.ts";
import { SerialAta } from "../capabilities/serial-ata.ts";
import { SingleRootIoVirtualization } from "../capabilities/single-root-io-virtualization.ts";
import { SlotIdentification } from "../capabilities/slot-identification.ts";
import { SubsystemId } from "../capabilities/subsystem-id.ts";
import { TransactionProcessingHints } from "../capabilities/transaction-processing-hints.ts";
import { DesignatedVendorSpecific, ExtendedVendorSpecific, VendorSpecific } from "../capabilities/vendor-specific.ts";
import { VirtualChannel, VirtualChannelResource } from "../capabilities/virtual-channel.ts";
import { VitalProductData } from "../capabilities/vital-product-data.ts";
import type { CapabilityEntry } from "../capability-walk.ts";
import type { Register, RegisterGroup } from "../register.ts";
import type { FetchedConfig } from "./fetched-config.ts";
import type { LspciFunction } from "./function.ts";

/** A group, and the offset in config space that its registers count from. */
export interface PlacedGroup {
  readonly group: RegisterGroup;
  readonly at: number;
}

/** Blocks that a capability repeats. */
type Blocks = (config: FetchedConfig, at: number) => readonly PlacedGroup[];

const STANDARD: Readonly<Record<number, RegisterGroup>> = {
  0x01: PowerManagement,
  0x02: AcceleratedGraphicsPort,
  0x03: VitalProductData,
  0x04: SlotIdentification,
  0x09: VendorSpecific,
  0x0a: DebugPort,
  0x0d: SubsystemId,
  0x10: PciExpress,
  0x11: MsiX,
  0x12: SerialAta,
  0x13: AdvancedFeatures,
};
const EXTENDED: Readonly<Record<number, RegisterGroup>> = {
  0x01: AdvancedErrorReporting,
  0x02: VirtualChannel,
  0x03: DeviceSerialNumber,
  0x05: RootComplexLink,
  0x07: EventCollectorAssociation,
  0x09: VirtualChannel,
  0x0b: ExtendedVendorSpecific,
  0x0d: AccessControlServices,
  0x0e: AlternativeRoutingId,
  0x0f: AddressTranslationServices,
  0x10: SingleRootIoVirtualization,
  0x12: Multicast,
  0x13: PageRequest,
  0x17: TransactionProcessingHints,
  0x18: LatencyToleranceReporting,
  0x19: SecondaryExpress,
  0x1b: ProcessAddressSpaceId,
  0x1d: DownstreamPortContainment,
  0x1e: L1PmSubstates,
  0x1f: PrecisionTimeMeasurement,
  0x23: DesignatedVendorSpecific,
  0x26: PhysicalLayer16,
  0x27: LaneMargining,
  0x2a: PhysicalLayer32,
  0x2e: DataObjectExchange,
  0x2f: Device3,
  0x30: ide.IntegrityAndDataEncryption,
  0x31: PhysicalLayer64,
  0x32: FlitLogging,
  0x34: FlitErrorInjection,
  0x36: MmioRegisterBlockLocator,
};

const repeated = (group: RegisterGroup, first: number, step: number, count: number): PlacedGroup[] => {
  return Array.from({ length: count }, (_, index) => ({ group, at: first + step * index }));
};

const CXL_VENDOR = 0x1e98;
const CXL: Readonly<Record<number, RegisterGroup>> = {
  0: cxl.CxlDevice,
  2: cxl.CxlFunctionMap,
  3: cxl.CxlPort,
  4: cxl.CxlFlushPort,
  5: cxl.CxlFlushDevice,
  7: cxl.CxlFlexBus,
  9: cxl.CxlMultiLogicalDevice,
};

const BLOCKS: Readonly<Record<number, Blocks>> = {
  0x02: virtualChannels,
  0x09: virtualChannels,
  0x05: (config, at) => repeated(RootComplexLinkEntry, at + 0x10, 16, config.peekAt(at + 5, 1)),
  0x15: (config, at) => [{ group: resizable(config, at), at }],
  0x24: (config, at) => [{ group: resizable(config, at), at }],
  0x23: designated,
  0x30: streams,
  0x36: (config, at) => {
    const length = config.peek(at + 4) & 0xfff;
    return repeated(MmioRegisterBlock, at + 8, 8, Math.max(0, Math.floor(length / 8) - 1));
  },
};

function virtualChannels(config: FetchedConfig, at: number): readonly PlacedGroup[] {
  return repeated(VirtualChannelResource, at + 0x10, 12, (config.peekAt(at + 4, 1) & 7) + 1);
}

/** As many of the declared pairs as the first control register says. */
function resizable(config: FetchedConfig, at: number): RegisterGroup {
  const count = Math.min(6, (config.peekAt(at + 8, 1) >>> 5) & 7);
  return only(ResizableBar, (register) => register.offset < 4 + 8 * count);
}

/** The part of a group that is there. */
function only(group: RegisterGroup, isThere: (register: Register) => boolean): RegisterGroup {
  const registers = Object.fromEntries(Object.entries(group.registers).filter(([, register]) => isThere(register)));
  return { kind: group.kind, name: group.name, id: group.id, registers };
}

function designated(config: FetchedConfig, at: number): readonly PlacedGroup[] {
  if (config.peek(at + 4) !== CXL_VENDOR) return [];
  const size = config.peek(at + 6) >>> 4;
  const id = config.peek(at + 8);
  if (id === 8) return repeated(cxl.CxlRegisterBlock, at + 12, 8, Math.max(0, Math.floor((size - 12) / 8)));
  const group = CXL[id];
  return group === undefined ? [] : [{ group: only(group, ({ offset, width }) => offset + width <= size), at }];
}

function streams(config: FetchedConfig, at: number): readonly PlacedGroup[] {
  const capability = config.peekAt(at + 4, 4);
  const links = (capability & 1) === 0 ? 0 : ((capability >>> 13) & 7) + 1;
  const selective = (capability & 2) === 0 ? 0 : ((capability >>> 16) & 0xff) + 1;
  const placed = repeated(ide.LinkIdeStream, at + 12, 8, links);
  let place = at + 12 + 8 * links;
  for (let index = 0; index < selective && place + 20 <= config.size; index++) {
    const count = config.peekAt(place, 1) & 0xf;
    placed.push({ group: ide.SelectiveIdeStream, at: place });
    placed.push(...repeated(ide.IdeAddressAssociation, place + 20, 12, count));
    place += 20 + 12 * count;
  }
  return placed;
}

/** The groups of a capability, in the order of their offsets. */
export function groupsOf({ kind, id, offset: at }: CapabilityEntry, shown: LspciFunction): readonly PlacedGroup[] {
  const { config } = shown;
  if (kind === "extended") {
    const group = EXTENDED[id];
    return [...(group === undefined ? [] : [{ group, at }]), ...(BLOCKS[id]?.(config, at) ?? [])];
  }
  const group = STANDARD[id] ?? layoutOf(id, at, shown);
  if (group === undefined) return [];
  return [{ group, at }, ...(id === 0x14 ? allocations(shown, at) : [])];
}

/** Standard capabilities whose layout hangs on their content, or on the header. */
function layoutOf(id: number, at: number, { config, headerLayout }: LspciFunction): RegisterGroup | undefined {
  const control = config.peek(at + 2);
  if (id === 0x05) {
    const { messageUpperAddress, messageData, maskBits, pendingBits } = msiLayout(control);
    const there: readonly (Register | undefined)[] = [
      ...[Msi.CONTROL, Msi.MESSAGE_ADDRESS],
      ...[messageUpperAddress, messageData, maskBits, pendingBits],
    ];
    return only(Msi, (register) => there.includes(register));
  }
  if (id === 0x07) return headerLayout === 1 ? PciXBridge : PciX;
  if (id === 0x14) return only(EnhancedAllocation, (register) => headerLayout === 1 || register.offset < 4);
  if (id !== 0x08) return undefined;
  if (control >>> 13 === 0) return ht.HyperTransportPrimary;
  if (control >>> 13 === 1) return ht.HyperTransportSecondary;
  return control >>> 11 === 0x15 ? ht.HyperTransportMsiMapping : ht.HyperTransport;
}

function allocations({ config, headerLayout }: LspciFunction, at: number): PlacedGroup[] {
  const placed: PlacedGroup[] = [];
  let place = at + (headerLayout === 1 ? 8 : 4);
  for (let index = config.peekAt(at + 2, 1) & 0x3f; index > 0 && place + 12 <= config.size; index--) {
    placed.push({ group: EnhancedAllocationEntry, at: place });
    place += 4 + 4 * (config.peekAt(place, 1) & 7);
  }
  return placed;
}
