// The rings against a device in the test's hands: order, buffers and counters through wraps, an honest and a lying device; and
// the emitted loops against the TypeScript ones, word by word.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FakeGigabitRing } from "../../../../../tests/fakes/fake-gigabit-ring.ts";
import { Arena } from "../../memory/arena.ts";
import { type EmittedBursts, emittedBursts } from "../net/burst-emitted.ts";
import { Forwarder } from "../net/forwarder.ts";
import { offloadWord, PACKET_WORDS, PacketFlag, Packets, PacketWord } from "../net/packets.ts";
import { addBytes, addCount, QueueWord } from "../net/queue-state.ts";
import { gigabitBurstCode } from "./burst-code.ts";
import { GigabitQueue } from "./queue.ts";
import type { DescriptorFormat } from "./queue-place.ts";
import { ReceiveRing } from "./receive-ring.ts";
import { TransmitRing } from "./transmit-ring.ts";

const arena = Arena.create();
const FORMATS: readonly DescriptorFormat[] = ["igb", "e1000e"];

/** One queue with its device, driven by the TypeScript rings or the emitted loops. */
class Bench implements Disposable {
  readonly device: FakeGigabitRing;
  readonly receiveRing: ReceiveRing;
  readonly transmitRing: TransmitRing;
  readonly packets: Packets;
  readonly #emitted: EmittedBursts | undefined;

  constructor(format: DescriptorFormat, kind: "typescript" | "emitted", options = {}) {
    this.device = new FakeGigabitRing(arena, format, options);
    const { place, window } = this.device;
    this.receiveRing = new ReceiveRing(arena, place, window);
    this.transmitRing = new TransmitRing(arena, place, window);
    this.packets = new Packets(arena, 64);
    const base = window.arenaOffset;
    if (kind === "emitted") {
      this.#emitted = emittedBursts(
        arena,
        gigabitBurstCode(place, base + place.receiveTail, base + place.transmitTail),
      );
    }
    assert.ok(this.receiveRing.fill());
    this.transmitRing.clear();
    window.write32(place.receiveTail, place.entries - 1);
    window.write32(place.transmitTail, 0);
  }

  receive(max: number): number {
    return this.#emitted?.receive(this.packets.arenaOffset, max) ?? this.receiveRing.burst(this.packets, max);
  }

  transmit(count: number, first = 0): number {
    return (
      this.#emitted?.transmit(this.packets.arenaOffset + first * PACKET_WORDS * 4, count) ??
      this.transmitRing.burst(this.packets, count, first)
    );
  }

  word(packet: number, index: number): number {
    return this.packets.words[packet * PACKET_WORDS + index] as number;
  }

  set(packet: number, place: number, length: number, flags = 0, offload = 0): void {
    this.packets.words.set([place, length, flags, offload], packet * PACKET_WORDS);
  }

  [Symbol.dispose](): void {
    this.packets[Symbol.dispose]();
    this.device[Symbol.dispose]();
  }
}

function frame(sequence: number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => (sequence * 31 + i * 7) & 0xff);
}

for (const format of FORMATS) {
  for (const kind of ["typescript", "emitted"] as const) {
    test(`${format}, ${kind}: every frame arrives once, in order, with its bytes, through many wraps`, () => {
      using bench = new Bench(format, kind);
      const { device, packets } = bench;
      let sent = 0;
      let seen = 0;
      for (let round = 0; round < 40; round++) {
        while (sent - seen < 12 && device.receive(frame(sent, 14 + (sent % 180)))) sent++;
        const count = bench.receive(1 + (round % 9));
        for (let i = 0; i < count; i++, seen++) {
          assert.deepEqual(Uint8Array.from(device.pool.frame(packets, i)), frame(seen, 14 + (seen % 180)));
          device.pool.give(bench.word(i, PacketWord.PLACE));
        }
      }
      assert.ok(seen > 100);
      assert.equal(device.state[QueueWord.RX_PACKETS], seen);
      assert.equal(device.pool.free, device.pool.buffers - device.place.entries);
    });

    test(`${format}, ${kind}: what is sent goes out in order, and its buffers come back`, () => {
      using bench = new Bench(format, kind);
      const { device, packets } = bench;
      let posted = 0;
      let seen = 0;
      for (let round = 0; round < 60; round++) {
        const count = device.pool.takeAll(packets, 1 + (round % 11));
        for (let i = 0; i < count; i++) {
          const bytes = frame(posted + i, 14 + ((posted + i) % 180));
          device.pool.bytes.set(bytes, bench.word(i, PacketWord.PLACE));
          bench.set(i, bench.word(i, PacketWord.PLACE), bytes.length);
        }
        const taken = bench.transmit(count);
        posted += taken;
        device.pool.giveAll(packets, count - taken, taken);
        for (const { bytes } of device.send(round % 3 === 0 ? 3 : 20)) {
          assert.deepEqual(bytes, frame(seen, 14 + (seen % 180)));
          seen++;
        }
      }
      seen += device.send().length;
      assert.equal(seen, posted);
      assert.equal(bench.transmitRing.clean(), 0);
      assert.equal(device.pool.free, device.pool.buffers - device.place.entries);
    });

    test(`${format}, ${kind}: a full ring takes as many as fit; a device that never reports keeps the rest out`, () => {
      using bench = new Bench(format, kind);
      const { device, packets } = bench;
      device.pool.takeAll(packets, 30);
      for (let i = 0; i < 30; i++) bench.set(i, bench.word(i, PacketWord.PLACE), 60);
      assert.equal(bench.transmit(30), 15);
      device.send(100, true);
      assert.equal(bench.transmit(15, 15), 0);
      assert.equal(bench.transmitRing.drain(), 15);
    });

    test(`${format}, ${kind}: checksums, VLAN tags and their contexts`, () => {
      using bench = new Bench(format, kind);
      const { device, packets } = bench;
      device.pool.takeAll(packets, 5);
      const udp = PacketFlag.IPV4_CHECKSUM | PacketFlag.UDP_CHECKSUM;
      const places = Array.from({ length: 5 }, (_, i) => bench.word(i, PacketWord.PLACE));
      bench.set(0, places[0] as number, 100, udp, offloadWord(14, 20));
      bench.set(1, places[1] as number, 101, udp, offloadWord(14, 20));
      bench.set(2, places[2] as number, 102);
      bench.set(3, places[3] as number, 103, udp, offloadWord(14, 20));
      bench.set(4, places[4] as number, 104, PacketFlag.TCP_CHECKSUM | PacketFlag.VLAN, offloadWord(14, 24, 0x2064));
      assert.equal(bench.transmit(5), 5);
      const sent = device.send();
      assert.deepEqual(
        sent.map(({ bytes }) => bytes.length),
        [100, 101, 102, 103, 104],
      );
      const igb = format === "igb";
      assert.deepEqual(
        device.contexts,
        igb
          ? [
              [(14 << 9) | 20, 0, 0x2020_0400, 0],
              [((0x2064 << 16) | (14 << 9) | 24) >>> 0, 0, 0x2020_0800, 0],
            ]
          : [
              [14 | (24 << 8) | (33 << 16), 34 | (40 << 8), 0x2200_0000, 0],
              [14 | (24 << 8) | (37 << 16), 38 | (54 << 8), 0x2100_0000, 0],
            ],
      );
      const extra = igb ? sent.map(({ bytes }) => (bytes.length << 14) >>> 0) : [0, 0, 0, 0, 0x2064_0000];
      assert.deepEqual(
        sent.map(({ status }) => status & ~1),
        [0x300, 0x300, 0, 0x300, 0x200].map((options, i) => ((options | (extra[i] as number)) & ~1) | 0),
      );
      assert.deepEqual(
        sent.map(({ command }) => (command >>> 30) & 1),
        [0, 0, 0, 0, 1],
      );
      // Only the last of the burst asks for a report, and the contexts' slots hold no buffer.
      assert.deepEqual(
        sent.map(({ command }) => (command >>> 27) & 1),
        [0, 0, 0, 0, 1],
      );
      assert.equal(bench.transmitRing.clean(), 0);
      assert.equal(device.pool.free, device.pool.buffers - device.place.entries);
    });

    test(`${format}, ${kind}: packets that no frame can be are dropped and counted, their buffers given back`, () => {
      using bench = new Bench(format, kind);
      const { device, packets } = bench;
      device.pool.takeAll(packets, 4);
      const [a, b, c, d] = [0, 1, 2, 3].map((i) => bench.word(i, PacketWord.PLACE)) as [number, number, number, number];
      bench.set(0, a, 13);
      bench.set(1, b, 201);
      bench.set(2, c, -5);
      bench.set(3, d, 60);
      bench.set(4, device.pool.bytes.length, 60);
      bench.set(5, -256, 60);
      assert.equal(bench.transmit(6), 6);
      assert.equal(device.state[QueueWord.TX_ERRORS], 5);
      assert.equal(device.send().length, 1);
      bench.transmitRing.clean();
      assert.equal(device.pool.free, device.pool.buffers - device.place.entries);
    });

    test(`${format}, ${kind}: flags of what is received`, () => {
      using bench = new Bench(format, kind);
      const { device } = bench;
      const bytes = frame(0, 60);
      device.receive(bytes, 0x3 | 0x40 | 0x20);
      device.receive(bytes, 0x3 | 0x40 | 0x20 | 0x4000_0000);
      device.receive(bytes, 0x3 | 0x40 | 0x20 | 0x2000_0000);
      device.receive(bytes, 0x3 | 0x8, 0xe123);
      assert.equal(bench.receive(10), 4);
      const { IPV4_CHECKED, IPV4_BAD, L4_CHECKED, L4_BAD, VLAN } = PacketFlag;
      assert.deepEqual(
        [0, 1, 2, 3].map((i) => bench.word(i, PacketWord.FLAGS)),
        [IPV4_CHECKED | L4_CHECKED, IPV4_CHECKED | L4_CHECKED | IPV4_BAD, IPV4_CHECKED | L4_CHECKED | L4_BAD, VLAN],
      );
      assert.equal(bench.word(3, PacketWord.OFFLOAD) >>> 16, 0xe123);
      assert.equal(bench.word(3, PacketWord.LENGTH), 60);
    });

    test(`${format}, ${kind}: damaged, short, long and split frames are counted and leave no trace`, () => {
      using bench = new Bench(format, kind);
      const { device } = bench;
      const bytes = frame(1, 60);
      device.receive(bytes, 0x3 | 0x8000_0000);
      device.receive(bytes, 3, 0, 13);
      device.receive(bytes, 3, 0, 0);
      device.receive(bytes, 3, 0, 201);
      device.receive(bytes, 3, 0, 0xffff);
      device.receive(bytes, 1);
      device.receive(bytes, 1);
      device.receive(bytes, 3);
      device.receive(bytes, 0xffff_ffff, 0xffff, 0xffff);
      device.receive(bytes, 3);
      assert.equal(bench.receive(10), 1);
      assert.deepEqual(Uint8Array.from(device.pool.frame(bench.packets, 0)), bytes);
      const { state } = device;
      assert.deepEqual([state[QueueWord.RX_ERRORS], state[QueueWord.RX_LENGTH_ERRORS]], [2, 5]);
      assert.equal(device.receivable, 15);
      assert.equal(device.pool.free, device.pool.buffers - device.place.entries - 1);
    });

    test(`${format}, ${kind}: an empty pool leaves packets where they are`, () => {
      using bench = new Bench(format, kind, { buffers: 18 });
      const { device } = bench;
      for (let i = 0; i < 5; i++) device.receive(frame(i, 60));
      assert.equal(bench.receive(8), 2);
      assert.equal(bench.receive(8), 0);
      assert.equal(device.state[QueueWord.RX_NO_BUFFER], 2);
      device.pool.giveAll(bench.packets, 2);
      assert.equal(bench.receive(8), 2);
      assert.deepEqual(Uint8Array.from(device.pool.frame(bench.packets, 0)), frame(2, 60));
    });
  }

  test(`${format}: a device that reports everything at once cannot hold a burst`, () => {
    for (const kind of ["typescript", "emitted"] as const) {
      using bench = new Bench(format, kind);
      const { device } = bench;
      // Whatever the driver writes, the device says damaged: the words are those of a device that writes all the time.
      for (let i = 0; i < 16; i++) device.report(i, frame(0, 14), 0xffff_ffff);
      assert.equal(bench.receive(64), 0);
      assert.equal(device.state[QueueWord.RX_ERRORS], 16);
    }
  });

  test(`${format}: emitted and TypeScript loops agree on every word, whatever the device and the program do`, () => {
    const status = fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom(0x3, 0x63, 0x6b, 0x4000_0063, 0x2000_0063) },
      { weight: 1, arbitrary: fc.constantFrom(0x1, 0xffff_ffff, 0x8000_0003, 0x1000_0003, 0x0200_0003, 0x8000_0001) },
      { weight: 1, arbitrary: fc.nat({ max: 0xffff_ffff }) },
    );
    const step = fc.oneof(
      fc.record({
        kind: fc.constant("receive" as const),
        frames: fc.array(fc.tuple(status, fc.nat({ max: 0xffff }), fc.constantFrom(60, 14, 200, 0, 13, 201, 0xffff)), {
          maxLength: 6,
        }),
        max: fc.nat({ max: 20 }),
      }),
      fc.record({
        kind: fc.constant("transmit" as const),
        packets: fc.array(
          fc.tuple(
            fc.constantFrom(14, 60, 200, 13, 201, -1),
            fc.constantFrom(0, 0, 0, 0x3000, 0x5000, 0x3008, 0x8, 0x7fff),
            fc.constantFrom(offloadWord(14, 20), offloadWord(18, 20, 5), offloadWord(14, 40, 0xffff)),
          ),
          { maxLength: 20 },
        ),
        sends: fc.nat({ max: 12 }),
        wild: fc.boolean(),
      }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
        using typescript = new Bench(format, "typescript", { entries: 16, buffers: 40 });
        using emitted = new Bench(format, "emitted", { entries: 16, buffers: 40 });
        // State and slots at the same distance from their own start; descriptors hold the same IOVAs.
        for (const step of steps) {
          const results = [typescript, emitted].map((bench) => run(bench, step));
          assert.deepEqual(results[1], results[0]);
          assert.deepEqual(emitted.device.snapshot(), typescript.device.snapshot());
        }
      }),
      { numRuns: 150 },
    );
  });
}

type Step =
  | { readonly kind: "receive"; readonly frames: readonly [number, number, number][]; readonly max: number }
  | {
      readonly kind: "transmit";
      readonly packets: readonly [number, number, number][];
      readonly sends: number;
      readonly wild: boolean;
    };

function run(bench: Bench, step: Step): unknown {
  const { device, packets } = bench;
  if (step.kind === "receive") {
    for (const [status, vlan, length] of step.frames) device.receive(frame(vlan, 60), status | 1, vlan, length);
    const count = bench.receive(step.max);
    const words = [...packets.words.subarray(0, count * PACKET_WORDS)];
    device.pool.giveAll(packets, count);
    return { count, words };
  }
  const available = device.pool.takeAll(packets, step.packets.length);
  step.packets.slice(0, available).forEach(([length, flags, offload], i) => {
    bench.set(i, step.wild && i % 5 === 4 ? -7 : bench.word(i, PacketWord.PLACE), length, flags, offload);
  });
  const taken = bench.transmit(available);
  for (let i = taken; i < available; i++) {
    if (bench.word(i, PacketWord.PLACE) >= 0) device.pool.give(bench.word(i, PacketWord.PLACE));
  }
  return { taken, sent: device.send(step.sends), contexts: device.contexts.splice(0) };
}

test("a forwarder passes on what comes, in order, and only as much as can be sent", () => {
  for (const format of FORMATS) {
    using bench = new Bench(format, "typescript", { buffers: 64 });
    const { device } = bench;
    const ended = (): Error => new Error("ended");
    const queue = new GigabitQueue(device.pool, device.place, device.window, { emit: true, ended });
    bench.receiveRing.drain();
    queue.renew();
    device.receiveHead = 0;
    using forwarder = new Forwarder(queue, queue, 32, (body, { address, length }) => {
      body.store8(address, body.load8(address).add(1));
      body.store8(address, length, 1);
    });
    let came = 0;
    let went = 0;
    for (let round = 0; round < 200; round++) {
      // A tag that is taken out is put in again, with a context of its own.
      const tagged = round % 3 === 0;
      for (let i = 0; i < round % 7; i++) {
        const bytes = new Uint8Array(60 + (came % 100)).fill(came);
        if (device.receive(bytes, tagged ? 0xb : 3, tagged ? came & 0xfff : 0)) came++;
      }
      assert.ok(forwarder.forward() <= 15);
      for (const { bytes } of device.send(round % 11 === 0 ? 0 : 5)) {
        const expected = new Uint8Array(60 + (went % 100)).fill(went);
        expected[0] = went + 1;
        expected[1] = expected.length;
        assert.deepEqual(bytes, expected);
        went++;
      }
    }
    while (forwarder.forward() > 0 || queue.txPending() > 0) went += device.send().length;
    assert.equal(went, came);
    assert.ok(went > 300);
    assert.ok(device.contexts.length > 20);
    assert.equal(device.pool.free, device.pool.buffers - device.place.entries);
    assert.throws(() => new Forwarder(queue, {} as unknown as GigabitQueue, 32, () => {}), {
      code: "NOT_SUPPORTED",
    });
  }
});

test("counters of one word wrap, those of two carry", () => {
  const word = fc.oneof(fc.nat({ max: 0xffff_ffff }), fc.integer({ min: 0xffff_ff00, max: 0xffff_ffff }));
  fc.assert(
    fc.property(word, word, fc.nat({ max: 256 * 9728 }), (low, high, count) => {
      const state = Int32Array.of(low, high, low);
      addBytes(state, 0, count);
      addCount(state, 2, count);
      const sum = (BigInt(high) << 32n) + BigInt(low) + BigInt(count);
      const words = [...new Uint32Array(state.buffer)];
      assert.deepEqual(words.map(BigInt), [sum & 0xffff_ffffn, (sum >> 32n) & 0xffff_ffffn, sum & 0xffff_ffffn]);
    }),
  );
});
