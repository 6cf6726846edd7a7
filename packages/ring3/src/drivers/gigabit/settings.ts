// What a user of a gigabit driver may choose, and what holds otherwise.
import { Ring3Error } from "../../binary/error.ts";
import { type Clock, systemClock } from "../clock.ts";
import type { NetDeviceOptions } from "../net/device.ts";

export interface GigabitSettings {
  readonly queues: number;
  readonly ringEntries: number;
  readonly mtu: number;
  readonly clock: Clock;
  readonly emit: boolean;
  readonly vlanStripping: boolean;
}

/** Fills in what is not given. Throws `NET_INVALID` for what no controller can do. */
export function settingsOf(options: NetDeviceOptions, maxQueues: number): GigabitSettings {
  const { queues = 1, ringEntries = 256, mtu = 1500 } = options;
  const whole = (name: string, value: number, least: number, most: number, unit = 1): void => {
    if (Number.isInteger(value) && value >= least && value <= most && value % unit === 0) return;
    const steps = unit === 1 ? "" : `, a multiple of ${unit}`;
    throw new Ring3Error("NET_INVALID", `${name} is a whole number from ${least} to ${most}${steps}, not ${value}`);
  };
  whole("queues", queues, 0, maxQueues);
  whole("ringEntries", ringEntries, 16, 4096, 8);
  whole("mtu", mtu, 68, 65535);
  return {
    queues,
    ringEntries,
    mtu,
    clock: options.clock ?? systemClock,
    emit: options.loops !== "typescript",
    vlanStripping: options.vlanStripping ?? true,
  };
}
