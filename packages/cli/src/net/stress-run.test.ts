// Threads of echo-stress over queues of their own, whatever the device delivers where: every datagram comes back to the thread that
// sent it, once, with its bytes.
// seconds: 8
import assert from "node:assert/strict";
import { test } from "node:test";
import { type NetDevice, Stack } from "ring3/net";
import { EchoingIgb } from "../../../../tests/fakes/echoing-igb.ts";
import { Latencies } from "../latency.ts";
import { StressRun, type StressWanted } from "./stress-run.ts";

const PEER = { address: "192.0.2.1", port: 7 };
const LOAD = { count: 2000, sizeBytes: 100, window: 64, timeoutMs: 60_000 };

async function started(
  device: NetDevice,
  wanted: Omit<StressWanted, "peer">,
  resources: AsyncDisposableStack,
  latencies: Latencies = new Latencies(),
): Promise<StressRun> {
  const stack = (over: Parameters<typeof Stack.start>[0]): ReturnType<typeof Stack.start> =>
    Stack.start(over, { address: "192.0.2.2/24" });
  return await StressRun.start(
    device,
    { ...wanted, peer: PEER },
    async (over) => resources.use(await stack(over)),
    (all) => {
      for (const nanoseconds of all) latencies.add(nanoseconds);
    },
  );
}

/** Which queue receives an echo: by its port, from which queue it came, and how many came before. */
const steerings: Readonly<Record<string, (port: number, from: number, nth: number) => number>> = {
  "where it was sent": (_port, from) => from,
  "always at the main thread's queue, as with a virtual function": () => 0,
  "always at one thread's queue, as where addresses are hashed": () => 2,
  "at another queue each time": (_port, _from, nth) => nth % 3,
};

for (const [name, steer] of Object.entries(steerings)) {
  test(`what comes back is received ${name}: none lost, none damaged`, async () => {
    await using igb = new EchoingIgb(steer);
    await using resources = new AsyncDisposableStack();
    const device = resources.use(await igb.start());
    const latencies = new Latencies();
    // Two threads have queues, the third shares the main thread's.
    const run = resources.use(await started(device, { threads: 3, queues: 3, load: LOAD }, resources, latencies));
    await run.finished();
    const all = 3 * LOAD.count;
    assert.deepEqual(run.counts, { sent: all, received: all, lost: 0, late: 0, corrupt: 0 });
    assert.equal(latencies.count, all);
    const { queues } = run;
    assert.deepEqual(
      queues.map(({ index }) => index),
      [0, 1, 2],
    );
    // Each queue has sent what its threads sent; the main thread's also asked who has the address.
    assert.deepEqual(
      queues.filter(({ index }) => index > 0).map(({ tx_packets }) => tx_packets),
      [LOAD.count, LOAD.count],
    );
    const sum = (count: (queue: (typeof queues)[number]) => number): number =>
      queues.reduce((total, queue) => total + count(queue), 0);
    assert.equal(
      sum(({ rx_packets }) => rx_packets),
      all + 1,
      "the datagrams, and an answer of ARP",
    );
    assert.equal(
      sum(({ handedOver }) => handedOver),
      sum(({ takenOver }) => takenOver),
    );
    assert.equal(
      sum(({ lost }) => lost),
      0,
    );
    if (name === "where it was sent")
      assert.equal(
        sum(({ handedOver }) => handedOver),
        0,
      );
    else assert.ok(sum(({ handedOver }) => handedOver) >= LOAD.count);
  });
}

test("100,000 datagrams of two threads with two queues", async () => {
  await using igb = new EchoingIgb((_port, _from, nth) => (nth >>> 4) % 3);
  await using resources = new AsyncDisposableStack();
  const device = resources.use(await igb.start());
  const latencies = new Latencies();
  const load = { ...LOAD, count: 50_000, window: 256 };
  const run = resources.use(await started(device, { threads: 2, queues: 3, load }, resources, latencies));
  await run.finished();
  assert.deepEqual(run.counts, { sent: 100_000, received: 100_000, lost: 0, late: 0, corrupt: 0 });
  assert.equal(
    latencies.histogram().reduce((sum, { count }) => sum + count, 0),
    100_000,
  );
});

test("a device that ends is heard by everybody", async () => {
  await using igb = new EchoingIgb((_port, from) => from);
  await using resources = new AsyncDisposableStack();
  const device = resources.use(await igb.start());
  const load = { ...LOAD, count: 1_000_000_000 };
  const run = resources.use(await started(device, { threads: 2, queues: 2, load }, resources));
  const finished = assert.rejects(run.finished(), { code: "FUNCTION_REMOVED" });
  while (run.counts.received < 1000) await new Promise(setImmediate);
  igb.fn.remove("pulled out");
  await finished;
});

test("what cannot be done is refused", async () => {
  await using igb = new EchoingIgb(() => 0);
  await using resources = new AsyncDisposableStack();
  const device = resources.use(await igb.start());
  const refused = (wanted: Partial<StressWanted>, message: RegExp): Promise<void> =>
    assert.rejects(started(device, { threads: 20, queues: 2, load: LOAD, ...wanted }, resources), { message });
  await refused({ queues: 17 }, /has 16 queues, so --queues takes 16 at most/);
  await refused({ load: { ...LOAD, sizeBytes: 1473 } }, /1472 bytes at most/);
});
