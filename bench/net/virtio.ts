// Frames forwarded between two virtio-net ports: driver, rings, device models and all in one thread, so millions of frames a
// second of one processor. The frames come from a cable that always has some and go to one that takes all. And the driver alone,
// against the same loops in C.
import { GCProfiler } from "node:v8";
import { VirtioNet } from "../../packages/ring3/src/devices/virtio/index.ts";
import type { NetLink, NetReceiver } from "../../packages/ring3/src/devices/virtio/net-link.ts";
import { PacketPool } from "../../packages/ring3/src/drivers/net/packet-pool.ts";
import { Packets } from "../../packages/ring3/src/drivers/net/packets.ts";
import { VirtioNetDriver } from "../../packages/ring3/src/drivers/virtio/net-driver.ts";
import { inProcess } from "../../packages/ring3/src/virtual/index.ts";
import type { BenchmarkContext, BenchmarkResult, Section, Series } from "../benchmark.ts";
import { type CostPlan, measureCost } from "./driver-cost.ts";
import { ASKED_OFFSET, DONE_OFFSET, ENTRIES, POOL_OFFSET, SHARED_SIZE, STOP_OFFSET } from "./virtio-layout.ts";
import { virtioBenchQueue } from "./virtio-queue.ts";

export const name = "net-virtio";
export const title =
  "virtio-net: frames forwarded over device models in the same thread, and the driver's loops against C -O2";

const FRAME_BYTES = 60;
const BATCH = 32;
const KINDS = ["packed", "split"] as const;
const LOOPS = ["emitted", "typescript"] as const;
type Way = { readonly kind: (typeof KINDS)[number]; readonly loops: (typeof LOOPS)[number] };
const WAYS: readonly Way[] = KINDS.flatMap((kind) => LOOPS.map((loops) => ({ kind, loops })));
const nameOf = ({ kind, loops }: Way): string => `${kind}, ${loops === "emitted" ? "emitted" : "TypeScript"}`;

/** A cable that hands over frames on demand, and counts what it is given. */
class BenchLink implements NetLink {
  readonly up = true;
  readonly congested = false;
  taken = 0;
  #receiver: NetReceiver | undefined;

  send(): boolean {
    this.taken++;
    return true;
  }

  attach(receiver: NetReceiver | undefined): void {
    this.#receiver = receiver;
  }

  give(frame: Uint8Array): boolean {
    return this.#receiver?.receive(frame) === true;
  }
}

export async function run(context: BenchmarkContext): Promise<BenchmarkResult> {
  context.begin();
  const { section, note } = await forwarding(context);
  const sections = [section];
  let compiler = "";
  for (const kind of KINDS) {
    const cost = await measureCost(costPlan(kind), context, () => undefined);
    sections.push(...cost.sections);
    compiler = cost.compiler;
  }
  return {
    sections,
    machine: { node: process.version, compiler },
    notes: [
      note,
      '"The device alone" is a device that receives into buffers that are given back at once, and sends nothing.',
      "The driver alone: the device is a process in C that works between the turns that are timed, and wants no notifications.",
    ],
  };
}

function costPlan(kind: Way["kind"]): CostPlan {
  return {
    label: `the driver alone, ${kind} rings, `,
    folder: import.meta.dirname,
    device: "virtio-device",
    driver: "virtio-driver",
    kind,
    sharedBytes: SHARED_SIZE,
    freshBytes: POOL_OFFSET,
    stopOffset: STOP_OFFSET,
    askedOffset: ASKED_OFFSET,
    doneOffset: DONE_OFFSET,
    packetsPerTurn: ENTRIES,
    queue: ({ arena, window }, emit) => virtioBenchQueue(arena, window, kind, emit),
  };
}

async function forwarding({ rounds, quick, progress }: BenchmarkContext): Promise<{ section: Section; note: string }> {
  const frames = quick ? 20_000 : 500_000;
  const samples = new Map<string, number[]>(
    WAYS.flatMap((way) => [
      [nameOf(way), []],
      [`${nameOf(way)}, the device alone`, []],
    ]),
  );
  let collections = 0;
  let total = 0;
  for (let round = 0; round < rounds; round++) {
    for (const way of WAYS) {
      progress(`round ${round + 1}: ${nameOf(way)}`);
      const { forwarded, deviceOnly, collected } = await forward(way, frames);
      samples.get(nameOf(way))?.push(forwarded);
      samples.get(`${nameOf(way)}, the device alone`)?.push(deviceOnly);
      collections += collected;
      total += frames;
    }
  }
  const series: Series[] = [...samples].map(([label, values]) => ({ name: label, samples: values }));
  return {
    section: {
      title: `frames of ${FRAME_BYTES} bytes, ${BATCH} at a time`,
      unit: "Mpps",
      better: "more",
      series,
      comparisons: [
        ...WAYS.map((way) => ({ kind: "value" as const, of: nameOf(way), to: [] })),
        ...KINDS.map((kind) => ({
          kind: "ratio" as const,
          of: nameOf({ kind, loops: "emitted" }),
          to: [nameOf({ kind, loops: "typescript" })],
        })),
      ],
    },
    note: `${collections} collections of garbage in ${total} forwarded frames, those of the device models among them.`,
  };
}

interface Forwarded {
  /** Millions a second. */
  readonly forwarded: number;
  readonly deviceOnly: number;
  readonly collected: number;
}

async function forward({ kind, loops }: Way, frames: number): Promise<Forwarded> {
  const packed = kind === "packed";
  const links = [new BenchLink(), new BenchLink()] as const;
  await using resources = new AsyncDisposableStack();
  const functions = links.map((link) => resources.use(inProcess(new VirtioNet({ link, packed }))));
  const [a, b] = functions;
  if (a === undefined || b === undefined) throw new Error("two functions were made");
  const pool = PacketPool.create(a.dma.arena);
  resources.defer(() => pool[Symbol.dispose]());
  const options = { pool, packed, loops, receiveMode: "polled", interrupts: "none" } as const;
  const from = resources.use(await VirtioNetDriver.start(a, options));
  const to = resources.use(await VirtioNetDriver.start(b, options));
  await from.setReceiveMode({ promiscuous: true });
  using packets = new Packets(pool.arena, BATCH);
  const frame = Uint8Array.from({ length: FRAME_BYTES }, (_, i) => i);
  const pass = (count: number, onward: boolean): void => {
    for (let done = 0; done < count; done += BATCH) {
      for (let i = 0; i < BATCH; i++) links[0].give(frame);
      const received = from.rxBurst(0, packets);
      const sent = onward ? to.txBurst(0, packets, received) : 0;
      if (sent < received) pool.giveAll(packets, received - sent, sent);
    }
  };
  const timed = (count: number, onward: boolean): number => {
    const start = performance.now();
    pass(count, onward);
    return count / (performance.now() - start) / 1000;
  };
  pass(frames / 10, true);
  pass(frames / 10, false);
  const deviceOnly = timed(frames, false);
  const profiler = new GCProfiler();
  profiler.start();
  const before = links[1].taken;
  const forwarded = timed(frames, true);
  const collected = profiler.stop().statistics.length;
  const passed = links[1].taken - before;
  if (passed < frames) throw new Error(`of ${frames} frames ${passed} were forwarded`);
  return { forwarded, deviceOnly, collected };
}
