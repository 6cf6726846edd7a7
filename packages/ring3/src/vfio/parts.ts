// Builds a function's config space, BARs and ROM from what the kernel says of its regions.
import { Ring3Error } from "../binary/error.ts";
import type { Arena } from "../memory/arena.ts";
import { AdvancedErrorReporting } from "../pci/capabilities/advanced-error-reporting.ts";
import { readMsiXLayout } from "../pci/capabilities/msi-x.ts";
import { ConfigSpace } from "../pci/config-space.ts";
import type { BarIndex } from "../pci/function.ts";
import { type KeptRegisters, readKept } from "../pci/kept-registers.ts";
import { actingRegisters } from "../pci/watched-config.ts";
import type { WindowGate } from "../pci/window-gate.ts";
import { VfioBar } from "./bar.ts";
import { VfioConfigAccess } from "./config-access.ts";
import type { DeviceFile } from "./device-file.ts";
import { mappableAreas } from "./region.ts";
import { VfioRom } from "./rom.ts";
import { RegionIndex } from "./uapi.ts";

const COMMAND = 0x04;
const IO_AND_MEMORY = 3;
const SERR_ENABLE = 0x100;

interface FunctionParts {
  readonly access: VfioConfigAccess;
  readonly config: ConfigSpace;
  readonly bars: readonly VfioBar[];
  readonly rom: VfioRom | undefined;
  /** What a reset of its link loses, as it is while the function is open. */
  readonly kept: KeptRegisters;
}

export function buildParts(device: DeviceFile, arena: Arena, gate: WindowGate): FunctionParts {
  const configRegion = device.region(RegionIndex.CONFIG);
  if (configRegion.size < 64)
    throw new Ring3Error("NOT_SUPPORTED", "the device has no PCI config space; is it a PCI function?");
  const access = new VfioConfigAccess(device.fd, configRegion.fileOffset, configRegion.size, gate);
  const config = new ConfigSpace(access);
  if (!config.isPresent()) {
    throw new Ring3Error("FUNCTION_REMOVED", "config space reads all ones: the function is gone or its link is down");
  }
  // BARs are there from the start; bus mastering is not: the kernel switched it off at open. Without SERR a function with
  // error reporting keeps its errors to itself.
  const reportsErrors = config.find(AdvancedErrorReporting) !== undefined;
  const wantedCommand = IO_AND_MEMORY | (reportsErrors ? SERR_ENABLE : 0);
  const command = config.read16(COMMAND);
  if ((command & wantedCommand) !== wantedCommand) config.write16(COMMAND, command | wantedCommand);
  const kept = readKept(config);
  access.watch(actingRegisters(config), () => config.invalidate());
  const layout = readMsiXLayout(config);
  let upperHalf = false;
  const bars = Array.from({ length: 6 }, (_, i) => {
    const region = device.region(RegionIndex.BAR0 + i);
    const low = config.read32(0x10 + 4 * i);
    const kind = upperHalf || region.size === 0 ? "none" : kindOf(low);
    upperHalf = kind === "memory64";
    const mappable = mappableAreas(region, layout?.table.bar === i ? layout.table : undefined);
    const prefetchable = (kind === "memory32" || kind === "memory64") && (low & 8) !== 0;
    return new VfioBar({ index: i as BarIndex, kind, prefetchable, region, mappable, fd: device.fd, arena, gate });
  });
  const romRegion = device.region(RegionIndex.ROM);
  const rom = romRegion.size === 0 ? undefined : new VfioRom(device.fd, romRegion, gate);
  return { access, config, bars, rom, kept };
}

function kindOf(low: number): "io" | "memory32" | "memory64" {
  if ((low & 1) === 1) return "io";
  return (low & 6) === 4 ? "memory64" : "memory32";
}
