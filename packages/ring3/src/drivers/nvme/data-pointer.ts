// Data pointers: where a command's data lies, as PRP entries or an SGL. NVMe base 2.0, sections 4.1.1 and 4.1.2.
// Each command slot owns a piece of list memory. Hard about PRP: the first entry may begin inside a page, all others are
// whole pages, and a list that fills its page continues where its last entry points.
import { Ring3Error } from "../../binary/error.ts";
import { Cdw0, CommandWord, DataPointerKind } from "../../specs/nvme/commands.ts";
import { SglKind } from "../../specs/nvme/structs.ts";

/** A run of device addresses. */
export interface DataSegment {
  readonly iova: number;
  /** In bytes. */
  readonly size: number;
}

/** Where the lists lie, all slots behind each other. */
export interface ListMemory {
  readonly words: Uint32Array;
  /** Index of the first word of slot 0's list. */
  readonly base: number;
  /** Device address of slot 0's list. */
  readonly iova: number;
  /** Bytes for each slot: a power of two up to the page size, or a multiple of it. */
  readonly slotBytes: number;
}

const HIGH = 2 ** 32;

/** Bytes of list that a slot needs for transfers of up to `maxTransferBytes`, however they are aligned. */
export function listBytesFor(maxTransferBytes: number, pageSize: number): number {
  const entries = Math.max(1, Math.ceil(maxTransferBytes / pageSize));
  if (entries * 8 <= pageSize) return 2 ** Math.ceil(Math.log2(entries * 8));
  return Math.ceil((entries - 1) / (pageSize / 8 - 1)) * pageSize;
}

/** Writes data pointers into commands, PRP or SGL. */
export class DataPointers {
  readonly kind: "prp" | "sgl";
  readonly #lists: ListMemory;
  readonly #pageSize: number;

  constructor(kind: "prp" | "sgl", lists: ListMemory, pageSize: number) {
    this.kind = kind;
    this.#lists = lists;
    this.#pageSize = pageSize;
  }

  /**
   * Writes the data pointer of the command whose words start at `command[at]`, with the list memory of `slot`.
   * Throws `NVME_DATA_POINTER` where the segments cannot be expressed.
   */
  write(command: Uint32Array, at: number, slot: number, segments: readonly DataSegment[]): void {
    for (let i = 0; i < segments.length; i++) {
      const { iova, size } = segments[i] as DataSegment;
      if (!(Number.isSafeInteger(iova) && iova >= 0 && iova % 4 === 0 && Number.isSafeInteger(size) && size > 0)) {
        throw pointerError(`a segment of ${size} bytes at IOVA ${iova}: addresses are multiples of 4, sizes positive`);
      }
    }
    if (segments.length === 0) this.#set(command, at, 0, 0);
    else if (this.kind === "prp") this.#writePrp(command, at, slot, segments);
    else this.#writeSgl(command, at, slot, segments);
  }

  #writePrp(command: Uint32Array, at: number, slot: number, segments: readonly DataSegment[]): void {
    const page = this.#pageSize;
    const first = segments[0] as DataSegment;
    const within = first.iova % page;
    // The usual case: one segment in at most two pages.
    if (segments.length === 1 && within + first.size <= 2 * page) {
      return this.#set(command, at, first.iova, within + first.size <= page ? 0 : first.iova - within + page);
    }
    let rest = 0;
    for (const [i, { iova, size }] of segments.entries()) {
      if ((i > 0 && iova % page !== 0) || (i < segments.length - 1 && (iova + size) % page !== 0)) {
        throw pointerError(`PRP joins segments only at multiples of ${page} bytes: use an SGL or align them`);
      }
      rest += Math.ceil(((iova % page) + size) / page);
    }
    rest -= 1;
    if (rest === 0) return this.#set(command, at, first.iova, 0);
    let segment = 0;
    let next = first.iova - (first.iova % page) + page;
    const take = (): number => {
      let current = segments[segment] as DataSegment;
      if (next >= current.iova + current.size) {
        current = segments[++segment] as DataSegment;
        next = current.iova;
      }
      next += page;
      return next - page;
    };
    if (rest === 1) return this.#set(command, at, first.iova, take());
    const { words, base, iova, slotBytes } = this.#lists;
    const listIova = iova + slot * slotBytes;
    let word = base + (slot * slotBytes) / 4;
    const end = word + slotBytes / 4;
    let room = Math.min(slotBytes, page) / 8;
    let lists = 1;
    for (; rest > 0; room--) {
      if (word >= end || (room === 1 && rest > 1 && lists * page >= slotBytes)) {
        throw pointerError(`a transfer of so many pages does not fit in ${slotBytes} bytes of PRP list`);
      }
      let entry: number;
      if (room === 1 && rest > 1) {
        entry = listIova + lists++ * page;
        room = page / 8 + 1;
      } else {
        entry = take();
        rest--;
      }
      words[word] = entry;
      words[word + 1] = entry / HIGH;
      word += 2;
    }
    this.#set(command, at, first.iova, listIova);
  }

  #writeSgl(command: Uint32Array, at: number, slot: number, segments: readonly DataSegment[]): void {
    const cdw0 = command[at] as number;
    command[at] = Cdw0.PSDT.set(cdw0, DataPointerKind.SGL);
    const first = segments[0] as DataSegment;
    if (segments.length === 1) {
      this.#descriptor(command, at + CommandWord.PRP1_LOW, first.iova, first.size, SglKind.DATA_BLOCK);
      return;
    }
    const { words, base, iova, slotBytes } = this.#lists;
    if (segments.length * 16 > slotBytes) {
      throw pointerError(`${segments.length} segments do not fit in ${slotBytes} bytes of SGL`);
    }
    let word = base + (slot * slotBytes) / 4;
    for (const segment of segments) {
      this.#descriptor(words, word, segment.iova, segment.size, SglKind.DATA_BLOCK);
      word += 4;
    }
    const list = iova + slot * slotBytes;
    this.#descriptor(command, at + CommandWord.PRP1_LOW, list, segments.length * 16, SglKind.LAST_SEGMENT);
  }

  #descriptor(words: Uint32Array, at: number, address: number, size: number, kind: number): void {
    if (size >= HIGH) throw pointerError(`an SGL descriptor cannot name ${size} bytes`);
    words[at] = address;
    words[at + 1] = address / HIGH;
    words[at + 2] = size;
    words[at + 3] = kind << 24;
  }

  #set(command: Uint32Array, at: number, prp1: number, prp2: number): void {
    command[at + CommandWord.PRP1_LOW] = prp1;
    command[at + CommandWord.PRP1_HIGH] = prp1 / HIGH;
    command[at + CommandWord.PRP2_LOW] = prp2;
    command[at + CommandWord.PRP2_HIGH] = prp2 / HIGH;
  }
}

function pointerError(sentence: string): Ring3Error {
  return new Ring3Error("NVME_DATA_POINTER", sentence);
}
