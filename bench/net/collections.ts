// Whether passing packets makes garbage: collections over a long run of bursts. The device's part is played by the same thread, so
// that a run of 10^8 packets is a matter of processor time and not of how two processes get their turns.
import { GCProfiler } from "node:v8";
import { createMemoryFile, DeviceWindow, defaultArena } from "../../packages/ring3/src/linux/index.ts";
import {
  DESCRIPTOR_BYTES,
  ReceiveStatus,
  ReceiveWriteBack,
  TransmitCommand,
  TransmitStatus,
  TransmitWord,
} from "../../packages/ring3/src/specs/gigabit/descriptors.ts";
import type { BenchmarkContext, BenchmarkResult, Section } from "../benchmark.ts";
import { type BenchQueue, type Contender, contender } from "./contender.ts";
import { gigabitBenchQueue } from "./gigabit-queue.ts";
import {
  ENTRIES,
  RECEIVE_OFFSET,
  RECEIVE_TAIL,
  REGISTERS_OFFSET,
  SHARED_SIZE,
  TRANSMIT_OFFSET,
  TRANSMIT_TAIL,
} from "./layout.ts";

export const name = "net-collections";
export const title = "collections of garbage over a run of bursts: receive, touch, send";

const BATCH = 32;
const PACKETS = 10_000_000;
const [QUICK_PACKETS, WARM_PACKETS] = [1_000_000, 2_000_000];
const [RECEIVE, TRANSMIT] = [RECEIVE_OFFSET / 4, TRANSMIT_OFFSET / 4];
const RECEIVE_TAIL_WORD = (REGISTERS_OFFSET + RECEIVE_TAIL) / 4;
const TRANSMIT_TAIL_WORD = (REGISTERS_OFFSET + TRANSMIT_TAIL) / 4;
const WORDS = DESCRIPTOR_BYTES / 4;
const { TYPE, HASH, STATUS, LENGTH } = ReceiveWriteBack;
const RECEIVED = ReceiveStatus.DD | ReceiveStatus.EOP;
const FRAME_BYTES = 60;

/** An 82576 queue's device, without an object for a packet: a frame for every buffer, and whatever is sent is gone. */
class ThreadDevice {
  readonly #words: Uint32Array;
  #receiveHead = 0;
  #transmitHead = 0;

  constructor(words: Uint32Array) {
    this.#words = words;
  }

  reset(): void {
    this.#receiveHead = 0;
    this.#transmitHead = 0;
  }

  work(): void {
    const words = this.#words;
    let head = this.#transmitHead;
    for (const tail = words[TRANSMIT_TAIL_WORD] as number; head !== tail; head = head + 1 === ENTRIES ? 0 : head + 1) {
      const at = TRANSMIT + WORDS * head;
      if (((words[at + TransmitWord.COMMAND] as number) & TransmitCommand.RS) === 0) continue;
      const status = at + TransmitWord.STATUS;
      words[status] = (words[status] as number) | TransmitStatus.DD;
    }
    this.#transmitHead = head;
    head = this.#receiveHead;
    for (const tail = words[RECEIVE_TAIL_WORD] as number; head !== tail; head = head + 1 === ENTRIES ? 0 : head + 1) {
      const at = RECEIVE + WORDS * head;
      words[at + TYPE] = 0;
      words[at + HASH] = 0;
      words[at + LENGTH] = FRAME_BYTES;
      words[at + STATUS] = RECEIVED;
    }
    this.#receiveHead = head;
  }
}

export function run(context: BenchmarkContext): Promise<BenchmarkResult> {
  const { rounds, quick, progress, begin } = context;
  const packets = context.packets ?? (quick ? QUICK_PACKETS : PACKETS);
  const arena = defaultArena();
  using file = createMemoryFile(SHARED_SIZE);
  using window = DeviceWindow.map(arena, file, 0, SHARED_SIZE);
  const device = new ThreadDevice(arena.words(window.arenaOffset, SHARED_SIZE / 4));
  const queue = (emit: boolean): BenchQueue => gigabitBenchQueue(arena, window, emit);
  const ways: Readonly<Record<string, Contender>> = {
    "emitted, with the packet code": contender(queue(true), "emitted"),
    "emitted, packet code in TypeScript": contender(queue(true), "typescript"),
    TypeScript: contender(queue(false), "typescript"),
  };
  for (const one of Object.values(ways)) pass(device, one, WARM_PACKETS);
  begin();
  const found = Object.keys(ways).map((way) => ({ way, collections: [] as number[], cost: [] as number[] }));
  let total = 0;
  for (let round = 0; round < rounds; round++) {
    for (const { way, collections, cost } of found) {
      progress(`net-collections: ${way}, round ${round + 1} of ${rounds}`);
      const profiler = new GCProfiler();
      profiler.start();
      const { user, system } = process.cpuUsage();
      const passed = pass(device, ways[way] as Contender, packets);
      const spent = process.cpuUsage({ user, system });
      collections.push(profiler.stop().statistics.length);
      cost.push(((spent.user + spent.system) * 1000) / passed);
      total = passed;
    }
  }
  const sections: Section[] = [
    {
      title: `collections in ${total} packets, ${BATCH} at a time`,
      unit: "collections",
      better: "less",
      series: found.map(({ way, collections }) => ({ name: way, samples: collections })),
      comparisons: found.map(({ way }) => ({ kind: "value", of: way, to: [], goal: { at: "most", value: 0 } })),
    },
    {
      title: "processor time of driver and device together",
      unit: "ns per packet",
      better: "less",
      series: found.map(({ way, cost }) => ({ name: way, samples: cost })),
      comparisons: [],
    },
  ];
  return Promise.resolve({
    sections,
    machine: {},
    notes: [
      "Collections of every kind, counted by V8, after two million packets of warm-up. The event loop has no turn within a run: " +
        "there V8 also collects what the set-up has left, in its own time.",
    ],
  });
}

/** Passes `count` packets and at most a ring more, on a fresh device, and says how many it were. */
function pass(device: ThreadDevice, one: Contender, count: number): number {
  device.reset();
  one.reset();
  let passed = 0;
  while (passed < count) {
    device.work();
    for (let taken = one.forward(BATCH); taken > 0; taken = one.forward(BATCH)) passed += taken;
  }
  return passed;
}
