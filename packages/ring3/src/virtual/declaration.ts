// How a virtual function is declared: plain data, read once when the function is made. What contradicts itself is refused
// there, with the names of both sides.
import type { Arena } from "../memory/arena.ts";
import type { BarIndex, ByteRange } from "../pci/function.ts";
import type { CapabilityBuilder } from "./capability-builder.ts";

export type InterruptPin = "A" | "B" | "C" | "D";

/** How a BAR decodes addresses. */
export type BarKind = "memory32" | "memory64" | "io";

/** Width of an access in bytes. */
export type AccessWidth = 1 | 2 | 4 | 8;

/**
 * What answers a BAR's accesses. Offsets count from the BAR's start and are aligned to the width; values are unsigned.
 * Widths without a handler follow from {@link BarDeclaration.widths}.
 */
export interface BarHandlers {
  read8?(offset: number): number;
  read16?(offset: number): number;
  read32?(offset: number): number;
  read64?(offset: number): bigint;
  write8?(offset: number, value: number): void;
  write16?(offset: number, value: number): void;
  write32?(offset: number, value: number): void;
  write64?(offset: number, value: bigint): void;
}

/** A base address register and what lies behind it. */
export interface BarDeclaration extends BarHandlers {
  /** In bytes: a power of two, at least 16 (128 in a PCI Express function) for memory, 4 to 256 for I/O. */
  readonly size: number;
  /** `memory32` by default; `memory64` also takes the next register. */
  readonly kind?: BarKind;
  readonly prefetchable?: boolean;
  /** Areas that are plain memory, which clients may map: `true` for all of it. The rest goes to the handlers. */
  readonly memory?: true | readonly ByteRange[];
  /**
   * Widths in bytes that the BAR takes; all by default, composed from the handlers that exist: a narrower read takes lanes
   * of a wider handler, a wider access is several narrower ones, lowest first. Any other width reads as ones and is
   * dropped when written.
   */
  readonly widths?: readonly AccessWidth[];
  /** What becomes of a write that only a wider handler could take: dropped (default), or read, merged and written. */
  readonly narrowWrites?: "drop" | "merge";
  /** Writes that may come as a signal, where a client can raise one without a message. */
  readonly ioEventFds?: readonly IoEventFd[];
}

/** A write to a BAR that a client's accelerator may turn into a signal (KVM's ioeventfd); the handlers see it as a write. */
export interface IoEventFd {
  readonly offset: number;
  /** Bytes of the write; 0 for any. */
  readonly size: 0 | 1 | 2 | 4 | 8;
  /** Only this value signals. Without it any does, and the handlers are given `value`. */
  readonly match?: bigint;
  /** What the handlers are given where nothing matches or is shadowed; 0 by default. */
  readonly value?: bigint;
  /** The client also puts the value into shared memory, from where the handlers are given it (libvfio-user's addition). */
  readonly shadow?: boolean;
}

/** A function's BARs by index. */
export type BarDeclarations = Readonly<Partial<Record<BarIndex, BarDeclaration>>>;

/**
 * What a virtual function is.
 *
 * @example
 * import { type FunctionDeclaration, msix, pcie } from "ring3/virtual";
 * export const declaration: FunctionDeclaration = {
 *   vendorId: 0x1234,
 *   deviceId: 0x0add,
 *   classCode: 0xff0000,
 *   bars: { 0: { size: 4096, read32: (offset) => offset } },
 *   capabilities: [pcie(), msix({ vectors: 2, table: { bar: 4 } })],
 * };
 */
export interface FunctionDeclaration {
  /** Shown in messages; `vvvv:dddd` by default. */
  readonly name?: string;
  /** Grows with every change that a driver could notice; 1 by default. */
  readonly modelVersion?: number;
  readonly vendorId: number;
  readonly deviceId: number;
  /** The ids of the vendor and device by default. */
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
  readonly revision?: number;
  /** 24 bits: base class, subclass, programming interface. */
  readonly classCode: number;
  /** The line of INTx; none by default. */
  readonly interruptPin?: InterruptPin;
  /** Whether the function answers at once after every reset, so that software need not wait; off by default. */
  readonly immediateReadiness?: boolean;
  readonly bars?: BarDeclarations;
  /** Content of the expansion ROM; padded with ones to a power of two of at least 2 KiB. */
  readonly rom?: Uint8Array;
  /** Standard and extended capabilities, each kind in list order. */
  readonly capabilities?: readonly CapabilityBuilder[];
  /** Where memory BARs lie; by default one arena for all functions of a thread, made when the first needs it. */
  readonly arena?: Arena;
}

/** A BAR of `size` bytes whose accesses go to the methods that a subclass of `VirtualFunction` overrides. */
export function handled(size: number, kind: BarKind = "memory32"): BarDeclaration {
  return kind === "memory32" ? { size } : { size, kind };
}
