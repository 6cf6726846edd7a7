// The default: the least that a driver needs. What only tunes the platform (orderings, payload sizes, error reporting) is
// the user's own copy and reaches nobody; what can take the function away from its owner is not there at all.
import { AdvancedErrorReporting } from "../pci/capabilities/advanced-error-reporting.ts";
import { AdvancedFeatures } from "../pci/capabilities/advanced-features.ts";
import { DeviceSerialNumber } from "../pci/capabilities/device-serial-number.ts";
import { Msi } from "../pci/capabilities/msi.ts";
import { MsiX } from "../pci/capabilities/msi-x.ts";
import { PciExpress } from "../pci/capabilities/pci-express.ts";
import { PowerManagement } from "../pci/capabilities/power-management.ts";
import { ExtendedVendorSpecific, VendorSpecific } from "../pci/capabilities/vendor-specific.ts";
import { Header, Header0 } from "../pci/header.ts";
import { type RuleSet, rule, shown } from "./rules.ts";
import { ownBars } from "./rule-rows.ts";

export const strict: RuleSet = {
  name: "strict",
  about: "The least that a driver needs; the default.",
  header: [
    rule(Header.VENDOR_ID, "all", "none", { note: "a VF's own, which its hardware does not tell" }),
    rule(Header.DEVICE_ID, "all", "none", { note: "a VF's own, which its hardware does not tell" }),
    rule(
      Header.COMMAND,
      ["PARITY_ERROR_RESPONSE", "SERR_ENABLE", "INTX_DISABLE"],
      ["IO", "MEMORY", "BUS_MASTER", "PARITY_ERROR_RESPONSE", "SERR_ENABLE", "INTX_DISABLE"],
      { hook: "command", note: "IO, MEMORY and BUS_MASTER act" },
    ),
    rule(Header.STATUS, ["CAPABILITIES_LIST"], "none"),
    rule(Header.CACHE_LINE_SIZE, "all", "all", { note: "without effect" }),
    rule(Header.LATENCY_TIMER, "all", "all", { note: "without effect" }),
    ...ownBars,
    rule(Header0.CAPABILITIES_POINTER, "all", "none"),
    rule(Header.INTERRUPT_LINE, "all", "all"),
    rule(Header.INTERRUPT_PIN, "all", "none"),
  ],
  capabilities: [
    shown(PowerManagement, [
      rule(PowerManagement.PMC, ["PME_SUPPORT"], "none", { cleared: ["PME_SUPPORT"] }),
      rule(PowerManagement.PMCSR, ["PME_ENABLE", "DATA_SELECT", "DATA_SCALE", "PME_STATUS"], "none", {
        cleared: ["PME_ENABLE", "DATA_SELECT", "DATA_SCALE", "PME_STATUS"],
        hook: "power",
        note: "POWER_STATE acts",
      }),
    ]),
    shown(Msi, [
      rule(Msi.CONTROL, 0xff, ["MSI_ENABLE", "MULTIPLE_MESSAGE_ENABLE"], { hook: "msi" }),
      rule(Msi.MESSAGE_ADDRESS, "all", ["ADDRESS"]),
      rule(Msi.MESSAGE_UPPER_ADDRESS, "all", "all"),
      rule(Msi.MESSAGE_DATA_32, "all", "all"),
      rule(Msi.MESSAGE_DATA_64, "all", "all"),
      rule(Msi.MASK_BITS_32, "none", "all"),
      rule(Msi.MASK_BITS_64, "none", "all"),
    ]),
    shown(VendorSpecific, [], "read-only"),
    shown(PciExpress, [
      rule(
        PciExpress.DEVICE_CONTROL,
        "all",
        [
          "CORRECTABLE_ERROR_REPORTING_ENABLE",
          "NON_FATAL_ERROR_REPORTING_ENABLE",
          "FATAL_ERROR_REPORTING_ENABLE",
          "UNSUPPORTED_REQUEST_REPORTING_ENABLE",
          "ENABLE_RELAXED_ORDERING",
          "MAX_PAYLOAD_SIZE",
          "EXTENDED_TAG_FIELD_ENABLE",
          "ENABLE_NO_SNOOP",
          "MAX_READ_REQUEST_SIZE",
          "INITIATE_FUNCTION_LEVEL_RESET",
        ],
        { hook: "flr", note: "the rest without effect" },
      ),
      rule(PciExpress.LINK_CONTROL, "all", "none", { note: "as it was at the start" }),
      rule(PciExpress.DEVICE_CONTROL_2, "all", ["COMPLETION_TIMEOUT_VALUE", "COMPLETION_TIMEOUT_DISABLE"], {
        note: "without effect",
      }),
      rule(PciExpress.LINK_CONTROL_2, "all", "none", { note: "as it was at the start" }),
    ]),
    shown(MsiX, [], "switched on and off by connecting signals only"),
    shown(AdvancedFeatures, [rule(AdvancedFeatures.CONTROL, ["INITIATE_FLR"], ["INITIATE_FLR"], { hook: "flr" })]),
    shown(AdvancedErrorReporting, [], "read-only"),
    shown(DeviceSerialNumber),
    shown(ExtendedVendorSpecific, [], "read-only"),
  ],
  gaps: "hidden",
  keepsLatchedBits: true,
  resetForgets: true,
};
