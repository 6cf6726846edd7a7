// Frames forwarded between two virtio-net ports: driver, rings, device models and all in one thread, so millions of frames a
// second of one processor. The frames come from a cable that always has some and go to one that takes all.
import { GCProfiler } from "node:v8";
import { VirtioNet } from "../../packages/ring3/src/devices/virtio/index.ts";
import type { NetLink, NetReceiver } from "../../packages/ring3/src/devices/virtio/net-link.ts";
import { PacketPool } from "../../packages/ring3/src/drivers/net/packet-pool.ts";
import { Packets } from "../../packages/ring3/src/drivers/net/packets.ts";
import { VirtioNetDriver } from "../../packages/ring3/src/drivers/virtio/net-driver.ts";
import { inProcess } from "../../packages/ring3/src/virtual/index.ts";
import type { BenchmarkContext, BenchmarkResult, Series } from "../benchmark.ts";

export const name = "net-virtio";
export const title = "frames forwarded between two virtio-net ports, device models in the same thread";

const FRAME_BYTES = 60;
const BATCH = 32;
const WAYS = ["packed", "split"] as const;

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

export async function run({ rounds, quick, progress, begin }: BenchmarkContext): Promise<BenchmarkResult> {
  const frames = quick ? 20_000 : 500_000;
  const samples = new Map<string, number[]>(
    WAYS.flatMap((way) => [
      [way, []],
      [`${way}, the device alone`, []],
    ]),
  );
  let collections = 0;
  let total = 0;
  begin();
  for (let round = 0; round < rounds; round++) {
    for (const way of WAYS) {
      progress(`round ${round + 1}: ${way}`);
      const { forwarded, deviceOnly, collected } = await forward(way === "packed", frames);
      samples.get(way)?.push(forwarded);
      samples.get(`${way}, the device alone`)?.push(deviceOnly);
      collections += collected;
      total += frames;
    }
  }
  const series: Series[] = [...samples].map(([label, values]) => ({ name: label, samples: values }));
  return {
    sections: [
      {
        title: `frames of ${FRAME_BYTES} bytes, ${BATCH} at a time`,
        unit: "Mpps",
        better: "more",
        series,
        comparisons: WAYS.map((way) => ({ kind: "value", of: way, to: [] })),
      },
    ],
    machine: { node: process.version },
    notes: [
      `${collections} collections of garbage in ${total} forwarded frames, those of the device models among them.`,
      '"The device alone" is a device that receives into buffers that are given back at once, and sends nothing.',
    ],
  };
}

interface Forwarded {
  /** Millions a second. */
  readonly forwarded: number;
  readonly deviceOnly: number;
  readonly collected: number;
}

async function forward(packed: boolean, frames: number): Promise<Forwarded> {
  const links = [new BenchLink(), new BenchLink()] as const;
  await using resources = new AsyncDisposableStack();
  const functions = links.map((link) => resources.use(inProcess(new VirtioNet({ link, packed }))));
  const [a, b] = functions;
  if (a === undefined || b === undefined) throw new Error("two functions were made");
  const pool = PacketPool.create(a.dma.arena);
  resources.defer(() => pool[Symbol.dispose]());
  const options = { pool, packed, receiveMode: "polled", interrupts: "none" } as const;
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
