// Runs inside the guest as an ordinary user: frames go round between two ports on one hub, each received on one of them and sent
// at the other. ring3 and testpmd, which the rig starts as root, have the same two ports by turns.
import { setImmediate as turn } from "node:timers/promises";
import { open } from "ring3";
import { Forwarder } from "ring3/igb";
import { type NetDevice, openNetDevice, PACKET_WORDS, PacketPool, Packets, PacketWord } from "ring3/net";
import { bind } from "../../tests/guest/inside.ts";
import { startTestpmd } from "../../tests/guest/testpmd.ts";
import { FORWARDERS, type ForwarderName, type ForwardFigure, type ForwardPlan } from "./plan.ts";

const FRAME_BYTES = 64;
/** As testpmd's: frames of each direction on their way, and a burst. */
const BURST = 32;
const RING_ENTRIES = 256;
/** Rounds after which the event loop gets a turn, as in `ring3 forward`. */
const BUSY_ROUNDS = 1024;

const plan = JSON.parse(process.argv[2] ?? "") as ForwardPlan;
for (const address of plan.addresses) await bind(address, "vfio-pci");
for (let round = 0; round < plan.rounds; round++) {
  for (const forwarder of round % 2 === 0 ? FORWARDERS : FORWARDERS.toReversed()) {
    const perSecond = forwarder === "testpmd, io" ? await testpmd() : await ours(forwarder);
    const figure: ForwardFigure = { forwarder, perSecond };
    console.log(JSON.stringify(figure));
  }
}

async function testpmd(): Promise<number> {
  await using peer = await startTestpmd(plan.addresses, "huge");
  await peer.forward("io", "first");
  await peer.measure(plan.warmUpMs);
  const seconds = await peer.measure(plan.measureMs);
  const ports = (await peer.finish())[1] ?? [];
  return ports.reduce((sum, { received }) => sum + received, 0) / seconds;
}

async function ours(forwarder: ForwarderName): Promise<number> {
  const [first, second] = plan.addresses;
  await using a = await open(first);
  await using b = await open(second);
  using pool = PacketPool.create(a.dma.arena, { buffers: 4 * RING_ENTRIES + 2 * BURST });
  const options = { pool, ringEntries: RING_ENTRIES, receiveMode: "polled", vlanStripping: false } as const;
  await using left = await openNetDevice(a, options);
  await using right = await openNetDevice(b, options);
  for (const device of [left, right]) {
    await device.setReceiveMode({ promiscuous: true });
    await device.waitForLink();
  }
  using resources = new DisposableStack();
  const ways = [way(left, right), way(right, left)];
  const devices = [left, right];
  for (const device of devices) inject(device, pool);
  await during(ways, plan.warmUpMs);
  const arrived = (): number => devices.reduce((sum, device) => sum + device.statistics().rx_packets, 0);
  const before = arrived();
  const { frames, seconds } = await during(ways, plan.measureMs);
  const counted = arrived() - before;
  // The cards count as well, and are read some frames later.
  if (Math.abs(counted - frames) > 4 * BURST) throw new Error(`the cards received ${counted} frames, we ${frames}`);
  return frames / seconds;

  /** Passes a burst from one to the other; how many frames were received. */
  function way(from: NetDevice, to: NetDevice): () => number {
    const [source, target] = [from.queues[0], to.queues[0]];
    if (source === undefined || target === undefined) throw new Error("a device without a queue");
    if (forwarder === "ring3, one emitted loop") {
      const loop = resources.use(new Forwarder(source, target, BURST, () => undefined));
      return () => loop.forward();
    }
    const packets = resources.use(new Packets(pool.arena, BURST));
    return () => {
      const received = source.rxBurst(packets);
      const sent = target.txBurst(packets, received);
      if (sent < received) pool.giveAll(packets, received - sent, sent);
      return received;
    };
  }
}

/** Forwards for so long. */
async function during(
  ways: readonly (() => number)[],
  forMs: number,
): Promise<{ readonly frames: number; readonly seconds: number }> {
  const start = performance.now();
  let frames = 0;
  while (performance.now() - start < forMs) {
    for (let i = 0; i < BUSY_ROUNDS; i++) for (const pass of ways) frames += pass();
    await turn();
  }
  return { frames, seconds: (performance.now() - start) / 1000 };
}

/** Sends the frames that go round: a UDP datagram's bytes, as testpmd's. */
function inject(device: NetDevice, pool: PacketPool): void {
  using packets = new Packets(pool.arena, BURST);
  const count = pool.takeAll(packets, BURST);
  for (let i = 0; i < count; i++) {
    const place = packets.words[i * PACKET_WORDS + PacketWord.PLACE] as number;
    pool.bytes.fill(0, place, place + FRAME_BYTES);
    pool.bytes.set([2, 0, 0, 0, 0, 1, ...device.mac, 8, 0, 0x45], place);
    packets.words[i * PACKET_WORDS + PacketWord.LENGTH] = FRAME_BYTES;
  }
  const sent = device.txBurst(0, packets, count);
  pool.giveAll(packets, count - sent, sent);
}
