// The ranges of discard and write zeroes: virtio 1.3, section 5.2.6.
import { BLOCK_RANGE_UNMAP, BlockRange, BlockStatus, SECTOR_BYTES } from "../../specs/virtio/structs.ts";

export const MAXIMUM_RANGES = 64;
/** Sectors of one range, 1 GiB: discards and zeroes of more come as several. */
export const RANGE_SECTORS: number = 2 ** 21;

/** A range of the disk in bytes; `unmap`: its space may be given back. */
export interface DiskRange {
  readonly offset: number;
  readonly size: number;
  readonly unmap: boolean;
}

/** The ranges in a request's bytes, without empty ones; the status to refuse it with where one of them cannot be. */
export function readRanges(content: Uint8Array, zeroes: boolean, sectors: number): DiskRange[] | number {
  const ranges: DiskRange[] = [];
  for (let at = 0; at < content.length; at += BlockRange.size) {
    const { sector, num_sectors, flags } = BlockRange.from(content, at);
    if ((flags & ~(zeroes ? BLOCK_RANGE_UNMAP : 0)) !== 0) return BlockStatus.UNSUPPORTED;
    if (num_sectors > RANGE_SECTORS || sector + BigInt(num_sectors) > BigInt(sectors)) return BlockStatus.IO_ERROR;
    const [offset, size] = [Number(sector) * SECTOR_BYTES, num_sectors * SECTOR_BYTES];
    if (size > 0) ranges.push({ offset, size, unmap: flags !== 0 });
  }
  return ranges;
}
