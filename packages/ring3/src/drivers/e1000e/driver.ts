// The driver of the 82574 as its users see it.

import type { PciFunction } from "../../pci/function.ts";
import { E1000E_DEVICE_IDS } from "../../specs/e1000e/registers.ts";
import { systemClock } from "../clock.ts";
import { GigabitDevice } from "../gigabit/device.ts";
import { checkDevice } from "../gigabit/identity.ts";
import type { NetDeviceOptions } from "../net/device.ts";
import { E1000eChip } from "./chip.ts";

/**
 * Intel's 82574, the device that QEMU calls e1000e.
 *
 * @example
 * import { E1000eDriver } from "ring3/e1000e";
 * await using device = await E1000eDriver.start(fn, { queues: 2 });
 * await device.waitForLink();
 */
export const E1000eDriver = {
  /** Throws `WRONG_DEVICE`, `NET_INVALID`, `TIMEOUT`. */
  start(fn: PciFunction, options: NetDeviceOptions = {}): Promise<GigabitDevice> {
    checkDevice(fn, "Intel's 82574", E1000E_DEVICE_IDS);
    return GigabitDevice.start(fn, new E1000eChip(fn, options.clock ?? systemClock), options);
  },
} as const;
