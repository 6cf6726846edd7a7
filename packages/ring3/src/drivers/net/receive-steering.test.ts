// Receive steering over queues in the test's hands: what belongs to whom, and that every buffer is accounted for.
import assert from "node:assert/strict";
import { test } from "node:test";
import { arp, datagram, OURS, THEIRS, udp } from "../../../../../tests/fakes/net-cable.ts";
import { Arena } from "../../memory/arena.ts";
import type { NetQueue } from "./device.ts";
import { PacketPool } from "./packet-pool.ts";
import { PACKET_WORDS, PacketFlag, Packets, PacketWord } from "./packets.ts";
import { type ReceiveSteering, receiveSteering, SteeredQueue } from "./receive-steering.ts";

/** A queue that receives what the test says. */
class ScriptedQueue implements NetQueue {
  readonly index = 0;
  readonly pool: PacketPool;
  readonly waiting: { readonly frame: Uint8Array; readonly flags: number; readonly offload: number }[] = [];

  constructor(arena: Arena, buffers = 16) {
    this.pool = PacketPool.create(arena, { buffers });
  }

  receive(frame: Uint8Array, flags = 0, offload = 0): void {
    this.waiting.push({ frame, flags, offload });
  }

  rxBurst(packets: Packets, max: number = packets.capacity): number {
    let count = 0;
    for (; count < max && this.waiting.length > 0; count++) {
      const { frame = new Uint8Array(0), flags = 0, offload = 0 } = this.waiting.shift() ?? {};
      const place = this.pool.take();
      this.pool.bytes.set(frame, place);
      packets.words.set([place, frame.length, flags, offload], count * PACKET_WORDS);
    }
    return count;
  }

  txBurst(): number {
    return 0;
  }

  txPending(): number {
    return 0;
  }

  get ready(): boolean {
    return this.waiting.length > 0;
  }

  statistics(): ReturnType<NetQueue["statistics"]> {
    throw new Error("nobody asks");
  }
}

interface Station {
  readonly queue: ScriptedQueue;
  readonly steered: SteeredQueue;
  /** Receives a burst, gives its buffers back, and returns its frames. */
  take(max?: number): Uint8Array[];
  readonly packets: Packets;
}

function stations(steering: ReceiveSteering): Station[] {
  const arena = Arena.create();
  return Array.from({ length: steering.stations }, (_, i) => {
    const queue = new ScriptedQueue(arena);
    const steered = new SteeredQueue(queue, steering, i);
    const packets = new Packets(arena, 8);
    const take = (max?: number): Uint8Array[] => {
      const count = steered.rxBurst(packets, max);
      const frames = Array.from({ length: count }, (_unused, at) => queue.pool.frame(packets, at).slice());
      queue.pool.giveAll(packets, count);
      return frames;
    };
    return { queue, steered, packets, take };
  });
}

const to = (port: number, payload: number): Uint8Array => datagram(17, udp(port, Uint8Array.of(payload)));

test("stations have ports of their own, and what comes for them, whichever queue it comes to", () => {
  const all = stations(receiveSteering({ stations: 3, slots: 8 }));
  const ports = all.map(({ steered }) => steered.ports);
  for (const [i, { first, count }] of ports.entries()) {
    assert.ok(first >= 49_152 && first + count <= 65_536);
    assert.ok(
      ports.slice(i + 1).every((other) => other.first >= first + count),
      "no two share one",
    );
  }
  const [zero, one, two] = all as [Station, Station, Station];
  const [first, last] = [ports[2]?.first ?? 0, (ports[1]?.first ?? 0) + (ports[1]?.count ?? 0) - 1];
  const frames = [to(first, 1), to(last, 2), to(9, 3), to(ports[0]?.first ?? 0, 4), to(first + 1, 5)];
  for (const frame of frames) two.queue.receive(frame);
  assert.deepEqual(two.take(), [frames[0], frames[4]]);
  assert.ok(one.steered.ready && zero.steered.ready && !two.steered.ready);
  assert.deepEqual(one.take(), [frames[1]]);
  assert.deepEqual(zero.take(), [frames[2], frames[3]]);
  assert.deepEqual(two.steered.steered, { handedOver: 3, takenOver: 0, lost: 0 });
  assert.deepEqual(zero.steered.steered, { handedOver: 0, takenOver: 2, lost: 0 });
  for (const { queue } of all) assert.equal(queue.pool.free, queue.pool.buffers);
});

test("ARP, other protocols, fragments and what is cut short belong to the first", () => {
  const [zero, one] = stations(receiveSteering({ stations: 2, slots: 16 })) as [Station, Station];
  const { first } = one.steered.ports;
  const tagged = Uint8Array.from([...to(first, 1).subarray(0, 12), 0x81, 0, 0, 5, ...to(first, 1).subarray(12)]);
  one.queue.receive(tagged);
  const others = [
    arp(1, THEIRS, 1, 2),
    datagram(1, udp(first, new Uint8Array(8))),
    datagram(17, udp(first, new Uint8Array(8)), { fragment: 0x2000 }),
    datagram(17, udp(first, new Uint8Array(8)), { fragment: 5 }),
    to(first, 1).subarray(0, 37),
    Uint8Array.from([...OURS, ...THEIRS, 8]),
  ];
  for (const frame of others) one.queue.receive(frame);
  assert.deepEqual(one.take(), [tagged]);
  assert.deepEqual(
    zero.take(),
    others.map((frame) => frame.slice()),
  );
});

test("flags and tags go along; nothing is left waiting by a queue that is always full", () => {
  const [zero, one] = stations(receiveSteering({ stations: 2, slots: 8 })) as [Station, Station];
  const { first } = one.steered.ports;
  zero.queue.receive(to(first, 0), PacketFlag.VLAN | PacketFlag.L4_CHECKED, 0x0064_0000);
  assert.deepEqual(zero.take(), []);
  for (let i = 1; i < 9; i++) one.queue.receive(to(first, i));
  const payloads = one.take(4).map((frame) => frame[42]);
  assert.deepEqual(payloads, [1, 2, 0], "half of a burst is kept free");
  const { words } = one.packets;
  assert.deepEqual(
    [words[2 * PACKET_WORDS + PacketWord.FLAGS], words[2 * PACKET_WORDS + PacketWord.OFFLOAD]],
    [PacketFlag.VLAN | PacketFlag.L4_CHECKED, 0x0064_0000],
  );
});

test("too much for one station is lost and counted; a station without buffers lets it wait", () => {
  const [zero, one] = stations(receiveSteering({ stations: 2, slots: 4 })) as [Station, Station];
  const { first } = one.steered.ports;
  for (let i = 0; i < 6; i++) zero.queue.receive(to(first, i));
  assert.deepEqual(zero.take(), []);
  assert.deepEqual(zero.steered.steered, { handedOver: 4, takenOver: 0, lost: 2 });
  assert.equal(zero.queue.pool.free, zero.queue.pool.buffers);
  const places = Array.from({ length: one.queue.pool.buffers }, () => one.queue.pool.take());
  assert.deepEqual(one.take(), []);
  assert.ok(one.steered.ready);
  for (const place of places) one.queue.pool.give(place);
  assert.deepEqual(
    one.take().map((frame) => frame[42]),
    [0, 1, 2, 3],
  );
});

test("what cannot be is refused", () => {
  const invalid = { code: "NET_INVALID" };
  assert.throws(() => receiveSteering({ stations: 0 }), invalid);
  assert.throws(() => receiveSteering({ stations: 2, slots: 100 }), invalid);
  assert.throws(() => receiveSteering({ stations: 2, frameBytes: 10 }), invalid);
  const steering = receiveSteering({ stations: 2 });
  assert.throws(() => new SteeredQueue(new ScriptedQueue(Arena.create()), steering, 2), invalid);
});
