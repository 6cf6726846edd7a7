// Doorbells that lie in memory: the page of BAR0 that a client maps, and the shadow doorbells of a paravirtual host
// (Doorbell Buffer Config, NVMe base 2.0, section 5.8 and annex B.5). Without either the doorbells are register writes.
import type { GuestMemory, MemoryMap } from "../../virtual/guest-memory.ts";
import { wordsOf } from "./submission-queue.ts";

/** Shadow doorbells and the event indexes with which the device asks to be told. */
interface Shadow {
  readonly doorbells: Uint32Array;
  readonly events: Uint32Array;
  readonly maps: readonly [MemoryMap, MemoryMap];
}

export class Doorbells {
  /** The mappable page, as words; `undefined` where doorbells are registers. */
  readonly #mapped: Uint32Array | undefined;
  readonly #memory: GuestMemory;
  /** Words from one doorbell to the next. */
  readonly #stride: number;
  #shadow: Shadow | undefined;
  /** Where the shadow lies, to find it again after its memory was mapped anew. */
  #place: { readonly doorbells: number; readonly events: number; readonly words: number } | undefined;

  constructor(memory: GuestMemory, strideExponent: number, mapped: Uint32Array | undefined) {
    this.#memory = memory;
    this.#stride = 2 ** strideExponent;
    this.#mapped = mapped;
  }

  /** Where the shadow is, for the state that is saved. */
  get place(): { readonly doorbells: number; readonly events: number } | undefined {
    return this.#place;
  }

  /** Whether the host tells this queue's tail and head by its shadow. Admin queues stay with the registers. */
  shadowed(id: number): boolean {
    return id > 0 && this.#place !== undefined;
  }

  /** Takes the shadow into use; `false` where its memory is not in this process. */
  useShadow(doorbells: number, events: number, pageSize: number): boolean {
    this.#place = { doorbells, events, words: pageSize / 4 };
    this.#shadow = undefined;
    if (this.#find() !== undefined) return true;
    this.#place = undefined;
    return false;
  }

  /** Goes on with a shadow of before, whose memory may be mapped later. */
  restoreShadow(
    { doorbells, events }: { readonly doorbells: number; readonly events: number },
    pageSize: number,
  ): void {
    this.#place = { doorbells, events, words: pageSize / 4 };
  }

  reset(): void {
    this.#place = undefined;
    this.#shadow = undefined;
    this.#mapped?.fill(0);
  }

  /** A queue of this id is new: its doorbell starts from 0. `side` is 0 for a tail, 1 for a head. */
  clear(id: number, side: 0 | 1): void {
    if (this.#mapped !== undefined) this.#mapped[(2 * id + side) * this.#stride] = 0;
  }

  forget(map: MemoryMap): void {
    if (this.#shadow?.maps.includes(map) === true) this.#shadow = undefined;
  }

  /** The tail of a submission queue as it lies in memory; `undefined` where only register writes tell it. */
  tail(id: number): number | undefined {
    const at = 2 * id * this.#stride;
    if (!this.shadowed(id)) return this.#mapped === undefined ? undefined : Atomics.load(this.#mapped, at);
    const shadow = this.#find();
    if (shadow === undefined) return undefined;
    // A device that polls has no wish to be told.
    return this.#mapped === undefined ? followed(shadow, at) : Atomics.load(shadow.doorbells, at);
  }

  /** The head of a completion queue as it lies in memory, and a wish to be told when it moves. */
  head(id: number): number | undefined {
    const at = (2 * id + 1) * this.#stride;
    if (!this.shadowed(id)) return this.#mapped === undefined ? undefined : Atomics.load(this.#mapped, at);
    const shadow = this.#find();
    return shadow && followed(shadow, at);
  }

  #find(): Shadow | undefined {
    if (this.#shadow !== undefined || this.#place === undefined) return this.#shadow;
    const doorbells = wordsOf(this.#memory, this.#place.doorbells, this.#place.words, "read");
    const events = wordsOf(this.#memory, this.#place.events, this.#place.words, "write");
    if (doorbells === undefined || events === undefined) return undefined;
    this.#shadow = { doorbells: doorbells.words, events: events.words, maps: [doorbells.map, events.map] };
    return this.#shadow;
  }
}

/** How often a host may move a doorbell under our eyes before we look at the rest. */
const LOOKS_MAX = 8;

/**
 * A doorbell of the shadow, with the event index at just this value, so that the host tells of the next. The host writes
 * its doorbell, then looks at the event index; here it is the other way round: one of both sees the other.
 */
function followed({ doorbells, events }: Shadow, at: number): number {
  let seen = Atomics.load(doorbells, at);
  for (let looks = 0; looks < LOOKS_MAX; looks++) {
    Atomics.store(events, at, seen);
    const now = Atomics.load(doorbells, at);
    if (now === seen) break;
    seen = now;
  }
  return seen;
}
