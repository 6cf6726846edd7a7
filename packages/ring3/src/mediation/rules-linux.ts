// What Linux 7's vfio-pci shows its users, as rules: the reference for whoever comes from there, and what the differential
// test compares with the kernel itself.
import { AccessControlServices } from "../pci/capabilities/access-control-services.ts";
import { AddressTranslationServices } from "../pci/capabilities/address-translation-services.ts";
import { AdvancedErrorReporting as Aer } from "../pci/capabilities/advanced-error-reporting.ts";
import { AdvancedFeatures } from "../pci/capabilities/advanced-features.ts";
import { AlternativeRoutingId } from "../pci/capabilities/alternative-routing-id.ts";
import { DeviceSerialNumber } from "../pci/capabilities/device-serial-number.ts";
import { HyperTransport } from "../pci/capabilities/hyper-transport.ts";
import { LatencyToleranceReporting } from "../pci/capabilities/latency-tolerance-reporting.ts";
import { Msi } from "../pci/capabilities/msi.ts";
import { MsiX } from "../pci/capabilities/msi-x.ts";
import { Multicast } from "../pci/capabilities/multicast.ts";
import { PageRequest } from "../pci/capabilities/page-request.ts";
import { PciExpress } from "../pci/capabilities/pci-express.ts";
import { PciX } from "../pci/capabilities/pci-x.ts";
import { PowerManagement } from "../pci/capabilities/power-management.ts";
import { ResizableBar } from "../pci/capabilities/resizable-bar.ts";
import { SerialAta } from "../pci/capabilities/serial-ata.ts";
import { SingleRootIoVirtualization } from "../pci/capabilities/single-root-io-virtualization.ts";
import { TransactionProcessingHints } from "../pci/capabilities/transaction-processing-hints.ts";
import {
  DesignatedVendorSpecific,
  ExtendedVendorSpecific,
  VendorSpecific,
} from "../pci/capabilities/vendor-specific.ts";
import { VirtualChannel } from "../pci/capabilities/virtual-channel.ts";
import { VitalProductData } from "../pci/capabilities/vital-product-data.ts";
import { Header, Header0 } from "../pci/header.ts";
import { errorBits, ownBars, ownMessages } from "./rule-rows.ts";
import { PciXErrorCorrection, PowerBudgeting, plainCapability, type RuleSet, raw, rule, shown } from "./rules.ts";

const ECRC = 0x140;

export const linux: RuleSet = {
  name: "linux",
  about: "What vfio-pci of Linux 7 does, register by register.",
  header: [
    rule(Header.VENDOR_ID, "all", "none", { note: "a VF's own, which its hardware does not tell" }),
    rule(Header.DEVICE_ID, "all", "none", { note: "a VF's own, which its hardware does not tell" }),
    rule(Header.COMMAND, ["INTX_DISABLE"], "all", { hook: "command" }),
    rule(Header.STATUS, ["CAPABILITIES_LIST"], "none"),
    rule(Header.CACHE_LINE_SIZE, "none", "all"),
    rule(Header.LATENCY_TIMER, "none", "all"),
    rule(Header.BIST, "none", "all"),
    ...ownBars,
    rule(Header0.CAPABILITIES_POINTER, "all", "none"),
    rule(Header.INTERRUPT_LINE, "all", "all"),
    rule(Header.INTERRUPT_PIN, "all", "none", { note: "0 in a VF" }),
  ],
  capabilities: [
    shown(PowerManagement, [
      rule(PowerManagement.PMC, ["PME_SUPPORT"], "none", { cleared: ["PME_SUPPORT"] }),
      rule(PowerManagement.PMCSR, ["PME_ENABLE", "PME_STATUS"], 0x7efc, {
        cleared: ["PME_ENABLE", "PME_STATUS"],
        hook: "power",
      }),
      rule(PowerManagement.PMCSR_BSE, "none", "all"),
      rule(PowerManagement.DATA, "none", "all"),
    ]),
    shown(VitalProductData, [
      rule(VitalProductData.ADDRESS, "all", "all", { hook: "vpd" }),
      rule(VitalProductData.DATA, "all", "all"),
    ]),
    shown(Msi, [rule(Msi.CONTROL, 0xff, 0xff, { hook: "msi" }), ...ownMessages]),
    shown(PciX, [rule(PciX.COMMAND, "none", "all"), rule(PciXErrorCorrection.ECC_CONTROL_STATUS, "none", "all")]),
    shown(HyperTransport),
    raw(VendorSpecific),
    shown(PciExpress, [
      rule(
        PciExpress.DEVICE_CONTROL,
        ["MAX_PAYLOAD_SIZE", "MAX_READ_REQUEST_SIZE", "INITIATE_FUNCTION_LEVEL_RESET"],
        0xfdff,
        { hook: "device-control", note: "all but phantom functions" },
      ),
      rule(PciExpress.DEVICE_CONTROL_2, "none", 0xffdf, { note: "all but ARI forwarding" }),
    ]),
    shown(MsiX, [], "switched on and off by connecting signals only"),
    shown(SerialAta),
    shown(AdvancedFeatures, [rule(AdvancedFeatures.CONTROL, ["INITIATE_FLR"], ["INITIATE_FLR"], { hook: "flr" })]),
    shown(Aer, [...errorBits, rule(Aer.CAPABILITIES_AND_CONTROL, "none", ECRC)]),
    shown(VirtualChannel),
    shown(plainCapability("extended", "MFVC", 0x08)),
    shown(plainCapability("extended", "VC9", 0x09)),
    shown(DeviceSerialNumber),
    shown(PowerBudgeting, [
      rule(PowerBudgeting.DATA, "none", 0xff, { note: "the kernel lets the data register's low byte through" }),
    ]),
    raw(ExtendedVendorSpecific),
    shown(AccessControlServices),
    shown(AlternativeRoutingId),
    shown(AddressTranslationServices),
    shown(SingleRootIoVirtualization),
    shown(Multicast),
    shown(PageRequest),
    shown(ResizableBar),
    shown(plainCapability("extended", "DPA", 0x16)),
    shown(TransactionProcessingHints),
    shown(LatencyToleranceReporting),
    raw(DesignatedVendorSpecific),
  ],
  gaps: "raw",
  keepsLatchedBits: false,
  resetForgets: false,
};
