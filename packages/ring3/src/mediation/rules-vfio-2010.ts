// The tables of the original driver of 2010: every register by two masks, gaps read-only. For drivers of that time, and to
// see how little has changed.
import { AdvancedErrorReporting as Aer } from "../pci/capabilities/advanced-error-reporting.ts";
import { AdvancedFeatures } from "../pci/capabilities/advanced-features.ts";
import { HyperTransport } from "../pci/capabilities/hyper-transport.ts";
import { Msi } from "../pci/capabilities/msi.ts";
import { MsiX } from "../pci/capabilities/msi-x.ts";
import { PciExpress } from "../pci/capabilities/pci-express.ts";
import { PciX } from "../pci/capabilities/pci-x.ts";
import { PowerManagement } from "../pci/capabilities/power-management.ts";
import { SerialAta } from "../pci/capabilities/serial-ata.ts";
import { SingleRootIoVirtualization } from "../pci/capabilities/single-root-io-virtualization.ts";
import { AccessControlServices } from "../pci/capabilities/access-control-services.ts";
import { AddressTranslationServices } from "../pci/capabilities/address-translation-services.ts";
import { AlternativeRoutingId } from "../pci/capabilities/alternative-routing-id.ts";
import { DeviceSerialNumber } from "../pci/capabilities/device-serial-number.ts";
import { LatencyToleranceReporting } from "../pci/capabilities/latency-tolerance-reporting.ts";
import { ExtendedVendorSpecific, VendorSpecific } from "../pci/capabilities/vendor-specific.ts";
import { VirtualChannel } from "../pci/capabilities/virtual-channel.ts";
import { VitalProductData } from "../pci/capabilities/vital-product-data.ts";
import { Header, Header0 } from "../pci/header.ts";
import { errorBits, ownBars, ownMessages } from "./rule-rows.ts";
import { PciXErrorCorrection, PowerBudgeting, type RuleSet, rule, shown } from "./rules.ts";

export const vfio2010: RuleSet = {
  name: "vfio-2010",
  about: "The tables of the VFIO meta-driver of 2010.",
  header: [
    rule(Header.VENDOR_ID, "all", "none", { note: "a VF's own, which its hardware does not tell" }),
    rule(Header.DEVICE_ID, "all", "none", { note: "a VF's own, which its hardware does not tell" }),
    rule(Header.COMMAND, ["IO", "MEMORY", "INTX_DISABLE"], "all", {
      hook: "command",
      note: "the hardware's IO and MEMORY follow the copy, BARs first; INTX_DISABLE masks and unmasks the line",
    }),
    rule(Header.STATUS, ["CAPABILITIES_LIST"], "none"),
    rule(Header.CACHE_LINE_SIZE, "none", "all"),
    rule(Header.LATENCY_TIMER, "none", "all"),
    rule(Header.BIST, "none", "all"),
    ...ownBars,
    rule(Header0.CAPABILITIES_POINTER, "all", "none"),
    rule(Header.INTERRUPT_LINE, "all", "all"),
    rule(Header.INTERRUPT_PIN, "all", "none"),
  ],
  capabilities: [
    shown(PowerManagement, [
      rule(PowerManagement.PMCSR, "none", 0xfffc, { hook: "power", note: "POWER_STATE by the transition" }),
      rule(PowerManagement.PMCSR_BSE, "none", "all"),
      rule(PowerManagement.DATA, "none", "all"),
    ]),
    shown(VitalProductData, [
      rule(VitalProductData.ADDRESS, "none", "all"),
      rule(VitalProductData.DATA, "none", "all"),
    ]),
    shown(Msi, [rule(Msi.CONTROL, "all", "all", { hook: "msi" }), ...ownMessages]),
    shown(PciX, [rule(PciX.COMMAND, "none", "all"), rule(PciXErrorCorrection.ECC_CONTROL_STATUS, "none", "all")]),
    shown(HyperTransport),
    shown(VendorSpecific),
    shown(PciExpress, [
      rule(PciExpress.DEVICE_CONTROL, ["INITIATE_FUNCTION_LEVEL_RESET"], 0xfdff, {
        hook: "flr",
        note: "all but phantom functions",
      }),
      rule(PciExpress.DEVICE_CONTROL_2, "none", 0xffdf, { note: "all but ARI forwarding" }),
    ]),
    shown(MsiX, [], "switched on and off by connecting signals only"),
    shown(SerialAta),
    shown(AdvancedFeatures, [rule(AdvancedFeatures.CONTROL, ["INITIATE_FLR"], ["INITIATE_FLR"], { hook: "flr" })]),
    shown(Aer, [
      ...errorBits,
      rule(Aer.CAPABILITIES_AND_CONTROL, "none", ["ECRC_GENERATION_ENABLE", "ECRC_CHECK_ENABLE"]),
    ]),
    shown(VirtualChannel),
    shown(DeviceSerialNumber),
    shown(PowerBudgeting, [rule(PowerBudgeting.DATA_SELECT, "none", "all")]),
    shown(ExtendedVendorSpecific),
    shown(AccessControlServices),
    shown(AlternativeRoutingId),
    shown(AddressTranslationServices),
    shown(SingleRootIoVirtualization),
    shown(LatencyToleranceReporting),
  ],
  gaps: "read",
  keepsLatchedBits: true,
  resetForgets: false,
};
