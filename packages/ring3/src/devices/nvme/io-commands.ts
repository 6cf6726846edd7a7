// The I/O commands: flush (NVMe base 2.0, section 7.1) and those of the NVM command set 1.0, section 3.2. Hard about it:
// a disk in memory is served without a promise or an allocation of its own, any other by steps that may take time and
// end when the guest has long gone.
import { ALL_NAMESPACES, Cdw0, CommandWord, IoOpcode } from "../../specs/nvme/commands.ts";
import { Status } from "../../specs/nvme/status.ts";
import type { GuestMemory } from "../../virtual/guest-memory.ts";
import { DataPointer, faultStatus } from "./data-pointer.ts";
import type { Flight, Flights } from "./flights.ts";
import type { DeviceNamespace } from "./namespace.ts";
import { PENDING } from "./queue-set.ts";
import { flushSteps, type IoCounters, RangeCommands, settleWrite } from "./range-commands.ts";
import { statusOf } from "./status-of.ts";
import { runSteps, type Steps } from "./steps.ts";
import type { SubmissionQueue } from "./submission-queue.ts";
import { Transfers } from "./transfers.ts";

const HIGH = 2 ** 32;

export interface IoParts {
  readonly memory: GuestMemory;
  readonly flights: Flights;
  readonly maxTransferBytes: number;
  /** Namespaces by id. */
  readonly namespaces: readonly (DeviceNamespace | undefined)[];
  /** Whether written data may stay in a cache until the next flush. */
  readonly writeCache: () => boolean;
  readonly complete: (queue: SubmissionQueue, words: Uint32Array, status: number) => void;
  /** Runs what executes a command out of turn: no other is executed meanwhile. */
  readonly exclusively: (act: () => void) => void;
}

export class IoCommands {
  readonly counters: IoCounters = { readCommands: 0, writeCommands: 0, bytesRead: 0, bytesWritten: 0, mediaErrors: 0 };
  /** The memory page size that the host chose. */
  pageSize = 4096;
  readonly #parts: IoParts;
  readonly #pointer: DataPointer;
  readonly #transfers: Transfers;
  readonly #range: RangeCommands;

  constructor(parts: IoParts) {
    this.#parts = parts;
    this.#pointer = new DataPointer(parts.memory);
    this.#transfers = new Transfers(parts.memory);
    this.#range = new RangeCommands({
      transfers: this.#transfers,
      pointer: this.#pointer,
      counters: this.counters,
      maxTransferBytes: parts.maxTransferBytes,
      writeCache: parts.writeCache,
      pageSize: () => this.pageSize,
    });
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
    const range = this.#range;
    switch (opcode) {
      case IoOpcode.COMPARE:
        return (namespace, words, flight) => range.compare(namespace, words, flight);
      case IoOpcode.WRITE_ZEROES:
        return (namespace, words, flight) => range.writeZeroes(namespace, words, flight);
      case IoOpcode.DATASET_MANAGEMENT:
        return (namespace, words, flight) => range.datasetManagement(namespace, words, flight);
      case IoOpcode.VERIFY:
        return (namespace, words, flight) => range.verify(namespace, words, flight);
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
      if (!flight.aborted) yield namespace.backing.write(offset, buffer, flight);
      this.#transfers.give(buffer);
    }
    flight.directSize = 0;
    yield* settleWrite(namespace, cdw12, this.#parts.writeCache(), flight);
    return Status.SUCCESS;
  }

  // --- The other commands -----------------------------------------------------------------------------------------

  #flush(nsid: number, words: Uint32Array, queue: SubmissionQueue): number {
    const all = nsid === ALL_NAMESPACES;
    const wanted = this.#parts.namespaces.filter((entry) => entry !== undefined && (all || entry.id === nsid));
    if (wanted.length === 0 && !all) return Status.INVALID_NAMESPACE;
    return this.#run(words, queue, false, () => flushSteps(wanted as DeviceNamespace[]));
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
    this.#parts.exclusively(() => {
      const status = this.execute(words, queue);
      if (status !== PENDING) this.#finish(queue, words, status);
    });
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

  #statusOf(error: unknown, words: Uint32Array): number {
    const status = statusOf(error, (words[CommandWord.CDW0] as number) & 0xff);
    if (status === Status.UNRECOVERED_READ || status === Status.WRITE_FAULT) this.counters.mediaErrors++;
    return status;
  }
}
