// Receive, touch a byte, send: the cost of a packet on a gigabit queue in shared memory, with a device process in C on the other
// side. The loops in C, ring3's forwarder with the packet code emitted too, its emitted bursts with the packet code in TypeScript,
// and the rings in TypeScript, in turn, each against a fresh device.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Forwarder } from "../../packages/ring3/src/drivers/net/forwarder.ts";
import { GigabitQueue } from "../../packages/ring3/src/drivers/gigabit/queue.ts";
import { privateBytes, type QueuePlace } from "../../packages/ring3/src/drivers/gigabit/queue-place.ts";
import { PacketPool, POOL_STACK_WORD } from "../../packages/ring3/src/drivers/net/packet-pool.ts";
import { PACKET_WORDS, Packets } from "../../packages/ring3/src/drivers/net/packets.ts";
import { createMemoryFile, DeviceWindow, defaultArena } from "../../packages/ring3/src/linux/index.ts";
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";
import { type BenchmarkContext, type BenchmarkResult, BenchmarkUnavailable, type Section } from "../benchmark.ts";
import { compilePeer, diedEarly } from "../c-peer.ts";
import {
  ASKED_OFFSET,
  BUFFER_BYTES,
  BUFFERS,
  DONE_OFFSET,
  ENTRIES,
  HEADROOM,
  POOL_OFFSET,
  RECEIVE_OFFSET,
  RECEIVE_TAIL,
  REGISTERS_OFFSET,
  SHARED_SIZE,
  STOP_OFFSET,
  TRANSMIT_OFFSET,
  TRANSMIT_TAIL,
} from "./layout.ts";

export const name = "net";
export const title = "packets received, touched and sent, against the same loops in C -O2 with a C device process";

const BATCHES = [1, 8, 32, 256] as const;
/** Each round is that many short turns of each contender: how near the two processors are may change between turns. */
const TURNS = 5;
const WORDS = PACKET_WORDS;
const CYCLE_LIMIT = 150;

/** One way to pass packets on: starts anew on a fresh device, then receives, touches and sends a burst. */
interface Contender {
  reset(): void;
  forward(batch: number): number;
}

export async function run({ rounds, quick, progress, begin }: BenchmarkContext): Promise<BenchmarkResult> {
  const folder = mkdtempSync(join(tmpdir(), "ring3-net-"));
  try {
    const [device, driver] = ["device", "driver"].map((program) =>
      compilePeer(join(import.meta.dirname, `${program}.c`), folder),
    ) as [string, string];
    const arena = defaultArena();
    using file = createMemoryFile(SHARED_SIZE);
    using window = DeviceWindow.map(arena, file, 0, SHARED_SIZE);
    const path = `/proc/${process.pid}/fd/${file.number}`;
    const words = arena.words(window.arenaOffset, SHARED_SIZE / 4);
    const contenders = {
      emitted: contender(arena, window, { emit: true, touch: "emitted" }),
      mixed: contender(arena, window, { emit: true, touch: "typescript" }),
      typescript: contender(arena, window, { emit: false, touch: "typescript" }),
    };
    const packets = quick ? 200_000 : 500_000;

    const against = async <T>(measure: () => T): Promise<T> => {
      words.fill(0, 0, POOL_OFFSET / 4);
      const child = spawn(device, [path], { stdio: ["ignore", "pipe", "inherit"] });
      const exited = once(child, "exit");
      await Promise.race([once(child.stdout, "data"), diedEarly(child)]);
      try {
        return measure();
      } finally {
        Atomics.store(words, STOP_OFFSET / 4, 1);
        await exited;
      }
    };
    /** Nanoseconds a packet: the device fills and empties its rings between turns, and only the turns are timed. */
    const timed = (one: Contender, batch: number, count: number): Promise<number> =>
      against(() => {
        one.reset();
        const turns = Math.ceil(count / ENTRIES);
        const bursts = Math.floor((ENTRIES - 1) / batch);
        let spentMs = 0;
        for (let turn = 0; turn < 2 * turns; turn++) {
          Atomics.store(words, ASKED_OFFSET / 4, turn + 1);
          while (Atomics.load(words, DONE_OFFSET / 4) !== turn + 1);
          const start = performance.now();
          drive(one, batch, bursts);
          if (turn >= turns) spentMs += performance.now() - start;
        }
        return (spentMs * 1e6) / turns / (bursts * batch);
      });
    const inC = (batch: number, count: number): Promise<number> =>
      against(() => Number(execFileSync(driver, [path, String(batch), String(count)], { encoding: "utf8" })));

    // All tiers of the compiler before anything counts.
    for (const batch of BATCHES.toReversed()) {
      for (const one of Object.values(contenders)) await timed(one, batch, 300_000);
    }
    begin();
    const sections: Section[] = [];
    const gigahertz = cpuGigahertz();
    for (const batch of BATCHES) {
      const count = Math.floor(packets / (batch === 1 ? 4 : 1));
      const samples = { c: [] as number[], emitted: [] as number[], mixed: [] as number[], typescript: [] as number[] };
      for (let turn = 0; turn < rounds * TURNS; turn++) {
        if (turn % TURNS === 0) progress(`net: batch ${batch}, round ${turn / TURNS + 1} of ${rounds}`);
        samples.c.push(await inC(batch, count));
        samples.emitted.push(await timed(contenders.emitted, batch, count));
        samples.mixed.push(await timed(contenders.mixed, batch, count));
        samples.typescript.push(await timed(contenders.typescript, batch, count));
      }
      const names = {
        c: "C -O2",
        emitted: "emitted",
        mixed: "emitted, packet code in TypeScript",
        typescript: "TypeScript",
      };
      const to = [names.c];
      const goal = (value: number): { readonly at: "most"; readonly value: number } => ({ at: "most", value });
      sections.push({
        title: `batch ${batch}`,
        unit: "ns per packet",
        better: "less",
        series: [
          { name: names.c, samples: samples.c },
          { name: names.emitted, samples: samples.emitted },
          { name: names.mixed, samples: samples.mixed },
          { name: names.typescript, samples: samples.typescript },
        ],
        comparisons: [
          { kind: "ratio", of: names.emitted, to, ...(batch >= 8 ? { goal: goal(1.15) } : {}) },
          { kind: "ratio", of: names.mixed, to, ...(batch === 32 ? { goal: goal(1.4) } : {}) },
          { kind: "ratio", of: names.typescript, to },
        ],
      });
      if (gigahertz === undefined) continue;
      const cycles = (nanoseconds: readonly number[]): number[] => nanoseconds.map((value) => value * gigahertz);
      sections.push({
        title: `batch ${batch}, in cycles of the processor's nominal clock`,
        unit: "cycles per packet",
        better: "less",
        series: [
          { name: names.c, samples: cycles(samples.c) },
          { name: names.emitted, samples: cycles(samples.emitted) },
          { name: names.mixed, samples: cycles(samples.mixed) },
          { name: names.typescript, samples: cycles(samples.typescript) },
        ],
        comparisons: [names.emitted, names.mixed].map((of) => ({
          kind: "value",
          of,
          to: [],
          ...(batch === 32 ? { goal: goal(CYCLE_LIMIT) } : {}),
        })),
      });
    }
    return {
      sections,
      machine: { compiler: execFileSync("cc", ["--version"], { encoding: "utf8" }).split("\n")[0] ?? "" },
      notes: [
        "The device has a core of its own; it writes a word of each frame, and descriptors whole, and works between the turns " +
          "that are timed: the lines come from the other core, but the driver never waits, and every burst is full.",
      ],
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One loop for all, so that V8 compiles each burst as a function and not as a part of this loop. */
function drive(contender: Contender, batch: number, bursts: number): void {
  for (let i = 0; i < bursts; i++) if (contender.forward(batch) !== batch) throw new Error("a burst was not full");
}

/** A queue over the shared memory, used as its documentation says. */
function contender(
  arena: Arena,
  window: DeviceWindow,
  options: { readonly emit: boolean; readonly touch: "emitted" | "typescript" },
): Contender {
  const state = arena.reserve(privateBytes(ENTRIES), 4096);
  const stack = arena.reserve(4 * (POOL_STACK_WORD + BUFFERS), 64);
  const base = window.arenaOffset;
  const handle = {
    offset: base + POOL_OFFSET,
    stateOffset: stack.offset,
    buffers: BUFFERS,
    bufferBytes: BUFFER_BYTES,
    headroom: HEADROOM,
  };
  const place: QueuePlace = {
    index: 0,
    format: "igb",
    entries: ENTRIES,
    receive: base + RECEIVE_OFFSET,
    transmit: base + TRANSMIT_OFFSET,
    state: state.offset,
    pool: handle,
    poolIova: POOL_OFFSET,
    receiveBytes: BUFFER_BYTES - HEADROOM,
    frameBytes: 1518,
    receiveTail: REGISTERS_OFFSET + RECEIVE_TAIL,
    transmitTail: REGISTERS_OFFSET + TRANSMIT_TAIL,
  };
  const pool = PacketPool.attach(arena, handle);
  const ended = (): Error => new Error("the queue has ended");
  const queue = new GigabitQueue(pool, place, window, { emit: options.emit, ended });
  if (queue.emitted !== options.emit) {
    throw new BenchmarkUnavailable("this machine has no WebAssembly memory to emit loops for");
  }
  const reset = (): void => {
    state.bytes.fill(0);
    stack.words[0] = BUFFERS;
    for (let i = 0; i < BUFFERS; i++) stack.words[POOL_STACK_WORD + i] = (BUFFERS - 1 - i) * BUFFER_BYTES;
    queue.renew();
  };
  if (options.touch === "emitted") {
    const forwarder = new Forwarder(queue, queue, 256, (body, { address }) => {
      body.store8(address, body.load8(address).add(1));
    });
    return { reset, forward: (batch) => forwarder.forward(batch) };
  }
  const packets = new Packets(arena, 256);
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
