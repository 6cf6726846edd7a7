// One shared WebAssembly.Memory per process holds DMA memory and BAR windows: workers share it, emitted loops address it,
// and a window can be revoked under a running reader without a dangling view. Where shared WebAssembly memory is missing
// the same arena lies over a plain buffer; only emitted loops need the former.
import { Ring3Error } from "../binary/error.ts";
import { type Accessors, accessorsOf } from "./accessors.ts";
import { ArenaRange } from "./arena-range.ts";
import { ControlWords, HEADER_BYTES } from "./control-words.ts";
import { FreeRanges } from "./free-ranges.ts";
import { createSharedMemory, isSharedMemory, PAGE_BYTES, type SharedMemory } from "./webassembly.ts";

export { ArenaRange } from "./arena-range.ts";

/** What a worker needs to see the same arena: pass it through `postMessage` or `workerData`. */
export interface ArenaHandle {
  readonly memory: SharedMemory | undefined;
  /** The bytes, where there is no `memory` but they can be shared. */
  readonly buffer: SharedArrayBuffer | undefined;
  /** Memory of the process that is neither: only `attachArena` of the floor that made it can open it. */
  readonly mapping: { readonly token: bigint; readonly size: number } | undefined;
}

/** How large an arena is and becomes. */
export interface ArenaOptions {
  /** Bytes at the start; 16 MiB by default. */
  readonly initialBytes?: number;
  /** Bytes at most; 4 GiB by default, which is also the limit. */
  readonly maximumBytes?: number;
  /** Least step of growth in bytes; 16 MiB by default. */
  readonly growthBytes?: number;
  /** Bytes of the plain buffer taken where shared WebAssembly memory is missing; it cannot grow. 64 MiB by default. */
  readonly fallbackBytes?: number;
}

/** What a floor that knows the system adds to an arena. */
export interface ArenaSystem {
  /** Makes a large free range read zero and gives its pages back; `false` where it must be filled by hand. */
  readonly discard?: (offset: number, size: number) => boolean;
  readonly mapping?: { readonly token: bigint; readonly size: number };
}

const MEBIBYTE = 2 ** 20;
const LIMIT_BYTES = 2 ** 32;
/** From this size on a freed range is given back to the system rather than filled with zeros. */
const DISCARD_BYTES = 256 * 1024;
/** Retired windows kept back before they are reused, where no other thread can hold them. */
const RETIRED_RANGES = 64;

/** One memory for everything that a device and its driver share. */
export class Arena {
  /** The shared WebAssembly memory; `undefined` over a plain buffer, where emitted loops cannot run. */
  readonly memory: SharedMemory | undefined;
  /** Words that tell every thread which windows live. */
  readonly control: ControlWords;
  readonly #plain: ArrayBufferLike | undefined;
  readonly #free: FreeRanges = new FreeRanges();
  readonly #quarantine: (() => void)[] = [];
  readonly #growthBytes: number;
  readonly #maximumBytes: number;
  readonly #attached: boolean;
  #system: ArenaSystem = {};
  #size: number;
  #accessors: Accessors | undefined;

  private constructor(
    memory: SharedMemory | undefined,
    plain: ArrayBufferLike | undefined,
    options: ArenaOptions,
    own?: { readonly offset: number; readonly size: number },
    attached = false,
  ) {
    this.memory = memory;
    this.#plain = plain;
    this.#growthBytes = Math.max(options.growthBytes ?? 16 * MEBIBYTE, PAGE_BYTES);
    this.#attached = attached;
    this.#size = this.buffer.byteLength;
    this.#maximumBytes = memory === undefined ? this.#size : (options.maximumBytes ?? LIMIT_BYTES);
    if (this.#size < 2 * HEADER_BYTES || this.#size % 4096 !== 0 || this.#size > LIMIT_BYTES) {
      throw new Ring3Error(
        "ARENA_INVALID",
        `an arena takes ${2 * HEADER_BYTES} bytes to 4 GiB, a multiple of 4096, not ${this.#size}`,
      );
    }
    this.control = new ControlWords(new Int32Array(this.buffer, 0, HEADER_BYTES / 4), attached);
    if (!attached) this.#free.give(HEADER_BYTES, this.#size - HEADER_BYTES);
    else if (own !== undefined) this.#free.give(own.offset, own.size);
  }

  /** An arena in shared WebAssembly memory, or over a plain buffer of `fallbackBytes` where that is missing. */
  static create(options: ArenaOptions = {}): Arena {
    const maximum = Math.min(options.maximumBytes ?? LIMIT_BYTES, LIMIT_BYTES);
    const initial = Math.min(Math.max(options.initialBytes ?? 16 * MEBIBYTE, 2 * HEADER_BYTES), maximum);
    const memory = createSharedMemory(initial, maximum);
    if (memory !== undefined) {
      const arena = new Arena(memory, undefined, { ...options, maximumBytes: maximum });
      if (arena.#worksAsExpected()) return arena;
    }
    const bytes = options.fallbackBytes ?? 64 * MEBIBYTE;
    return Arena.over(typeof SharedArrayBuffer === "undefined" ? new ArrayBuffer(bytes) : new SharedArrayBuffer(bytes));
  }

  /** An arena over `buffer`, which must be zero. It cannot grow. */
  static over(buffer: ArrayBufferLike, system: ArenaSystem = {}): Arena {
    const arena = new Arena(undefined, buffer, {});
    arena.#system = system;
    return arena;
  }

  /**
   * The arena of another thread. It reserves only inside `own`, a range that its creator reserved and gave away.
   * Throws `ARENA_HANDLE_INVALID`.
   */
  static attach(handle: ArenaHandle, own?: { readonly offset: number; readonly size: number }): Arena {
    if (isSharedMemory(handle.memory)) return new Arena(handle.memory, undefined, {}, own, true);
    if (typeof SharedArrayBuffer !== "undefined" && handle.buffer instanceof SharedArrayBuffer) {
      return new Arena(undefined, handle.buffer, {}, own, true);
    }
    throw new Ring3Error(
      "ARENA_HANDLE_INVALID",
      handle.mapping === undefined
        ? "this arena lies in a buffer that threads cannot share; use the function in the thread that opened it"
        : "this arena is mapped memory of the process: open its handle with attachArena of ring3/linux",
    );
  }

  /** As `attach`, over a buffer that views the same memory: for the floor that knows how to find it. */
  static attachOver(buffer: ArrayBufferLike, own?: { readonly offset: number; readonly size: number }): Arena {
    return new Arena(undefined, buffer, {}, own, true);
  }

  /** Whether this is another thread's arena. */
  get attached(): boolean {
    return this.#attached;
  }

  /** The buffer as it is now. Views of an earlier, shorter one stay valid and show the same bytes. */
  get buffer(): ArrayBufferLike {
    return this.memory?.buffer ?? (this.#plain as ArrayBufferLike);
  }

  /** Bytes at present. */
  get size(): number {
    return this.buffer.byteLength;
  }

  /** Bytes that `reserve` could hand out without growing. */
  get freeBytes(): number {
    return this.#free.bytes;
  }

  /** Single accesses by absolute offset, for windows; unchecked. */
  get accessors(): Accessors {
    this.#accessors ??= accessorsOf(this);
    return this.#accessors;
  }

  /**
   * Takes `size` bytes, all zero, aligned to `alignment` (a power of two from 8 on, 4096 by default). The size is rounded
   * up to the alignment or to 4096, whichever is less. The range never moves. Throws `ARENA_FULL`.
   */
  reserve(size: number, alignment = 4096): ArenaRange {
    if (!(Number.isSafeInteger(size) && size > 0))
      throw new Ring3Error("ARENA_INVALID", `not a size in bytes: ${size}`);
    if (!(alignment >= 8 && alignment <= 2 ** 30 && 2 ** Math.round(Math.log2(alignment)) === alignment)) {
      throw new Ring3Error("ARENA_INVALID", `alignment must be a power of two from 8 to 2^30, not ${alignment}`);
    }
    const unit = Math.min(alignment, 4096);
    const bytes = Math.ceil(size / unit) * unit;
    const offset =
      this.#take(bytes, alignment) ??
      (this.control.attachments === 0 && this.#release() ? this.#take(bytes, alignment) : undefined) ??
      (this.#growFor(bytes, alignment) ? this.#take(bytes, alignment) : undefined) ??
      (this.#release() ? this.#take(bytes, alignment) : undefined);
    if (offset === undefined) throw this.#full(bytes, alignment);
    return new ArenaRange(this, offset, bytes, () => this.#give(offset, bytes));
  }

  /**
   * Gives a revoked window's range back by `release`, as late as possible: late readers meet its tombstone until then,
   * and another thread may be inside an access. While threads are attached only an arena that is full reuses such ranges.
   */
  retire(release: () => void): void {
    this.#quarantine.push(release);
    if (this.#quarantine.length > RETIRED_RANGES && this.control.attachments === 0) this.#release();
  }

  /** Bytes at `offset`. For payload: device registers are read by windows. */
  bytes(offset: number, size: number): Uint8Array {
    this.#check(offset, size, 1);
    return new Uint8Array(this.buffer, offset, size);
  }

  /** `count` 16-bit words at `offset`. */
  halfwords(offset: number, count: number): Uint16Array {
    this.#check(offset, count * 2, 2);
    return new Uint16Array(this.buffer, offset, count);
  }

  /** `count` 32-bit words at `offset`. */
  words(offset: number, count: number): Uint32Array {
    this.#check(offset, count * 4, 4);
    return new Uint32Array(this.buffer, offset, count);
  }

  /** `count` 64-bit words at `offset`. */
  longwords(offset: number, count: number): BigUint64Array {
    this.#check(offset, count * 8, 8);
    return new BigUint64Array(this.buffer, offset, count);
  }

  /** What a worker needs for `Arena.attach`. */
  handle(): ArenaHandle {
    const buffer = this.#plain;
    const shared = typeof SharedArrayBuffer !== "undefined" && buffer instanceof SharedArrayBuffer;
    return { memory: this.memory, buffer: shared ? buffer : undefined, mapping: this.#system.mapping };
  }

  /** Says that this thread will not touch the arena again, so that retired windows can be reused. */
  detach(): void {
    if (this.#attached) this.control.detach();
  }

  /** For the floor that knows the system, once, after creation. */
  useSystem(system: ArenaSystem): void {
    this.#system = system;
  }

  /** Grows by `size` bytes, rounded up to 64 KiB; `false` where the arena may not or the system does not let it. */
  grow(size: number): boolean {
    const pages = Math.ceil(size / PAGE_BYTES);
    if (this.memory === undefined || this.#attached || this.#size + pages * PAGE_BYTES > this.#maximumBytes)
      return false;
    try {
      this.memory.grow(pages);
    } catch (error) {
      if (error instanceof RangeError) return false;
      throw error;
    }
    this.#free.give(this.#size, pages * PAGE_BYTES);
    this.#size += pages * PAGE_BYTES;
    return true;
  }

  #take(size: number, alignment: number): number | undefined {
    return this.#free.take(size, { alignment, low: 0, high: LIMIT_BYTES });
  }

  #give(offset: number, size: number): void {
    const discarded = size >= DISCARD_BYTES && this.#system.discard?.(offset, size) === true;
    if (!discarded) new Uint8Array(this.buffer, offset, size).fill(0);
    this.#free.give(offset, size);
  }

  #release(): boolean {
    const releases = this.#quarantine.splice(0);
    for (const release of releases) release();
    return releases.length > 0;
  }

  /** Grows so that `size` bytes fit behind its end: by the usual step, or just enough where the system refuses that. */
  #growFor(size: number, alignment: number): boolean {
    const start = Math.ceil(this.#size / alignment) * alignment;
    const need = start + size - this.#size;
    const usual = Math.min(Math.max(need, this.#growthBytes), this.#maximumBytes - this.#size);
    return need <= usual && (this.grow(usual) || (need < usual && this.grow(need)));
  }

  #full(size: number, alignment: number): Ring3Error {
    const state = `${this.#free.bytes} of ${this.#size} bytes are free, ${this.#free.longest} in one piece`;
    const fix = this.#attached
      ? "a thread reserves only inside the range that it was given: reserve in the thread that made the arena"
      : this.memory === undefined
        ? "this arena cannot grow: make it larger, or dispose what is not needed"
        : `it may grow to ${this.#maximumBytes}: dispose what is not needed, or give the process more memory`;
    return new Ring3Error("ARENA_FULL", `no ${size} bytes aligned to ${alignment}: ${state}; ${fix}`);
  }

  #check(offset: number, size: number, unit: number): void {
    if (
      !(Number.isSafeInteger(offset) && offset >= 0 && offset % unit === 0 && size >= 0 && offset + size <= this.size)
    ) {
      throw new Ring3Error("ARENA_RANGE", `${size} bytes at ${offset} do not lie in the arena's ${this.size}`);
    }
  }

  /** Whether stores, atomic loads and growth behave here as the arena needs. */
  #worksAsExpected(): boolean {
    try {
      const probe = new Uint32Array(this.buffer, HEADER_BYTES, 2);
      probe[0] = 0x8765_4321;
      const seen = this.accessors.load32(HEADER_BYTES) >>> 0;
      const wide = this.accessors.load64(HEADER_BYTES);
      probe.fill(0);
      return seen === 0x8765_4321 && wide === 0x8765_4321n;
    } catch {
      return false;
    }
  }
}
