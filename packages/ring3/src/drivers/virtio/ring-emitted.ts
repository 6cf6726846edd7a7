// What the emitted loops do on a virtqueue of either kind: take what came back, put, publish. split-ring.ts and packed-ring.ts have
// the reference. Hard about it: the two must agree word by word, since they may take turns on one queue.
import type { Body, Loop } from "../../memory/emitter.ts";
import type { Local, Operand, Value } from "../../memory/emitter-value.ts";
import { type Words, word } from "../net/emitted-words.ts";
import { RingProblem, type RingPlace, ringTables, RingWord } from "./queue-place.ts";

/** A ring's words while a loop runs, and what one buffer needs. */
export const RING = {
  free: "i32",
  next: "i32",
  taken: "i32",
  /** The split ring's last look, or the packed ring's flags of what came back. */
  seen: "i32",
  /** The packed ring's flags of what is put. */
  turn: "i32",
  limit: "i32",
  fresh: "i32",
  firstAt: "i32",
  firstWord: "i32",
  at: "i32",
  id: "i32",
  token: "i32",
  length: "i32",
  event: "i32",
  entry: "i64",
} as const;
export type Ring = Words<Exclude<keyof typeof RING, "entry">> & { readonly entry: Local<"i64"> };

/** One kind of ring, in one direction. */
export interface RingCode {
  /** Loads the ring's words. */
  load(body: Body, ring: Ring): void;
  /**
   * Begins to fetch a line that the device has read and that the burst will write, by a store of what stands there: each such
   * store waits for its line, and publication for all of them.
   */
  fetch(body: Body, ring: Ring): void;
  /** Stores what takes and puts changed. */
  store(body: Body, ring: Ring): void;
  /** Takes a buffer: `token` and, where the device writes, `length`. Leaves `loop` where none has come back. */
  take(body: Body, ring: Ring, loop: Loop): void;
  /** Puts the buffer of `token` at `iova`; there is room for it. */
  put(body: Body, ring: Ring, iova: Value<"i64">, length: Value<"i32">): void;
  /** Shows the device what was put, and notes whether it wants to be notified. */
  publish(body: Body, ring: Ring): void;
}

export function ringWord({ state }: RingPlace, index: number): number {
  return state + word(index);
}

/** Whether the device has broken the ring's rules: nothing is taken any more. */
export function isBroken(body: Body, place: RingPlace): Value<"i32"> {
  return body.own32(ringWord(place, RingWord.PROBLEM));
}

function refuse(body: Body, place: RingPlace, problem: number, value: Operand<"i32">, most: Operand<"i32">): void {
  body.store32(ringWord(place, RingWord.PROBLEM), problem);
  body.store32(ringWord(place, RingWord.VALUE), value);
  body.store32(ringWord(place, RingWord.MOST), most);
}

/** Refuses an index of the used ring. */
export function refuseIndex(body: Body, place: RingPlace, ring: Ring, count: Value<"i32">): void {
  refuse(body, place, RingProblem.INDEX, count, ring.free.xor(-1).add(place.size + 1));
}

/** Finds the token of `id` and frees the identifier; where the device may not say that, `broken` leaves the loop. */
export function accept(body: Body, place: RingPlace, writes: boolean, ring: Ring, broken: () => void): void {
  const { tokens, identifiers } = ringTables(place);
  const { id, token, length, limit, free } = ring;
  body.set(token, -1);
  body.if(id.lt(place.size), () => body.set(token, body.own32(id.shl(2).add(tokens))));
  const unknown = token.shr(31);
  body.if(writes ? unknown.or(length.gt(limit)) : unknown, () => {
    body.if(
      token.shr(31),
      () => refuse(body, place, RingProblem.IDENTIFIER, id, 0),
      () => refuse(body, place, RingProblem.LENGTH, length, limit),
    );
    broken();
  });
  body.store32(id.shl(2).add(tokens), -1);
  body.store32(free.shl(2).add(identifiers), id);
  body.set(free, free.add(1));
}

/** Takes an identifier for the buffer of `token`. */
export function identify(body: Body, place: RingPlace, { free, id, token }: Ring): void {
  const { tokens, identifiers } = ringTables(place);
  body.set(free, free.sub(1));
  body.set(id, body.own32(free.shl(2).add(identifiers)));
  body.store32(id.shl(2).add(tokens), token);
}

/** The test of section 2.7.10: whether `event` lies in the `fresh` entries before `next`. */
export function passed(event: Value<"i32">, { next, fresh }: Ring): Value<"i32"> {
  return next.sub(event).sub(1).and(0xffff).lt(fresh.and(0xffff));
}

/** Notes that the device wants to be notified. */
export function wanted(body: Body, place: RingPlace): void {
  body.store32(ringWord(place, RingWord.NOTIFY), 1);
}
