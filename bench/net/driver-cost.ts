// The cost of a packet in a driver alone: receive, touch a byte, send, over rings in shared memory with a device process in C on the
// other side. The loops in C, ring3's forwarder with the packet code emitted too, its emitted bursts with the packet code in
// TypeScript, and the rings in TypeScript, in turn, each against a fresh device. The device fills and empties its rings between
// turns, and only the turns are timed.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Forwarder } from "../../packages/ring3/src/drivers/net/forwarder.ts";
import {
  PacketPool,
  type PacketPoolHandle,
  POOL_STACK_WORD,
} from "../../packages/ring3/src/drivers/net/packet-pool.ts";
import { PACKET_WORDS, Packets } from "../../packages/ring3/src/drivers/net/packets.ts";
import type { RingQueue } from "../../packages/ring3/src/drivers/net/ring-queue.ts";
import { createMemoryFile, DeviceWindow, defaultArena } from "../../packages/ring3/src/linux/index.ts";
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";
import { type BenchmarkContext, BenchmarkUnavailable, type Section } from "../benchmark.ts";
import { compilePeer, diedEarly } from "../c-peer.ts";

const BATCHES = [1, 8, 32, 256] as const;
const LARGEST: number = Math.max(...BATCHES);
/** Each round is that many short turns of each contender: how near the two processors are may change between turns. */
const TURNS = 5;
const WORDS = PACKET_WORDS;
const CYCLE_LIMIT = 150;

/** Rings of one family, as they lie in shared memory. */
export interface CostLayout {
  /** Of what is measured, before the batch in each title; may be empty. */
  readonly label: string;
  /** Sources of the two programs in C, beside this file, without their ending. */
  readonly device: string;
  readonly driver: string;
  /** What both programs get behind their usual arguments. */
  readonly programArguments: readonly string[];
  readonly sharedBytes: number;
  readonly poolOffset: number;
  readonly buffers: number;
  readonly bufferBytes: number;
  readonly headroom: number;
  /** Words by which a turn is asked for, answered, and the device stopped. */
  readonly askedOffset: number;
  readonly doneOffset: number;
  readonly stopOffset: number;
  /** Packets that the device gives in one turn. */
  readonly packetsPerTurn: number;
  /** Makes a queue; `start` says what it has to know of a fresh device, before the queue is filled. */
  readonly queue: (
    arena: Arena,
    window: DeviceWindow,
    pool: PacketPool,
    emit: boolean,
  ) => { readonly queue: RingQueue; readonly state: Uint8Array; readonly start?: () => void };
}

/** One way to pass packets on: starts anew on a fresh device, then receives, touches and sends a burst. */
interface Contender {
  reset(): void;
  forward(batch: number): number;
}

/** Measures one family. Throws `BenchmarkUnavailable`. */
export async function measureCost(
  layout: CostLayout,
  { rounds, quick, progress }: BenchmarkContext,
  begin: () => void,
): Promise<Section[]> {
  const folder = mkdtempSync(join(tmpdir(), "ring3-net-"));
  try {
    const [device, driver] = [layout.device, layout.driver].map((program) =>
      compilePeer(join(import.meta.dirname, `${program}.c`), folder),
    ) as [string, string];
    const arena = defaultArena();
    using file = createMemoryFile(layout.sharedBytes);
    using window = DeviceWindow.map(arena, file, 0, layout.sharedBytes);
    const path = `/proc/${process.pid}/fd/${file.number}`;
    const words = arena.words(window.arenaOffset, layout.sharedBytes / 4);
    const contenders = {
      emitted: contender(layout, arena, window, { emit: true, touch: "emitted" }),
      mixed: contender(layout, arena, window, { emit: true, touch: "typescript" }),
      typescript: contender(layout, arena, window, { emit: false, touch: "typescript" }),
    };
    const packets = quick ? 200_000 : 500_000;

    const against = async <T>(measure: () => T): Promise<T> => {
      words.fill(0, 0, layout.poolOffset / 4);
      const child = spawn(device, [path, ...layout.programArguments], { stdio: ["ignore", "pipe", "inherit"] });
      const exited = once(child, "exit");
      await Promise.race([once(child.stdout, "data"), diedEarly(child)]);
      try {
        return measure();
      } finally {
        Atomics.store(words, layout.stopOffset / 4, 1);
        await exited;
      }
    };
    /** Nanoseconds a packet. */
    const timed = (one: Contender, batch: number, count: number): Promise<number> =>
      against(() => {
        one.reset();
        const turns = Math.ceil(count / layout.packetsPerTurn);
        const bursts = Math.floor(layout.packetsPerTurn / batch);
        let spentMs = 0;
        for (let turn = 0; turn < 2 * turns; turn++) {
          Atomics.store(words, layout.askedOffset / 4, turn + 1);
          while (Atomics.load(words, layout.doneOffset / 4) !== turn + 1);
          const start = performance.now();
          drive(one, batch, bursts);
          if (turn >= turns) spentMs += performance.now() - start;
        }
        return (spentMs * 1e6) / turns / (bursts * batch);
      });
    const inC = (batch: number, count: number): Promise<number> =>
      against(() => {
        const parameters = [path, String(batch), String(count), ...layout.programArguments];
        return Number(execFileSync(driver, parameters, { encoding: "utf8" }));
      });

    // All tiers of the compiler before anything counts.
    for (const batch of BATCHES.toReversed()) {
      for (const one of Object.values(contenders)) await timed(one, batch, 300_000);
    }
    begin();
    const sections: Section[] = [];
    for (const batch of BATCHES) {
      const count = Math.floor(packets / (batch === 1 ? 4 : 1));
      const samples: Samples = { c: [], emitted: [], mixed: [], typescript: [] };
      for (let turn = 0; turn < rounds * TURNS; turn++) {
        const title = `${layout.label}batch ${batch}`;
        if (turn % TURNS === 0) progress(`${title}, round ${turn / TURNS + 1} of ${rounds}`);
        samples.c.push(await inC(batch, count));
        samples.emitted.push(await timed(contenders.emitted, batch, count));
        samples.mixed.push(await timed(contenders.mixed, batch, count));
        samples.typescript.push(await timed(contenders.typescript, batch, count));
      }
      sections.push(...report(layout.label, batch, samples));
    }
    return sections;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The compiler of the peers. */
export function peerCompiler(): string {
  return execFileSync("cc", ["--version"], { encoding: "utf8" }).split("\n")[0] ?? "";
}

type Samples = Record<"c" | "emitted" | "mixed" | "typescript", number[]>;

const NAMES = {
  c: "C -O2",
  emitted: "emitted",
  mixed: "emitted, packet code in TypeScript",
  typescript: "TypeScript",
} as const;

function report(label: string, batch: number, samples: Samples): Section[] {
  const goal = (value: number): { readonly at: "most"; readonly value: number } => ({ at: "most", value });
  const to = [NAMES.c];
  const kinds = Object.keys(NAMES) as (keyof typeof NAMES)[];
  const costs: Section = {
    title: `${label}batch ${batch}`,
    unit: "ns per packet",
    better: "less",
    series: kinds.map((kind) => ({ name: NAMES[kind], samples: samples[kind] })),
    comparisons: [
      { kind: "ratio", of: NAMES.emitted, to, ...(batch >= 8 ? { goal: goal(1.15) } : {}) },
      { kind: "ratio", of: NAMES.mixed, to, ...(batch === 32 ? { goal: goal(1.4) } : {}) },
      { kind: "ratio", of: NAMES.typescript, to },
    ],
  };
  const gigahertz = cpuGigahertz();
  if (gigahertz === undefined) return [costs];
  const cycles: Section = {
    title: `${label}batch ${batch}, in cycles of the processor's nominal clock`,
    unit: "cycles per packet",
    better: "less",
    series: kinds.map((kind) => ({ name: NAMES[kind], samples: samples[kind].map((value) => value * gigahertz) })),
    comparisons: [NAMES.emitted, NAMES.mixed].map((of) => ({
      kind: "value",
      of,
      to: [],
      ...(batch === 32 ? { goal: goal(CYCLE_LIMIT) } : {}),
    })),
  };
  return [costs, cycles];
}

/** One loop for all, so that V8 compiles each burst as a function and not as a part of this loop. */
function drive(contender: Contender, batch: number, bursts: number): void {
  for (let i = 0; i < bursts; i++) if (contender.forward(batch) !== batch) throw new Error("a burst was not full");
}

/** A queue over the shared memory, used as its documentation says. */
function contender(
  layout: CostLayout,
  arena: Arena,
  window: DeviceWindow,
  options: { readonly emit: boolean; readonly touch: "emitted" | "typescript" },
): Contender {
  const { buffers, bufferBytes, headroom, poolOffset } = layout;
  const stack = arena.reserve(4 * (POOL_STACK_WORD + buffers), 64);
  const offset = window.arenaOffset + poolOffset;
  const handle: PacketPoolHandle = { offset, stateOffset: stack.offset, buffers, bufferBytes, headroom };
  const pool = PacketPool.attach(arena, handle);
  const { queue, state, start } = layout.queue(arena, window, pool, options.emit);
  if (queue.emitted !== options.emit) {
    throw new BenchmarkUnavailable("this machine has no WebAssembly memory to emit loops for");
  }
  const reset = (): void => {
    state.fill(0);
    stack.words[0] = buffers;
    for (let i = 0; i < buffers; i++) stack.words[POOL_STACK_WORD + i] = (buffers - 1 - i) * bufferBytes;
    start?.();
    queue.renew();
  };
  if (options.touch === "emitted") {
    const forwarder = new Forwarder(queue, queue, LARGEST, (body, { address }) => {
      body.store8(address, body.load8(address).add(1));
    });
    return { reset, forward: (batch) => forwarder.forward(batch) };
  }
  const packets = new Packets(arena, LARGEST);
  const { words } = packets;
  const { bytes } = pool;
  return {
    reset,
    forward(batch: number): number {
      const count = queue.rxBurst(packets, batch);
      for (let i = 0, at = 0; i < count; i++, at += WORDS) {
        const first = words[at] as number;
        bytes[first] = (bytes[first] as number) + 1;
      }
      return queue.txBurst(packets, count);
    },
  };
}

function cpuGigahertz(): number | undefined {
  const found = /^cpu MHz\s*:\s*([\d.]+)/m.exec(readFileSync("/proc/cpuinfo", "utf8"));
  return found === null ? undefined : Number(found[1]) / 1000;
}
