// The interface that everything keeps: what a driver sees of a PCI function, whatever stands behind it (the Linux
// kernel's VFIO, a vfio-user socket, a function in process). Registers are synchronous on every transport; what takes
// milliseconds (reset, power, disposal) is a promise.
import type { Arena, ArenaRange } from "../memory/arena.ts";
import type { Registers } from "../memory/registers.ts";
import type { ConfigSpace } from "./config-space.ts";

/** Who the function is and where it was opened. */
export interface FunctionIdentity {
  /** What was given to `open`: `0000:01:00.0`, `vfio-user:/run/disk.sock`, or a name for a function in process. */
  readonly address: string;
  /** The back end: `vfio-group`, `vfio-iommufd`, `vfio-user`, `in-process`, ... */
  readonly backend: string;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
  readonly revision: number;
  /** 24 bits: base class, subclass, programming interface. */
  readonly classCode: number;
  /** Version of the device model, where the function is software. */
  readonly modelVersion: number | undefined;
}

export type BarIndex = 0 | 1 | 2 | 3 | 4 | 5;

/** A run of bytes: `offset` and `size`. */
export interface ByteRange {
  readonly offset: number;
  readonly size: number;
}

/**
 * A base address register's region. `size` is 0 and `kind` `none` where the function has no such BAR (or it is the upper
 * half of a 64-bit one). Accesses on the `Bar` itself go by message or system call; `registers()` gives the fast way.
 */
export interface Bar extends Registers {
  readonly index: BarIndex;
  readonly kind: "none" | "io" | "memory32" | "memory64";
  readonly prefetchable: boolean;
  /** The areas that `map` accepts, ascending; empty where the BAR cannot be mapped. */
  readonly mappable: readonly ByteRange[];
  /**
   * Maps `range` (the whole BAR by default) and gives registers relative to its start.
   * Throws `NOT_MAPPABLE` where the range is not within one mappable area.
   */
  map(range?: ByteRange): MappedRegisters;
  /** Registers of `range`: mapped where that is possible, else the slow way. What most drivers want. */
  registers(range?: ByteRange): Registers;
  readBytes(offset: number, size: number): Uint8Array;
  writeBytes(offset: number, bytes: Uint8Array): void;
}

/** Registers backed by a mapping; disposal unmaps, and every later access throws. */
export interface MappedRegisters extends Registers, Disposable {
  readonly arenaOffset: number;
}

/** The expansion ROM: read only, at most 4 bytes an access in hardware. */
export interface Rom {
  readonly size: number;
  read(offset: number, size: number): Uint8Array;
}

/** A source of interrupts; each signal is counted, none is lost while nobody listens. */
export interface Interrupt extends AsyncIterable<number>, Disposable {
  /** Vector number within its kind. */
  readonly vector: number;
  /**
   * Waits for the next interrupt and resolves with how many came since the last look (>= 1).
   * Rejects with `FUNCTION_REMOVED` or `INTERRUPT_CLOSED` when none can come any more, `TIMEOUT` after `timeoutMs`,
   * and with the signal's reason when aborted.
   */
  next(options?: { readonly timeoutMs?: number; readonly signal?: AbortSignal }): Promise<number>;
  /** How many interrupts came since the last look, without waiting; no system call where none came is not promised. */
  poll(): number;
  /** Calls `listener` with the count at each wake-up until disposed. The listener's exceptions reach `events`. */
  listen(listener: (count: number) => void): Disposable;
  /** Asks the back end to raise this interrupt by software, to test the path. Throws `NOT_SUPPORTED` where it cannot. */
  trigger(): void;
}

/** The line interrupt: level-triggered; where `automasked` each delivery masks it until `unmask()`. */
export interface LineInterrupt extends Interrupt {
  readonly automasked: boolean;
  mask(): void;
  unmask(): void;
}

/** Only one of INTx, MSI and MSI-X is on at a time: switching on one throws `INTERRUPTS_BUSY` while another is on. */
export interface Interrupts {
  /** How many vectors of each kind the function offers; `intx` is 0 or 1. */
  readonly available: { readonly intx: number; readonly msi: number; readonly msix: number };
  /** Whether `addMsix` works: MSI-X vectors can be added while others are on. */
  readonly growable: boolean;
  /** Which kind is on. */
  readonly active: "none" | "intx" | "msi" | "msix";
  intx(): LineInterrupt;
  /** Switches on `count` (1, 2, 4 ... 32) MSI vectors. Throws `TOO_MANY_VECTORS` with what is available. */
  msi(count?: number): readonly Interrupt[];
  /** Switches on MSI-X vectors 0 to `count - 1`. */
  msix(count?: number): readonly Interrupt[];
  /** Adds MSI-X vectors from `first` on to those that are on. Throws `NOT_SUPPORTED` unless `growable`. */
  addMsix(first: number, count: number): readonly Interrupt[];
  /**
   * Has vectors from `first` on raise somebody else's eventfds (by number, in this process), with no code of ours in the
   * way; `undefined` for none. Switches the kind on, or changes and adds to what this method switched on. The descriptors
   * may be closed afterwards. Absent where the back end cannot.
   */
  readonly attach?:
    | ((kind: "intx" | "msi" | "msix", first: number, descriptors: readonly (number | undefined)[]) => void)
    | undefined;
  /** Switches everything off; waiting `next()` calls reject with `INTERRUPT_CLOSED`. */
  disable(): void;
}

export type DmaPermission = "read-write" | "read" | "write";

/** Memory that the device can reach: `iova` on its side, a range of the arena on ours. Disposal unmaps first. */
export interface DmaBuffer extends Disposable {
  /** Address that the device uses. Below 2^53, so a number is exact; split it with `% 2**32` and `/ 2**32`. */
  readonly iova: number;
  readonly size: number;
  readonly permission: DmaPermission;
  /** Offset of the first byte in the arena. */
  readonly arenaOffset: number;
  readonly arena: Arena;
  /** The bytes; payload only. Rings take `words`. */
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
}

/** What bounds DMA: where IOVAs may lie and how much can be mapped. */
export interface DmaLimits {
  /** Inclusive ranges of usable IOVAs, ascending, clamped below 2^53. */
  readonly ranges: readonly { readonly first: number; readonly last: number }[];
  /** Page sizes of the IOMMU in bytes, ascending. */
  readonly pageSizes: readonly number[];
  /** Further mappings that the back end takes; `undefined` where it does not say. */
  readonly mappingsLeft: number | undefined;
  /** Bytes of locked memory that the process may still pin; `undefined` for no limit. */
  readonly lockableBytes: number | undefined;
}

export interface DmaMapOptions {
  /** A fixed IOVA; by default the space chooses one. */
  readonly iova?: number;
  /** What the *device* may do; `read-write` by default. */
  readonly permission?: DmaPermission;
  /** Highest IOVA allowed plus one, for devices with few address bits (edu: 2 ** 28). */
  readonly below?: number;
  /** Alignment of the IOVA in bytes: 4096 (default), 2 MiB or 1 GiB. */
  readonly alignment?: number;
}

/** The function's view of memory. A device reaches what is mapped here and nothing else. */
export interface DmaSpace {
  readonly arena: Arena;
  limits(): DmaLimits;
  /** Allocates zeroed memory of `size` bytes (rounded up to a page) and maps it. */
  allocate(size: number, options?: DmaMapOptions): DmaBuffer;
  /** Maps memory of the arena that the caller owns; disposal unmaps it and leaves the memory. */
  map(range: ArenaRange, options?: DmaMapOptions): DmaBuffer;
  /**
   * Maps memory of this process that lies outside the arena: whole pages that stay mapped until the result is disposed.
   * Absent where the back end cannot.
   */
  readonly mapBytes?:
    | ((bytes: Uint8Array, options: DmaMapOptions & { readonly iova: number }) => Disposable)
    | undefined;
  /** Unmaps everything that this function mapped. */
  unmapAll(): void;
}

/** How a function was reset, in the words of sysfs `reset_method`. */
export type ResetMethod = "flr" | "af_flr" | "pm" | "bus" | "device_specific" | "acpi" | "cxl_bus" | "unknown";

export type PowerState = "D0" | "D1" | "D2" | "D3hot" | "D3cold" | "unknown";

export interface Power {
  readonly state: PowerState;
  /** Moves the function to `D0` or `D3hot`; BAR windows are suspended before and come back after. */
  set(state: "D0" | "D3hot"): Promise<void>;
  /** Lets the platform switch the function off until `exitLowPower` or an access. Throws `NOT_SUPPORTED`. */
  enterLowPower(): Promise<void>;
  exitLowPower(): Promise<void>;
}

/** What can happen to an open function, by event name. */
export interface FunctionEventMap {
  /** Somebody wants the function back (unplug, unbind). Let go within `graceMs`, or it is taken. */
  readonly "removal-requested": { readonly graceMs: number };
  /** The function is gone; everything pending rejects with `FUNCTION_REMOVED`. */
  readonly removed: { readonly reason: string };
  /** The platform reported an uncorrected error (AER, link): the driver should stop and reset. */
  readonly error: { readonly description: string };
  /** The function works again after an error or a reset by somebody else: the driver should re-initialise. */
  readonly recovered: {
    readonly description: string;
    /** How the function was reset on the way: its registers are lost. Left out where it was not, or that is not known. */
    readonly reset?: ResetMethod;
  };
  readonly power: { readonly state: PowerState };
  /** The whole machine slept for `sleptMs`: config space survived, device registers did not. */
  readonly resumed: { readonly sleptMs: number };
  /** The function was reset through this interface. */
  readonly reset: { readonly method: ResetMethod };
}
export type FunctionEventName = keyof FunctionEventMap;
export type FunctionEvent = { [K in FunctionEventName]: { readonly type: K } & FunctionEventMap[K] }[FunctionEventName];

export interface FunctionEvents extends AsyncIterable<FunctionEvent> {
  on<K extends FunctionEventName>(type: K, listener: (event: FunctionEventMap[K]) => void): Disposable;
}

/**
 * A PCI function, open for its driver.
 *
 * Disposal runs in the safe order: bus master off, interrupts off, DMA unmapped, windows revoked, handles closed. It may
 * be called twice; after it every access throws `FUNCTION_CLOSED` (or `REGION_REVOKED` on registers).
 */
export interface PciFunction extends AsyncDisposable {
  readonly identity: FunctionIdentity;
  readonly config: ConfigSpace;
  /** Throws `RangeError` only for an index that no function has. */
  bar(index: BarIndex): Bar;
  readonly rom: Rom | undefined;
  readonly interrupts: Interrupts;
  readonly dma: DmaSpace;
  /** COMMAND.BUS_MASTER: without it no DMA and no MSI leaves the function. Off at open. */
  busMaster: boolean;
  /** The methods that the back end may use, best first; empty where the function cannot be reset. */
  readonly resetMethods: readonly ResetMethod[];
  /** Resets the function and resolves once config space answers again. Bus master and interrupts are off afterwards. */
  reset(): Promise<ResetMethod>;
  readonly power: Power;
  readonly events: FunctionEvents;
  /** Aborts, with the error as its reason, once the function is removed or closed. Drivers hang their waits on it. */
  readonly gone: AbortSignal;
  /** What a worker needs to attach to this function's memory and mapped registers: structured-cloneable. */
  handle(): FunctionHandle;
}

/** Given to a worker (`workerData`, `postMessage`): the arena and the back end's own part. */
export interface FunctionHandle {
  readonly identity: FunctionIdentity;
  readonly arena: import("../memory/arena.ts").ArenaHandle;
}
