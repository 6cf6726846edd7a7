// What a virtual function works out of its declaration once, when it is made.
import { AdvancedFeatures } from "../pci/capabilities/advanced-features.ts";
import { PciExpress } from "../pci/capabilities/pci-express.ts";
import type { FunctionIdentity, ResetMethod } from "../pci/function.ts";
import { Header0 } from "../pci/header.ts";
import type { MsixPlacement } from "./bars.ts";
import type { VirtualConfig } from "./config.ts";
import type { FunctionDeclaration } from "./declaration.ts";
import type { VirtualInterrupts } from "./interrupts.ts";

export function identityOf(declaration: FunctionDeclaration, config: VirtualConfig): FunctionIdentity {
  return {
    address: config.name,
    backend: "virtual",
    vendorId: declaration.vendorId,
    deviceId: declaration.deviceId,
    subsystemVendorId: config.space.readRaw(Header0.SUBSYSTEM_VENDOR_ID),
    subsystemId: config.space.readRaw(Header0.SUBSYSTEM_ID),
    revision: declaration.revision ?? 0,
    classCode: declaration.classCode,
    modelVersion: declaration.modelVersion ?? 1,
  };
}

/** What the function can be reset by, best first. A bus reset always can. */
export function resetMethodsOf(config: VirtualConfig): readonly ResetMethod[] {
  const methods: ResetMethod[] = ["bus"];
  if (config.has(AdvancedFeatures.CONTROL)) methods.unshift("af_flr");
  if (config.has(PciExpress.DEVICE_CAPABILITIES)) {
    const { FUNCTION_LEVEL_RESET_CAPABILITY } = config.space.read(PciExpress.DEVICE_CAPABILITIES);
    if (FUNCTION_LEVEL_RESET_CAPABILITY === 1) methods.unshift("flr");
  }
  return methods;
}

export function msixPlacementOf({ table, msixLayout }: VirtualInterrupts): MsixPlacement | undefined {
  if (table === undefined || msixLayout === undefined) return undefined;
  return { table, tablePlace: msixLayout.table, pendingPlace: msixLayout.pendingBits };
}

/** The expansion ROM's content, with ones up to the size of its address range. */
export function paddedRom(content: Uint8Array | undefined, size: number): Uint8Array | undefined {
  if (content === undefined || content.length === size) return content;
  const rom = new Uint8Array(size).fill(0xff);
  rom.set(content);
  return rom;
}
