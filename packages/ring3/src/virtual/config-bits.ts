// The bytes of a config space and what each of their bits does. Only as many bytes are kept as the function has registers,
// in one allocation: a process may hold a thousand functions.
import type { Register } from "../pci/register.ts";
import { registerMasks } from "../pci/register.ts";
import type { ResetKind } from "./config.ts";

export class ConfigBits {
  /** Bytes that are kept; those behind read as 0. */
  readonly extent: number;
  /** What reads. */
  readonly live: Uint8Array;
  /** What reads after power-on. */
  readonly initial: Uint8Array;
  /** RW and RWS, as far as they are not hardwired. */
  readonly writable: Uint8Array;
  /** RW1C and RW1CS, as far as they are not hardwired. */
  readonly oneToClear: Uint8Array;
  /** Sticky and HwInit: no reset but power-on changes them. */
  readonly kept: Uint8Array;
  /** What a function-level reset leaves besides. */
  readonly keptByFunctionReset: Uint8Array;
  /** Bits that may differ from `initial`: what software, hardware or the model changes. */
  readonly variable: Uint8Array;

  constructor(extent: number) {
    this.extent = extent;
    const all = new Uint8Array(7 * extent);
    const section = (at: number): Uint8Array => all.subarray(at * extent, (at + 1) * extent);
    this.live = section(0);
    this.initial = section(1);
    this.writable = section(2);
    this.oneToClear = section(3);
    this.kept = section(4);
    this.keptByFunctionReset = section(5);
    this.variable = section(6);
  }

  /** Gives a register at `at` the masks and the reset value of its declaration. */
  declare(register: Register, at: number): void {
    const masks = registerMasks(register);
    const { width } = register;
    put(this.initial, at, width, masks.reset);
    put(this.live, at, width, masks.reset);
    put(this.writable, at, width, masks.writable);
    put(this.oneToClear, at, width, masks.oneToClear);
    put(this.kept, at, width, masks.sticky | masks.hardwareInitialized);
    put(this.variable, at, width, masks.writable | masks.oneToClear | masks.readOnly | masks.hardwareInitialized);
  }

  /** Sets the bits of `mask` to `value`, now and after every reset. */
  preset(at: number, width: number, mask: number, value: number): void {
    put(this.initial, at, width, (get(this.initial, at, width) & ~mask) | (value & mask));
    put(this.live, at, width, (get(this.live, at, width) & ~mask) | (value & mask));
  }

  /** Of the bits that software can write or clear those outside `mask` become fixed. */
  restrict(at: number, width: number, mask: number): void {
    const fixed = (get(this.writable, at, width) | get(this.oneToClear, at, width)) & ~mask;
    put(this.writable, at, width, get(this.writable, at, width) & mask);
    put(this.oneToClear, at, width, get(this.oneToClear, at, width) & mask);
    put(this.variable, at, width, get(this.variable, at, width) & ~fixed);
  }

  /** Brings the bytes back to `initial` but for what the reset keeps. */
  reset(kind: ResetKind | "power-on"): void {
    const { live, initial, kept, keptByFunctionReset, extent } = this;
    if (kind === "power-on") {
      live.set(initial);
      return;
    }
    const functionLevel = kind !== "conventional";
    for (let at = 0; at < extent; at++) {
      const keep = (kept[at] ?? 0) | (functionLevel ? (keptByFunctionReset[at] ?? 0) : 0);
      live[at] = ((live[at] ?? 0) & keep) | ((initial[at] ?? 0) & ~keep);
    }
  }

  /**
   * A number that tells layouts apart: masks and initial values, and `shapes` in place of the masks of base address
   * registers, which change when a BAR is resized.
   */
  fingerprint(shapes: string): number {
    let hash = 0x811c9dc5;
    const add = (byte: number): void => {
      hash = Math.imul(hash ^ byte, 0x01000193);
    };
    for (let at = 0; at < this.extent; at++) {
      add(this.initial[at] ?? 0);
      if (isBarByte(at)) continue;
      add(this.writable[at] ?? 0);
      add(this.oneToClear[at] ?? 0);
      add(this.variable[at] ?? 0);
    }
    for (let at = 0; at < shapes.length; at++) add(shapes.charCodeAt(at));
    return hash >>> 0;
  }

  /** Drops bits of base address registers that cannot be set, and sets those that always are. */
  clampBars(): void {
    for (let at = 0; at < this.extent; at++) {
      if (isBarByte(at)) this.live[at] = ((this.live[at] ?? 0) & (this.writable[at] ?? 0)) | (this.initial[at] ?? 0);
    }
  }
}

/** Whether a byte belongs to the six base address registers. */
export function isBarByte(at: number): boolean {
  return at >= 0x10 && at < 0x28;
}

/** `width` bytes of `bytes` from `at` on, little endian, unsigned. */
export function get(bytes: Uint8Array, at: number, width: number): number {
  let value = 0;
  for (let index = width - 1; index >= 0; index--) value = value * 256 + (bytes[at + index] ?? 0);
  return value;
}

/** Stores the low `width` bytes of `value` at `at`. */
export function put(bytes: Uint8Array, at: number, width: number, value: number): void {
  for (let index = 0; index < width; index++) bytes[at + index] = value >>> (8 * index);
}
