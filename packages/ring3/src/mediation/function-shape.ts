// What a real function is declared as towards its users: its ids, the shape of its BARs, and the user's list of capabilities.
import type { BarIndex, PciFunction } from "../pci/function.ts";
import { Header } from "../pci/header.ts";
import type { CapabilityBuilder } from "../virtual/capability-builder.ts";
import type { BarDeclaration, FunctionDeclaration } from "../virtual/declaration.ts";
import type { ConfigPlan } from "./config-plan.ts";

/** The declaration of the virtual function that stands in front of `fn`. */
export function declarationOf(
  fn: PciFunction,
  plan: ConfigPlan,
  name: string,
  added: readonly CapabilityBuilder[],
): FunctionDeclaration {
  const { identity } = fn;
  const bars: Partial<Record<BarIndex, BarDeclaration>> = {};
  for (const index of [0, 1, 2, 3, 4, 5] as const) {
    const { kind, size, prefetchable } = fn.bar(index);
    if (kind !== "none" && size > 0) bars[index] = { kind, size, prefetchable };
  }
  const pin = fn.interrupts.available.intx === 0 ? 0 : fn.config.readRaw(Header.INTERRUPT_PIN);
  const letter = (["A", "B", "C", "D"] as const)[pin - 1];
  return {
    name,
    vendorId: identity.vendorId,
    deviceId: identity.deviceId,
    subsystemVendorId: identity.subsystemVendorId,
    subsystemId: identity.subsystemId,
    revision: identity.revision,
    classCode: identity.classCode,
    ...(identity.modelVersion === undefined ? {} : { modelVersion: identity.modelVersion }),
    ...(letter === undefined ? {} : { interruptPin: letter }),
    bars,
    // Its size is what counts here: reads go to the function.
    ...(fn.rom === undefined || fn.rom.size === 0 ? {} : { rom: new Uint8Array(fn.rom.size) }),
    capabilities: [...plan.builders, ...added],
    arena: fn.dma.arena,
  };
}
