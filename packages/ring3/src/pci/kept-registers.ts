// What the owner of the machine programmed into a function and a reset loses: Linux gives the same back after a reset. The
// user's own settings of the device are the user's to make again.
import { isRing3Error } from "../binary/error.ts";
import { AccessControlServices } from "./capabilities/access-control-services.ts";
import { AddressTranslationServices } from "./capabilities/address-translation-services.ts";
import { AdvancedErrorReporting } from "./capabilities/advanced-error-reporting.ts";
import { LatencyToleranceReporting } from "./capabilities/latency-tolerance-reporting.ts";
import { PciExpress } from "./capabilities/pci-express.ts";
import { PciX } from "./capabilities/pci-x.ts";
import { ResizableBar } from "./capabilities/resizable-bar.ts";
import { SingleRootIoVirtualization } from "./capabilities/single-root-io-virtualization.ts";
import type { ConfigSpace } from "./config-space.ts";
import { Header, Header0 } from "./header.ts";
import type { Register } from "./register.ts";

export type KeptRegisters = readonly { readonly at: number; readonly width: 1 | 2 | 4; readonly value: number }[];

/** In the order in which they are given back: sizes before addresses, and COMMAND last. */
const registers: readonly Register[] = [
  PciExpress.DEVICE_CONTROL,
  PciExpress.LINK_CONTROL,
  PciExpress.DEVICE_CONTROL_2,
  PciExpress.LINK_CONTROL_2,
  LatencyToleranceReporting.MAX_SNOOP_LATENCY,
  LatencyToleranceReporting.MAX_NO_SNOOP_LATENCY,
  AddressTranslationServices.CONTROL,
  AccessControlServices.CONTROL,
  AdvancedErrorReporting.UNCORRECTABLE_ERROR_MASK,
  AdvancedErrorReporting.UNCORRECTABLE_ERROR_SEVERITY,
  AdvancedErrorReporting.CORRECTABLE_ERROR_MASK,
  AdvancedErrorReporting.CAPABILITIES_AND_CONTROL,
  SingleRootIoVirtualization.SYSTEM_PAGE_SIZE,
  SingleRootIoVirtualization.VF_BAR0,
  SingleRootIoVirtualization.VF_BAR1,
  SingleRootIoVirtualization.VF_BAR2,
  SingleRootIoVirtualization.VF_BAR3,
  SingleRootIoVirtualization.VF_BAR4,
  SingleRootIoVirtualization.VF_BAR5,
  SingleRootIoVirtualization.NUM_VFS,
  SingleRootIoVirtualization.CONTROL,
  PciX.COMMAND,
  ResizableBar.CONTROL_0,
  ResizableBar.CONTROL_1,
  ResizableBar.CONTROL_2,
  ResizableBar.CONTROL_3,
  ResizableBar.CONTROL_4,
  ResizableBar.CONTROL_5,
  Header.INTERRUPT_LINE,
  Header0.EXPANSION_ROM,
  Header0.BAR5,
  Header0.BAR4,
  Header0.BAR3,
  Header0.BAR2,
  Header0.BAR1,
  Header0.BAR0,
  Header.CACHE_LINE_SIZE,
  Header.LATENCY_TIMER,
  Header.COMMAND,
];

const COMMAND_ENABLES =
  Header.COMMAND.fields.IO.mask |
  Header.COMMAND.fields.MEMORY.mask |
  Header.COMMAND.fields.BUS_MASTER.mask |
  Header.COMMAND.fields.SERR_ENABLE.mask;
const {
  CORRECTABLE_ERROR_REPORTING_ENABLE,
  NON_FATAL_ERROR_REPORTING_ENABLE,
  FATAL_ERROR_REPORTING_ENABLE,
  UNSUPPORTED_REQUEST_REPORTING_ENABLE,
} = PciExpress.DEVICE_CONTROL.fields;
const ERROR_REPORTING =
  CORRECTABLE_ERROR_REPORTING_ENABLE.mask |
  NON_FATAL_ERROR_REPORTING_ENABLE.mask |
  FATAL_ERROR_REPORTING_ENABLE.mask |
  UNSUPPORTED_REQUEST_REPORTING_ENABLE.mask;

/** Reads what is there of them. */
export function readKept(config: ConfigSpace): KeptRegisters {
  const resizable = config.has(ResizableBar.CONTROL_0)
    ? config.read(ResizableBar.CONTROL_0).NUMBER_OF_RESIZABLE_BARS
    : 0;
  return registers
    .filter((register) => config.has(register))
    .filter((register) => register.group !== ResizableBar || (register.offset - 8) / 8 < resizable)
    .map((register) => ({
      at: config.offsetOf(register),
      width: register.width,
      value: config.readRaw(register),
    }));
}

/** Writes what is not as it was. `failed` hears of a register that could not be. */
export function giveBack(config: ConfigSpace, kept: KeptRegisters, failed: (error: unknown) => void): void {
  config.invalidate();
  for (const { at, width, value } of kept) {
    try {
      const now = width === 4 ? config.read32(at) : width === 2 ? config.read16(at) : config.read8(at);
      if (now === value) continue;
      if (width === 4) config.write32(at, value);
      else if (width === 2) config.write16(at, value);
      else config.write8(at, value);
    } catch (error) {
      if (!isRing3Error(error)) throw error;
      failed(error);
    }
  }
}

/**
 * Whether a function that had these registers was reset, and nobody has given them back. It is told by what a reset clears
 * and a driver leaves alone: the error reporting that the owner of the machine switched on, and without that COMMAND.
 */
export function wasReset(config: ConfigSpace, kept: KeptRegisters): boolean {
  const lost = (register: Register, mask: number): boolean | undefined => {
    if (!config.has(register)) return undefined;
    const at = config.offsetOf(register);
    const before = kept.find((one) => one.at === at)?.value ?? 0;
    return (before & mask) === 0 ? undefined : (config.readRaw(register) & mask) === 0;
  };
  return lost(PciExpress.DEVICE_CONTROL, ERROR_REPORTING) ?? lost(Header.COMMAND, COMMAND_ENABLES) ?? false;
}
