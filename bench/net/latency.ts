// The round trip of one packet at a time through a queue whose cable ends in itself, with a device process in C: polled, and by
// interrupts that are an eventfd; ring3 against a driver in C on the same device.
import { ReceiveWait, type WaitedQueue } from "../../packages/ring3/src/drivers/net/receive-wait.ts";
import type { ReceiveMode } from "../../packages/ring3/src/drivers/net/device.ts";
import { PacketWord, Packets } from "../../packages/ring3/src/drivers/net/packets.ts";
import { systemClock } from "../../packages/ring3/src/drivers/clock.ts";
import { EventFd } from "../../packages/ring3/src/linux/index.ts";
import type { BenchmarkContext, BenchmarkResult, Section } from "../benchmark.ts";
import { DeviceProcess } from "../device-process.ts";
import type { BenchQueue } from "./contender.ts";
import { gigabitBenchQueue } from "./gigabit-queue.ts";
import { ARMED_OFFSET, CABLE_OFFSET, POOL_OFFSET, SHARED_SIZE, STOP_OFFSET } from "./layout.ts";
import { type TailCauses, TailWatch } from "./tail.ts";

export const name = "net-latency";
export const title =
  "round trips of one packet, polled and by interrupt, against a driver in C on the same C device process";

const FRAME_BYTES = 60;
const { PLACE, LENGTH, FLAGS, OFFLOAD } = PacketWord;
/** Looks without a packet after which the device is taken for dead. */
const LOOKS = 2 ** 31;
/** A round trip is slow from here on: many times the usual one, and less than a turn of the scheduler. */
const SLOW_MS = { polled: 0.02, interrupt: 0.2 } as const;
/** A packet's way: by interrupt long enough that whoever waits sleeps, which is then what is measured. */
const CABLE_US = { polled: 0, interrupt: 20 } as const;
const QUANTILES = { p50: 0.5, p99: 0.99, "p99.9": 0.999 } as const;

type Quantile = keyof typeof QUANTILES;
type Figures = Readonly<Record<Quantile, number>>;
type Kind = keyof typeof SLOW_MS;

/** Makes round trips, and puts the microseconds that each took into `took`, those of the cable among them. */
type Contender = (took: Float64Array, tail: TailWatch) => void | Promise<void>;

interface Way {
  readonly name: string;
  readonly kind: Kind;
  readonly bench: BenchQueue;
  readonly trips: Contender;
}

export async function run({ rounds, quick, progress, begin }: BenchmarkContext): Promise<BenchmarkResult> {
  using interrupt = new EventFd();
  using device = new DeviceProcess({
    folder: import.meta.dirname,
    device: "echo-device",
    driver: "echo-driver",
    sharedBytes: SHARED_SIZE,
    freshBytes: POOL_OFFSET,
    stopOffset: STOP_OFFSET,
    descriptor: interrupt.fd.number,
  });
  const trips = { polled: quick ? 2000 : 100_000, interrupt: quick ? 500 : 20_000 };
  const emitted = gigabitBenchQueue(device.arena, device.window, true);
  const typescript = gigabitBenchQueue(device.arena, device.window, false);
  const ways: readonly Way[] = [
    { name: "bursts, emitted", kind: "polled", bench: emitted, trips: spinning(emitted) },
    { name: "bursts, TypeScript", kind: "polled", bench: typescript, trips: spinning(typescript) },
    {
      name: "receivable, polled",
      kind: "polled",
      bench: emitted,
      trips: waiting(emitted, "polled", device, interrupt),
    },
    {
      name: "receivable, interrupt",
      kind: "interrupt",
      bench: emitted,
      trips: waiting(emitted, "interrupt", device, interrupt),
    },
    {
      name: "receivable, adaptive",
      kind: "interrupt",
      bench: emitted,
      trips: waiting(emitted, "adaptive", device, interrupt),
    },
  ];
  const useCable = (kind: Kind): void => {
    Atomics.store(device.words, CABLE_OFFSET / 4, CABLE_US[kind] * 1000);
  };
  const measure = (way: Way, count: number): Promise<{ readonly figures: Figures; readonly causes: TailCauses }> =>
    device.against(async () => {
      useCable(way.kind);
      way.bench.reset();
      interrupt.read();
      // A fresh device faults at its first access to each page of the buffers. The driver in C begins so, too.
      using ignored = new TailWatch(Number.POSITIVE_INFINITY, device.pid);
      await way.trips(new Float64Array(count / 10), ignored);
      const took = new Float64Array(count);
      using tail = new TailWatch(SLOW_MS[way.kind], device.pid);
      await way.trips(took, tail);
      return { figures: figuresOf(took, CABLE_US[way.kind]), causes: await tail.causes() };
    });
  const inC = (kind: Kind, count: number): Promise<Figures> =>
    device.against(() => {
      useCable(kind);
      const [p50 = 0, p99 = 0, p999 = 0] = device.inC(kind, count).split(" ").map(Number);
      interrupt.read();
      return { p50: p50 / 1000, p99: p99 / 1000, "p99.9": p999 / 1000 };
    });

  for (const way of ways) await measure(way, quick ? 2000 : 20_000);
  begin();
  const samples = new Map<string, Figures[]>();
  const causes = new Map<string, TailCauses[]>();
  const keep = <T>(kept: Map<string, T[]>, of: string, value: T): void => {
    kept.set(of, [...(kept.get(of) ?? []), value]);
  };
  for (let round = 0; round < rounds; round++) {
    for (const kind of ["polled", "interrupt"] as const) {
      progress(`net-latency: ${kind}, round ${round + 1} of ${rounds}`);
      keep(samples, peer(kind), await inC(kind, trips[kind]));
      for (const way of ways.filter((one) => one.kind === kind)) {
        const measured = await measure(way, trips[kind]);
        keep(samples, way.name, measured.figures);
        keep(causes, way.name, measured.causes);
      }
    }
  }
  const sections = (["polled", "interrupt"] as const).flatMap((kind) =>
    (Object.keys(QUANTILES) as Quantile[]).map((quantile): Section => {
      const names = ways.filter((way) => way.kind === kind).map((way) => way.name);
      return {
        title: `${TITLES[kind]}, ${quantile} of ${trips[kind]} round trips`,
        unit: "us",
        better: "less",
        series: [peer(kind), ...names].map((of) => ({
          name: of,
          samples: (samples.get(of) ?? []).map((figures) => figures[quantile]),
        })),
        comparisons: names.map((of) => ({ kind: "ratio", of, to: [peer(kind)] })),
      };
    }),
  );
  return {
    sections,
    machine: { compiler: device.compiler },
    notes: [
      ...ways.map((way) => explained(way, causes.get(way.name) ?? [], rounds * trips[way.kind])),
      "Driver and device spin on a core each; with fewer than two idle cores the figures say what the scheduler does. The C " +
        "driver by interrupt sleeps in poll(2) on the eventfd.",
      "A slow trip is looked into after it, which reads a file and makes garbage: where many are slow, some of the collections are " +
        "the looking's.",
    ],
  };
}

const TITLES = {
  polled: "polled",
  interrupt: `by interrupt, what a round trip takes beyond the ${CABLE_US.interrupt} us of its cable`,
} as const;

function peer(kind: Kind): string {
  return kind === "polled" ? "C -O2, spinning" : "C -O2, poll(2)";
}

/** Bursts with nothing between: what a program that owns its thread does. */
function spinning({ queue }: BenchQueue): Contender {
  const packets = new Packets(queue.pool.arena, 1);
  return (took, tail) => {
    if (queue.pool.takeAll(packets, 1) !== 1) throw new Error("the pool is empty");
    for (let i = 0; i < took.length; i++) {
      const startMs = performance.now();
      send(queue, packets);
      let looks = 0;
      while (queue.rxBurst(packets, 1) === 0) if (++looks === LOOKS) throw new Error("the packet does not come back");
      const endMs = performance.now();
      took[i] = (endMs - startMs) * 1000;
      tail.look(startMs, endMs);
    }
    queue.pool.giveAll(packets, 1);
  };
}

/** `receivable` as a device has it, over the eventfd as its interrupt. */
function waiting({ queue }: BenchQueue, mode: ReceiveMode, device: DeviceProcess, interrupt: EventFd): Contender {
  const packets = new Packets(queue.pool.arena, 1);
  const waited: WaitedQueue = {
    get ready(): boolean {
      return queue.ready;
    },
    arm: () => void Atomics.store(device.words, ARMED_OFFSET / 4, 1),
  };
  return async (took, tail) => {
    const wait = new ReceiveWait(mode, waited, systemClock);
    using _watch = interrupt.watch(() => wait.wake());
    if (queue.pool.takeAll(packets, 1) !== 1) throw new Error("the pool is empty");
    for (let i = 0; i < took.length; i++) {
      const startMs = performance.now();
      send(queue, packets);
      while (queue.rxBurst(packets, 1) === 0) await wait.wait();
      const endMs = performance.now();
      took[i] = (endMs - startMs) * 1000;
      tail.look(startMs, endMs);
    }
    queue.pool.giveAll(packets, 1);
  };
}

/** Sends the one packet; its buffer is the queue's then. */
function send(queue: BenchQueue["queue"], packets: Packets): void {
  packets.words[LENGTH] = FRAME_BYTES;
  packets.words[FLAGS] = 0;
  packets.words[OFFLOAD] = 0;
  if (queue.txBurst(packets, 1) !== 1) throw new Error(`the packet at ${packets.words[PLACE]} was not taken`);
}

function figuresOf(took: Float64Array, cableUs: number): Figures {
  const sorted = took.slice().sort();
  const at = (quantile: number): number => (sorted[Math.floor(sorted.length * quantile)] as number) - cableUs;
  return { p50: at(QUANTILES.p50), p99: at(QUANTILES.p99), "p99.9": at(QUANTILES["p99.9"]) };
}

/** What the slow ones of all rounds were seen with. */
function explained({ name: way, kind }: Way, causes: readonly TailCauses[], trips: number): string {
  const sum = (pick: (one: TailCauses) => number): number => causes.reduce((total, one) => total + pick(one), 0);
  const slow = sum((one) => one.slow);
  const seen = [
    `${sum((one) => one.collection)} with a collection of garbage`,
    `${sum((one) => one.preempted)} with this process preempted`,
    `${sum((one) => one.devicePreempted)} with the device's preempted`,
    `${sum((one) => one.other)} with none of these (event loop, hypervisor, caches)`,
  ];
  return `${way}: of ${trips} round trips ${slow} took ${SLOW_MS[kind] * 1000} us or longer; ${seen.join(", ")}.`;
}
