// The commands of a queue pair that are in flight: one slot each, held in flat arrays. The command identifier is the slot
// with a generation above it, so that a completion that comes twice, or for a slot that was used again, is recognised.
import type { Ring3Error } from "../../binary/error.ts";

/** What `execute` promised. */
export interface Settlement {
  readonly resolve: (dw0: number) => void;
  readonly reject: (error: Ring3Error) => void;
}

export const SlotState = { FREE: 0, ACTIVE: 1, ABORTING: 2 } as const;
const COMMAND_WORDS = 16;

export class CommandSlots {
  readonly count: number;
  /** The 16 words of each slot's command, kept so that it can be posted again. */
  readonly words: Uint32Array;
  readonly states: Uint8Array;
  /** When each command is overdue, on the driver's clock; `Infinity` for never. */
  readonly deadlines: Float64Array;
  /** How often each command may still be posted again. */
  readonly repeats: Uint8Array;
  readonly timeoutsMs: Float64Array;
  readonly #order: Float64Array;
  readonly #settlements: (Settlement | undefined)[];
  readonly #generations: Uint8Array;
  readonly #free: Uint16Array;
  readonly #bits: number;
  readonly #generationLimit: number;
  #freeCount: number;
  #sequence = 0;

  constructor(count: number) {
    this.count = count;
    this.words = new Uint32Array(count * COMMAND_WORDS);
    this.states = new Uint8Array(count);
    this.deadlines = new Float64Array(count);
    this.timeoutsMs = new Float64Array(count);
    this.repeats = new Uint8Array(count);
    this.#order = new Float64Array(count);
    this.#settlements = Array.from({ length: count }, () => undefined);
    this.#generations = new Uint8Array(count);
    this.#free = Uint16Array.from({ length: count }, (_, i) => count - 1 - i);
    this.#freeCount = count;
    this.#bits = Math.max(1, Math.ceil(Math.log2(count)));
    // The highest generation is left out: identifier FFFFh means "no command" in the error log.
    this.#generationLimit = Math.min(2 ** (16 - this.#bits) - 1, 255);
  }

  get free(): number {
    return this.#freeCount;
  }

  /** Takes a slot; -1 where none is free. */
  take(settlement: Settlement): number {
    if (this.#freeCount === 0) return -1;
    const slot = this.#free[--this.#freeCount] as number;
    this.states[slot] = SlotState.ACTIVE;
    this.#settlements[slot] = settlement;
    this.#order[slot] = this.#sequence++;
    return slot;
  }

  /** The command identifier of a slot's command. */
  identifier(slot: number): number {
    return ((this.#generations[slot] as number) << this.#bits) | slot;
  }

  /** The slot in use whose command has this identifier; -1 where there is none. */
  find(identifier: number): number {
    const slot = identifier & (2 ** this.#bits - 1);
    if (slot >= this.count || this.states[slot] === SlotState.FREE) return -1;
    return this.identifier(slot) === identifier ? slot : -1;
  }

  /** Frees a slot and returns what its command promised. */
  release(slot: number): Settlement {
    const settlement = this.#settlements[slot] as Settlement;
    this.#settlements[slot] = undefined;
    this.states[slot] = SlotState.FREE;
    const generation = (this.#generations[slot] as number) + 1;
    this.#generations[slot] = generation >= this.#generationLimit ? 0 : generation;
    this.#free[this.#freeCount++] = slot;
    return settlement;
  }

  /** Slots in use, in the order in which their commands were first posted. */
  inFlight(): number[] {
    const slots: number[] = [];
    for (let slot = 0; slot < this.count; slot++) if (this.states[slot] !== SlotState.FREE) slots.push(slot);
    return slots.sort((a, b) => (this.#order[a] as number) - (this.#order[b] as number));
  }
}
