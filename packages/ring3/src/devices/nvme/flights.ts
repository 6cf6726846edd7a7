// Commands that the backing has not finished yet. Hard about it: what was begun cannot be called back. After an abort or a
// reset the command no longer exists for the host, but its operation still ends some day: it then must touch nothing, and
// the controller must not start anew before it has (a late write would destroy what was written after the reset). While
// DMA is held back (a paused device) commands end without effect and are executed again later, here or elsewhere.
import { CommandWord } from "../../specs/nvme/commands.ts";
import type { Cancellation } from "../block-backing.ts";
import type { SubmissionQueue } from "./submission-queue.ts";

/** One command on its way through the backing. */
export class Flight implements Cancellation {
  /** The command no longer exists for the host. */
  abandoned = false;
  /** Guest memory was out of reach in between: the command has to be executed again. */
  repeat = false;
  queue: SubmissionQueue;
  /** The command's 16 words. */
  words: Uint32Array;
  /** Whether giving it up leaves nothing behind: a read. */
  abortable = false;
  /** Guest memory that the backing was given itself: an address and its size, or 0. */
  directIova = 0;
  directSize = 0;

  constructor(queue: SubmissionQueue, words: Uint32Array) {
    this.queue = queue;
    this.words = words;
  }

  get aborted(): boolean {
    return this.abandoned || this.repeat;
  }

  get identifier(): number {
    return (this.words[CommandWord.CDW0] as number) >>> 16;
  }
}

/** A command to be executed again. */
export interface HeldCommand {
  readonly queue: SubmissionQueue;
  readonly words: Uint32Array;
}

export class Flights {
  /** Called when an operation that nobody waits for any more has ended, and no other is left. */
  onCleared: () => void = () => {};
  readonly #live = new Set<Flight>();
  #onIdle: (() => void) | undefined;
  #held: HeldCommand[] = [];
  #stale = 0;
  #spare: Flight | undefined;

  /** Commands that the host waits for. */
  get count(): number {
    return this.#live.size;
  }

  /** Operations of commands that are gone, still going on. */
  get stale(): number {
    return this.#stale;
  }

  /** All commands that the host waits for, held ones too. */
  commands(): HeldCommand[] {
    return [...Array.from(this.#live, ({ queue, words }) => ({ queue, words })), ...this.#held];
  }

  [Symbol.iterator](): IterableIterator<Flight> {
    return this.#live.values();
  }

  /** A flight for a command that will most likely be done at once. `words` still belong to the caller. */
  prepare(queue: SubmissionQueue, words: Uint32Array): Flight {
    const flight = this.#spare ?? new Flight(queue, words);
    this.#spare = flight;
    flight.queue = queue;
    flight.words = words;
    flight.abortable = false;
    flight.directSize = 0;
    return flight;
  }

  /** The prepared flight really takes time. */
  begin(flight: Flight): void {
    if (this.#spare === flight) this.#spare = undefined;
    flight.words = flight.words.slice();
    if (flight.abandoned) {
      this.#stale++;
      return;
    }
    this.#live.add(flight);
    flight.queue.inFlight++;
  }

  /** The operation has ended. Returns whether the command is still there to be completed. */
  end(flight: Flight): boolean {
    const wanted = this.#live.delete(flight);
    if (wanted) flight.queue.inFlight--;
    else if (--this.#stale === 0) this.onCleared();
    if (this.#live.size + this.#stale === 0) this.#onIdle?.();
    return wanted;
  }

  /** Resolves when no operation is under way any more, neither wanted nor stale. */
  async idle(): Promise<void> {
    if (this.#live.size + this.#stale === 0) return;
    await new Promise<void>((resolve) => {
      const next = this.#onIdle;
      this.#onIdle = () => {
        this.#onIdle = undefined;
        next?.();
        resolve();
      };
    });
  }

  /** The command no longer exists; its operation ends unnoticed. */
  abandon(flight: Flight): void {
    if (!this.#live.delete(flight)) return;
    flight.abandoned = true;
    flight.queue.inFlight--;
    this.#stale++;
  }

  abandonAll(): void {
    for (const flight of [...this.#live]) this.abandon(flight);
    // The prepared one may be on its first steps: messages to the client let a reset in.
    if (this.#spare !== undefined) this.#spare.abandoned = true;
    this.#spare = undefined;
    this.#held = [];
  }

  /** Guest memory is out of reach from now on: what is under way is executed again later. */
  suspend(): void {
    for (const flight of this.#live) flight.repeat = true;
  }

  /** Keeps a command until guest memory is in reach. */
  hold(queue: SubmissionQueue, words: Uint32Array): void {
    this.#held.push({ queue, words });
  }

  takeHeld(): HeldCommand[] {
    return this.#held.splice(0);
  }

  /** The flights whose data still goes straight to or from guest memory that is about to go. */
  within(iova: number, size: number): Flight[] {
    return Array.from(this.#live).filter(
      ({ directIova, directSize, repeat }) =>
        directSize > 0 && !repeat && directIova < iova + size && iova < directIova + directSize,
    );
  }

  find(queueId: number, identifier: number): Flight | undefined {
    for (const flight of this.#live) {
      if (flight.queue.id === queueId && flight.identifier === identifier) return flight;
    }
    return undefined;
  }
}
