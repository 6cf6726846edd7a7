// Submit and complete per operation on an NVMe ring in shared memory, with a device process in C on the other side: the
// driver's loop in C, ring3's ring in TypeScript, and ring3's emitted burst, in turn, each against a fresh device.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  BurstState,
  createBurst,
  REQUEST_WORDS,
  RESULT_WORDS,
  RequestWord,
  resetBurst,
  TEMPLATE_WORDS,
} from "../../packages/ring3/src/drivers/nvme/burst.ts";
import { REAPED_WORDS, ReapedWord, Ring } from "../../packages/ring3/src/drivers/nvme/ring.ts";
import { createMemoryFile, DeviceWindow, defaultArena } from "../../packages/ring3/src/linux/index.ts";
import { type BenchmarkContext, type BenchmarkResult, BenchmarkUnavailable, type Section } from "../benchmark.ts";
import { CQ_OFFSET, DEPTH, DOORBELL_OFFSET, SHARED_SIZE, STOP_OFFSET } from "./layout.ts";

export const name = "ring";
export const title = "NVMe ring, submit and complete, against the same loop in C -O2 with a C device process";

const BATCHES = [1, 8, 32, 256] as const;
const READ = 0x02;
/** How often a reap looks for completions that have not come before it returns to JavaScript. */
const LOOKS = 1000;
const BLOCKS = 8;
/** Where the first doorbell of queue 1 lies in a controller's registers, with CAP.DSTRD = 0. */
const QUEUE_1_DOORBELL = 0x1008;

/** One way to drive the ring: makes itself ready for a fresh device, then runs operations in batches. */
interface Contender {
  reset(): void;
  run(batch: number, operations: number): void;
}

export async function run({ rounds, quick, progress }: BenchmarkContext): Promise<BenchmarkResult> {
  const folder = mkdtempSync(join(tmpdir(), "ring3-ring-"));
  try {
    const [device, driver] = ["device", "driver"].map((program) => compile(program, folder)) as [string, string];
    const arena = defaultArena();
    using file = createMemoryFile(SHARED_SIZE);
    using window = DeviceWindow.map(arena, file, 0, SHARED_SIZE);
    const path = `/proc/${process.pid}/fd/${file.number}`;
    const words = arena.words(window.arenaOffset, SHARED_SIZE / 4);
    const contenders = { typescript: ringLoop(words, window), emitted: burstLoop(arena, window) };
    const operations = quick ? 100_000 : 2_000_000;

    const against = async <T>(measure: () => Promise<T> | T): Promise<T> => {
      words.fill(0);
      const child = spawn(device, [path], { stdio: ["ignore", "pipe", "inherit"] });
      const exited = once(child, "exit");
      await Promise.race([once(child.stdout, "data"), diedEarly(child)]);
      try {
        return await measure();
      } finally {
        Atomics.store(words, STOP_OFFSET / 4, 1);
        await exited;
      }
    };
    const timed = (contender: Contender, batch: number, count: number): Promise<number> =>
      against(() => {
        contender.reset();
        contender.run(batch, Math.ceil(count / 20));
        const start = performance.now();
        contender.run(batch, count);
        return ((performance.now() - start) * 1e6) / count;
      });
    const inC = (batch: number, count: number): Promise<number> =>
      against(() => Number(execFileSync(driver, [path, String(batch), String(count), "1"], { encoding: "utf8" })));

    // All tiers of the compiler before anything counts.
    for (const contender of Object.values(contenders)) await timed(contender, 32, 500_000);
    const sections: Section[] = [];
    for (const batch of BATCHES) {
      const count = Math.max(batch, Math.floor(operations / (batch === 1 ? 8 : 1) / batch) * batch);
      const samples = { c: [] as number[], typescript: [] as number[], emitted: [] as number[] };
      for (let round = 0; round < rounds; round++) {
        progress(`ring: batch ${batch}, round ${round + 1} of ${rounds}`);
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
      machine: { compiler: execFileSync("cc", ["--version"], { encoding: "utf8" }).split("\n")[0] ?? "" },
      notes: [
        "Driver and device spin on a core each; the device copies each command and completes it at once. With fewer than " +
          "two idle cores the figures say nothing.",
      ],
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
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
  const reaped = new Uint32Array(DEPTH * REAPED_WORDS);
  let slot = 0;
  let block = 0;
  return {
    reset: () => ring.reset(),
    run(batch, operations) {
      for (let done = 0; done < operations; done += batch) {
        for (let i = 0; i < batch; i++) {
          const data = 0x100000 + (slot & 127) * 4096;
          ring.post(READ | (slot << 16), 1, data, 0, 0, 0, block, 0, BLOCKS - 1, 0);
          slot = slot + 1 === DEPTH ? 0 : slot + 1;
          block = (block + BLOCKS) | 0;
        }
        ring.ring();
        for (let taken = 0; taken < batch; ) {
          const count = ring.reap(reaped, batch - taken);
          for (let i = 0; i < count; i++) {
            if ((reaped[i * REAPED_WORDS + ReapedWord.STATUS] as number) >>> 17 !== 0) throw new Error("a read failed");
          }
          taken += count;
        }
        if (ring.problem !== undefined) throw new Error(ring.problem);
      }
      ring.ring();
    },
  };
}

/** The emitted burst: templates once, then a request for each operation. */
function burstLoop(arena: ReturnType<typeof defaultArena>, window: DeviceWindow): Contender {
  const range = arena.reserve(4096 + DEPTH * 4 * (TEMPLATE_WORDS + REQUEST_WORDS + RESULT_WORDS));
  const place = {
    queueId: 1,
    entries: DEPTH,
    submission: window.arenaOffset,
    completion: window.arenaOffset + CQ_OFFSET,
    state: range.offset,
    templates: range.offset + 4096,
    requests: range.offset + 4096 + DEPTH * 4 * TEMPLATE_WORDS,
    results: range.offset + 4096 + DEPTH * 4 * (TEMPLATE_WORDS + REQUEST_WORDS),
  };
  const burst = createBurst(arena, place, {
    registers: window,
    submissionOffset: DOORBELL_OFFSET,
    completionOffset: DOORBELL_OFFSET + 4,
  });
  if (!burst.emitted) throw new BenchmarkUnavailable("this machine has no WebAssembly memory to emit loops for");
  const templates = arena.words(place.templates, DEPTH * TEMPLATE_WORDS);
  for (let slot = 0; slot < DEPTH; slot++) {
    templates[slot * TEMPLATE_WORDS] = READ | (slot << 16);
    templates[slot * TEMPLATE_WORDS + 1] = 1;
    templates[slot * TEMPLATE_WORDS + 6] = 0x100000 + (slot & 127) * 4096;
  }
  const state = arena.words(place.state, 8);
  const requests = arena.words(place.requests, DEPTH * REQUEST_WORDS);
  for (let i = 0; i < DEPTH; i++) requests[i * REQUEST_WORDS + RequestWord.CDW12] = BLOCKS - 1;
  let slot = 0;
  let block = 0;
  return {
    reset: () => resetBurst(arena, place),
    run(batch, operations) {
      for (let done = 0; done < operations; done += batch) {
        for (let i = 0, at = 0; i < batch; i++, at += REQUEST_WORDS) {
          requests[at] = slot;
          requests[at + RequestWord.LBA_LOW] = block;
          slot = slot + 1 === DEPTH ? 0 : slot + 1;
          block = (block + BLOCKS) | 0;
        }
        burst.submit(batch);
        for (let taken = 0; taken < batch; ) {
          taken += burst.reap(batch - taken, 1, LOOKS);
          if (state[BurstState.ERRORS] !== 0) throw new Error("a read failed");
        }
        if (state[BurstState.PROBLEM] !== 0)
          throw new Error(`the device broke the protocol: ${state[BurstState.PROBLEM]}`);
      }
    },
  };
}

function compile(program: string, folder: string): string {
  const output = join(folder, program);
  try {
    execFileSync("cc", ["-O2", "-Wall", "-o", output, join(import.meta.dirname, `${program}.c`)], { stdio: "pipe" });
  } catch (error) {
    throw new BenchmarkUnavailable(`the peer in C does not compile here: ${String(error)}`);
  }
  return output;
}

async function diedEarly(child: ChildProcess): Promise<never> {
  const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
  throw new Error(`the device process ended with ${signal ?? code}`);
}
