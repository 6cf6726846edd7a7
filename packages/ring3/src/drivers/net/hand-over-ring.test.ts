// The ring between threads: what is put in comes out once, whole and in order, however many put.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { HandOverRing, handOverWords, type HandedFrame } from "./hand-over-ring.ts";

const [SLOTS, FRAME_BYTES] = [8, 64];

function shared(slots = SLOTS): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(handOverWords(slots, FRAME_BYTES) * 4);
  new HandOverRing(memory, 0, slots, FRAME_BYTES).clear();
  return memory;
}

const frame = (): HandedFrame => ({ length: 0, flags: 0, offload: 0 });

test("as many as there are slots wait, in order, with their words; what does not fit is refused", () => {
  const ring = new HandOverRing(shared(), 0, SLOTS, FRAME_BYTES);
  const bytes = new Uint8Array(FRAME_BYTES + 8);
  const taken = frame();
  assert.equal(ring.ready, false);
  assert.equal(ring.take(bytes, 0, taken), false);
  assert.equal(ring.put(bytes, 0, FRAME_BYTES + 1, 0, 0), false, "longer than a slot");
  // Several times around.
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < SLOTS; i++) {
      bytes.fill(round * SLOTS + i);
      assert.ok(ring.put(bytes, 4, FRAME_BYTES - i, i, i - 100));
    }
    assert.equal(ring.put(bytes, 0, 1, 0, 0), false, "full");
    for (let i = 0; i < SLOTS; i++) {
      assert.ok(ring.ready);
      bytes.fill(255);
      assert.ok(ring.take(bytes, 8, taken));
      assert.deepEqual(taken, { length: FRAME_BYTES - i, flags: i, offload: i - 100 });
      const end = 8 + FRAME_BYTES - i;
      assert.ok(bytes.subarray(8, end).every((byte) => byte === round * SLOTS + i));
      assert.ok(
        [...bytes.subarray(0, 8), ...bytes.subarray(end)].every((byte) => byte === 255),
        "nothing else",
      );
    }
  }
});

test("positions wrap", () => {
  const memory = shared();
  const words = new Int32Array(memory);
  // As after 2^32 - 4 frames: tail, head, and the sequences that the slots then have.
  const start = -4;
  [words[0], words[16]] = [start, start];
  const slotWords = 4 + FRAME_BYTES / 4;
  for (let i = 0; i < SLOTS; i++) words[48 + ((start + i) & (SLOTS - 1)) * slotWords] = (start + i) | 0;
  const ring = new HandOverRing(memory, 0, SLOTS, FRAME_BYTES);
  const bytes = new Uint8Array(4);
  for (let i = 0; i < 3 * SLOTS; i++) {
    assert.ok(ring.put(bytes, 0, 4, i, 0));
    const taken = frame();
    assert.ok(ring.take(bytes, 0, taken));
    assert.equal(taken.flags, i);
  }
  assert.equal(ring.ready, false);
});

test("whoever waits hears that something was put in, before or after it began to wait", async () => {
  const ring = new HandOverRing(shared(), 0, SLOTS, FRAME_BYTES);
  const seen = ring.rings;
  const waiting = ring.rung(seen);
  ring.put(new Uint8Array(4), 0, 4, 0, 0);
  await waiting;
  await ring.rung(seen);
});

const PRODUCER = `
  import { workerData } from "node:worker_threads";
  const { url, memory, slots, frameBytes, producer, count } = workerData;
  const { HandOverRing } = await import(url);
  const ring = new HandOverRing(memory, 0, slots, frameBytes);
  const bytes = new Uint8Array(frameBytes);
  for (let i = 0; i < count; i++) {
    const length = 1 + (i % frameBytes);
    bytes.fill((producer * 31 + i) & 0xff, 0, length);
    while (!ring.put(bytes, 0, length, producer, i));
  }
`;

test("three threads put as fast as they can: each one's frames come once, whole and in order", async () => {
  const [slots, count, producers] = [64, 30_000, 3];
  const memory = shared(slots);
  const ring = new HandOverRing(memory, 0, slots, FRAME_BYTES);
  const url = new URL("./hand-over-ring.ts", import.meta.url).href;
  const source = new URL(`data:text/javascript,${encodeURIComponent(PRODUCER)}`);
  const workers = Array.from({ length: producers }, (_, producer) => {
    return new Worker(source, { workerData: { url, memory, slots, frameBytes: FRAME_BYTES, producer, count } });
  });
  const failed = new Promise<never>((_, reject) => {
    for (const worker of workers) worker.once("error", reject);
  });
  const next = workers.map(() => 0);
  const bytes = new Uint8Array(FRAME_BYTES);
  const taken = frame();
  for (let all = 0; all < producers * count; ) {
    const seen = ring.rings;
    while (ring.take(bytes, 0, taken)) {
      const { length, flags: producer, offload: sequence } = taken;
      assert.equal(sequence, next[producer]);
      next[producer] = sequence + 1;
      assert.equal(length, 1 + (sequence % FRAME_BYTES));
      for (let i = 0; i < length; i++) assert.equal(bytes[i], (producer * 31 + sequence) & 0xff);
      all++;
    }
    if (all < producers * count) await Promise.race([ring.rung(seen), failed]);
  }
  assert.equal(ring.ready, false);
});
