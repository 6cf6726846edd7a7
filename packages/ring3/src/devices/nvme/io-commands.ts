// The I/O commands: flush (NVMe base 2.0, section 7.1) and those of the NVM command set 1.0, section 3.2. Hard about it:
// a disk in memory is served without a promise or an allocation of its own, any other by steps that may take time and
// end when the guest has long gone.
import { isRing3Error } from "../../binary/error.ts";
import {
  ALL_NAMESPACES,
  Cdw0,
  CommandWord,
  DATASET_RANGES_MAX,
  DatasetCdw11,
  IoCdw12,
  IoOpcode,
} from "../../specs/nvme/commands.ts";
import { Status } from "../../specs/nvme/status.ts";
import type { GuestMemory } from "../../virtual/guest-memory.ts";
import { DataPointer, faultStatus } from "./data-pointer.ts";
import type { Flight, Flights } from "./flights.ts";
import type { DeviceNamespace } from "./namespace.ts";
import { PENDING } from "./queue-set.ts";
import { runSteps, type Steps } from "./steps.ts";
import type { SubmissionQueue } from "./submission-queue.ts";
import { Transfers } from "./transfers.ts";

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

export interface IoParts {
  readonly memory: GuestMemory;
  readonly flights: Flights;
  readonly maxTransferBytes: number;
  /** Namespaces by id. */
  readonly namespaces: readonly (DeviceNamespace | undefined)[];
  /** Whether written data may stay in a cache until the next flush. */
  readonly writeCache: () => boolean;
  readonly complete: (queue: SubmissionQueue, words: Uint32Array, status: number) => void;
}

export class IoCommands {
  readonly counters: IoCounters = { readCommands: 0, writeCommands: 0, bytesRead: 0, bytesWritten: 0, mediaErrors: 0 };
  /** The memory page size that the host chose. */
  pageSize = 4096;
  readonly #parts: IoParts;
  readonly #pointer: DataPointer;
  readonly #transfers: Transfers;

  constructor(parts: IoParts) {
    this.#parts = parts;
    this.#pointer = new DataPointer(parts.memory);
    this.#transfers = new Transfers(parts.memory);
  }

  /** Executes the command in `words`: its status, or `PENDING`. */
  execute(words: Uint32Array, queue: SubmissionQueue): number {
    const cdw0 = words[CommandWord.CDW0] as number;
    const opcode = cdw0 & 0xff;
    if ((cdw0 & Cdw0.FUSE.mask) !== 0) return Status.INVALID_FIELD;
    const nsid = words[CommandWord.NSID] as number;
    const namespace = this.#parts.namespaces[nsid];
    if (opcode === IoOpcode.READ || opcode === IoOpcode.WRITE) {
      return namespace === undefined ? Status.INVALID_NAMESPACE : this.#readOrWrite(namespace, opcode, words, queue);
    }
    if (opcode === IoOpcode.FLUSH) return this.#flush(nsid, words, queue);
    const steps = this.#stepsOf(opcode);
    if (steps === undefined) return Status.INVALID_OPCODE;
    if (namespace === undefined) return Status.INVALID_NAMESPACE;
    return this.#run(words, queue, false, (flight) => steps(namespace, words, flight));
  }

  #stepsOf(opcode: number): ((namespace: DeviceNamespace, words: Uint32Array, flight: Flight) => Steps) | undefined {
    switch (opcode) {
      case IoOpcode.COMPARE:
        return (namespace, words, flight) => this.#compare(namespace, words, flight);
      case IoOpcode.WRITE_ZEROES:
        return (namespace, words, flight) => this.#writeZeroes(namespace, words, flight);
      case IoOpcode.DATASET_MANAGEMENT:
        return (namespace, words, flight) => this.#datasetManagement(namespace, words, flight);
      case IoOpcode.VERIFY:
        return (namespace, words, flight) => this.#verify(namespace, words, flight);
      default:
        return undefined;
    }
  }

  // --- Read and write ---------------------------------------------------------------------------------------------

  #readOrWrite(namespace: DeviceNamespace, opcode: number, words: Uint32Array, queue: SubmissionQueue): number {
    const cdw12 = words[CommandWord.CDW12] as number;
    const blocks = (cdw12 & 0xffff) + 1;
    const lba = (words[CommandWord.CDW10] as number) + (words[CommandWord.CDW11] as number) * HIGH;
    const size = blocks * namespace.blockSize;
    if (size > this.#parts.maxTransferBytes) return Status.INVALID_FIELD;
    if (lba + blocks > namespace.blocks) return Status.LBA_OUT_OF_RANGE;
    const reads = opcode === IoOpcode.READ;
    if (!reads && namespace.readOnly) return Status.NAMESPACE_WRITE_PROTECTED;
    const status = this.#pointer.resolve(words, size, this.pageSize, reads);
    if (status !== Status.SUCCESS) return status;
    const { counters } = this;
    if (reads) {
      counters.readCommands++;
      counters.bytesRead += size;
    } else {
      counters.writeCommands++;
      counters.bytesWritten += size;
    }
    const { contents } = namespace.backing;
    const offset = lba * namespace.blockSize;
    if (contents === undefined) {
      return reads
        ? this.#run(words, queue, true, (flight) => this.#read(namespace, offset, flight))
        : this.#run(words, queue, false, (flight) => this.#write(namespace, offset, cdw12, flight));
    }
    const { segments } = this.#pointer;
    try {
      if (contents === null) this.#transfers.check(segments, reads ? "write" : "read");
      else if (reads) this.#transfers.toGuest(segments, contents, offset);
      else this.#transfers.fromGuest(segments, contents, offset);
      return Status.SUCCESS;
    } catch (error) {
      return faultStatus(error);
    }
  }

  /** Straight into guest memory where it is one piece there, else over a buffer. */
  *#read(namespace: DeviceNamespace, offset: number, flight: Flight): Steps {
    const { memory } = this.#parts;
    const segments = this.#pointer.segments;
    const iova = segments.iovas[0] as number;
    const size = segments.sizeBytes;
    const map = segments.count === 1 ? memory.find(iova, size, "write") : undefined;
    if (map?.bytes !== undefined) {
      flight.directIova = iova;
      flight.directSize = size;
      const at = iova - map.iova;
      yield namespace.backing.read(offset, map.bytes.subarray(at, at + size), flight);
      if (!flight.aborted) memory.written(iova, size);
      return Status.SUCCESS;
    }
    // A command that faults must not have cost a disk access, and a later one reuses the list of segments.
    this.#transfers.check(segments, "write");
    const buffer = this.#transfers.take(size);
    const pending = namespace.backing.read(offset, buffer, flight);
    const places = pending === undefined ? segments : segments.snapshot();
    yield pending;
    if (!flight.aborted) this.#transfers.toGuest(places, buffer);
    this.#transfers.give(buffer);
    return Status.SUCCESS;
  }

  *#write(namespace: DeviceNamespace, offset: number, cdw12: number, flight: Flight): Steps {
    const segments = this.#pointer.segments;
    const size = segments.sizeBytes;
    const iova = segments.iovas[0] as number;
    const map = segments.count === 1 ? this.#parts.memory.find(iova, size, "read") : undefined;
    if (map?.bytes !== undefined) {
      flight.directIova = iova;
      flight.directSize = size;
      const at = iova - map.iova;
      yield namespace.backing.write(offset, map.bytes.subarray(at, at + size), flight);
    } else {
      const buffer = this.#transfers.take(size);
      this.#transfers.fromGuest(segments, buffer);
      yield namespace.backing.write(offset, buffer, flight);
      this.#transfers.give(buffer);
    }
    flight.directSize = 0;
    yield* this.#settle(namespace, cdw12, flight);
    return Status.SUCCESS;
  }

  /** What was written is made durable now where the command or the cache's setting asks for it. */
  *#settle(namespace: DeviceNamespace, cdw12: number, flight: Flight): Generator<Promise<void> | void, void, void> {
    if (flight.aborted) return;
    if ((cdw12 & IoCdw12.FUA.mask) !== 0 || !this.#parts.writeCache()) yield namespace.backing.flush();
  }

  // --- The other commands -----------------------------------------------------------------------------------------

  #flush(nsid: number, words: Uint32Array, queue: SubmissionQueue): number {
    const all = nsid === ALL_NAMESPACES;
    const wanted = this.#parts.namespaces.filter((entry) => entry !== undefined && (all || entry.id === nsid));
    if (wanted.length === 0 && !all) return Status.INVALID_NAMESPACE;
    return this.#run(words, queue, false, () => flushSteps(wanted as DeviceNamespace[]));
  }

  *#compare(namespace: DeviceNamespace, words: Uint32Array, flight: Flight): Steps {
    const range = blockRange(namespace, words);
    if (range.status !== Status.SUCCESS) return range.status;
    if (range.size > this.#parts.maxTransferBytes) return Status.INVALID_FIELD;
    const status = this.#pointer.resolve(words, range.size, this.pageSize, false);
    if (status !== Status.SUCCESS) return status;
    const given = this.#transfers.take(range.size);
    const stored = this.#transfers.take(range.size);
    this.#transfers.fromGuest(this.#pointer.segments, given);
    yield namespace.backing.read(range.offset, stored, flight);
    const same = given.every((byte, i) => byte === stored[i]);
    this.#transfers.give(given);
    this.#transfers.give(stored);
    return same ? Status.SUCCESS : Status.COMPARE_FAILURE;
  }

  *#writeZeroes(namespace: DeviceNamespace, words: Uint32Array, flight: Flight): Steps {
    const cdw12 = words[CommandWord.CDW12] as number;
    const range = blockRange(namespace, words);
    if (range.status !== Status.SUCCESS) return range.status;
    if (namespace.readOnly) return Status.NAMESPACE_WRITE_PROTECTED;
    this.counters.writeCommands++;
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
    yield* this.#settle(namespace, cdw12, flight);
    return Status.SUCCESS;
  }

  /** Only deallocation acts; the other attributes are hints. */
  *#datasetManagement(namespace: DeviceNamespace, words: Uint32Array, flight: Flight): Steps {
    const count = ((words[CommandWord.CDW10] as number) & (DATASET_RANGES_MAX - 1)) + 1;
    const deallocates = DatasetCdw11.AD.test(words[CommandWord.CDW11] as number);
    const status = this.#pointer.resolve(words, count * RANGE_BYTES, this.pageSize, false);
    if (status !== Status.SUCCESS) return status;
    const bytes = new Uint8Array(count * RANGE_BYTES);
    this.#transfers.fromGuest(this.#pointer.segments, bytes);
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
    yield* this.#settle(namespace, 0, flight);
    return Status.SUCCESS;
  }

  *#verify(namespace: DeviceNamespace, words: Uint32Array, flight: Flight): Steps {
    const range = blockRange(namespace, words);
    if (range.status !== Status.SUCCESS) return range.status;
    const buffer = this.#transfers.take(Math.min(CHUNK_BYTES, range.size));
    for (let at = 0; at < range.size && !flight.aborted; at += CHUNK_BYTES) {
      const size = Math.min(CHUNK_BYTES, range.size - at);
      yield namespace.backing.read(range.offset + at, buffer.subarray(0, size), flight);
    }
    this.#transfers.give(buffer);
    return Status.SUCCESS;
  }

  // --- Time -------------------------------------------------------------------------------------------------------

  /** Runs steps: their status where they are done at once, else `PENDING` and the completion follows. */
  #run(words: Uint32Array, queue: SubmissionQueue, abortable: boolean, start: (flight: Flight) => Steps): number {
    const { flights } = this.#parts;
    const flight = flights.prepare(queue, words);
    flight.abortable = abortable;
    let result: number | Promise<number>;
    try {
      result = runSteps(start(flight));
    } catch (error) {
      return this.#statusOf(error, words);
    }
    if (typeof result === "number") return result;
    flights.begin(flight);
    result.then(
      (status) => this.#end(flight, status),
      (error: unknown) => this.#end(flight, this.#statusOf(error, flight.words)),
    );
    return PENDING;
  }

  #end(flight: Flight, status: number): void {
    const { flights, memory } = this.#parts;
    if (!flights.end(flight)) return;
    if (!flight.repeat) this.#finish(flight.queue, flight.words, status);
    else if (memory.busMaster) this.resume(flight.words, flight.queue);
    else flights.hold(flight.queue, flight.words);
  }

  /** Executes a command again: it was on its way when guest memory went out of reach, or the state was saved. */
  resume(words: Uint32Array, queue: SubmissionQueue): void {
    const status = this.execute(words, queue);
    if (status !== PENDING) this.#finish(queue, words, status);
  }

  /** Guest memory is about to go: what still reads or writes it straight ends as a transfer that failed. */
  unmapped(iova: number, size: number): void {
    for (const flight of this.#parts.flights.within(iova, size)) {
      this.#parts.flights.abandon(flight);
      this.#finish(flight.queue, flight.words, Status.DATA_TRANSFER_ERROR);
    }
  }

  #finish(queue: SubmissionQueue, words: Uint32Array, status: number): void {
    this.#parts.complete(queue, words, status);
    if (queue.inFlight > 0 || queue.onIdle === undefined) return;
    const { onIdle } = queue;
    queue.onIdle = undefined;
    onIdle();
  }

  /** What a failure of the backing or of guest memory means for the host. */
  #statusOf(error: unknown, words: Uint32Array): number {
    if (isRing3Error(error, "DMA_FAULT")) return Status.DATA_TRANSFER_ERROR;
    const opcode = (words[CommandWord.CDW0] as number) & 0xff;
    switch (errnoOf(error)) {
      case "ENOSPC":
      case "EDQUOT":
      case "EFBIG":
        return Status.CAPACITY_EXCEEDED;
      case "EROFS":
      case "EACCES":
      case "EBADF":
      case "EPERM":
        return Status.NAMESPACE_WRITE_PROTECTED;
      default:
        this.counters.mediaErrors++;
        return opcode === IoOpcode.READ || opcode === IoOpcode.COMPARE || opcode === IoOpcode.VERIFY
          ? Status.UNRECOVERED_READ
          : Status.WRITE_FAULT;
    }
  }
}

/** The blocks that a command without data names. */
function blockRange(
  namespace: DeviceNamespace,
  words: Uint32Array,
): { readonly status: number; readonly offset: number; readonly size: number } {
  const blocks = ((words[CommandWord.CDW12] as number) & 0xffff) + 1;
  const lba = (words[CommandWord.CDW10] as number) + (words[CommandWord.CDW11] as number) * HIGH;
  const status = lba + blocks > namespace.blocks ? Status.LBA_OUT_OF_RANGE : Status.SUCCESS;
  return { status, offset: lba * namespace.blockSize, size: blocks * namespace.blockSize };
}

/** Flushes one after the other. */
export function* flushSteps(namespaces: readonly DeviceNamespace[]): Steps {
  for (const { backing } of namespaces) yield backing.flush();
  return Status.SUCCESS;
}

function errnoOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const { errno, code } = error as { readonly errno?: unknown; readonly code?: unknown };
  return typeof errno === "string" ? errno : typeof code === "string" ? code : undefined;
}
