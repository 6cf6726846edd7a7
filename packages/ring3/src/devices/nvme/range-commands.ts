// The I/O commands that name blocks and do more or less than move them: compare, write zeroes, dataset management, verify
// (NVM command set 1.0, section 3.2). As steps, each of which may take time.
import { CommandWord, DATASET_RANGES_MAX, DatasetCdw11, IoCdw12 } from "../../specs/nvme/commands.ts";
import { Status } from "../../specs/nvme/status.ts";
import type { DataPointer } from "./data-pointer.ts";
import type { Flight } from "./flights.ts";
import type { DeviceNamespace } from "./namespace.ts";
import type { Steps } from "./steps.ts";
import type { Transfers } from "./transfers.ts";

const HIGH = 2 ** 32;
/** Bytes at once where a command names blocks without carrying data. */
const CHUNK_BYTES = 2 ** 20;
const RANGE_BYTES = 16;

/** What the health log counts. */
export interface IoCounters {
  readCommands: number;
  writeCommands: number;
  bytesRead: number;
  bytesWritten: number;
  mediaErrors: number;
}

interface RangeParts {
  readonly transfers: Transfers;
  readonly pointer: DataPointer;
  readonly counters: IoCounters;
  readonly maxTransferBytes: number;
  /** Whether written data may stay in a cache until the next flush. */
  readonly writeCache: () => boolean;
  readonly pageSize: () => number;
}

export class RangeCommands {
  readonly #parts: RangeParts;

  constructor(parts: RangeParts) {
    this.#parts = parts;
  }

  *compare(namespace: DeviceNamespace, words: Uint32Array, flight: Flight): Steps {
    const range = blockRange(namespace, words);
    if (range.status !== Status.SUCCESS) return range.status;
    if (range.size > this.#parts.maxTransferBytes) return Status.INVALID_FIELD;
    const status = this.#parts.pointer.resolve(words, range.size, this.#parts.pageSize(), false);
    if (status !== Status.SUCCESS) return status;
    const given = this.#parts.transfers.take(range.size);
    const stored = this.#parts.transfers.take(range.size);
    this.#parts.transfers.fromGuest(this.#parts.pointer.segments, given);
    yield namespace.backing.read(range.offset, stored, flight);
    const same = given.every((byte, i) => byte === stored[i]);
    this.#parts.transfers.give(given);
    this.#parts.transfers.give(stored);
    return same ? Status.SUCCESS : Status.COMPARE_FAILURE;
  }

  *writeZeroes(namespace: DeviceNamespace, words: Uint32Array, flight: Flight): Steps {
    const cdw12 = words[CommandWord.CDW12] as number;
    const range = blockRange(namespace, words);
    if (range.status !== Status.SUCCESS) return range.status;
    if (namespace.readOnly) return Status.NAMESPACE_WRITE_PROTECTED;
    this.#parts.counters.writeCommands++;
    const { backing } = namespace;
    if ((cdw12 & IoCdw12.DEAC.mask) !== 0 && backing.discard !== undefined) {
      yield backing.discard(range.offset, range.size);
    } else if (backing.zero !== undefined) yield backing.zero(range.offset, range.size);
    else {
      const zeros = new Uint8Array(Math.min(CHUNK_BYTES, range.size));
      for (let at = 0; at < range.size && !flight.aborted; at += CHUNK_BYTES) {
        yield backing.write(range.offset + at, zeros.subarray(0, Math.min(CHUNK_BYTES, range.size - at)), flight);
      }
    }
    yield* settleWrite(namespace, cdw12, this.#parts.writeCache(), flight);
    return Status.SUCCESS;
  }

  /** Only deallocation acts; the other attributes are hints. */
  *datasetManagement(namespace: DeviceNamespace, words: Uint32Array, flight: Flight): Steps {
    const count = ((words[CommandWord.CDW10] as number) & (DATASET_RANGES_MAX - 1)) + 1;
    const deallocates = DatasetCdw11.AD.test(words[CommandWord.CDW11] as number);
    const status = this.#parts.pointer.resolve(words, count * RANGE_BYTES, this.#parts.pageSize(), false);
    if (status !== Status.SUCCESS) return status;
    const bytes = new Uint8Array(count * RANGE_BYTES);
    this.#parts.transfers.fromGuest(this.#parts.pointer.segments, bytes);
    const view = new DataView(bytes.buffer);
    const ranges: { readonly offset: number; readonly size: number }[] = [];
    for (let at = 0; at < bytes.length; at += RANGE_BYTES) {
      const blocks = view.getUint32(at + 4, true);
      const lba = view.getUint32(at + 8, true) + view.getUint32(at + 12, true) * HIGH;
      if (lba + blocks > namespace.blocks) return Status.LBA_OUT_OF_RANGE;
      if (blocks > 0) ranges.push({ offset: lba * namespace.blockSize, size: blocks * namespace.blockSize });
    }
    if (!deallocates || namespace.backing.discard === undefined) return Status.SUCCESS;
    if (namespace.readOnly) return Status.NAMESPACE_WRITE_PROTECTED;
    for (const { offset, size } of ranges) {
      if (flight.aborted) break;
      yield namespace.backing.discard(offset, size);
    }
    yield* settleWrite(namespace, 0, this.#parts.writeCache(), flight);
    return Status.SUCCESS;
  }

  *verify(namespace: DeviceNamespace, words: Uint32Array, flight: Flight): Steps {
    const range = blockRange(namespace, words);
    if (range.status !== Status.SUCCESS) return range.status;
    const buffer = this.#parts.transfers.take(Math.min(CHUNK_BYTES, range.size));
    for (let at = 0; at < range.size && !flight.aborted; at += CHUNK_BYTES) {
      const size = Math.min(CHUNK_BYTES, range.size - at);
      yield namespace.backing.read(range.offset + at, buffer.subarray(0, size), flight);
    }
    this.#parts.transfers.give(buffer);
    return Status.SUCCESS;
  }
}

/** What was written is made durable now where the command (FUA) or the cache's setting asks for it. */
export function* settleWrite(
  namespace: DeviceNamespace,
  cdw12: number,
  writeCache: boolean,
  flight: Flight,
): Generator<Promise<void> | void, void, void> {
  if (flight.aborted) return;
  if ((cdw12 & IoCdw12.FUA.mask) !== 0 || !writeCache) yield namespace.backing.flush();
}

/** Flushes one after the other. */
export function* flushSteps(namespaces: readonly DeviceNamespace[]): Steps {
  for (const { backing } of namespaces) yield backing.flush();
  return Status.SUCCESS;
}

/** The blocks that a command names. */
function blockRange(
  namespace: DeviceNamespace,
  words: Uint32Array,
): { readonly status: number; readonly offset: number; readonly size: number } {
  const blocks = ((words[CommandWord.CDW12] as number) & 0xffff) + 1;
  const lba = (words[CommandWord.CDW10] as number) + (words[CommandWord.CDW11] as number) * HIGH;
  const status = lba + blocks > namespace.blocks ? Status.LBA_OUT_OF_RANGE : Status.SUCCESS;
  return { status, offset: lba * namespace.blockSize, size: blocks * namespace.blockSize };
}
