// Memory then and now. The driver maps in the same order as when it was recorded, and may get other addresses: so the n-th
// mapping now stands for the n-th then, and an address is the same where it points to the same byte of such a pair.
import type { MemoryMap } from "../../virtual/guest-memory.ts";

interface Recorded {
  readonly map: number;
  readonly iova: number;
  readonly size: number;
  /** What was in it at this point of the recording. */
  readonly content: Uint8Array;
  live: MemoryMap | undefined;
}

/** Bytes of recorded mappings that are kept at most. */
const LARGEST_MAPPING = 2 ** 28;
const WORD = 8;

export class Mappings {
  readonly #recorded: Map<number, Recorded> = new Map();
  /** Mappings that came before the recording had them. */
  readonly #early: MemoryMap[] = [];

  /** The recording maps. Pairs with a mapping that came already. */
  expect(map: number, iova: number, size: number): void {
    const content = new Uint8Array(Math.min(size, LARGEST_MAPPING));
    const recorded: Recorded = { map, iova, size, content, live: undefined };
    this.#recorded.set(map, recorded);
    const at = this.#early.findIndex((live) => live.size === size);
    if (at >= 0) recorded.live = this.#early.splice(at, 1)[0];
  }

  forget(map: number): void {
    this.#recorded.delete(map);
  }

  /** The driver maps. */
  mapped(live: MemoryMap): void {
    const waiting = [...this.#recorded.values()].find((one) => one.live === undefined && one.size === live.size);
    if (waiting === undefined) this.#early.push(live);
    else waiting.live = live;
  }

  unmapped(live: MemoryMap): void {
    const at = this.#early.indexOf(live);
    if (at >= 0) this.#early.splice(at, 1);
    for (const recorded of this.#recorded.values()) if (recorded.live === live) recorded.live = undefined;
  }

  /** The mapping of now; `undefined` until the driver made it. */
  live(map: number): MemoryMap | undefined {
    return this.#recorded.get(map)?.live;
  }

  /** Takes down what was written then. */
  wrote(map: number, offset: number, bytes: Uint8Array): void {
    const content = this.#recorded.get(map)?.content;
    if (content !== undefined && offset + bytes.length <= content.length) content.set(bytes, offset);
  }

  /**
   * Compares a run that the driver wrote with what it wrote now: where they differ, the first such byte's offset. Words that
   * are addresses may differ by where the mappings lie.
   */
  difference(map: number, offset: number, bytes: Uint8Array): number | undefined {
    const recorded = this.#recorded.get(map);
    const now = recorded?.live?.bytes;
    if (recorded === undefined || now === undefined) return undefined;
    for (let i = 0; i < bytes.length; i++) {
      const at = offset + i;
      if (now[at] === bytes[i]) continue;
      const word = at - (at % WORD);
      const then = wordAt(recorded.content, word);
      const here = wordAt(now, word);
      if (then === undefined || here === undefined || !this.sameAddress(then, here)) return at;
      i = word + WORD - 1 - offset;
    }
    return undefined;
  }

  /** Whether `now` points to the byte that `then` pointed to. */
  sameAddress(then: bigint, now: bigint): boolean {
    for (const { iova, size, live } of this.#recorded.values()) {
      if (live === undefined || then < BigInt(iova) || then >= BigInt(iova) + BigInt(size)) continue;
      if (now - BigInt(live.iova) === then - BigInt(iova)) return true;
    }
    return false;
  }

  /** The same for half of an address in a register of 32 bits. */
  sameHalf(then: number, now: number): boolean {
    for (const { iova, size, live } of this.#recorded.values()) {
      if (live === undefined) continue;
      if (then === Math.floor(iova / 2 ** 32) && now === Math.floor(live.iova / 2 ** 32)) return true;
      const into = then - (iova % 2 ** 32);
      if (into >= 0 && into < size && now === (live.iova + into) % 2 ** 32) return true;
    }
    return false;
  }
}

function wordAt(bytes: Uint8Array, offset: number): bigint | undefined {
  if (offset + WORD > bytes.length) return undefined;
  return new DataView(bytes.buffer, bytes.byteOffset + offset, WORD).getBigUint64(0, true);
}
