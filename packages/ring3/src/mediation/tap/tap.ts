// What stands between a driver and its function: sees every access and every interrupt, and may change them. Traces and
// faults are taps; the function that lets them in is in function.ts.
import type { Registers } from "../../memory/registers.ts";
import type { BarIndex, DmaPermission, FunctionEvent, PowerState, ResetMethod } from "../../pci/function.ts";
import type { InterruptKind } from "../../pci/switched-interrupts.ts";

export type { InterruptKind } from "../../pci/switched-interrupts.ts";

/** What is accessed, and where its byte 0 lies in the whole. */
export interface Area {
  readonly space: "config" | "bar" | "rom";
  /** The BAR; 0 for other spaces. */
  readonly bar: BarIndex;
  /** Offset in the BAR of the block that the driver has. */
  readonly base: number;
}

/** Where accesses of up to 32 bits go: a block of registers, or config space. */
export type Target = Pick<Registers, "read8" | "read16" | "read32" | "write8" | "write16" | "write32">;
export type WideTarget = Pick<Registers, "read64" | "write64">;
export interface BytesTarget {
  readBytes(offset: number, size: number): Uint8Array;
  writeBytes(offset: number, bytes: Uint8Array): void;
}
export type Width = 1 | 2 | 4;

/** What happens to a function besides accesses. */
export type Happening =
  | { readonly type: "interrupts"; readonly kind: InterruptKind; readonly first: number; readonly count: number }
  | {
      readonly type: "map";
      readonly map: number;
      readonly iova: number;
      readonly size: number;
      readonly permission: DmaPermission;
    }
  | { readonly type: "unmap"; readonly map: number; readonly iova: number; readonly size: number }
  | {
      readonly type: "memory";
      readonly by: "driver" | "device";
      readonly map: number;
      readonly offset: number;
      readonly bytes: Uint8Array;
    }
  | { readonly type: "reset"; readonly startedNs: number; readonly method?: ResetMethod; readonly error?: string }
  | { readonly type: "power"; readonly startedNs: number; readonly state: PowerState; readonly error?: string }
  | { readonly type: "event"; readonly event: FunctionEvent };

/** A run of bytes that a device wrote. */
export interface DeviceWrite {
  readonly map: number;
  readonly iova: number;
  readonly bytes: Uint8Array;
  /** The memory of the mapping as the driver has it, and its first IOVA. */
  readonly memory: Uint8Array;
  readonly start: number;
  /** Changes what the driver sees at `iova`, as if the device had written it. */
  readonly patch: (iova: number, bytes: Uint8Array) => void;
}

/** Every method is called instead of the access, which it performs (or not) by `target`; offsets count from `area.base`. */
export interface FunctionTap {
  read(area: Area, target: Target, offset: number, width: Width): number;
  write(area: Area, target: Target, offset: number, width: Width, value: number): void;
  read64(area: Area, target: WideTarget, offset: number): bigint;
  write64(area: Area, target: WideTarget, offset: number, value: bigint): void;
  readBytes(area: Area, target: BytesTarget, offset: number, size: number): Uint8Array;
  writeBytes(area: Area, target: BytesTarget, offset: number, bytes: Uint8Array): void;
  /** `count` signals of a vector came; returns how many the driver is to see now. */
  interrupt(kind: InterruptKind, vector: number, count: number): number;
  /** The device wrote to memory, where that is bounced; the driver, who has not looked yet, sees what this leaves there. */
  deviceWrote(written: DeviceWrite): void;
  happened(what: Happening): void;
  /** Nothing comes any more. */
  ended(reason: Error): void;
}

/** Performs one access of `width` bytes. */
export function readFrom(target: Target, offset: number, width: Width): number {
  if (width === 4) return target.read32(offset);
  return width === 2 ? target.read16(offset) : target.read8(offset);
}

export function writeTo(target: Target, offset: number, width: Width, value: number): void {
  if (width === 4) target.write32(offset, value);
  else if (width === 2) target.write16(offset, value);
  else target.write8(offset, value);
}
