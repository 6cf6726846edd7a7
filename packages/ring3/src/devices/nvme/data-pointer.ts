// From a command's data pointer to segments: PRP entries and lists (NVMe base 2.0, section 4.1.1), SGLs (section 4.1.2).
// Hard about it: everything here was written by the guest. A list may point anywhere, at itself, or change while it is
// read: each entry is read once, and the work is bounded by what the command transfers.
import { isRing3Error } from "../../binary/error.ts";
import { Cdw0, CommandWord, DataPointerKind } from "../../specs/nvme/commands.ts";
import { Status } from "../../specs/nvme/status.ts";
import { SglKind } from "../../specs/nvme/structs.ts";
import type { GuestMemory } from "../../virtual/guest-memory.ts";
import { NOWHERE, Segments } from "./segments.ts";

const HIGH = 2 ** 32;
const SGL_DESCRIPTOR_SIZE = 16;
/** Descriptors looked at for one command; a host has no use for so many pieces. */
const SGL_DESCRIPTORS_MAX = 16_384;
/** The same for SGL segments, which can be chained without holding anything. */
const SGL_SEGMENTS_MAX = 1024;
const LIST_BYTES_MAX = 65_536;

export class DataPointer {
  /** The result of the last `resolve`. */
  readonly segments: Segments = new Segments();
  readonly #memory: GuestMemory;
  readonly #listBytes: Uint8Array = new Uint8Array(LIST_BYTES_MAX);
  readonly #list: DataView = new DataView(this.#listBytes.buffer);

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /**
   * Finds the `size` bytes (at least one) of the command in `words` and returns its status. `toHost`: the command reads,
   * so that bit buckets take data.
   */
  resolve(words: Uint32Array, size: number, pageSize: number, toHost: boolean): number {
    this.segments.clear();
    const kind = ((words[CommandWord.CDW0] as number) >>> Cdw0.PSDT.offset) & 3;
    if (kind === DataPointerKind.PRP) return this.#prp(words, size, pageSize);
    if (kind > DataPointerKind.SGL_METADATA_SEGMENT) return Status.INVALID_FIELD;
    try {
      return this.#sgl(words, size, toHost);
    } catch (error) {
      return faultStatus(error);
    }
  }

  #prp(words: Uint32Array, size: number, pageSize: number): number {
    const low = words[CommandWord.PRP1_LOW] as number;
    if ((low & 3) !== 0) return Status.INVALID_PRP_OFFSET;
    const first = pageSize - (low & (pageSize - 1));
    const iova = low + (words[CommandWord.PRP1_HIGH] as number) * HIGH;
    if (size <= first) {
      this.segments.add(iova, size);
      return Status.SUCCESS;
    }
    this.segments.add(iova, first);
    const low2 = words[CommandWord.PRP2_LOW] as number;
    const second = low2 + (words[CommandWord.PRP2_HIGH] as number) * HIGH;
    if (size - first <= pageSize) {
      if ((low2 & (pageSize - 1)) !== 0) return Status.INVALID_PRP_OFFSET;
      this.segments.add(second, size - first);
      return Status.SUCCESS;
    }
    try {
      return this.#prpList(second, size - first, pageSize);
    } catch (error) {
      return faultStatus(error);
    }
  }

  /** A list may start inside a page; its last entry points to the next list where one page does not hold all. */
  #prpList(list: number, size: number, pageSize: number): number {
    const { segments } = this;
    let at = list;
    let left = size;
    for (;;) {
      const inPage = at % pageSize;
      if (inPage % 8 !== 0) return Status.INVALID_PRP_OFFSET;
      const room = (pageSize - inPage) / 8;
      const needed = Math.ceil(left / pageSize);
      const entries = Math.min(room, needed);
      this.#memory.read(at, this.#listBytes.subarray(0, entries * 8));
      const pages = needed > room ? entries - 1 : entries;
      for (let i = 0; i < pages; i++) {
        const low = this.#list.getUint32(8 * i, true);
        if ((low & (pageSize - 1)) !== 0) return Status.INVALID_PRP_OFFSET;
        const part = Math.min(left, pageSize);
        segments.add(low + this.#list.getUint32(8 * i + 4, true) * HIGH, part);
        left -= part;
      }
      if (left === 0) return Status.SUCCESS;
      at = this.#list.getUint32(8 * pages, true) + this.#list.getUint32(8 * pages + 4, true) * HIGH;
      // What starts at a page's last entry holds only a pointer, and could point to itself for ever.
      if (pages === 0 && at % pageSize !== 0) return Status.INVALID_PRP_OFFSET;
    }
  }

  #sgl(words: Uint32Array, size: number, toHost: boolean): number {
    const { segments } = this;
    let address = (words[CommandWord.PRP1_LOW] as number) + (words[CommandWord.PRP1_HIGH] as number) * HIGH;
    let length = words[CommandWord.PRP2_LOW] as number;
    let kind = (words[CommandWord.PRP2_HIGH] as number) >>> 24;
    if (kind === SglKind.DATA_BLOCK || kind === SglKind.BIT_BUCKET) {
      this.#block(kind, address, length, size, toHost);
      return segments.sizeBytes < size ? Status.DATA_SGL_LENGTH : Status.SUCCESS;
    }
    let seen = 0;
    for (let chained = 0; kind === SglKind.SEGMENT || kind === SglKind.LAST_SEGMENT; chained++) {
      if (length === 0 || length % SGL_DESCRIPTOR_SIZE !== 0) return Status.INVALID_SGL_SEGMENT;
      const last = kind === SglKind.LAST_SEGMENT;
      const [start, end] = [address, length];
      seen += end / SGL_DESCRIPTOR_SIZE;
      if (seen > SGL_DESCRIPTORS_MAX || chained >= SGL_SEGMENTS_MAX) return Status.INVALID_SGL_COUNT;
      for (let from = 0; from < end; from += LIST_BYTES_MAX) {
        const part = Math.min(end - from, LIST_BYTES_MAX);
        this.#memory.read(start + from, this.#listBytes.subarray(0, part));
        for (let at = 0; at < part; at += SGL_DESCRIPTOR_SIZE) {
          const where = this.#list.getUint32(at, true) + this.#list.getUint32(at + 4, true) * HIGH;
          const bytes = this.#list.getUint32(at + 8, true);
          kind = this.#list.getUint8(at + 15);
          const atEnd = from + at + SGL_DESCRIPTOR_SIZE === end;
          if (kind === SglKind.DATA_BLOCK || kind === SglKind.BIT_BUCKET) {
            if (atEnd && !last) return Status.INVALID_SGL_SEGMENT;
            this.#block(kind, where, bytes, size, toHost);
          } else if (kind === SglKind.SEGMENT || kind === SglKind.LAST_SEGMENT) {
            if (last || !atEnd) return Status.INVALID_SGL_SEGMENT;
            address = where;
            length = bytes;
          } else return Status.SGL_TYPE;
        }
      }
      if (last) return segments.sizeBytes < size ? Status.DATA_SGL_LENGTH : Status.SUCCESS;
    }
    return Status.SGL_TYPE;
  }

  /** A list may hold more than the command transfers (SGLS bit 18): the rest is not used. */
  #block(kind: number, iova: number, length: number, size: number, toHost: boolean): void {
    const part = Math.min(length, size - this.segments.sizeBytes);
    if (part <= 0) return;
    if (kind === SglKind.DATA_BLOCK) this.segments.add(iova, part);
    else if (toHost) this.segments.add(NOWHERE, part);
  }
}

/** The status of a transfer that failed; anything but a DMA fault is thrown on. */
export function faultStatus(error: unknown): number {
  if (isRing3Error(error, "DMA_FAULT")) return Status.DATA_TRANSFER_ERROR;
  throw error;
}
