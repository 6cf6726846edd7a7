// The promise face of a ring: `execute` settles when the command completes. Hard about it: nothing may hang (a command
// that the controller forgets is noticed by a sweep over all deadlines) and nothing that the controller says is believed.
import { Ring3Error } from "../../binary/error.ts";
import { Cdw0, CommandWord, CompletionStatus } from "../../specs/nvme/commands.ts";
import { Status } from "../../specs/nvme/status.ts";
import type { Clock } from "../clock.ts";
import { type Command, type Waiting, WaitingCommands } from "./command.ts";
import { CommandSlots, type Settlement, SlotState } from "./command-slots.ts";
import { type CompletionMode, CompletionWait, type Waited } from "./completion-wait.ts";
import type { DataPointers } from "./data-pointer.ts";
import { lostError, NvmeStatusError, protocolError } from "./errors.ts";
import { REAPED_WORDS, ReapedWord, type Ring } from "./ring.ts";

/** Who takes care of a queue pair when something goes wrong. */
export interface QueueOwner {
  /** A command is overdue. Its deadline was moved on by the abort time-out. `aborted`: the owner was told before. */
  overdue(queue: QueuePair, identifier: number, aborted: boolean): void;
  /** The controller broke the protocol or its registers cannot be reached; the queue does nothing more until reset. */
  broken(queue: QueuePair, error: Ring3Error): void;
}

export interface QueuePairOptions {
  /** For messages: the function's address. */
  readonly address: string;
  readonly mode: CompletionMode;
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly abortTimeoutMs: number;
}

const REAP_BATCH = 32;
/** How often a repeatable command is posted again before its caller hears of it. */
const REPEATS = 2;

export class QueuePair implements Waited {
  readonly ring: Ring;
  readonly wait: CompletionWait;
  readonly #pointers: DataPointers;
  readonly #owner: QueueOwner;
  readonly #options: QueuePairOptions;
  readonly #slots: CommandSlots;
  readonly #reaped: Uint32Array = new Uint32Array(REAP_BATCH * REAPED_WORDS);
  /** Commands of each slot, for messages. */
  readonly #commands: (Command | undefined)[] = [];
  readonly #waiting: WaitingCommands = new WaitingCommands();
  #pending = 0;
  #sweep: Disposable | undefined;
  #sweepAtMs = Number.POSITIVE_INFINITY;
  #frozen = false;
  #failure: Ring3Error | undefined;
  #refusal: Ring3Error | undefined;
  #condemned: Ring3Error | undefined;

  constructor(ring: Ring, pointers: DataPointers, owner: QueueOwner, options: QueuePairOptions) {
    this.ring = ring;
    this.#pointers = pointers;
    this.#owner = owner;
    this.#options = options;
    this.#slots = new CommandSlots(ring.entries - 1);
    this.wait = new CompletionWait(options.mode, this, options.clock);
  }

  get queueId(): number {
    return this.ring.queueId;
  }

  /** Commands in flight that complete by themselves. */
  get pending(): number {
    return this.#pending;
  }

  /** Commands in flight or waiting for a slot. */
  get load(): number {
    return this.#pending + this.#waiting.count;
  }

  get ready(): boolean {
    return !this.#frozen && this.ring.ready;
  }

  /** Whether the queue posts nothing at present. */
  get frozen(): boolean {
    return this.#frozen;
  }

  /**
   * Runs a command and resolves with dword 0 of its completion. Rejects with {@link NvmeStatusError}, `NVME_TIMEOUT`,
   * `NVME_COMMAND_LOST`, `NVME_PROTOCOL`, or the reason for which the queue ended.
   */
  execute(command: Command): Promise<number> {
    const refusal = this.#failure ?? this.#refusal;
    if (refusal !== undefined) return Promise.reject(refusal);
    return new Promise((resolve, reject) => {
      const settlement = { resolve, reject };
      const repeats = command.repeatable ? REPEATS : 0;
      const wait = this.#frozen || this.#waiting.count > 0;
      if (wait || !this.#post(command, settlement, repeats)) this.#waiting.push({ command, settlement, repeats });
    });
  }

  #post(command: Command, settlement: Settlement, repeats: number): boolean {
    if (this.ring.free === 0) return false;
    const slots = this.#slots;
    const slot = slots.take(settlement);
    if (slot < 0) return false;
    const words = slots.words;
    const at = slot * 16;
    words[at] = command.opcode | (slots.identifier(slot) << Cdw0.CID.offset);
    words[at + CommandWord.NSID] = command.nsid ?? 0;
    // The words between are zero, or the data pointer's.
    for (let i = CommandWord.PRP1_LOW; i <= CommandWord.PRP2_HIGH; i++) words[at + i] = 0;
    words[at + CommandWord.CDW10] = command.cdw10 ?? 0;
    words[at + CommandWord.CDW11] = command.cdw11 ?? 0;
    words[at + CommandWord.CDW12] = command.cdw12 ?? 0;
    words[at + CommandWord.CDW13] = command.cdw13 ?? 0;
    words[at + CommandWord.CDW14] = command.cdw14 ?? 0;
    words[at + CommandWord.CDW15] = command.cdw15 ?? 0;
    const timeoutMs = command.timeoutMs ?? this.#options.timeoutMs;
    slots.timeoutsMs[slot] = timeoutMs;
    slots.repeats[slot] = repeats;
    this.#commands[slot] = command;
    if (timeoutMs !== Number.POSITIVE_INFINITY) this.#pending++;
    if (command.data !== undefined) {
      try {
        this.#pointers.write(words, at, slot, command.data);
      } catch (error) {
        this.#release(slot).reject(error as Ring3Error);
        return true;
      }
    }
    this.#submit(slot);
    return true;
  }

  #submit(slot: number): void {
    const slots = this.#slots;
    this.ring.postWords(slots.words, slot * 16);
    const timeoutMs = slots.timeoutsMs[slot] as number;
    const deadline = this.wait.kick() + timeoutMs;
    slots.deadlines[slot] = deadline;
    if (deadline < this.#sweepAtMs) this.#armSweep(deadline);
  }

  #release(slot: number): Settlement {
    if (this.#slots.timeoutsMs[slot] !== Number.POSITIVE_INFINITY) this.#pending--;
    this.#commands[slot] = undefined;
    return this.#slots.release(slot);
  }

  /** Rings the doorbells; a function whose registers cannot be reached breaks the queue. */
  announce(): void {
    if (this.#frozen || this.#failure !== undefined) return;
    const { ring } = this;
    try {
      // Nobody waits for an interrupt of a polled queue, so the controller need not know of each entry that is free.
      if (this.#options.mode !== "polled" || ring.unreported >= ring.entries / 2) ring.ringCompletions();
      ring.ringSubmissions();
    } catch (error) {
      this.#break(error as Ring3Error);
    }
  }

  /** Settles every command that has completed. */
  settle(): void {
    if (this.#frozen || this.#failure !== undefined) return;
    this.#harvest();
    this.#pump();
    this.announce();
  }

  /** Takes completions without telling the controller, which may be disabled. */
  #harvest(): void {
    const reaped = this.#reaped;
    for (;;) {
      const count = this.ring.reap(reaped, REAP_BATCH);
      for (let i = 0; i < count; i++) {
        const word = reaped[i * REAPED_WORDS] as number;
        const slot = this.#slots.find(word & CompletionStatus.CID.mask);
        if (slot < 0) {
          this.#break(this.#violation(`completed command ${word & 0xffff}, which is not in flight`));
          return;
        }
        this.#complete(slot, word, reaped[i * REAPED_WORDS + ReapedWord.DW0] as number);
      }
      if (this.ring.problem !== undefined) {
        this.#break(this.#violation(this.ring.problem));
        return;
      }
      if (count < REAP_BATCH) return;
    }
  }

  #complete(slot: number, word: number, dw0: number): void {
    const command = this.#commands[slot] as Command;
    const status = (word >>> CompletionStatus.SC.offset) & 0x7ff;
    const aborting = this.#slots.states[slot] === SlotState.ABORTING;
    if (status === Status.SUCCESS) {
      this.#release(slot).resolve(dw0);
    } else if (aborting && status === Status.ABORT_REQUESTED) {
      const repeats = this.#slots.repeats[slot] as number;
      const settlement = this.#release(slot);
      if (repeats > 0) this.#waiting.push({ command, settlement, repeats: repeats - 1 });
      else settlement.reject(this.#timeoutError(command));
    } else {
      this.#release(slot).reject(new NvmeStatusError(command.what, command.opcode, word));
    }
  }

  /** Posts what waited for a slot. */
  #pump(): void {
    if (this.#waiting.count > 0) this.#waiting.drain(this.#postWaiting);
  }

  readonly #postWaiting = ({ command, settlement, repeats }: Waiting): boolean =>
    !this.#frozen && this.#post(command, settlement, repeats);

  #armSweep(atMs: number): void {
    this.#sweep?.[Symbol.dispose]();
    this.#sweepAtMs = atMs;
    this.#sweep = this.#options.clock.after(Math.max(0, atMs - this.#options.clock.now()), this.#sweepNow);
  }

  readonly #sweepNow = (): void => {
    this.#sweep = undefined;
    this.#sweepAtMs = Number.POSITIVE_INFINITY;
    if (this.#frozen || this.#failure !== undefined) return;
    // The completion may be there and its interrupt lost, or our thread may have been busy.
    this.settle();
    const slots = this.#slots;
    const nowMs = this.#options.clock.now();
    let next = Number.POSITIVE_INFINITY;
    const overdue: [identifier: number, aborted: boolean][] = [];
    for (let slot = 0; slot < slots.count; slot++) {
      if (slots.states[slot] === SlotState.FREE) continue;
      if ((slots.deadlines[slot] as number) <= nowMs) {
        overdue.push([slots.identifier(slot), slots.states[slot] === SlotState.ABORTING]);
        slots.states[slot] = SlotState.ABORTING;
        slots.deadlines[slot] = nowMs + this.#options.abortTimeoutMs;
      }
      next = Math.min(next, slots.deadlines[slot] as number);
    }
    if (next !== Number.POSITIVE_INFINITY) this.#armSweep(next);
    for (const [identifier, aborted] of overdue) {
      if (!this.#frozen && this.#slots.find(identifier) >= 0) this.#owner.overdue(this, identifier, aborted);
    }
  };

  /** Posts nothing more until {@link thaw}. */
  freeze(): void {
    this.#frozen = true;
    this.#sweep?.[Symbol.dispose]();
    this.#sweep = undefined;
    this.#sweepAtMs = Number.POSITIVE_INFINITY;
  }

  /**
   * While frozen and with the controller disabled: settles what had completed before it stopped, then empties the rings
   * so that the controller can be given the queues again.
   */
  prepare(): void {
    this.#refusal = undefined;
    if (this.#condemned === undefined) this.#harvest();
    this.renew();
  }

  /** As {@link prepare}, where what had completed must not be looked at any more. */
  renew(): void {
    if (this.#condemned !== undefined) this.rejectInFlight(this.#condemned);
    this.#condemned = undefined;
    this.ring.reset();
  }

  /** Whatever is in flight is to be rejected with `error`, but only once the controller reaches its memory no more. */
  condemn(error: Ring3Error): void {
    this.#condemned = error;
  }

  /** The controller has the queues again: repeats what was in flight and is safe to repeat, and goes on. */
  thaw(): void {
    if (this.#failure !== undefined) return;
    this.#frozen = false;
    for (const slot of this.#slots.inFlight()) {
      const command = this.#commands[slot] as Command;
      const repeats = this.#slots.repeats[slot] as number;
      if (repeats > 0) {
        this.#slots.repeats[slot] = repeats - 1;
        this.#slots.states[slot] = SlotState.ACTIVE;
        this.#submit(slot);
      } else {
        this.#release(slot).reject(lostError(command.what));
      }
    }
    this.#pump();
  }

  /** Rejects everything in flight with `error`; what waits for a slot stays. */
  rejectInFlight(error: Ring3Error): void {
    for (const slot of this.#slots.inFlight()) this.#release(slot).reject(error);
  }

  /** Rejects everything, also what comes, until {@link prepare}. */
  refuse(error: Ring3Error): void {
    this.#refusal = error;
    this.rejectInFlight(error);
    this.#waiting.rejectAll(error);
  }

  /** Ends the queue: everything in flight, waiting, or to come rejects with `error`. */
  fail(error: Ring3Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.freeze();
    this.wait.stop();
    this.rejectInFlight(error);
    this.#waiting.rejectAll(error);
  }

  #break(error: Ring3Error): void {
    if (this.#frozen || this.#failure !== undefined) {
      this.ring.close(error.message);
      return;
    }
    this.freeze();
    this.#owner.broken(this, error);
  }

  #violation(sentence: string): Ring3Error {
    return protocolError(this.#options.address, sentence);
  }

  #timeoutError(command: Command): Ring3Error {
    const timeoutMs = command.timeoutMs ?? this.#options.timeoutMs;
    return new Ring3Error(
      "NVME_TIMEOUT",
      `${this.#options.address} did not complete ${command.what} within ${timeoutMs} ms, and it was aborted`,
    );
  }
}
