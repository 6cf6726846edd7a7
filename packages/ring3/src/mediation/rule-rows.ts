// Rows that several rule sets have.
import { AdvancedErrorReporting as Aer } from "../pci/capabilities/advanced-error-reporting.ts";
import { Msi } from "../pci/capabilities/msi.ts";
import { Header0 } from "../pci/header.ts";
import { type RegisterRule, rule } from "./rules.ts";

/** Registers behind which BARs lie: the user's own, sized by the real BARs. */
export const ownBars: readonly RegisterRule[] = [
  Header0.BAR0,
  Header0.BAR1,
  Header0.BAR2,
  Header0.BAR3,
  Header0.BAR4,
  Header0.BAR5,
  Header0.EXPANSION_ROM,
].map((register) => rule(register, "all", "all", { note: "the real one is never touched; sizes read back as usual" }));

/** MSI behind its control register, all of it the user's own: the signals that it connects decide what the real one says. */
export const ownMessages: readonly RegisterRule[] = [
  rule(Msi.MESSAGE_ADDRESS, "all", "all"),
  rule(Msi.MESSAGE_UPPER_ADDRESS, "all", "all"),
  rule(Msi.MESSAGE_DATA_32, "all", "all"),
  rule(Msi.MESSAGE_DATA_64, "all", "all"),
  rule(Msi.MASK_BITS_32, "none", "all"),
  rule(Msi.MASK_BITS_64, "none", "all"),
  rule(Msi.PENDING_BITS_32, "none", "all"),
  rule(Msi.PENDING_BITS_64, "none", "all"),
];

/** The error bits of before PCIe 4.0, which Linux still lets through and no others. */
const UNCORRECTABLE = 0x03ff_f031;
const CORRECTABLE = 0xf1c1;

/** AER before its capabilities and control register. */
export const errorBits: readonly RegisterRule[] = [
  rule(Aer.UNCORRECTABLE_ERROR_STATUS, "none", UNCORRECTABLE),
  rule(Aer.UNCORRECTABLE_ERROR_MASK, "none", UNCORRECTABLE),
  rule(Aer.UNCORRECTABLE_ERROR_SEVERITY, "none", UNCORRECTABLE),
  rule(Aer.CORRECTABLE_ERROR_STATUS, "none", CORRECTABLE),
  rule(Aer.CORRECTABLE_ERROR_MASK, "none", CORRECTABLE),
];
