// The drivers of the 82576 as their users see them: the physical and the virtual function.

import type { PciFunction } from "../../pci/function.ts";
import { IGB_DEVICE_IDS, IGB_VF_DEVICE_ID } from "../../specs/igb/registers.ts";
import { systemClock } from "../clock.ts";
import { GigabitDevice } from "../gigabit/device.ts";
import { checkDevice } from "../gigabit/identity.ts";
import type { NetDeviceOptions } from "../net/device.ts";
import { IgbChip } from "./chip.ts";
import { IgbVfChip } from "./vf-chip.ts";

/**
 * A physical function of the 82576. It uses no SR-IOV: for virtual functions leave the physical one to the kernel's driver.
 *
 * @example
 * import { IgbDriver } from "ring3/igb";
 * await using device = await IgbDriver.start(fn, { queues: 4 });
 * await device.waitForLink();
 */
export const IgbDriver = {
  /** Throws `WRONG_DEVICE`, `NET_INVALID`, `TIMEOUT`. */
  start(fn: PciFunction, options: NetDeviceOptions = {}): Promise<GigabitDevice> {
    checkDevice(fn, "a physical function of Intel's 82576", IGB_DEVICE_IDS);
    return GigabitDevice.start(fn, new IgbChip(fn, options.clock ?? systemClock), options);
  },
} as const;

/**
 * A virtual function of the 82576. Its physical function has to be up, with a driver that answers.
 *
 * @example
 * import { IgbVfDriver } from "ring3/igb";
 * await using device = await IgbVfDriver.start(fn, { receiveMode: "interrupt" });
 * console.log(device.mac);
 */
export const IgbVfDriver = {
  /** Throws `WRONG_DEVICE`, `NET_INVALID`, `NET_MAILBOX` and `TIMEOUT` where the physical function does not answer. */
  start(fn: PciFunction, options: NetDeviceOptions = {}): Promise<GigabitDevice> {
    checkDevice(fn, "a virtual function of Intel's 82576", [IGB_VF_DEVICE_ID]);
    return GigabitDevice.start(fn, new IgbVfChip(fn, options.clock ?? systemClock), options);
  },
} as const;
