// Rings against a simulated controller over the same words: order, wrap, fullness, and what a liar reports.
// seconds: 1
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Arena } from "../../memory/arena.ts";
import type { Registers } from "../../memory/registers.ts";
import { OwnedWindow } from "../../memory/window.ts";
import { createBurst, referenceBurst } from "./burst.ts";
import { type BurstPlace, BurstState, resetBurst, type SlotAddresses } from "./burst-place.ts";
import { CommandSlots } from "./command-slots.ts";
import { REAPED_WORDS, ReapedWord, Ring } from "./ring.ts";

/** Doorbells that note what is written. */
function doorbells(): Registers & { readonly values: Map<number, number> } {
  const values = new Map<number, number>();
  const refuse = (): never => assert.fail("only 32-bit writes");
  return {
    values,
    size: 64,
    arenaOffset: undefined,
    read8: refuse,
    read16: refuse,
    read32: refuse,
    read64: refuse,
    write8: refuse,
    write16: refuse,
    write32: (offset, value) => void values.set(offset, value),
    write64: refuse,
  };
}

const QUEUE = 3;

/** A controller that executes in order and completes in any order. */
class Model {
  readonly words: Uint32Array;
  readonly bells = doorbells();
  readonly ring: Ring;
  readonly #entries: number;
  head = 0;
  cqTail = 0;
  phase = 1;
  readonly fetched: number[] = [];

  constructor(entries: number) {
    this.#entries = entries;
    this.words = new Uint32Array(new SharedArrayBuffer(entries * 80));
    this.ring = new Ring({
      queueId: QUEUE,
      entries,
      words: this.words,
      submissionBase: 0,
      completionBase: entries * 16,
      doorbells: this.bells,
      doorbellOrigin: 0x1000,
      doorbellStride: 0,
    });
    this.ring.reset();
  }

  fetch(): void {
    const tail = this.bells.values.get(8 * QUEUE) ?? 0;
    for (; this.head !== tail; this.head = (this.head + 1) % this.#entries) {
      this.fetched.push((this.words[this.head * 16] as number) >>> 16);
    }
  }

  get room(): number {
    const head = this.bells.values.get(8 * QUEUE + 4) ?? 0;
    return (head - this.cqTail - 1 + this.#entries) % this.#entries;
  }

  complete(cid: number, sqHead: number = this.head, queue: number = QUEUE): void {
    const at = this.#entries * 16 + this.cqTail * 4;
    this.words[at] = cid ^ 0xffff;
    this.words[at + 2] = (queue << 16) | sqHead;
    this.words[at + 3] = cid | (this.phase << 16);
    this.cqTail = (this.cqTail + 1) % this.#entries;
    if (this.cqTail === 0) this.phase ^= 1;
  }
}

test("every command posted is fetched once and in order, every completion reaped once, over many wraps", () => {
  const step = fc.constantFrom("post", "ring", "fetch", "complete", "reap");
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 7 }), fc.array(step, { minLength: 50, maxLength: 400 }), (entries, steps) => {
      const model = new Model(entries);
      const reaped = new Uint32Array(REAPED_WORDS * 4);
      let cid = 0;
      const completed: number[] = [];
      const seen: number[] = [];
      for (const what of steps) {
        if (what === "post") {
          const free = model.ring.free;
          const posted = model.ring.post((cid << 16) | 2, 1, 0, 0, 0, 0, 0, 0, 0, 0);
          assert.equal(posted, free > 0);
          if (posted) cid++;
        } else if (what === "ring") model.ring.ring();
        else if (what === "fetch") model.fetch();
        else if (what === "complete") {
          const next = model.fetched[completed.length];
          if (next === undefined || model.room === 0) continue;
          completed.push(next);
          model.complete(next);
        } else {
          const count = model.ring.reap(reaped, 4);
          for (let i = 0; i < count; i++) {
            const word = reaped[i * REAPED_WORDS] as number;
            assert.equal(reaped[i * REAPED_WORDS + ReapedWord.DW0], (word & 0xffff) ^ 0xffff);
            seen.push(word & 0xffff);
          }
        }
      }
      assert.deepEqual(model.fetched, [...model.fetched.keys()]);
      assert.deepEqual(seen, completed.slice(0, seen.length));
      assert.equal(model.ring.problem, undefined);
    }),
  );
});

test("a head or queue that cannot be is a problem, and then the ring gives nothing", () => {
  const lies: ((model: Model) => void)[] = [
    (model) => model.complete(0, 8),
    (model) => model.complete(0, 3),
    (model) => model.complete(0, 0xffff),
    (model) => model.complete(0, 1, 9),
  ];
  for (const lie of lies) {
    const model = new Model(8);
    const reaped = new Uint32Array(REAPED_WORDS * 8);
    model.ring.post(2, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    model.ring.ring();
    // Posted, but the controller was not told: a head there is a lie too.
    model.ring.post(2, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    model.fetch();
    lie(model);
    assert.equal(model.ring.reap(reaped, 8), 0);
    assert.notEqual(model.ring.problem, undefined);
    model.complete(0, 1);
    assert.equal(model.ring.reap(reaped, 8), 0);
  }
});

test("a closed ring takes nothing", () => {
  const model = new Model(4);
  model.ring.close("over");
  assert.equal(model.ring.post(2, 1, 0, 0, 0, 0, 0, 0, 0, 0), false);
  assert.equal(model.ring.free, 0);
});

test("words that are no parameter are zero, also where a whole command was posted before", () => {
  const model = new Model(4);
  const expected = [1, 2, 0, 0, 0, 0, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0];
  const post = (): boolean => model.ring.post(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
  post();
  assert.deepEqual([...model.words.subarray(0, 16)], expected);
  const full = new Uint32Array(32).fill(0xffff_ffff);
  for (let i = 1; i < 4; i++) {
    model.ring.postWords(full, 16);
    model.ring.ring();
    model.fetch();
    model.complete(0);
    model.ring.reap(new Uint32Array(16), 4);
  }
  post();
  post();
  assert.deepEqual([...model.words.subarray(0, 16)], expected);
  assert.deepEqual([...model.words.subarray(16, 32)], expected);
});

test("an entry holds exactly the command posted, whatever it held before", () => {
  const seldom = fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.nat());
  const command = fc.oneof(
    { weight: 9, arbitrary: fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat(), seldom, seldom, fc.nat(), seldom) },
    { weight: 1, arbitrary: fc.constant("whole" as const) },
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 30 }), (commands) => {
      const model = new Model(3);
      const whole = Uint32Array.from({ length: 16 }, (_, i) => i + 1);
      for (const [index, words] of commands.entries()) {
        const at = (index % 3) * 16;
        if (words === "whole") {
          model.ring.postWords(whole, 0);
          assert.deepEqual(model.words.subarray(at, at + 16), whole);
        } else {
          const [cdw0, nsid, low, high, low2, high2, cdw10, cdw11] = words;
          model.ring.post(cdw0, nsid, low, high, low2, high2, cdw10, cdw11, index, low2);
          const expected = [cdw0, nsid, 0, 0, 0, 0, low, high, low2, high2, cdw10, cdw11, index, low2, 0, 0];
          assert.deepEqual([...model.words.subarray(at, at + 16)], expected);
        }
        model.ring.ring();
        model.fetch();
        model.complete(0);
        model.ring.reap(new Uint32Array(REAPED_WORDS), 1);
      }
    }),
  );
});

test("identifiers: an old one is not found again, FFFFh never comes", () => {
  for (const count of [1, 2, 127, 255, 1023]) {
    const slots = new CommandSlots(count);
    const settlement = { resolve: () => {}, reject: () => {} };
    let last = -1;
    for (let i = 0; i < 300; i++) {
      const slot = slots.take(settlement);
      const identifier = slots.identifier(slot);
      assert.ok(identifier < 0xffff);
      assert.notEqual(identifier, last);
      assert.equal(slots.find(identifier), slot);
      assert.equal(slots.find(last), -1);
      slots.release(slot);
      assert.equal(slots.find(identifier), -1);
      last = identifier;
    }
  }
});

// --- The emitted burst against its reference ------------------------------------------------------------------------

/** Addresses of more than 32 bits, and slots that carry into the upper half. */
const PRP1 = { iova: 0x12_ffff_f000, step: 0x20_0000 };
const PRP2 = { iova: 0x7000, step: 4096 };

function burstSide(entries: number, kind: "reference" | "emitted", prp2?: SlotAddresses) {
  const arena = Arena.create({ initialBytes: 2 ** 20, maximumBytes: 2 ** 20 });
  const range = arena.reserve(2 ** 17);
  const at = (index: number): number => range.offset + index * 2 ** 14;
  const place: BurstPlace = {
    queueId: QUEUE,
    entries,
    submission: at(0),
    completion: at(1),
    state: at(2),
    requests: at(4),
    results: at(5),
    nsid: 0xffff_fffe,
    prp1: PRP1,
    ...(prp2 === undefined ? {} : { prp2 }),
  };
  const window = OwnedWindow.over(arena, at(6), 4096);
  const bells = { registers: window, submissionOffset: 16, completionOffset: 20 };
  const burst = kind === "emitted" ? createBurst(arena, place, bells) : referenceBurst(arena, place, bells);
  assert.equal(burst.emitted, kind === "emitted");
  resetBurst(arena, place);
  const words = arena.words(range.offset, 2 ** 15);
  return { burst, words, window, word: (index: number, offset: number) => (index * 2 ** 14) / 4 + offset };
}

test("the emitted burst leaves exactly the memory that its reference leaves", () => {
  const completion = fc.record({
    head: fc.oneof(
      { weight: 16, arbitrary: fc.constant({ off: 0 }) },
      { weight: 3, arbitrary: fc.record({ off: fc.integer({ min: -2, max: 2 }) }) },
      { weight: 1, arbitrary: fc.nat({ max: 65_535 }) },
    ),
    queue: fc.oneof({ weight: 19, arbitrary: fc.constant(QUEUE) }, { weight: 1, arbitrary: fc.nat({ max: 65_535 }) }),
    word: fc.nat(),
  });
  const operation = fc.oneof(
    fc.record({ kind: fc.constant("submit" as const), count: fc.nat({ max: 8 }), seed: fc.nat() }),
    fc.record({ kind: fc.constant("complete" as const), completion }),
    fc.record({
      kind: fc.constant("exchange" as const),
      count: fc.nat({ max: 8 }),
      seed: fc.nat(),
      max: fc.nat({ max: 8 }),
      looks: fc.nat({ max: 3 }),
    }),
    fc.record({
      kind: fc.constant("reap" as const),
      max: fc.nat({ max: 8 }),
      acknowledge: fc.nat({ max: 1 }),
      looks: fc.nat({ max: 3 }),
    }),
  );
  const sizes = fc.integer({ min: 2, max: 8 });
  fc.assert(
    fc.property(sizes, fc.boolean(), fc.array(operation, { maxLength: 120 }), (entries, second, operations) => {
      const prp2 = second ? PRP2 : undefined;
      const sides = [burstSide(entries, "reference", prp2), burstSide(entries, "emitted", prp2)] as const;
      let head = 0;
      let tail = 0;
      let phase = 1;
      for (const step of operations) {
        if (step.kind === "complete") {
          const sqTail = sides[0].words[sides[0].word(6, 4)] as number;
          if (head !== sqTail) head = (head + 1) % entries;
          const { completion: entry } = step;
          for (const { words, word } of sides) {
            const at = word(1, tail * 4);
            words[at] = entry.word;
            const told = typeof entry.head === "number" ? entry.head : (head + entry.head.off + entries) % entries;
            words[at + 2] = ((entry.queue << 16) | told) >>> 0;
            words[at + 3] = ((entry.word & 0xfffe_ffff) | (phase << 16)) >>> 0;
          }
          tail = (tail + 1) % entries;
          if (tail === 0) phase ^= 1;
        } else {
          const counts = sides.map(({ burst, words, word }) => {
            if (step.kind === "reap") return burst.reap(step.max, step.acknowledge, step.looks);
            for (let i = 0; i < 8; i++) {
              for (let j = 0; j < 4; j++) words[word(4, i * 4 + j)] = Math.imul(step.seed + i, 0x85eb_ca6b + j);
            }
            const count = Math.min(step.count, entries);
            if (step.kind === "submit") return burst.submit(count);
            return burst.exchange(count, step.max, step.looks);
          });
          assert.equal(counts[0], counts[1]);
        }
        assert.deepEqual(sides[0].words, sides[1].words);
      }
    }),
    { numRuns: 150 },
  );
});

test("a burst posts whole commands: what all have in common, the request, and the slot's addresses", () => {
  for (const kind of ["reference", "emitted"] as const) {
    const { burst, words, word } = burstSide(4, kind, PRP2);
    words.set([0x0801_0002, 7, 0xffff_fff8, 0x15], word(4, 0));
    assert.equal(burst.submit(1), 1);
    const slot = 0x0801;
    const prp1 = BigInt(PRP1.iova) + BigInt(slot) * BigInt(PRP1.step);
    const halves = [Number(prp1 & 0xffff_ffffn), Number(prp1 >> 32n), PRP2.iova + slot * PRP2.step, 0];
    const expected = [0x0801_0002, 0xffff_fffe, 0, 0, 0, 0, ...halves, 0xffff_fff8, 0x15, 7, 0, 0, 0];
    assert.deepEqual([...words.subarray(0, 16)], expected);
    assert.equal(words[word(2, BurstState.POSTED)], 1);
  }
});

test("a burst finds a problem once and stops", () => {
  const { burst, words, word } = burstSide(4, "emitted");
  burst.submit(1);
  words[word(1, 2)] = (9 << 16) | 1;
  words[word(1, 3)] = 0x10000;
  assert.equal(burst.reap(4, 1, 1), 0);
  assert.equal(words[word(2, BurstState.PROBLEM)], 2);
  words[word(1, 2)] = (QUEUE << 16) | 1;
  assert.equal(burst.reap(4, 1, 1), 0);
});
