// One map of guest memory: a run of IOVAs, what the device may do there, and where the bytes are.
import { Ring3Error } from "../binary/error.ts";
import type { DmaPermission } from "../pci/function.ts";

/** The back of one map. `bytes` covers the whole map where it is in this process's memory. */
export interface MapBacking {
  /** Zero-copy view of the whole map; it may be larger than 4 GiB and lie on shared memory. */
  readonly bytes?: Uint8Array;
  /** Where the map's first byte lies in the function's arena, if it does: for emitted loops. */
  readonly arenaOffset?: number;
  /** How to reach the memory where there are no `bytes`. Offsets count from the map's start; failure throws `Ring3Error`. */
  readonly transfer?: {
    read(offset: number, target: Uint8Array): void;
    write(offset: number, source: Uint8Array): void;
  };
  /** Called once when the map is gone. */
  release?(): void;
}

/** A run of memory that the device can reach. A device that keeps one lets go of it in `onUnmap`. */
export interface MemoryMap {
  readonly iova: number;
  readonly size: number;
  /** What the *device* may do. */
  readonly permission: DmaPermission;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly backing: MapBacking;
  /** All bytes of the map, where they are in this process. */
  readonly bytes: Uint8Array | undefined;
  /** The same as 32-bit words, where the bytes are aligned to 4. */
  readonly words: Uint32Array | undefined;
  readonly arenaOffset: number | undefined;
}

export class GuestMap implements MemoryMap {
  readonly iova: number;
  readonly size: number;
  readonly end: number;
  readonly permission: DmaPermission;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly backing: MapBacking;
  readonly bytes: Uint8Array | undefined;
  /** Who mapped it, where several share the memory. */
  readonly owner: object | undefined;
  #words: Uint32Array | undefined;
  #view: DataView | undefined;

  constructor(iova: number, size: number, permission: DmaPermission, backing: MapBacking, owner?: object) {
    this.owner = owner;
    this.iova = iova;
    this.size = size;
    this.end = iova + size;
    this.permission = permission;
    this.readable = permission !== "write";
    this.writable = permission !== "read";
    this.backing = backing;
    this.bytes = backing.bytes;
  }

  get arenaOffset(): number | undefined {
    return this.backing.arenaOffset;
  }

  get words(): Uint32Array | undefined {
    const { bytes } = this;
    if (this.#words !== undefined || bytes === undefined || bytes.byteOffset % 4 !== 0) return this.#words;
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / 4));
    return this.#words;
  }

  /** For accesses of no particular alignment; only where there are `bytes`. */
  get view(): DataView {
    const bytes = this.bytes as Uint8Array;
    this.#view ??= new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return this.#view;
  }
}

const END = 2 ** 53;

/** Throws `DMA_INVALID` (errno `EINVAL`) for what is no range below 2^53, where numbers are exact. */
export function checkRange(iova: number, size: number): void {
  const whole = Number.isSafeInteger(iova) && Number.isSafeInteger(size) && iova >= 0 && size > 0;
  if (whole && iova <= END - size) return;
  throw new Ring3Error("DMA_INVALID", `${size} bytes at IOVA ${hexAddress(iova)} are no range below 2^53`, {
    errno: "EINVAL",
  });
}

/** Throws `DMA_INVALID` (errno `EINVAL`) for memory of another size, or that cannot be reached. */
export function checkBacking(iova: number, size: number, { bytes, transfer }: MapBacking): void {
  if (bytes === undefined ? transfer !== undefined : bytes.length === size) return;
  throw new Ring3Error(
    "DMA_INVALID",
    `the memory behind ${size} bytes at ${hexAddress(iova)} has ${bytes === undefined ? "no way in" : bytes.length}`,
    { errno: "EINVAL" },
  );
}

/** An address for messages, whatever number it is. */
export function hexAddress(address: number): string {
  return Number.isFinite(address) ? `0x${address.toString(16)}` : String(address);
}
