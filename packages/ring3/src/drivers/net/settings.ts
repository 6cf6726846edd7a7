// What a program may choose at the start of any network driver, and what holds where it does not.
import { Ring3Error } from "../../binary/error.ts";
import { type Clock, systemClock } from "../clock.ts";
import type { NetDeviceOptions } from "./device.ts";

export interface NetSettings {
  /** Queues of the thread that starts the driver. */
  readonly queues: number;
  readonly ringEntries: number;
  readonly mtu: number;
  readonly clock: Clock;
}

/** What devices of a kind can have at all. */
export interface SettingLimits {
  readonly queues: { readonly least: number; readonly most: number };
  /** Of each ring: a multiple of `unit`. */
  readonly ringEntries: { readonly least: number; readonly most: number; readonly unit: number };
}

/** Fills in what is not given. Throws `NET_INVALID` beyond the limits. */
export function netSettings(options: NetDeviceOptions, limits: SettingLimits): NetSettings {
  const { queues = 1, ringEntries = 256, mtu = 1500, clock = systemClock } = options;
  const { least, most, unit } = limits.ringEntries;
  checkWhole("queues", queues, limits.queues.least, limits.queues.most);
  checkWhole("ringEntries", ringEntries, least, most, unit);
  checkWhole("mtu", mtu, 68, 65_535);
  return { queues, ringEntries, mtu, clock };
}

function checkWhole(name: string, value: number, least: number, most: number, unit = 1): void {
  if (Number.isInteger(value) && value >= least && value <= most && value % unit === 0) return;
  const steps = unit === 1 ? "" : `, a multiple of ${unit}`;
  throw new Ring3Error("NET_INVALID", `${name} is a whole number from ${least} to ${most}${steps}, not ${value}`);
}

/** Buffers for rings that are full both ways, and as many again for the program. */
export function poolBuffers(queues: number, ringEntries: number): number {
  return Math.max(1, queues) * ringEntries * 3;
}
