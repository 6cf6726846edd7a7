// Bursts over virtqueues: the emitted loops and the TypeScript ones against one device, and against each other, word by word.
// seconds: 3
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FakeVirtioPair, type FakeVirtioPairOptions } from "../../../../../tests/fakes/fake-virtio-pair.ts";
import { Arena } from "../../memory/arena.ts";
import { Forwarder } from "../net/forwarder.ts";
import { offloadWord, PACKET_WORDS, PacketFlag, PacketWord } from "../net/packets.ts";
import { NET_HEADER_BYTES, PairFeature, type RingKind } from "./queue-place.ts";

const arena = Arena.create();
const KINDS: readonly RingKind[] = ["split", "packed"];
const { PLACE, FLAGS } = PacketWord;

function pair(options: FakeVirtioPairOptions): FakeVirtioPair {
  const made = new FakeVirtioPair(arena, options);
  assert.ok(made.reset());
  made.notifications();
  return made;
}

function frame(sequence: number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => (sequence * 31 + i * 7) & 0xff);
}

for (const kind of KINDS) {
  for (const emit of [false, true]) {
    const name = `${kind}, ${emit ? "emitted" : "typescript"}`;

    test(`${name}: every frame arrives once, in the device's order, with its bytes, through many wraps`, () => {
      using made = pair({ kind, emit, size: kind === "split" ? 8 : 7 });
      const { queue, packets, pool } = made;
      let came = 0;
      let seen = 0;
      for (let round = 0; round < 60; round++) {
        while (came - seen < 6 && made.put(frame(came, 14 + (came % 180)), { pick: round })) came++;
        const count = queue.rxBurst(packets, 1 + (round % 5));
        for (let i = 0; i < count; i++, seen++) {
          assert.deepEqual(Uint8Array.from(pool.frame(packets, i)), frame(seen, 14 + (seen % 180)));
        }
        pool.giveAll(packets, count);
      }
      assert.ok(seen > 100);
      assert.equal(queue.statistics().rx_packets, seen);
      assert.equal(pool.free, pool.buffers - queue.place.receive.size);
    });

    test(`${name}: what is sent goes out in order, and its buffers come back`, () => {
      using made = pair({ kind, emit });
      const { queue, packets, pool } = made;
      let posted = 0;
      let seen = 0;
      for (let round = 0; round < 60; round++) {
        const count = made.fill(1 + (round % 11), (i) => frame(posted + i, 14 + ((posted + i) % 180)));
        const taken = queue.txBurst(packets, count);
        posted += taken;
        pool.giveAll(packets, count - taken, taken);
        for (const bytes of made.send(round % 3 === 0 ? 3 : 20)) {
          assert.deepEqual(bytes.subarray(NET_HEADER_BYTES), frame(seen, 14 + (seen % 180)));
          assert.deepEqual(bytes.subarray(0, NET_HEADER_BYTES), new Uint8Array(NET_HEADER_BYTES));
          seen++;
        }
      }
      seen += made.send().length;
      assert.equal(seen, posted);
      assert.ok(posted > 150);
      assert.equal(queue.txPending(), 0);
      assert.equal(pool.free, pool.buffers - queue.place.receive.size);
    });

    test(`${name}: the device is told where it wants that, of what it wants`, () => {
      using plain = pair({ kind, emit });
      plain.fill(2, () => frame(0, 60));
      assert.equal(plain.queue.txBurst(plain.packets, 1), 1);
      assert.deepEqual(plain.notifications(), [undefined, 7], "queue 7 is what pair 3 sends on");
      plain.put(frame(0, 60));
      assert.equal(plain.queue.rxBurst(plain.packets), 1);
      assert.deepEqual(plain.notifications(), [6, undefined]);
      plain.receive.wantNothing();
      plain.transmit.wantNothing();
      assert.equal(plain.queue.txBurst(plain.packets, 1), 1);
      plain.put(frame(0, 60));
      plain.queue.rxBurst(plain.packets);
      assert.deepEqual(plain.notifications(), [undefined, undefined]);

      using indexed = pair({ kind, emit, features: PairFeature.EVENT_INDEX });
      for (let round = 0; round < 30; round++) {
        indexed.fill(4, () => frame(round, 60));
        indexed.send();
        indexed.transmit.wantNext();
        assert.equal(indexed.queue.txBurst(indexed.packets, 2), 2);
        assert.deepEqual(indexed.notifications(), [undefined, 7], `round ${round}`);
        assert.equal(indexed.queue.txBurst(indexed.packets, 2, 2), 2);
        assert.deepEqual(indexed.notifications(), [undefined, undefined], `round ${round}`);
      }
    });

    test(`${name}: a frame in several buffers is dropped with all of them, one shorter than a header too`, () => {
      using made = pair({ kind, emit, features: PairFeature.MERGEABLE });
      const { queue, packets, pool } = made;
      made.put(frame(0, 200), { buffers: 3 });
      made.put(frame(1, 200), { buffers: 0xffff });
      made.put(frame(2, 30), { buffers: 7 });
      made.put(frame(3, 13));
      made.put(frame(4, 60), { buffers: 0 });
      made.put(frame(5, 60));
      assert.equal(queue.rxBurst(packets), 1);
      assert.deepEqual(Uint8Array.from(pool.frame(packets, 0)), frame(5, 60));
      // The first three as one: what the buffers behind the first say of themselves counts nothing.
      assert.equal(queue.statistics().rx_length_errors, 3);
      assert.equal(pool.free, pool.buffers - queue.place.receive.size - 1);
    });

    test(`${name}: what the device vouches for`, () => {
      using made = pair({ kind, emit });
      for (const flags of [0, 1, 2, 3, 0xfc]) made.put(frame(0, 60), { flags });
      assert.equal(made.queue.rxBurst(made.packets), 5);
      const { L4_CHECKED, L4_PARTIAL } = PacketFlag;
      assert.deepEqual(
        [0, 1, 2, 3, 4].map((i) => made.word(i, FLAGS)),
        [0, L4_CHECKED | L4_PARTIAL, L4_CHECKED, L4_CHECKED | L4_PARTIAL, 0],
      );
    });

    test(`${name}: what a checksum asks for stands in the header, or is done here; tags are put in`, () => {
      for (const headroom of [32, 45]) {
        const ask = (features: number): Uint8Array[] => {
          using made = pair({ kind, emit, features, headroom });
          const udp = PacketFlag.UDP_CHECKSUM | PacketFlag.IPV4_CHECKSUM;
          made.fill(3, (i) => frame(i, 81));
          made.set(0, made.word(0, PLACE), 81, udp, offloadWord(14, 20));
          made.set(1, made.word(1, PLACE), 81, PacketFlag.TCP_CHECKSUM, offloadWord(14, 24));
          made.set(2, made.word(2, PLACE), 81, udp | PacketFlag.VLAN, offloadWord(14, 20, 0x2064));
          assert.equal(made.queue.txBurst(made.packets, 3), 3);
          return made.send();
        };
        const [header, tcp, tagged] = ask(PairFeature.CHECKSUM);
        assert.deepEqual([...(header?.subarray(0, 12) ?? [])], [1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0]);
        assert.deepEqual([...(tcp?.subarray(0, 12) ?? [])], [1, 0, 0, 0, 0, 0, 38, 0, 16, 0, 0, 0]);
        assert.deepEqual([...(tagged?.subarray(0, 12) ?? [])], [1, 0, 0, 0, 0, 0, 38, 0, 6, 0, 0, 0]);
        assert.deepEqual([...(tagged?.subarray(24, 28) ?? [])], [0x81, 0, 0x20, 0x64]);
        assert.deepEqual(tagged?.subarray(12, 24), frame(2, 12), "addresses before the tag");
        assert.deepEqual(tagged?.subarray(28, 38), frame(2, 81).subarray(12, 22), "and the rest behind it");
        const [done] = ask(0);
        const sum = (bytes: Uint8Array): number => {
          let total = 0;
          for (const [i, byte] of bytes.entries()) total += byte << (i % 2 === 0 ? 8 : 0);
          while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
          return total;
        };
        assert.deepEqual(done?.subarray(0, 12), new Uint8Array(12));
        assert.equal(sum(done?.subarray(26, 46) ?? new Uint8Array(0)), 0xffff, "the IPv4 header");
        // The field held a part of the sum before; what was there counts, so the whole is what completes it.
        const expected = ~sum(frame(0, 81).subarray(34)) & 0xffff;
        assert.equal(((done?.[52] ?? 0) << 8) | (done?.[53] ?? 0), expected);
      }
    });

    test(`${name}: packets that no frame can be are dropped and counted, their buffers given back`, () => {
      using made = pair({ kind, emit });
      const { queue, pool } = made;
      made.fill(6, () => frame(0, 60));
      const place = (i: number): number => made.word(i, PLACE);
      const start = place(1) & -256;
      made.set(0, place(0), 13);
      made.set(1, start + 11, 60);
      made.set(2, place(2), 201);
      made.set(3, place(3), -(2 ** 31));
      made.set(4, place(4), 2 ** 31 - 1);
      made.set(5, place(5), 60);
      made.set(6, pool.bytes.length, 60);
      made.set(7, -256, 60);
      made.set(8, -(2 ** 31), 60);
      assert.equal(queue.txBurst(made.packets, 9), 9);
      assert.equal(queue.statistics().tx_errors, 8);
      assert.equal(made.send().length, 1);
      assert.equal(queue.txPending(), 0);
      assert.equal(pool.free, pool.buffers - queue.place.receive.size);
    });

    test(`${name}: an empty pool leaves the ring short, and the device without buffers`, () => {
      using made = pair({ kind, emit, buffers: 10 });
      const { queue, packets, pool } = made;
      for (let i = 0; i < 6; i++) made.put(frame(i, 60));
      assert.equal(queue.rxBurst(packets), 6);
      assert.equal(queue.statistics().rx_no_buffer, 1);
      assert.equal(made.receivable, 4);
      pool.giveAll(packets, 6);
      assert.equal(queue.rxBurst(packets), 0);
      assert.equal(made.receivable, 8);
    });

    test(`${name}: after a lie nothing is taken, until the device is reset`, () => {
      const lies: [string, (made: FakeVirtioPair) => void, RegExp][] = [
        ["identifier", (made) => made.put(frame(0, 60), { id: 60_000 }), /buffer 60000, which it does not have/],
        ["length", (made) => made.put(frame(0, 60), { length: 213 }), /wrote 213 bytes to a buffer of 212/],
        ["length beyond all", (made) => made.put(frame(0, 60), { length: 2 ** 32 - 1 }), /wrote 4294967295 bytes/],
      ];
      for (const [lie, tell, problem] of lies) {
        using made = pair({ kind, emit });
        const { queue, packets, pool } = made;
        made.put(frame(0, 60));
        tell(made);
        made.put(frame(2, 60));
        assert.equal(queue.rxBurst(packets), 1, lie);
        assert.match(made.receive.problem ?? "", problem);
        assert.equal(queue.ready, false);
        assert.equal(queue.rxBurst(packets), 0);
        pool.giveAll(packets, 1);
        assert.ok(made.reset());
        assert.equal(pool.free, pool.buffers - queue.place.receive.size, "every buffer came back");
        made.put(frame(3, 60));
        assert.equal(queue.rxBurst(packets), 1);
      }
    });
  }

  test(`${kind}: a forwarder passes on what comes, in order, and only as much as can be sent`, () => {
    using made = pair({ kind, emit: true, buffers: 64 });
    const { queue, pool } = made;
    using forwarder = new Forwarder(queue, queue, 32, (body, { address, length }) => {
      body.store8(address, body.load8(address).add(1));
      body.store8(address, length, 1);
    });
    let came = 0;
    let went = 0;
    const leave = (frames: readonly Uint8Array[]): void => {
      for (const bytes of frames) {
        const expected = new Uint8Array(60 + (went % 100)).fill(went);
        expected[0] = went + 1;
        expected[1] = expected.length;
        assert.deepEqual(bytes.subarray(NET_HEADER_BYTES), expected);
        went++;
      }
    };
    for (let round = 0; round < 200; round++) {
      for (let i = 0; i < round % 7; i++) if (made.put(new Uint8Array(60 + (came % 100)).fill(came))) came++;
      assert.ok(forwarder.forward() <= 8);
      leave(made.send(round % 11 === 0 ? 0 : 5));
    }
    while (forwarder.forward() > 0 || queue.txPending() > 0) leave(made.send());
    assert.equal(went, came);
    assert.ok(went > 300);
    assert.equal(pool.free, pool.buffers - queue.place.receive.size);
    using plain = pair({ kind, emit: false });
    assert.throws(() => new Forwarder(queue, plain.queue, 32, () => {}), { code: "NOT_SUPPORTED" });
  });

  test(`${kind}: emitted and TypeScript loops agree on every word, whatever the device and the program do`, () => {
    const length = fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom(14, 60, 61, 200) },
      { weight: 1, arbitrary: fc.constantFrom(13, 0, 201, -1, -12, 2 ** 31 - 1, -(2 ** 31)) },
    );
    const step = fc.oneof(
      {
        weight: 8,
        arbitrary: fc.record({
          kind: fc.constant("receive" as const),
          frames: fc.array(
            fc.record({
              size: fc.constantFrom(60, 14, 200, 13),
              flags: fc.constantFrom(0, 0, 1, 2, 3, 0xff),
              buffers: fc.constantFrom(1, 1, 1, 1, 0, 2, 3, 8, 9, 0x100, 0xffff),
              pick: fc.nat(7),
            }),
            { maxLength: 8 },
          ),
          max: fc.nat(10),
        }),
      },
      {
        weight: 8,
        arbitrary: fc.record({
          kind: fc.constant("transmit" as const),
          packets: fc.array(
            fc.tuple(
              length,
              fc.constantFrom(0, 0, 0, 0x3000, 0x5000, 0x3008, 0x1000, 0x8, 0x7fff, 0x2000, 0x4000),
              fc.constantFrom(offloadWord(14, 20), offloadWord(18, 20, 5), offloadWord(14, 45, 0xffff), -1, 0),
              fc.constantFrom(0, 0, 0, 1, 2, -19, -20, -21, -16, 100, -(2 ** 20), 2 ** 30),
            ),
            { maxLength: 12 },
          ),
          first: fc.nat(3),
          sends: fc.nat(9),
          pick: fc.nat(5),
        }),
      },
      {
        weight: 4,
        arbitrary: fc.record({
          kind: fc.constant("want" as const),
          ring: fc.constantFrom("receive" as const, "transmit" as const),
          next: fc.boolean(),
        }),
      },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant("arm" as const), on: fc.boolean() }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("reset" as const) }) },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constant("lie" as const),
          id: fc.constantFrom(0, 1, 7, 8, 9999, 2 ** 16 + 1),
          length: fc.constantFrom(0, 12, 72, 212, 213, 2 ** 31, 2 ** 32 - 1),
        }),
      },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constant("scribble" as const),
          ring: fc.constantFrom("receive" as const, "transmit" as const),
          at: fc.nat(),
          value: fc.oneof(fc.nat(0xffff), fc.nat(9)),
        }),
      },
    );
    type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;
    const run = (made: FakeVirtioPair, step: Step): unknown => {
      const { queue, packets, pool } = made;
      switch (step.kind) {
        case "receive": {
          for (const { size, ...options } of step.frames) made.put(frame(size, size), options);
          const count = queue.rxBurst(packets, step.max);
          const words = [...packets.words.subarray(0, count * PACKET_WORDS)];
          pool.giveAll(packets, count);
          return { count, words };
        }
        case "transmit": {
          const { first } = step;
          const count = pool.takeAll(packets, first + step.packets.length);
          const places = Array.from({ length: count }, (_, i) => made.word(i, PLACE));
          for (const [i, [bytes, flags, offload, away]] of step.packets.entries()) {
            const at = first + i;
            if (at < count) made.set(at, (places[at] as number) + away, bytes, flags, offload);
          }
          for (const [i, place] of places.entries()) if (i < first) pool.give(place);
          const taken = queue.txBurst(packets, Math.max(0, count - first), first);
          // What lies outside of the pool is nobody's, and what leaves its buffer is somebody else's: neither is given twice.
          for (const [i, place] of places.entries()) if (i >= first + taken) pool.give(place);
          return { taken, sent: made.send(step.sends, step.pick), pending: queue.txPending() };
        }
        case "want":
          if (step.next) made[step.ring].wantNext();
          else made[step.ring].wantNothing();
          return undefined;
        case "arm":
          if (step.on) queue.arm();
          else queue.quiet();
          return queue.ready;
        case "reset":
          return made.reset();
        case "lie":
          return made.put(frame(0, 60), step);
        case "scribble":
          made[step.ring].view.setUint16((step.at % (made[step.ring].view.byteLength / 2)) * 2, step.value, true);
          return undefined;
      }
      return undefined;
    };
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 30 }),
        fc.constantFrom(...(kind === "split" ? [2, 8, 16] : [2, 3, 8, 13])),
        fc.nat(7),
        fc.constantFrom(32, 45),
        (steps, size, features, headroom) => {
          const options = { kind, size, features, headroom, buffers: 40 };
          using typescript = pair({ ...options, emit: false });
          using emitted = pair({ ...options, emit: true });
          for (const step of steps) {
            const results = [typescript, emitted].map((made) => {
              const result = outcome(() => run(made, step));
              return {
                result,
                notified: made.notifications(),
                problems: [made.receive.problem, made.transmit.problem],
              };
            });
            assert.deepEqual(results[1], results[0]);
            assert.deepEqual(emitted.snapshot(), typescript.snapshot());
          }
        },
      ),
      { numRuns: 200 },
    );
  });
}

/** What `action` gives, or how it fails: a buffer that a program gives twice is refused. */
function outcome(action: () => unknown): unknown {
  try {
    return action();
  } catch (error) {
    return String(error);
  }
}
