// Submit and complete per operation on an NVMe ring in shared memory, with a device process in C on the other side: the
// driver's loop in C, ring3's ring in TypeScript, and ring3's emitted burst, in turn, each against a fresh device.
import { createBurst } from "../../packages/ring3/src/drivers/nvme/burst.ts";
import {
  BurstState,
  REQUEST_WORDS,
  RESULT_WORDS,
  RequestWord,
  resetBurst,
} from "../../packages/ring3/src/drivers/nvme/burst-place.ts";
import { REAPED_WORDS, ReapedWord, Ring } from "../../packages/ring3/src/drivers/nvme/ring.ts";
import type { DeviceWindow } from "../../packages/ring3/src/linux/index.ts";
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";
import { type BenchmarkContext, type BenchmarkResult, BenchmarkUnavailable, type Section } from "../benchmark.ts";
import { DeviceProcess } from "../device-process.ts";
import { CQ_OFFSET, DEPTH, DOORBELL_OFFSET, SHARED_SIZE, STOP_OFFSET } from "./layout.ts";

export const name = "ring";
export const title = "NVMe ring, submit and complete, against the same loop in C -O2 with a C device process";

const BATCHES = [1, 8, 32, 256] as const;
const READ = 0x02;
/** How often a reap looks for completions that have not come before it returns to JavaScript. */
const LOOKS = 1000;
const BLOCKS = 8;
const DATA = 0x100000;
const PAGE = 4096;
/** Each round is that many short turns of each contender: how near the two processors are may change between turns. */
const TURNS = 5;
// Constants of this module, which V8 folds into the code as it does not with imported ones.
const [REAPED, STATUS] = [REAPED_WORDS, ReapedWord.STATUS];
const [REQUEST, COMMAND, LBA_LOW, CDW12] = [REQUEST_WORDS, RequestWord.COMMAND, RequestWord.LBA_LOW, RequestWord.CDW12];
const [ERRORS, PROBLEM] = [BurstState.ERRORS, BurstState.PROBLEM];
/** Where the first doorbell of queue 1 lies in a controller's registers, with CAP.DSTRD = 0. */
const QUEUE_1_DOORBELL = 0x1008;

/** One way to drive the ring: makes itself ready for a fresh device, then submits and completes one batch at a time. */
interface Contender {
  reset(): void;
  exchange(batch: number): void;
}

export async function run({ rounds, quick, progress }: BenchmarkContext): Promise<BenchmarkResult> {
  using device = new DeviceProcess({
    folder: import.meta.dirname,
    device: "device",
    driver: "driver",
    sharedBytes: SHARED_SIZE,
    freshBytes: SHARED_SIZE,
    stopOffset: STOP_OFFSET,
  });
  const { arena, window, words } = device;
  const contenders = { typescript: ringLoop(words, window), emitted: burstLoop(arena, window) };
  const operations = quick ? 100_000 : 400_000;

  const timed = (contender: Contender, batch: number, count: number): Promise<number> =>
    device.against(() => {
      contender.reset();
      drive(contender, batch, Math.ceil(count / 20));
      const start = performance.now();
      drive(contender, batch, count);
      return ((performance.now() - start) * 1e6) / count;
    });
  const inC = (batch: number, count: number): Promise<number> =>
    device.against(() => Number(device.inC(batch, count, 1)));

  // All tiers of the compiler before anything counts; they inline by how often each call is made, so not batch 1 first.
  for (const batch of BATCHES.toReversed()) {
    for (const contender of Object.values(contenders)) await timed(contender, batch, 20_000 + 10_000 * batch);
  }
  const sections: Section[] = [];
  for (const batch of BATCHES) {
    const count = Math.max(batch, Math.floor(operations / (batch === 1 ? 8 : 1) / batch) * batch);
    const samples = { c: [] as number[], typescript: [] as number[], emitted: [] as number[] };
    for (let turn = 0; turn < rounds * TURNS; turn++) {
      if (turn % TURNS === 0) progress(`ring: batch ${batch}, round ${turn / TURNS + 1} of ${rounds}`);
      samples.c.push(await inC(batch, count));
      samples.emitted.push(await timed(contenders.emitted, batch, count));
      samples.typescript.push(await timed(contenders.typescript, batch, count));
    }
    const goals = batch === 8 || batch === 32;
    sections.push({
      title: `batch ${batch}`,
      unit: "ns per operation",
      better: "less",
      series: [
        { name: "C -O2", samples: samples.c },
        { name: "emitted burst", samples: samples.emitted },
        { name: "TypeScript ring", samples: samples.typescript },
      ],
      comparisons: [
        {
          kind: "ratio",
          of: "emitted burst",
          to: ["C -O2"],
          ...(goals ? { goal: { at: "most", value: 1.05 } } : {}),
        },
        {
          kind: "ratio",
          of: "TypeScript ring",
          to: ["C -O2"],
          ...(goals ? { goal: { at: "most", value: 1.3 } } : {}),
        },
      ],
    });
  }
  return {
    sections,
    machine: { compiler: device.compiler },
    notes: [
      "Driver and device spin on a core each; the device copies each command and completes it at once. With fewer than " +
        "two idle cores the figures say nothing.",
    ],
  };
}

/** One loop for both, so that V8 compiles each batch as a function and not as a part of this loop. */
function drive(contender: Contender, batch: number, operations: number): void {
  for (let done = 0; done < operations; done += batch) contender.exchange(batch);
}

/** The ring's low-level face, used as its documentation says. */
function ringLoop(words: Uint32Array, window: DeviceWindow): Contender {
  const ring = new Ring({
    queueId: 1,
    entries: DEPTH,
    words,
    submissionBase: 0,
    completionBase: CQ_OFFSET / 4,
    doorbells: window,
    doorbellOrigin: QUEUE_1_DOORBELL - DOORBELL_OFFSET,
    doorbellStride: 0,
  });
  const reaped = new Uint32Array(DEPTH * REAPED);
  let nextSlot = 0;
  let nextBlock = 0;
  const exchange = (batch: number): void => {
    let slot = nextSlot;
    let block = nextBlock;
    for (let i = 0; i < batch; i++) {
      ring.post(READ | (slot << 16), 1, DATA + (slot & 127) * PAGE, 0, 0, 0, block, 0, BLOCKS - 1, 0);
      slot = slot + 1 === DEPTH ? 0 : slot + 1;
      block = (block + BLOCKS) | 0;
    }
    nextSlot = slot;
    nextBlock = block;
    ring.ring();
    for (let taken = 0; taken < batch; ) {
      const count = ring.reap(reaped, batch - taken);
      for (let i = 0; i < count; i++) {
        if ((reaped[i * REAPED + STATUS] as number) >>> 17 !== 0) throw new Error("a read failed");
      }
      taken += count;
      if (ring.problem !== undefined) throw new Error(ring.problem);
    }
  };
  return {
    reset: () => ring.reset(),
    exchange,
  };
}

/** The emitted burst: a request for each operation, of which only the block changes, and one call for each batch. */
function burstLoop(arena: Arena, window: DeviceWindow): Contender {
  const range = arena.reserve(2 * PAGE + DEPTH * 4 * (REQUEST_WORDS + RESULT_WORDS));
  // Nothing here at the doorbells' place in a page: a processor that compares low address bits only would make each load
  // wait for the doorbell's store.
  const state = range.offset + PAGE / 2;
  const place = {
    queueId: 1,
    entries: DEPTH,
    submission: window.arenaOffset,
    completion: window.arenaOffset + CQ_OFFSET,
    state,
    requests: state + 64,
    results: state + 64 + DEPTH * 4 * REQUEST_WORDS,
    nsid: 1,
    prp1: { iova: DATA, step: PAGE },
  };
  const burst = createBurst(arena, place, {
    registers: window,
    submissionOffset: DOORBELL_OFFSET,
    completionOffset: DOORBELL_OFFSET + 4,
  });
  if (!burst.emitted) throw new BenchmarkUnavailable("this machine has no WebAssembly memory to emit loops for");
  const told = arena.words(place.state, 8);
  const requests = arena.words(place.requests, DEPTH * REQUEST);
  for (let slot = 0; slot < DEPTH; slot++) {
    requests[slot * REQUEST + COMMAND] = READ | (slot << 16);
    requests[slot * REQUEST + CDW12] = BLOCKS - 1;
  }
  let nextBlock = 0;
  const exchange = (batch: number): void => {
    let block = nextBlock;
    for (let i = 0, at = LBA_LOW; i < batch; i++, at += REQUEST) {
      requests[at] = block;
      block = (block + BLOCKS) | 0;
    }
    nextBlock = block;
    for (let taken = 0, count = batch; taken < batch; count = 0) {
      taken += burst.exchange(count, batch - taken, LOOKS);
      if (told[ERRORS] !== 0) throw new Error("a read failed");
      if (told[PROBLEM] !== 0) throw new Error(`the device broke the protocol: ${told[PROBLEM]}`);
    }
  };
  return {
    reset: () => resetBurst(arena, place),
    exchange,
  };
}
