// Chooses IO virtual addresses: only inside the ranges that the IOMMU reports (the MSI window is a hole, 39-bit IOMMUs
// exist), and never 0 by itself, which devices take for "none".
import { Ring3Error } from "../binary/error.ts";
import { FreeRanges } from "./free-ranges.ts";

/** Usable IOVAs, both ends included. */
export interface IovaRange {
  readonly first: number;
  readonly last: number;
}

/** Where an IOVA may lie. */
export interface IovaPlacement {
  /** A power of two, at least a page; 4096 by default. */
  readonly alignment?: number;
  /** Highest address allowed plus one, for devices with few address bits. */
  readonly below?: number;
}

const PAGE = 4096;
const FOUR_GIB = 2 ** 32;

/** Allocates IOVAs in pages of 4 KiB. All addresses and sizes are numbers below 2^53; each operation is O(log n). */
export class IovaAllocator {
  readonly #usable: FreeRanges = new FreeRanges();
  readonly #free: FreeRanges = new FreeRanges();
  readonly #taken = new Map<number, number>();

  /** `ranges` may come in any order and lie side by side; overlaps throw `IOVA_RANGES_INVALID`. */
  constructor(ranges: Iterable<IovaRange>) {
    for (const { first, last } of ranges) {
      const start = Math.ceil(first / PAGE) * PAGE;
      const end = Math.floor(Math.min(last + 1, 2 ** 53) / PAGE) * PAGE;
      if (!(first >= 0 && last >= first)) {
        throw new Ring3Error("IOVA_RANGES_INVALID", `not a range of IOVAs: ${first} to ${last}`);
      }
      if (end <= start) continue;
      try {
        this.#usable.give(start, end - start);
      } catch (cause) {
        throw new Ring3Error("IOVA_RANGES_INVALID", `IOVA ranges overlap at ${hex(start)}`, { cause });
      }
      this.#free.give(start, end - start);
    }
  }

  /** Bytes that are not taken. */
  get freeBytes(): number {
    return this.#free.bytes;
  }

  /** How many allocations and reservations live. */
  get count(): number {
    return this.#taken.size;
  }

  /** The usable ranges, ascending, whether taken or not. */
  get ranges(): IovaRange[] {
    return Array.from(this.#usable, ([start, size]) => ({ first: start, last: start + size - 1 }));
  }

  /**
   * Takes `size` bytes (rounded up to a page) and returns the address. Unless `below` says otherwise it prefers
   * addresses from 4 GiB on, which leaves the low ones to devices that can reach no others.
   * Throws `IOVA_EXHAUSTED`.
   */
  allocate(size: number, { alignment = PAGE, below = 2 ** 53 }: IovaPlacement = {}): number {
    const bytes = checkedSize(size);
    if (!(alignment >= PAGE && alignment <= 2 ** 52 && 2 ** Math.round(Math.log2(alignment)) === alignment)) {
      throw new Ring3Error("IOVA_INVALID", `alignment must be a power of two from 4096 on, not ${alignment}`);
    }
    const placement = { alignment, low: PAGE, high: below };
    const start =
      (below > FOUR_GIB ? this.#free.take(bytes, { ...placement, low: FOUR_GIB }) : undefined) ??
      this.#free.take(bytes, placement);
    if (start === undefined) {
      const limit = below === 2 ** 53 ? "" : ` below ${hex(below)}`;
      throw new Ring3Error(
        "IOVA_EXHAUSTED",
        `no ${bytes} bytes of IOVA aligned to ${alignment}${limit}: ${this.#free.bytes} bytes are free, the longest ` +
          `run ${this.#free.longest}, in ${this.#taken.size} mappings; unmap some, or ask for less or lower alignment`,
      );
    }
    this.#taken.set(start, bytes);
    return start;
  }

  /**
   * Takes exactly this range. Throws `IOVA_IN_USE` (errno `EEXIST`, as the kernel says) where a part is taken,
   * `IOVA_OUT_OF_RANGE` where a part cannot be used, `IOVA_INVALID` where it is not page aligned.
   */
  reserve(iova: number, size: number): void {
    const bytes = checkedSize(size);
    if (!(Number.isSafeInteger(iova) && iova >= 0 && iova % PAGE === 0)) {
      throw new Ring3Error("IOVA_INVALID", `an IOVA must be a multiple of 4096, not ${iova}`);
    }
    if (!this.#free.takeAt(iova, bytes)) {
      if (this.#usable.has(iova, bytes)) {
        throw new Ring3Error("IOVA_IN_USE", `a part of ${bytes} bytes at IOVA ${hex(iova)} is mapped already`, {
          errno: "EEXIST",
        });
      }
      const ranges = this.ranges.map(({ first, last }) => `${hex(first)}-${hex(last)}`).join(", ");
      throw new Ring3Error(
        "IOVA_OUT_OF_RANGE",
        `${bytes} bytes at IOVA ${hex(iova)} lie outside what the IOMMU offers (${ranges})`,
      );
    }
    this.#taken.set(iova, bytes);
  }

  /** Gives back what `allocate` or `reserve` took at `iova`, and returns its size. Throws `IOVA_NOT_MAPPED`. */
  release(iova: number): number {
    const size = this.#taken.get(iova);
    if (size === undefined) throw new Ring3Error("IOVA_NOT_MAPPED", `nothing was taken at IOVA ${hex(iova)}`);
    this.#taken.delete(iova);
    this.#free.give(iova, size);
    return size;
  }

  /** Gives back everything. */
  releaseAll(): void {
    for (const iova of [...this.#taken.keys()]) this.release(iova);
  }
}

function checkedSize(size: number): number {
  if (!(Number.isSafeInteger(size) && size > 0)) throw new Ring3Error("IOVA_INVALID", `not a size in bytes: ${size}`);
  return Math.ceil(size / PAGE) * PAGE;
}

function hex(address: number): string {
  return `0x${address.toString(16)}`;
}
