// A virtqueue as a driver of packets uses it: every buffer is one descriptor, and comes back with a token that the driver gave.
// Split and packed rings are two classes of one shape, and the reference of the emitted loops, with which they share all words.
// Hard about both: the device writes while we read and may say anything, so each word is read once, and an identifier counts
// only while its buffer is with the device.
import type { Arena } from "../../memory/arena.ts";
import { signedWords } from "../net/queue-state.ts";
import { RingProblem, type RingPlace, ringTables, RingWord, ringWords } from "./queue-place.ts";

// Constants of this module, which V8 folds into the code as it does not with imported ones.
const { FREE, TAKEN, PROBLEM, VALUE, MOST, EVENT_INDEX, LIMIT } = RingWord;

export abstract class BufferRing {
  readonly size: number;
  /** Bytes that the device wrote to the buffer that was taken last. */
  length = 0;
  protected readonly state: Int32Array;
  protected readonly tokens: Int32Array;
  protected readonly identifiers: Int32Array;

  constructor(arena: Arena, place: RingPlace) {
    const { size } = place;
    const { tokens, identifiers } = ringTables(place);
    this.size = size;
    this.state = ringWords(arena, place);
    this.tokens = signedWords(arena, tokens, size);
    this.identifiers = signedWords(arena, identifiers, size);
  }

  /** An empty ring. `limit`: bytes of each buffer for the device to write, 0 where it only reads. Its memory is zero. */
  start(eventIndex: boolean, limit: number): void {
    const { size, state } = this;
    state.fill(0);
    state[FREE] = size;
    state[EVENT_INDEX] = eventIndex ? 1 : 0;
    state[LIMIT] = limit;
    this.tokens.fill(-1);
    for (let i = 0; i < size; i++) this.identifiers[i] = size - 1 - i;
  }

  /** Buffers that can be put. */
  get free(): number {
    return this.state[FREE] as number;
  }

  /** Buffers that the device has. */
  get held(): number {
    return this.size - this.free;
  }

  /** Bytes of each buffer that the device may write. */
  get limit(): number {
    return this.state[LIMIT] as number;
  }

  /** Whether a buffer has come back: one load, safe to spin on. */
  abstract readonly ready: boolean;
  /**
   * Puts a buffer; `length` is what the device reads, or the ring's limit. `token` is not negative. There must be a free one. The
   * device sees it at {@link publish}.
   */
  abstract put(iova: number, length: number, token: number): void;
  /** Shows the device what was put; whether it wants to be notified. */
  abstract publish(): boolean;
  /**
   * The token of a buffer that came back; -1 where there is none, and from then on where the device broke the rules
   * ({@link ringProblem}).
   */
  abstract take(): number;
  /** Asks for one interrupt when the next buffer comes back. */
  abstract arm(): void;
  /** Asks for no interrupts. */
  abstract disarm(): void;

  /** Gives back a buffer's identifier. */
  protected release(id: number): void {
    const free = this.state[FREE] as number;
    this.tokens[id] = -1;
    this.identifiers[free] = id;
    this.state[FREE] = free + 1;
  }

  protected refuse(problem: number, value: number, most: number): -1 {
    this.state[PROBLEM] = problem;
    this.state[VALUE] = value;
    this.state[MOST] = most;
    return -1;
  }

  /** Calls `give` with every token that the device has; the ring is not used again before its start. */
  drain(give: (token: number) => void): void {
    for (const token of this.tokens) if (token >= 0) give(token);
    this.tokens.fill(-1);
  }

  /** Where the next buffer is taken. */
  protected get taken(): number {
    return this.state[TAKEN] as number;
  }
}

/** What the device did with a ring that it must not, in words; any thread may ask. */
export function ringProblem(arena: Arena, place: RingPlace): string | undefined {
  const state = ringWords(arena, place);
  const problem = Atomics.load(state, PROBLEM);
  const [value, most] = [VALUE, MOST].map((word) => (state[word] as number) >>> 0);
  switch (problem) {
    case RingProblem.IDENTIFIER:
      return `gave back buffer ${value}, which it does not have`;
    case RingProblem.LENGTH:
      return `wrote ${value} bytes to a buffer of ${most}`;
    case RingProblem.INDEX:
      return `says that it used ${value} buffers, where it has ${most}`;
  }
  return undefined;
}
