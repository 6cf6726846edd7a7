// The list of standard capabilities: where it leads, what lspci calls each, and when it gives up on a broken one.
import { showExpress } from "./express-text.ts";
import { showExtendedCapabilities } from "./extended-text.ts";
import { showHyperTransport } from "./hyper-transport-text.ts";
import { hex } from "./layout.ts";
import { showPciX } from "./pci-x-text.ts";
import type { Printer } from "./printer.ts";
import * as standard from "./standard-text.ts";
import { showVendorSpecific } from "./vendor-text.ts";
import { showVitalProductData } from "./vital-product-data-text.ts";

/** Shows one capability, from behind its offset on. */
type Show = (printer: Printer, at: number, header: number) => void;

const named =
  (text: string): Show =>
  (printer) =>
    printer.print(`${text}\n`);

const BY_ID: Readonly<Record<number, Show>> = {
  0x00: named("Null"),
  0x01: standard.showPowerManagement,
  0x02: standard.showAcceleratedGraphicsPort,
  0x03: showVitalProductData,
  0x04: standard.showSlotIdentification,
  0x05: standard.showMsi,
  0x06: named("CompactPCI hot-swap <?>"),
  0x07: showPciX,
  0x08: showHyperTransport,
  0x09: showVendorSpecific,
  0x0a: standard.showDebugPort,
  0x0b: named("CompactPCI central resource control <?>"),
  0x0c: named("Hot-plug capable"),
  0x0d: standard.showSubsystemId,
  0x0e: named("AGP3 <?>"),
  0x0f: named("Secure device <?>"),
  0x11: standard.showMsiX,
  0x12: standard.showSerialAta,
  0x13: standard.showAdvancedFeatures,
  0x14: standard.showEnhancedAllocation,
};
const EXPRESS = 0x10;
const PCI_X = 0x07;

/** `pointer` is where the header holds the offset of the first one. */
export function showCapabilities(printer: Printer, pointer: number): void {
  const { config } = printer;
  let hasExtended = false;
  let portType = -1;
  if ((config.word(0x06) & 0x10) !== 0) {
    const seen = new Set<number>();
    for (let at = config.byte(pointer) & 0xfc; at !== 0; ) {
      printer.print("\tCapabilities: ");
      if (!config.fetch(at, 4)) {
        printer.print("<access denied>\n");
        break;
      }
      const id = config.byte(at);
      const next = config.byte(at + 1) & 0xfc;
      const header = config.word(at + 2);
      printer.print(`[${hex(at, 2)}] `);
      if (seen.has(at)) {
        printer.print("<chain looped>\n");
        break;
      }
      seen.add(at);
      if (id === 0xff) {
        printer.print("<chain broken>\n");
        break;
      }
      if (id === EXPRESS) portType = showExpress(printer, at, header);
      else if (BY_ID[id] !== undefined) BY_ID[id](printer, at, header);
      else printer.print(`Capability ID 0x${hex(id)} [${hex(header, 4)}]\n`);
      if (id === EXPRESS || id === PCI_X) hasExtended = true;
      at = next;
    }
  }
  if (hasExtended) showExtendedCapabilities(printer, portType);
}
