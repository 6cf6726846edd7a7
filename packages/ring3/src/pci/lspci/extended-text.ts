// The list of extended capabilities: how far it is followed and what lspci calls each.

import { showRootComplexEventCollector, showRootComplexLink, showVirtualChannel } from "./channel-text.ts";
import { showDesignatedVendorSpecific } from "./compute-express-link-text.ts";
import { showIntegrityAndDataEncryption } from "./encryption-text.ts";
import * as errors from "./error-text.ts";
import { hex } from "./layout.ts";
import * as link from "./link-text.ts";
import type { Printer } from "./printer.ts";
import * as services from "./services-text.ts";
import { showVirtualFunctions } from "./virtual-functions-text.ts";

/** Shows one capability; `portType` is that of the Express capability, -1 without one. */
type Show = (printer: Printer, at: number, portType: number) => void;

const named =
  (text: string): Show =>
  (printer) =>
    printer.print(`${text}\n`);

const BY_ID: Readonly<Record<number, Show>> = {
  0x00: named("Null"),
  0x01: errors.showAdvancedErrors,
  0x02: showVirtualChannel,
  0x03: services.showSerialNumber,
  0x04: named("Power Budgeting <?>"),
  0x05: showRootComplexLink,
  0x06: named("Root Complex Internal Link <?>"),
  0x07: showRootComplexEventCollector,
  0x08: named("Multi-Function Virtual Channel <?>"),
  0x09: showVirtualChannel,
  0x0a: named("Root Complex Register Block <?>"),
  0x0b: services.showExtendedVendorSpecific,
  0x0d: services.showAccessControl,
  0x0e: services.showAlternativeRoutingId,
  0x0f: services.showAddressTranslation,
  0x10: showVirtualFunctions,
  0x11: named("Multi-Root I/O Virtualization <?>"),
  0x12: services.showMulticast,
  0x13: services.showPageRequest,
  0x15: (printer, at) => services.showResizableBars(printer, at, "Physical"),
  0x16: named("Dynamic Power Allocation <?>"),
  0x17: services.showProcessingHints,
  0x18: services.showLatencyTolerance,
  0x19: link.showSecondaryExpress,
  0x1a: named("Protocol Multiplexing <?>"),
  0x1b: services.showProcessAddressSpaceId,
  0x1c: named("LN Requester <?>"),
  0x1d: errors.showPortContainment,
  0x1e: link.showL1Substates,
  0x1f: services.showPrecisionTime,
  0x20: named("PCI Express over M_PHY <?>"),
  0x21: named("FRS Queueing <?>"),
  0x22: named("Readiness Time Reporting <?>"),
  0x23: showDesignatedVendorSpecific,
  0x24: (printer, at) => services.showResizableBars(printer, at, "Virtual"),
  0x25: named("Data Link Feature <?>"),
  0x26: link.showPhysicalLayer16,
  0x27: link.showLaneMargining,
  0x28: named("Hierarchy ID <?>"),
  0x29: named("Native PCIe Enclosure Management <?>"),
  0x2a: link.showPhysicalLayer32,
  0x2e: services.showDataObjectExchange,
  0x2f: link.showDevice3,
  0x30: showIntegrityAndDataEncryption,
  0x31: link.showPhysicalLayer64,
  0x32: link.showFlitLogging,
  0x34: link.showFlitErrorInjection,
  0x36: services.showRegisterBlockLocator,
};

export function showExtendedCapabilities(printer: Printer, portType: number): void {
  const { config } = printer;
  const seen = new Set<number>();
  for (let at = 0x100; at !== 0; ) {
    if (!config.fetch(at, 4)) return;
    const header = config.long(at);
    if (header === 0 || header === 0xffffffff) return;
    const id = header & 0xffff;
    printer.print(`\tCapabilities: [${hex(at, 3)}${printer.detailed ? ` v${(header >>> 16) & 0xf}` : ""}] `);
    if (seen.has(at)) {
      printer.print("<chain looped>\n");
      return;
    }
    seen.add(at);
    const show = BY_ID[id];
    if (show === undefined) printer.print(`Extended Capability ID 0x${hex(id)}\n`);
    else show(printer, at, portType);
    at = (header >>> 20) & 0xffc;
  }
}
