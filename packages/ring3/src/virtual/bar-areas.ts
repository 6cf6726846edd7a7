// What lies where in a BAR: runs of plain memory in the arena, the MSI-X table and its pending bits, and for all the rest the
// handlers. Pages that hold a part of the table are no memory, whatever was declared: nobody may map them.
import type { Arena, ArenaRange } from "../memory/arena.ts";
import type { BarIndex, ByteRange } from "../pci/function.ts";
import type { MsixTable } from "./msix-table.ts";

/** A run of plain memory in a BAR. Its views stay valid as long as `range` does. */
export interface BarArea {
  /** In the BAR, in bytes. */
  readonly offset: number;
  readonly size: number;
  readonly range: ArenaRange;
}

/** The function's MSI-X structures with their places. */
export interface MsixPlacement {
  readonly table: MsixTable;
  readonly tablePlace: { readonly bar: number } & ByteRange;
  readonly pendingPlace: { readonly bar: number } & ByteRange;
}

const PAGE = 4096;

/** The memory of a BAR of `size` bytes: what was declared, cut to the BAR, without the pages of the MSI-X structures. */
export function memoryRanges(
  index: BarIndex,
  size: number,
  memory: true | readonly ByteRange[] | undefined,
  msix: MsixPlacement | undefined,
): ByteRange[] {
  if (memory === undefined) return [];
  let ranges = (memory === true ? [{ offset: 0, size }] : Array.from(memory))
    .map(({ offset, size: bytes }) => ({ offset, size: Math.min(bytes, size - offset) }))
    .filter(({ size: bytes }) => bytes > 0)
    .sort((a, b) => a.offset - b.offset);
  for (const place of msix === undefined ? [] : [msix.tablePlace, msix.pendingPlace]) {
    if (place.bar !== index) continue;
    const start = Math.floor(place.offset / PAGE) * PAGE;
    const end = Math.ceil((place.offset + place.size) / PAGE) * PAGE;
    ranges = ranges.flatMap((range) => {
      const below = { offset: range.offset, size: Math.min(start, range.offset + range.size) - range.offset };
      const from = Math.max(end, range.offset);
      const above = { offset: from, size: range.offset + range.size - from };
      return [below, above].filter(({ size: bytes }) => bytes > 0);
    });
  }
  return ranges;
}

/** Reserves memory for each range. What an area of `former` held at the same offset is kept. Throws `ARENA_FULL`. */
export function reserveAreas(arena: Arena, ranges: readonly ByteRange[], former: readonly BarArea[] = []): BarArea[] {
  const areas: BarArea[] = [];
  try {
    for (const { offset, size } of ranges) {
      const known = former.find((area) => area.offset === offset && area.size === size);
      areas.push(known ?? { offset, size, range: arena.reserve(size, size >= 2 ** 21 ? 2 ** 21 : PAGE) });
    }
  } catch (error) {
    for (const area of areas) if (!former.includes(area)) area.range[Symbol.dispose]();
    throw error;
  }
  for (const area of areas) {
    if (former.includes(area)) continue;
    for (const old of former) {
      const start = Math.max(area.offset, old.offset);
      const end = Math.min(area.offset + area.size, old.offset + old.size);
      if (end <= start) continue;
      area.range.bytes.set(old.range.bytes.subarray(start - old.offset, end - old.offset), start - area.offset);
    }
  }
  for (const old of former) if (!areas.includes(old)) old.range[Symbol.dispose]();
  return areas;
}
