// The low-level face of a queue pair: post, ring the doorbells, reap. No promise, no allocation, no bigint for an
// operation; whoever uses it owns command identifiers, buffers and time-outs. `burst.ts` has the same as emitted loops.
// NVMe base 2.0, section 3.3.
//
//      head (reported in completions)      tail (ours)
//        v                                   v
//   [ ][ ][c][c][c][c][c][c][c][c][c][c][c][ ][ ][ ]     one slot stays empty: full is tail + 1 == head
//
// In the completion queue the phase tag, inverted on each pass, tells a new entry from an old one. The word that has it
// also holds CID and status: it is read once, first, and the entry's other words after it. x86 keeps loads in order, and
// entry stores before the doorbell store; arm64 needs a barrier at each of the two places.
import type { Registers } from "../../memory/registers.ts";
import {
  COMPLETION_ENTRY_SIZE,
  CommandWord,
  CompletionWord,
  SUBMISSION_ENTRY_SIZE,
} from "../../specs/nvme/commands.ts";
import { completionDoorbell, submissionDoorbell } from "../../specs/nvme/registers.ts";

/** The words beyond those that every read and write needs: none, those that `post` has parameters for, all 16. */
const NONE = 0;
const SOME = 1;
const WHOLE = 2;
const SQ_SHIFT = Math.log2(SUBMISSION_ENTRY_SIZE / 4);
const CQ_SHIFT = Math.log2(COMPLETION_ENTRY_SIZE / 4);
const PHASE = 0x10000;

/** Words that {@link Ring.reap} writes for each completion: dword 3 (identifier, phase, status) and dword 0 (result). */
export const ReapedWord = { STATUS: 0, DW0: 1 } as const;
export const REAPED_WORDS = 2;

// V8 folds a constant of this module that is not exported into the code; one that is imported or exported it loads and
// checks at each use. And it inlines only so much: `post`, the doorbells and the look in `reap` together stay below its
// limit (--max-inlined-bytecode-size-cumulative), since a call for each command costs more than the command.
const { NSID, PRP1_LOW, PRP1_HIGH, PRP2_LOW, PRP2_HIGH, CDW10, CDW11, CDW12, CDW13 } = CommandWord;
const { STATUS, SQ, DW0 } = CompletionWord;
const REAPED_SHIFT = Math.log2(REAPED_WORDS);

/** Where a queue pair lies. */
export interface RingPlace {
  /** 0 is the admin queue pair. */
  readonly queueId: number;
  /** Entries of each of the two queues. */
  readonly entries: number;
  /** The whole memory of the queue pair, zeroed. */
  readonly words: Uint32Array;
  /** Index of the submission queue's first word in `words`. */
  readonly submissionBase: number;
  /** Index of the completion queue's first word in `words`. */
  readonly completionBase: number;
  /** Registers in which the doorbells lie, and where register offset 0 of the controller is in it. */
  readonly doorbells: Registers;
  readonly doorbellOrigin: number;
  /** CAP.DSTRD. */
  readonly doorbellStride: number;
}

/** Bytes of a submission queue and of a completion queue, each rounded up to a page. */
export function ringBytes(
  entries: number,
  pageSize: number,
): { readonly submission: number; readonly completion: number } {
  const up = (size: number): number => Math.ceil(size / pageSize) * pageSize;
  return { submission: up(entries * SUBMISSION_ENTRY_SIZE), completion: up(entries * COMPLETION_ENTRY_SIZE) };
}

/**
 * A submission queue with its completion queue.
 *
 * @example
 * import { IoOpcode, NvmeDriver, REAPED_WORDS, ReapedWord } from "ring3/nvme";
 * await using nvme = await NvmeDriver.start(fn);
 * await using raw = await nvme.openRing({ entries: 64 });
 * using data = nvme.allocate(4096);
 * const reaped = new Uint32Array(32 * REAPED_WORDS);
 * const identifier = 7;
 * const cdw0 = IoOpcode.READ | (identifier << 16);
 * raw.ring.post(cdw0, 1, data.iova % 2 ** 32, Math.floor(data.iova / 2 ** 32), 0, 0, 0, 0, 7, 0); // blocks 0 to 7
 * raw.ring.ring();
 * while (raw.ring.reap(reaped, 32) === 0);
 * const failed = (reaped[ReapedWord.STATUS] ?? 0) >>> 17;
 */
export class Ring {
  readonly queueId: number;
  readonly entries: number;
  /** Signed, because a 32-bit integer is what the compiler keeps in a register without a conversion. */
  readonly #words: Int32Array;
  readonly #submissionBase: number;
  readonly #completionBase: number;
  readonly #doorbells: Registers;
  readonly #tailDoorbell: number;
  readonly #headDoorbell: number;
  #tail = 0;
  #submissionHead = 0;
  #rungTail = 0;
  /** Which words of entries that are not in use may hold something: those that are zero and stay so are not written. */
  #wide: number = NONE;
  #head = 0;
  #phase: number = PHASE;
  #rungHead = 0;
  #problem: string | undefined;

  constructor(place: RingPlace) {
    const { queueId, entries, words, doorbells, doorbellOrigin, doorbellStride } = place;
    this.queueId = queueId;
    this.entries = entries;
    this.#words = new Int32Array(words.buffer, words.byteOffset, words.length);
    this.#submissionBase = place.submissionBase;
    this.#completionBase = place.completionBase;
    this.#doorbells = doorbells;
    this.#tailDoorbell = submissionDoorbell(queueId, doorbellStride) - doorbellOrigin;
    this.#headDoorbell = completionDoorbell(queueId, doorbellStride) - doorbellOrigin;
  }

  /** What the controller did that it must not, in words; from then on {@link reap} returns 0. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Commands that can be posted now. */
  get free(): number {
    const used = this.#tail - this.#submissionHead;
    return this.entries - 1 - (used < 0 ? used + this.entries : used);
  }

  /** Completions that the controller was not yet told about. */
  get unreported(): number {
    const count = this.#head - this.#rungHead;
    return count < 0 ? count + this.entries : count;
  }

  /** Whether a completion waits. One load that no compiler tier may merge with an earlier one: safe to spin on. */
  get ready(): boolean {
    return (
      (Atomics.load(this.#words, this.#completionBase + (this.#head << CQ_SHIFT) + STATUS) & PHASE) === this.#phase
    );
  }

  /**
   * Writes one command behind the tail; the controller sees it at the next {@link ring}. False where the queue is full.
   * Every word that is not a parameter is zero.
   */
  post(
    cdw0: number,
    nsid: number,
    prp1Low: number,
    prp1High: number,
    prp2Low: number,
    prp2High: number,
    cdw10: number,
    cdw11: number,
    cdw12: number,
    cdw13: number,
  ): boolean {
    const words = this.#words;
    const tail = this.#tail;
    const next = tail + 1 === this.entries ? 0 : tail + 1;
    if (next === this.#submissionHead) return false;
    const at = (this.#submissionBase + (tail << SQ_SHIFT)) | 0;
    words[at] = cdw0;
    words[at + NSID] = nsid;
    words[at + PRP1_LOW] = prp1Low;
    words[at + PRP1_HIGH] = prp1High;
    words[at + CDW10] = cdw10;
    words[at + CDW12] = cdw12;
    if ((prp2Low | prp2High | cdw11 | cdw13 | this.#wide) !== 0) this.#rest(at, prp2Low, prp2High, cdw11, cdw13);
    this.#tail = next;
    return true;
  }

  /** The words of an entry that are seldom other than zero. */
  #rest(at: number, prp2Low: number, prp2High: number, cdw11: number, cdw13: number): void {
    const words = this.#words;
    if (this.#wide === WHOLE) {
      for (let i = NSID + 1; i < PRP1_LOW; i++) words[at + i] = 0;
      for (let i = CDW13 + 1; i < 1 << SQ_SHIFT; i++) words[at + i] = 0;
    } else {
      this.#wide = SOME;
    }
    words[at + PRP2_LOW] = prp2Low;
    words[at + PRP2_HIGH] = prp2High;
    words[at + CDW11] = cdw11;
    words[at + CDW13] = cdw13;
  }

  /** Writes the command whose 16 words start at `source[from]`. False where the queue is full. */
  postWords(source: Uint32Array, from: number): boolean {
    const words = this.#words;
    const tail = this.#tail;
    const next = tail + 1 === this.entries ? 0 : tail + 1;
    if (next === this.#submissionHead) return false;
    const at = this.#submissionBase + (tail << SQ_SHIFT);
    for (let i = 0; i < 1 << SQ_SHIFT; i++) words[at + i] = source[from + i] as number;
    this.#wide = WHOLE;
    this.#tail = next;
    return true;
  }

  /** Tells the controller about everything posted and reaped: at most one store to each doorbell. */
  ring(): void {
    this.ringCompletions();
    this.ringSubmissions();
  }

  /** Tells the controller the submission queue's tail, where it does not know it yet. */
  ringSubmissions(): void {
    if (this.#tail === this.#rungTail) return;
    this.#rungTail = this.#tail;
    this.#doorbells.write32(this.#tailDoorbell, this.#tail);
  }

  /** Tells the controller which completion entries it may reuse. */
  ringCompletions(): void {
    if (this.#head === this.#rungHead) return;
    this.#rungHead = this.#head;
    this.#doorbells.write32(this.#headDoorbell, this.#head);
  }

  /**
   * Takes up to `max` completions, each as {@link REAPED_WORDS} words in `into`, and returns how many. The submission
   * queue's head moves on; the controller learns about the completion queue's head at the next {@link ring}.
   */
  reap(into: Uint32Array, max: number): number {
    const at = this.#completionBase + (this.#head << CQ_SHIFT) + STATUS;
    // An integer at once: the builtin's result could be any number.
    const status = Atomics.load(this.#words, at) | 0;
    if ((status & PHASE) !== this.#phase) return 0;
    return this.#take(into, max, status);
  }

  /** Takes the completion at the head, whose dword 3 is `first`, and those behind it. */
  #take(into: Uint32Array, max: number, first: number): number {
    if (max < 1 || this.#problem !== undefined) return 0;
    const words = this.#words;
    const { entries, queueId } = this;
    const base = this.#completionBase;
    const rungTail = this.#rungTail;
    const limit = max < entries ? max : entries;
    let head = this.#head;
    let phase = this.#phase;
    let submissionHead = this.#submissionHead;
    let at = (base + (head << CQ_SHIFT)) | 0;
    let status = first;
    let count = 0;
    do {
      const word = words[(at + SQ) | 0] as number;
      const reported = word & 0xffff;
      const consumed = reported - submissionHead + (reported < submissionHead ? entries : 0);
      const known = rungTail - submissionHead + (rungTail < submissionHead ? entries : 0);
      if (word >>> 16 !== queueId || reported >= entries || consumed > known) {
        this.#problem = violation(word, queueId);
        break;
      }
      submissionHead = reported;
      const to = count << REAPED_SHIFT;
      into[to] = status;
      into[to + 1] = words[at + DW0] as number;
      count++;
      head++;
      if (head === entries) {
        head = 0;
        phase ^= PHASE;
      }
      at = (base + (head << CQ_SHIFT)) | 0;
      status = words[(at + STATUS) | 0] as number;
    } while (count < limit && (status & PHASE) === phase);
    this.#submissionHead = submissionHead;
    this.#head = head;
    this.#phase = phase;
    return count;
  }

  /**
   * Back to empty, for a queue pair that is made anew: call it before the controller learns of the queues. Clears the
   * completion entries, since an old phase tag would read as a completion.
   */
  reset(): void {
    this.#problem = undefined;
    this.#tail = 0;
    this.#submissionHead = 0;
    this.#rungTail = 0;
    this.#words.fill(0, this.#completionBase, this.#completionBase + (this.entries << CQ_SHIFT));
    this.#head = 0;
    this.#phase = PHASE;
    this.#rungHead = 0;
  }

  /** From now on nothing can be posted and nothing is reaped. */
  close(problem: string): void {
    this.#problem = problem;
    this.#submissionHead = this.#tail + 1 === this.entries ? 0 : this.#tail + 1;
    this.#rungTail = this.#tail;
  }
}

/** What is wrong with dword 2 of a completion in the queue `queueId`. */
function violation(word: number, queueId: number): string {
  const queue = word >>> 16;
  if (queue !== queueId) return `completed a command of submission queue ${queue} in the queue of ${queueId}`;
  return `reported submission queue head ${word & 0xffff}, where nothing was posted`;
}
