// What a user of the driver may choose, and what holds otherwise.
import { type Clock, systemClock } from "../clock.ts";
import type { CompletionMode } from "./completion-wait.ts";
import type { InterruptKind } from "./queue-interrupts.ts";

export interface NvmeOptions {
  /** I/O queue pairs of this thread; 1 by default. The least loaded takes the next command. */
  readonly ioQueues?: number;
  /** I/O queue pairs at most, with those for workers and rings; 16 by default. */
  readonly maxIoQueues?: number;
  /** Entries of each I/O queue, one more than commands in flight; 128 by default. */
  readonly queueDepth?: number;
  /** How completions are noticed; `adaptive` by default. */
  readonly completion?: CompletionMode;
  /** Which interrupts to use; the best that the function has by default. */
  readonly interrupts?: InterruptKind | "best";
  /** `sgl` takes SGLs where the controller supports them; PRP lists by default. */
  readonly dataPointers?: "prp" | "sgl";
  /** Bytes of one command at most; the controller may say less. 256 KiB by default, a multiple of 4096. */
  readonly maxTransferBytes?: number;
  /** Time for one I/O command before it is aborted, in milliseconds; 10,000 by default. */
  readonly timeoutMs?: number;
  /** The same for admin commands; 30,000 by default. */
  readonly adminTimeoutMs?: number;
  /** Time for an abort before the controller is reset; 2000 by default. */
  readonly abortTimeoutMs?: number;
  /** Time for the controller's shutdown at the end; 5000 by default. */
  readonly shutdownTimeoutMs?: number;
  readonly clock?: Clock;
}

/** The options with everything decided. */
export type NvmeSettings = Required<NvmeOptions>;

/** Fills in what is not given. Throws `RangeError` for what makes no sense. */
export function settingsOf(options: NvmeOptions): NvmeSettings {
  const settings: NvmeSettings = {
    ioQueues: 1,
    maxIoQueues: 16,
    queueDepth: 128,
    completion: "adaptive",
    interrupts: "best",
    dataPointers: "prp",
    maxTransferBytes: 256 * 1024,
    timeoutMs: 10_000,
    adminTimeoutMs: 30_000,
    abortTimeoutMs: 2000,
    shutdownTimeoutMs: 5000,
    clock: systemClock,
    ...options,
  };
  const whole = (name: keyof NvmeSettings, least: number, most: number): void => {
    const value = settings[name] as number;
    if (!(Number.isInteger(value) && value >= least && value <= most)) {
      throw new RangeError(`${name} is a whole number from ${least} to ${most}, not ${value}`);
    }
  };
  whole("ioQueues", 1, 1024);
  whole("maxIoQueues", 1, 1024);
  whole("queueDepth", 2, 1024);
  whole("maxTransferBytes", 4096, 2 ** 25);
  for (const name of ["timeoutMs", "adminTimeoutMs", "abortTimeoutMs", "shutdownTimeoutMs"] as const) {
    if (!(settings[name] > 0)) throw new RangeError(`${name} is a time in milliseconds above 0, not ${settings[name]}`);
  }
  if (settings.maxTransferBytes % 4096 !== 0) throw new RangeError("maxTransferBytes is a multiple of 4096");
  return { ...settings, maxIoQueues: Math.max(settings.ioQueues, settings.maxIoQueues) };
}
