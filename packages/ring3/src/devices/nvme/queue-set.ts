// All queues of the controller and the work on them: doorbells, fetching, completing, interrupts. NVMe base 2.0, sections
// 3.3 (queues), 3.5.1 (interrupts); PCIe transport 1.0, section 3.1.2 (doorbells). Hard about it: the host owns the
// doorbells and may write anything, and memory reached by messages lets a reset in between two steps of one command.
import { isRing3Error } from "../../binary/error.ts";
import { ErrorEvent } from "../../specs/nvme/commands.ts";
import { Status } from "../../specs/nvme/status.ts";
import type { GuestMemory, MemoryMap } from "../../virtual/guest-memory.ts";
import type { DeviceClock } from "../clock.ts";
import type { CompletionQueue } from "./completion-queue.ts";
import type { Doorbells } from "./doorbells.ts";
import type { FastLane } from "./fast-lane.ts";
import type { Flights } from "./flights.ts";
import type { InterruptLines } from "./interrupt-lines.ts";
import { statusField } from "./status-field.ts";
import type { SubmissionQueue } from "./submission-queue.ts";

/** Instead of a status: the command completes later, by `complete`. */
export const PENDING = -1;
/** Commands of one queue before the others have their turn. */
const BURST = 64;
/** Commands at once within a doorbell write; the rest follows in later turns, so that nobody waits long for an answer. */
const WRITE_BURST = 256;

export interface QueueSetParts {
  readonly memory: GuestMemory;
  readonly clock: DeviceClock;
  readonly doorbells: Doorbells;
  readonly lines: InterruptLines;
  /** Executes what is plain, where doorbells are memory and loops can be emitted. */
  readonly lane: FastLane | undefined;
  readonly flights: Flights;
  /** Operations that the backing may have under way; fetching stops beyond. */
  readonly flightsMax: number;
  /** Executes the command in `words`, which change with the next one: its status (no flags), or `PENDING`. */
  readonly execute: (words: Uint32Array, queue: SubmissionQueue) => number;
  /** A command failed; its words, where they are still known. Returns flags for its status. */
  readonly onError: (queue: SubmissionQueue, identifier: number, status: number, words?: Uint32Array) => number;
  readonly onDoorbellError: (information: number) => void;
  /** Queue memory cannot be reached. */
  readonly onFatal: (error: unknown) => void;
  /** A command that was being executed during a reset, which its own messages had let in, has ended. */
  readonly onOutlived: () => void;
}

export class QueueSet {
  /** By id; 0 is the admin queue. */
  readonly submission: (SubmissionQueue | undefined)[] = [];
  readonly completion: (CompletionQueue | undefined)[] = [];
  /** Dword 0 of the command that is being executed. */
  dw0 = 0;
  /** The controller is enabled and healthy. */
  running = false;
  /** Nothing is fetched, though commands that were are completed: the function is about to be saved. */
  suspended = false;
  readonly #parts: QueueSetParts;
  readonly #command: Uint32Array = new Uint32Array(16);
  /** Submission queues that exist, ascending. */
  #active: SubmissionQueue[] = [];
  #serving = false;
  #scheduled = false;
  /** A queue was left alone because the backing had too much to do. */
  #starved = false;
  #epoch = 0;

  constructor(parts: QueueSetParts) {
    this.#parts = parts;
  }

  addSubmission(queue: SubmissionQueue): void {
    this.#parts.doorbells.clear(queue.id, 0);
    this.restoreSubmission(queue);
  }

  /** Adds a queue that has been in use: its doorbell keeps its value. */
  restoreSubmission(queue: SubmissionQueue): void {
    this.submission[queue.id] = queue;
    queue.completion.users++;
    this.#active = this.submission.filter((entry) => entry !== undefined);
  }

  removeSubmission(queue: SubmissionQueue): void {
    this.submission[queue.id] = undefined;
    queue.completion.users--;
    this.#active = this.submission.filter((entry) => entry !== undefined);
  }

  addCompletion(queue: CompletionQueue): void {
    this.#parts.doorbells.clear(queue.id, 1);
    this.restoreCompletion(queue);
  }

  restoreCompletion(queue: CompletionQueue): void {
    this.completion[queue.id] = queue;
    this.#parts.lines.watch(this.completion);
  }

  removeCompletion(queue: CompletionQueue): void {
    this.completion[queue.id] = undefined;
    this.#parts.lines.watch(this.completion);
  }

  get hasIoQueues(): boolean {
    return (
      this.#active.some((queue) => queue.id > 0) || this.completion.some((queue) => queue !== undefined && queue.id > 0)
    );
  }

  /** Forgets everything, as a reset does. */
  clear(): void {
    this.#epoch++;
    this.running = false;
    this.submission.length = 0;
    this.completion.length = 0;
    this.#active = [];
    this.#parts.doorbells.reset();
    this.#parts.lane?.reset();
    this.#parts.lines.watch(this.completion);
  }

  /** Lets go of memory that is about to be unmapped. */
  forget(map: MemoryMap): void {
    for (const queue of this.#active) queue.forget(map);
    for (const queue of this.completion) queue?.forget(map);
    this.#parts.doorbells.forget(map);
    this.#parts.lane?.forget(map);
  }

  // --- What the host does -----------------------------------------------------------------------------------------

  /** A doorbell register was written: `index` counts doorbells, two for each queue. */
  ring(index: number, value: number): void {
    if (!this.running) return;
    const id = index >>> 1;
    if ((index & 1) === 0) {
      const queue = this.submission[id];
      if (queue === undefined) this.#parts.onDoorbellError(ErrorEvent.INVALID_DOORBELL_REGISTER);
      else if (this.#parts.doorbells.shadowed(id)) this.#serveNow(queue);
      else if (this.#setTail(queue, value)) this.#serveNow(queue);
    } else {
      const queue = this.completion[id];
      if (queue === undefined) this.#parts.onDoorbellError(ErrorEvent.INVALID_DOORBELL_REGISTER);
      else if (this.#parts.doorbells.shadowed(id)) this.#lookAtHead(queue);
      else if (this.#setHead(queue, value)) this.#freed(queue);
    }
  }

  /** Looks at every doorbell in memory and serves what is there. Returns the number of commands. */
  poll(): number {
    if (!this.#mayWork || this.#serving) return 0;
    let served = 0;
    for (const queue of this.#active) served += this.#serve(queue, BURST);
    if (this.#parts.lines.levelUsed)
      for (const queue of this.completion) if (queue !== undefined) this.#lookAtHead(queue);
    return served;
  }

  /** Guest memory is in reach again: writes what waited for it, and goes on. */
  resume(): void {
    if (!this.#mayWork) return;
    for (const queue of this.completion) if (queue !== undefined) this.#freed(queue);
    this.kick();
  }

  /** Goes on in a later turn: memory is in reach again, the backing has room again. */
  kick(): void {
    if (this.#scheduled || !this.running) return;
    this.#scheduled = true;
    this.#parts.clock.soon(() => {
      this.#scheduled = false;
      this.#starved = false;
      if (!this.#mayWork) return;
      let more = false;
      for (const queue of this.#active) {
        this.#serve(queue, BURST);
        if (queue.waiting > 0 && !this.#stalled(queue)) more = true;
      }
      if (more) this.kick();
    });
  }

  // --- Completion -------------------------------------------------------------------------------------------------

  /** Completes a command that was `PENDING`, unless its queue is gone. */
  complete(queue: SubmissionQueue, identifier: number, status: number, dw0: number, words?: Uint32Array): void {
    if (this.submission[queue.id] !== queue || !this.running) return;
    const epoch = this.#epoch;
    try {
      this.#post(queue, identifier, status, dw0, words);
    } catch (error) {
      this.#failed(error, epoch);
    }
    if (epoch !== this.#epoch) return;
    if (!this.#serving) this.#parts.lines.signal(queue.completion);
    if (this.#starved || queue.waiting > 0) this.kick();
  }

  #post(queue: SubmissionQueue, identifier: number, status: number, dw0: number, words?: Uint32Array): void {
    const flags = status === Status.SUCCESS ? 0 : this.#parts.onError(queue, identifier, status, words);
    const field = status === Status.SUCCESS ? 0 : statusField(status) | flags;
    queue.completion.post(dw0, queue.head | (queue.id << 16), identifier | (field << 17));
  }

  // --- Serving ----------------------------------------------------------------------------------------------------

  get #mayWork(): boolean {
    return this.running && !this.suspended && this.#parts.memory.busMaster;
  }

  /** Whether a command is being executed: with memory that is reached by messages, anything may come meanwhile. */
  get serving(): boolean {
    return this.#serving;
  }

  /** Executes a command from outside of the queues; what comes meanwhile waits. */
  exclusively(act: () => void): void {
    const epoch = this.#epoch;
    this.#serving = true;
    try {
      act();
    } finally {
      this.#serving = false;
    }
    if (epoch !== this.#epoch) this.#parts.onOutlived();
    else for (const queue of this.completion) if (queue?.unsignalled === true) this.#parts.lines.signal(queue);
  }

  #serveNow(queue: SubmissionQueue): void {
    if (!this.#mayWork) return;
    // A doorbell that came while a command is executed, in messages that it exchanges with the client.
    if (this.#serving) {
      this.kick();
      return;
    }
    this.#serve(queue, WRITE_BURST);
    if (queue.waiting > 0 && !this.#stalled(queue)) this.kick();
  }

  /** Whether something else has to happen before the queue can be served on. */
  #stalled(queue: SubmissionQueue): boolean {
    return (
      queue.deletedBy !== undefined || queue.completion.full || this.#parts.flights.count >= this.#parts.flightsMax
    );
  }

  #serve(queue: SubmissionQueue, budget: number): number {
    const words = this.#command;
    const epoch = this.#epoch;
    const { execute, flights, lane } = this.#parts;
    const { completion } = queue;
    let served = 0;
    this.#serving = true;
    try {
      while (served < budget && queue.deletedBy === undefined && !this.suspended) {
        if (lane !== undefined && flights.count < this.#parts.flightsMax) {
          served += lane.serve(queue, budget - served);
          if (!lane.stopped) break;
        }
        if (queue.head === queue.tail && !this.#lookAtTail(queue)) break;
        if (completion.full && !this.#makeRoom(completion)) break;
        if (flights.count >= this.#parts.flightsMax) {
          this.#starved = true;
          break;
        }
        queue.fetch(words);
        if (epoch !== this.#epoch || !this.running) break;
        served++;
        const identifier = (words[0] as number) >>> 16;
        this.dw0 = 0;
        const status = execute(words, queue);
        if (epoch !== this.#epoch || !this.running) break;
        if (status !== PENDING) this.#post(queue, identifier, status, this.dw0, words);
        lane?.learn(words);
      }
    } catch (error) {
      this.#failed(error, epoch);
    } finally {
      this.#serving = false;
    }
    if (epoch !== this.#epoch) this.#parts.onOutlived();
    else if (completion.unsignalled) this.#parts.lines.signal(completion);
    return served;
  }

  /** Queue memory that cannot be reached is the end of the controller, if it still is the same; anything else is ours. */
  #failed(error: unknown, epoch: number): void {
    if (!isRing3Error(error, "DMA_FAULT")) throw error;
    if (epoch !== this.#epoch) return;
    this.running = false;
    this.#parts.onFatal(error);
  }

  /** Reads the tail where it lies in memory; whether there is something to fetch. */
  #lookAtTail(queue: SubmissionQueue): boolean {
    const { doorbells } = this.#parts;
    const tail = doorbells.tail(queue.id);
    if (tail === undefined || tail === queue.tail) return false;
    return this.#setTail(queue, tail) && queue.head !== queue.tail;
  }

  #lookAtHead(queue: CompletionQueue): void {
    const head = this.#parts.doorbells.head(queue.id);
    if (head !== undefined && head !== queue.head && this.#setHead(queue, head)) this.#freed(queue);
  }

  #makeRoom(queue: CompletionQueue): boolean {
    const head = this.#parts.doorbells.head(queue.id);
    if (head === undefined || head === queue.head || !this.#setHead(queue, head)) return false;
    queue.drain();
    return !queue.full;
  }

  #setTail(queue: SubmissionQueue, value: number): boolean {
    if (value < queue.entries) {
      queue.tail = value;
      return true;
    }
    this.#invalid(queue, value);
    return false;
  }

  /** The head may move over what was written, no further. */
  #setHead(queue: CompletionQueue, value: number): boolean {
    const taken = value >= queue.head ? value - queue.head : value - queue.head + queue.entries;
    if (value < queue.entries && taken <= queue.used) {
      queue.head = value;
      return true;
    }
    this.#invalid(queue, value);
    return false;
  }

  /** Reports a value once: one in memory would be seen again at every look. */
  #invalid(queue: SubmissionQueue | CompletionQueue, value: number): void {
    if (queue.refused === value) return;
    queue.refused = value;
    this.#parts.onDoorbellError(ErrorEvent.INVALID_DOORBELL_VALUE);
  }

  /** The host took completions: there may be room for those that wait, and for new ones. */
  #freed(queue: CompletionQueue): void {
    const epoch = this.#epoch;
    try {
      queue.drain();
    } catch (error) {
      this.#failed(error, epoch);
      return;
    }
    if (epoch !== this.#epoch) return;
    this.#parts.lines.freed(queue);
    if (this.#serving || !this.#mayWork) return;
    for (const submission of this.#active) {
      if (submission.completion === queue && submission.waiting > 0) this.#serveNow(submission);
    }
  }
}
