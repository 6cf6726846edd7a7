// Config space whose writes are watched for what they do to the BARs: memory decoding, power state and function-level
// resets all take them away, so windows are suspended before the write and come back once the function answers.
import type { Ring3Error } from "../binary/error.ts";
import { AdvancedFeatures } from "./capabilities/advanced-features.ts";
import { PciExpress } from "./capabilities/pci-express.ts";
import { PowerManagement } from "./capabilities/power-management.ts";
import type { ConfigAccess, ConfigSpace } from "./config-space.ts";
import type { WindowGate } from "./window-gate.ts";

const COMMAND = 0x04;
const MEMORY_SPACE = 1 << 1;

/** Where the registers lie that act on BARs; `undefined` for a capability that the function lacks. */
export interface ActingRegisters {
  /** PMCSR's low byte. */
  readonly powerState: number | undefined;
  /** The bytes whose bit starts a function-level reset. */
  readonly resets: readonly { readonly offset: number; readonly mask: number }[];
}

/** The registers whose writes take BARs away, where this function has them. */
export function actingRegisters(config: ConfigSpace): ActingRegisters {
  const resets: { offset: number; mask: number }[] = [];
  const has = (group: Parameters<ConfigSpace["find"]>[0]): boolean => config.find(group) !== undefined;
  if (has(PciExpress)) resets.push({ offset: config.offsetOf(PciExpress.DEVICE_CONTROL) + 1, mask: 0x80 });
  if (has(AdvancedFeatures)) resets.push({ offset: config.offsetOf(AdvancedFeatures.CONTROL), mask: 1 });
  return { powerState: has(PowerManagement) ? config.offsetOf(PowerManagement.PMCSR) : undefined, resets };
}

export class WatchedConfigAccess implements ConfigAccess {
  readonly size: number;
  readonly #access: Required<ConfigAccess>;
  readonly #gate: WindowGate;
  #acting: ActingRegisters = { powerState: undefined, resets: [] };
  #afterReset: () => void = () => undefined;
  #ended: Ring3Error | undefined;

  /** `access` reaches the function itself. */
  constructor(access: Required<ConfigAccess>, gate: WindowGate) {
    this.#access = access;
    this.size = access.size;
    this.#gate = gate;
  }

  /** Learns, once capabilities are known, which writes act; `afterReset` runs after a reset by a config write. */
  watch(acting: ActingRegisters, afterReset: () => void): void {
    this.#acting = acting;
    this.#afterReset = afterReset;
    this.followState();
  }

  read(offset: number, width: 1 | 2 | 4): number {
    if (this.#ended !== undefined) throw this.#ended;
    return this.#access.read(offset, width);
  }

  readBytes(offset: number, size: number): Uint8Array {
    if (this.#ended !== undefined) throw this.#ended;
    return this.#access.readBytes(offset, size);
  }

  write(offset: number, width: 1 | 2 | 4, value: number): void {
    if (this.#ended !== undefined) throw this.#ended;
    const byteAt = (place: number): number | undefined =>
      place >= offset && place < offset + width ? (value >>> (8 * (place - offset))) & 0xff : undefined;
    const command = byteAt(COMMAND);
    const power = this.#acting.powerState === undefined ? undefined : byteAt(this.#acting.powerState);
    const resets = this.#acting.resets.some(({ offset: at, mask }) => ((byteAt(at) ?? 0) & mask) !== 0);
    if (command !== undefined && (command & MEMORY_SPACE) === 0) this.#gate.block("memory decoding is off");
    if (power !== undefined && (power & 3) !== 0) this.#gate.block("the function sleeps");
    if (resets) this.#gate.block("a reset is under way");
    try {
      this.#access.write(offset, width, value);
    } finally {
      // What the write did is what the registers now say: a write may have been refused or clamped.
      if (command !== undefined || power !== undefined || resets) this.followState();
      if (resets) {
        this.#gate.unblock("a reset is under way");
        this.#afterReset();
      }
    }
  }

  /** Brings the gate in line with COMMAND and PMCSR. */
  followState(): void {
    const { powerState } = this.#acting;
    const asleep = powerState !== undefined && (this.read(powerState, 1) & 3) !== 0;
    const memoryOff = (this.read(COMMAND, 2) & MEMORY_SPACE) === 0;
    if (asleep) this.#gate.block("the function sleeps");
    if (memoryOff) this.#gate.block("memory decoding is off");
    if (!asleep) this.#gate.unblock("the function sleeps");
    if (!memoryOff) this.#gate.unblock("memory decoding is off");
  }

  /** Every later access throws `reason`. */
  end(reason: Ring3Error): void {
    this.#ended ??= reason;
  }
}
