// The function that a recording was made of, as far as its config space tells: ids, BARs, and the capabilities that drivers
// use, each at its place. Others are left out, as a driver that did not need them then does not need them now.
import { Msi } from "../../pci/capabilities/msi.ts";
import { MsiX, readMsiXLayout } from "../../pci/capabilities/msi-x.ts";
import { PciExpress } from "../../pci/capabilities/pci-express.ts";
import { PowerManagement } from "../../pci/capabilities/power-management.ts";
import { VendorSpecific } from "../../pci/capabilities/vendor-specific.ts";
import type { CapabilityEntry } from "../../pci/capability-walk.ts";
import { bytesConfigAccess, ConfigSpace } from "../../pci/config-space.ts";
import type { BarIndex } from "../../pci/function.ts";
import { Header } from "../../pci/header.ts";
import { msi } from "../../virtual/capabilities/msi.ts";
import { msix } from "../../virtual/capabilities/msi-x.ts";
import { pcie } from "../../virtual/capabilities/pci-express.ts";
import { pm } from "../../virtual/capabilities/power-management.ts";
import { vendorSpecific } from "../../virtual/capabilities/vendor-specific.ts";
import type { CapabilityBuilder } from "../../virtual/capability-builder.ts";
import type { BarDeclaration, FunctionDeclaration, InterruptPin } from "../../virtual/declaration.ts";
import type { OpenEvent } from "../trace/event.ts";

const PINS: readonly (InterruptPin | undefined)[] = [undefined, "A", "B", "C", "D"];
const BARS: readonly BarIndex[] = [0, 1, 2, 3, 4, 5];

export function declarationOf(open: OpenEvent): FunctionDeclaration {
  const { identity } = open;
  const config = new ConfigSpace(bytesConfigAccess(open.config));
  const bars: Partial<Record<BarIndex, BarDeclaration>> = {};
  for (const { index, kind, size, prefetchable } of open.bars) bars[index] = { kind, size, prefetchable };
  const capabilities = config.capabilities().flatMap((entry) => builderOf(config, entry));
  const pin = open.config.length >= 64 ? PINS[config.read(Header.INTERRUPT_PIN).VALUE] : undefined;
  return {
    name: `a recording of ${identity.address}`,
    vendorId: identity.vendorId,
    deviceId: identity.deviceId,
    subsystemVendorId: identity.subsystemVendorId,
    subsystemId: identity.subsystemId,
    revision: identity.revision,
    classCode: identity.classCode,
    ...(identity.modelVersion === undefined ? {} : { modelVersion: identity.modelVersion }),
    ...(pin === undefined ? {} : { interruptPin: pin }),
    bars,
    capabilities,
  };
}

function builderOf(config: ConfigSpace, entry: CapabilityEntry): CapabilityBuilder[] {
  const at = entry.offset;
  switch (entry.id) {
    case PowerManagement.id:
      return [pm({ at, noSoftReset: config.read(PowerManagement.PMCSR, entry).NO_SOFT_RESET === 1 })];
    case PciExpress.id:
      return [pcie({ at })];
    case Msi.id: {
      const control = config.read(Msi.CONTROL, entry);
      return [
        msi({
          at,
          vectors: 2 ** Math.min(5, control.MULTIPLE_MESSAGE_CAPABLE),
          address64: control.ADDRESS_64_CAPABLE === 1,
          perVectorMasking: control.PER_VECTOR_MASKING_CAPABLE === 1,
        }),
      ];
    }
    case MsiX.id: {
      const layout = readMsiXLayout(config);
      const table = BARS[layout?.table.bar ?? -1];
      const pending = BARS[layout?.pendingBits.bar ?? -1];
      if (layout === undefined || table === undefined || pending === undefined) return [];
      const pendingBits = { bar: pending, offset: layout.pendingBits.offset };
      return [msix({ at, vectors: layout.vectors, table: { bar: table, offset: layout.table.offset }, pendingBits })];
    }
    case VendorSpecific.id: {
      const length = Math.min(config.read(VendorSpecific.LENGTH, entry).VALUE, config.size - at);
      return length <= 3 ? [] : [vendorSpecific({ at, content: config.readBytes(at + 3, length - 3) })];
    }
    default:
      return [];
  }
}
