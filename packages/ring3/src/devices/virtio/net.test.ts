// seconds: 2
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { isRing3Error } from "../../binary/error.ts";
import type { Segment } from "./fake-driver.ts";
import { FakeStatus, FakeVirtioDriver } from "./fake-function-driver.ts";
import { VirtioNet, type VirtioNetOptions } from "./net.ts";
import { checksumIsRight, completeChecksum } from "./net-checksum.ts";
import type { NetLink, NetReceiver } from "./net-link.ts";
import { flowHash } from "./net-steering.ts";
import { EthernetSwitch } from "./switch.ts";

const F = {
  CSUM: 0,
  MTU: 3,
  MAC: 5,
  MRG: 15,
  STATUS: 16,
  CTRL: 17,
  RX: 18,
  VLAN: 19,
  EXTRA: 20,
  ANNOUNCE: 21,
  MQ: 22,
  MAC_ADDR: 23,
  EVENT: 29,
  PACKED: 34,
} as const;
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A cable whose far end is the test. */
class TestLink implements NetLink {
  up = true;
  congested = false;
  readonly sent: Uint8Array[] = [];
  receiver: NetReceiver | undefined;
  attach(receiver: NetReceiver | undefined): void {
    this.receiver = receiver;
  }
  send(frame: Uint8Array): boolean {
    this.sent.push(frame.slice());
    return true;
  }
  deliver(frame: Uint8Array): boolean {
    return this.receiver?.receive(frame) ?? false;
  }
}

/** A guest with a network device: fills its receive queues and reads frames out of them. */
class Nic {
  readonly device: VirtioNet;
  readonly driver: FakeVirtioDriver;
  readonly #buffers = new Map<string, Segment[]>();

  constructor(options: VirtioNetOptions, features: readonly number[], { remote = false, queueSize = 8 } = {}) {
    this.device = new VirtioNet(options);
    this.driver = new FakeVirtioDriver(this.device, { remote });
    this.driver.start({ features, queueSize });
  }

  give(size: number, { queue = 0, parts = 1, notify = true } = {}): boolean {
    const segments = Array.from({ length: parts }, () => this.driver.guest.segment(Math.ceil(size / parts)));
    const id = this.driver.ring(queue).add([], segments);
    if (id === undefined) return false;
    this.#buffers.set(`${queue}.${id}`, segments);
    if (notify) this.driver.notify(queue);
    return true;
  }

  /** The next received frame, put together out of as many buffers as its header says. */
  take(queue = 0): { readonly frame: Uint8Array; readonly buffers: number } | undefined {
    let count = 1;
    const bytes: number[] = [];
    for (let i = 0; i < count; i++) {
      const used = this.driver.ring(queue).take();
      if (used === undefined) {
        assert.equal(i, 0, "all buffers of a frame are used at once");
        return undefined;
      }
      const segments = this.#buffers.get(`${queue}.${used.id}`) ?? [];
      let content = segments.flatMap((segment) => [...this.driver.guest.at(segment)]);
      content = content.slice(0, used.length);
      if (i === 0) {
        assert.deepEqual(content.slice(0, 10), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        count = (content[10] ?? 0) | ((content[11] ?? 0) << 8);
        content = content.slice(12);
      }
      bytes.push(...content);
    }
    return { frame: Uint8Array.from(bytes), buffers: count };
  }

  send(frame: Uint8Array, { queue = 1, header = new Uint8Array(12), cut = 12 } = {}): number | undefined {
    const all = new Uint8Array(12 + frame.length);
    all.set(header);
    all.set(frame, 12);
    const { guest } = this.driver;
    const whole = guest.put(all);
    const parts = [
      { iova: whole.iova, size: Math.min(cut, all.length) },
      { iova: whole.iova + cut, size: all.length - cut },
    ].filter(({ size }) => size > 0);
    this.driver.ring(queue).add(parts, []);
    this.driver.notify(queue);
    return this.driver.ring(queue).take()?.length;
  }

  control(kind: number, command: number, ...data: number[]): number {
    const { guest } = this.driver;
    const acknowledge = guest.segment(1);
    guest.at(acknowledge)[0] = 0xee;
    const index = this.driver.rings.length - 1;
    this.driver
      .ring(index)
      .add(
        [guest.put(Uint8Array.of(kind, command)), ...(data.length > 0 ? [guest.put(Uint8Array.from(data))] : [])],
        [acknowledge],
      );
    this.driver.notify(index);
    assert.equal(this.driver.ring(index).take()?.length, 1);
    return guest.at(acknowledge)[0] as number;
  }
}

const mac = (text: string): number[] => text.split(":").map((byte) => Number.parseInt(byte, 16));
const ALL = "ff:ff:ff:ff:ff:ff";

function frame(to: string, from: string, size = 60, fill = 1): Uint8Array {
  const bytes = new Uint8Array(size).fill(fill);
  bytes.set([...mac(to), ...mac(from), 0x88, 0xb5]);
  return bytes;
}

const A = "52:54:00:00:00:0a";
const B = "52:54:00:00:00:0b";
const OTHER = "52:54:00:00:00:0c";

test("the device shows its address, link, size and speed", () => {
  const link = new TestLink();
  const nic = new Nic({ link, mac: A, mtu: 9000, queuePairs: 2, speedMbps: 25_000 }, [F.MAC, F.STATUS, F.MTU]);
  const { driver } = nic;
  assert.deepEqual([driver.fn.identity.deviceId, driver.fn.identity.classCode], [0x1041, 0x020000]);
  assert.deepEqual(
    Array.from({ length: 6 }, (_, i) => driver.readConfig(i, 1)),
    mac(A),
  );
  assert.equal(driver.readConfig(6, 2), 1);
  assert.equal(driver.readConfig(8, 2), 2);
  assert.equal(driver.readConfig(10, 2), 9000);
  assert.equal(driver.readConfig(12, 4), 25_000);
  assert.equal(driver.readConfig(16, 1), 1);
  assert.equal(driver.readCommon(0x12, 2), 5);
  const before = driver.signals[0] ?? 0;
  link.receiver?.linkChanged(false);
  assert.equal(driver.readConfig(6, 2), 0);
  assert.equal(driver.signals[0], before + 1);
});

test("what cannot be a device is refused", () => {
  for (const options of [
    { mac: "1:2:3" },
    { mac: "01:00:00:00:00:00" },
    { mtu: 60 },
    { queuePairs: 0 },
    { queuePairs: 33 },
  ]) {
    assert.throws(
      () => new VirtioNet(options),
      (error) => isRing3Error(error, "VIRTIO_OPTION"),
    );
  }
  assert.match(new VirtioNet().mac, /^52:54:00:/);
});

test("features that need others are refused without them", () => {
  const driver = new FakeVirtioDriver(new VirtioNet({ queuePairs: 2 }));
  for (const [features, accepted] of [
    [[32, F.MQ], false],
    [[32, F.RX], false],
    [[32, F.MQ, F.CTRL], true],
  ] as const) {
    driver.status = 0;
    driver.status = 3;
    driver.accept(features);
    driver.status = 11;
    assert.equal(driver.status, accepted ? 11 : 3);
  }
});

test("a frame that comes while the device asks for memory waits for that, and none is lost or mixed up", async () => {
  for (const features of [[], [F.MRG], [F.MRG, F.PACKED]]) {
    const link = new TestLink();
    const nic = new Nic({ link, mac: A }, features, { remote: true, queueSize: 64 });
    for (let i = 0; i < 40; i++) nic.give(120, { notify: i === 39 });
    // One more frame with every message for memory, whatever it is for: sending, receiving, or giving a buffer back.
    let count = 0;
    nic.driver.guest.meanwhile = () => {
      if (count < 30) assert.ok(link.deliver(frame(A, B, 60 + count, count++)));
    };
    assert.ok(link.deliver(frame(A, B, 60, 0xee)));
    nic.send(frame(B, A));
    for (let left = 10; left > 0; left = count < 30 ? 10 : left - 1) await settle();
    nic.driver.guest.meanwhile = undefined;
    const sizes: number[] = [];
    for (let got = nic.take(); got !== undefined; got = nic.take()) {
      const { frame: found } = got;
      assert.equal(new Set(found.subarray(14)).size, 1);
      if (found[14] !== 0xee) assert.equal(found.length, 60 + (found[14] as number));
      sizes.push(found.length);
    }
    assert.deepEqual(sizes, [60, ...Array.from({ length: 30 }, (_, i) => 60 + i)]);
    assert.equal(nic.device.statistics.receiveDropped, 0);
  }
});

test("frames go through a switch from one guest to another", async () => {
  for (const features of [[], [F.MRG], [F.MRG, F.PACKED], [F.EVENT], [F.EVENT, F.PACKED]]) {
    for (const remote of [false, true]) {
      const cables = new EthernetSwitch();
      const a = new Nic({ link: cables.port("a"), mac: A }, features, { remote });
      const b = new Nic({ link: cables.port("b"), mac: B }, features);
      const c = new Nic({ link: cables.port("c"), mac: OTHER }, features);
      for (const nic of [a, b, c]) for (let i = 0; i < 4; i++) assert.ok(nic.give(1600));
      assert.equal(a.send(frame(ALL, A)), 0);
      assert.deepEqual(b.take()?.frame, frame(ALL, A));
      assert.deepEqual(c.take()?.frame, frame(ALL, A));
      assert.equal(a.take(), undefined);
      assert.equal(b.send(frame(A, B, 1514, 7), { cut: 100 }), 0);
      assert.deepEqual(a.take(), { frame: frame(A, B, 1514, 7), buffers: 1 });
      assert.equal(c.take(), undefined, "the switch knows where a is");
      assert.equal(a.driver.signals[1], 1);
      assert.deepEqual(
        cables.addresses().map(({ mac: address, port }) => `${address} ${port}`),
        [`${A} a`, `${B} b`],
      );
    }
  }
  await settle();
});

test("frames come out as they went in, however they are cut and into whatever buffers", () => {
  fc.assert(
    fc.property(
      fc.record({ packed: fc.boolean(), eventIndex: fc.boolean(), mergeable: fc.boolean(), remote: fc.boolean() }),
      fc.array(
        fc.oneof(
          { weight: 3, arbitrary: fc.record({ size: fc.integer({ min: 14, max: 1518 }), fill: fc.nat({ max: 255 }) }) },
          {
            weight: 4,
            arbitrary: fc.record({ buffer: fc.integer({ min: 12, max: 1700 }), parts: fc.integer({ min: 1, max: 3 }) }),
          },
        ),
        { maxLength: 60 },
      ),
      (shape, steps) => {
        const link = new TestLink();
        const features = [
          ...(shape.packed ? [F.PACKED] : []),
          ...(shape.eventIndex ? [F.EVENT] : []),
          ...(shape.mergeable ? [F.MRG] : []),
        ];
        const nic = new Nic({ link, mac: A }, features, { queueSize: 16, remote: shape.remote });
        const expected: Uint8Array[] = [];
        const check = (): void => {
          for (let got = nic.take(); got !== undefined; got = nic.take()) assert.deepEqual(got.frame, expected.shift());
        };
        for (const step of steps) {
          if ("buffer" in step) {
            // Without merging only buffers that hold any frame make the order predictable.
            const size = shape.mergeable ? step.buffer : 1600;
            const added = nic.give(size, { parts: step.parts, notify: false });
            // The driver asks before it notifies: a device that forgot to ask gets nothing.
            if (added && nic.driver.ring(0).wantsNotification()) nic.driver.notify(0);
          } else {
            const content = frame(A, B, step.size, step.fill);
            assert.ok(link.deliver(content));
            expected.push(content);
          }
          check();
        }
        // What waits comes as soon as there is room.
        for (let i = 0; i < 200 && expected.length > 0; i++) {
          if (nic.give(1700, { notify: false }) && nic.driver.ring(0).wantsNotification()) nic.driver.notify(0);
          check();
        }
        assert.equal(expected.length, 0);
        nic.device.disconnect();
      },
    ),
    { numRuns: 150 },
  );
});

test("merged buffers are filled to their ends, and counted in the header", () => {
  const link = new TestLink();
  const nic = new Nic({ link, mac: A }, [F.MRG]);
  for (let i = 0; i < 4; i++) nic.give(512);
  link.deliver(frame(A, B, 1500, 3));
  assert.equal(nic.take()?.buffers, 3);
  link.deliver(frame(A, B, 501, 3));
  assert.equal(nic.take(), undefined, "one buffer is too few");
  nic.give(512);
  assert.deepEqual(nic.take(), { frame: frame(A, B, 501, 3), buffers: 2 });
});

test("too short, too long, too large for the buffer: dropped and counted", () => {
  const link = new TestLink();
  const nic = new Nic({ link, mac: A }, []);
  nic.give(200);
  for (const size of [0, 13, 1519, 9000]) assert.equal(link.deliver(new Uint8Array(size)), false);
  link.deliver(frame(A, B, 400));
  assert.equal(nic.take(), undefined);
  assert.equal(nic.device.statistics.malformed, 5);
  link.deliver(frame(A, B, 100));
  assert.equal(nic.take()?.frame.length, 100);
  for (const size of [0, 13, 1519]) assert.equal(nic.send(new Uint8Array(size)), 0);
  assert.equal(link.sent.length, 0);
  assert.equal(nic.device.statistics.malformed, 8);
  const gso = new Uint8Array(12);
  gso[1] = 1;
  nic.send(frame(B, A), { header: gso });
  assert.equal(link.sent.length, 0, "segmentation was not offered");
  assert.equal(nic.driver.status, 15);
});

test("a backlog has an end, and a receive buffer without room is an error", () => {
  const link = new TestLink();
  const nic = new Nic({ link, mac: A, backlogFrames: 3 }, []);
  const results = Array.from({ length: 5 }, () => link.deliver(frame(A, B)));
  assert.deepEqual(results, [true, true, true, false, false]);
  assert.equal(nic.device.statistics.receiveDropped, 2);
  nic.give(8);
  assert.equal(nic.driver.status, 15 | FakeStatus.NEEDS_RESET);
  assert.equal(link.deliver(frame(A, B)), false);
});

test("partial checksums are completed: the example of RFC 1071, and a UDP datagram", () => {
  const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7, 0, 0);
  assert.ok(completeChecksum(bytes, 0, 8));
  assert.deepEqual([...bytes.subarray(8)], [0x22, 0x0d]);
  const odd = Uint8Array.of(0xff, 0x00, 0x01, 0, 0, 0x80);
  assert.ok(completeChecksum(odd, 1, 2));
  assert.deepEqual([...odd], [0xff, 0x00, 0x01, 0x7f, 0xfe, 0x80]);
  const zero = new Uint8Array(4).fill(0xff, 0, 2);
  assert.ok(completeChecksum(zero, 0, 2));
  assert.deepEqual([...zero.subarray(2)], [0xff, 0xff], "never zero");
  for (const [start, offset] of [
    [0, 9],
    [65535, 65535],
    [10, 0],
  ] as const) {
    assert.equal(completeChecksum(new Uint8Array(10), start, offset), false);
  }
  const link = new TestLink();
  const header = new Uint8Array(12);
  header.set([1, 0, 0, 0, 0, 0, 14, 0, 16, 0]);
  new Nic({ link, mac: A }, [F.CSUM]).send(frame(B, A), { header });
  new Nic({ link, mac: A }, []).send(frame(B, A), { header });
  const [done, left] = link.sent;
  assert.deepEqual(left, frame(B, A), "without the feature the header's flag means nothing");
  let sum = 0;
  for (let i = 14; i < 60; i += 2) sum += ((done?.[i] ?? 0) << 8) | (done?.[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  // What was in the field (0x0101) stands for the pseudo header's sum.
  assert.equal((sum + 0x0101) % 0xffff, 0);
});

test("received checksums: right ones are vouched for, and nothing else", () => {
  // UDP over IPv4 from 192.0.2.1 to 192.0.2.2, port 1 to 2, with "abc"; its checksum by hand: 0x96d6.
  const ipv4 = Buffer.from(
    "525400000001525400000002" +
      "0800" +
      "4500001f000000004011f6cbc0000201c0000202" +
      "00010002000b" +
      "0000" +
      "616263",
    "hex",
  );
  const sum = 0xc000 + 0x0201 + 0xc000 + 0x0202 + 17 + 11 + 1 + 2 + 11 + 0x6162 + 0x6300;
  ipv4.writeUInt16BE(~((sum & 0xffff) + (sum >>> 16)) & 0xffff, 40);
  const cases: [string, (frame: Buffer) => void, boolean][] = [
    ["as it is", () => {}, true],
    ["another byte", (frame) => frame.writeUInt8(0x62, 42), false],
    ["none", (frame) => frame.writeUInt16BE(0, 40), false],
    ["a fragment", (frame) => frame.writeUInt16BE(0x2000, 20), false],
    ["another protocol", (frame) => frame.writeUInt8(1, 23), false],
    ["longer than the frame", (frame) => frame.writeUInt16BE(200, 16), false],
  ];
  for (const [name, change, right] of cases) {
    const frame = Buffer.from(ipv4);
    change(frame);
    assert.equal(checksumIsRight(frame), right, name);
    const tagged = Buffer.concat([frame.subarray(0, 12), Buffer.from("81000005", "hex"), frame.subarray(12)]);
    assert.equal(checksumIsRight(tagged), right, `${name}, tagged`);
  }
  for (let length = 0; length < ipv4.length; length++) assert.equal(checksumIsRight(ipv4.subarray(0, length)), false);
  const plain = new VirtioNet({ mac: A });
  const checking = new VirtioNet({ mac: A, receiveChecksums: true });
  const offers = (device: VirtioNet): boolean => {
    const driver = new FakeVirtioDriver(device);
    driver.writeCommon(0, 4, 0);
    return (driver.readCommon(4, 4) & 2) !== 0;
  };
  assert.deepEqual([offers(plain), offers(checking)], [false, true]);
});

test("filters: promiscuous at first, then as the driver says", () => {
  const link = new TestLink();
  const nic = new Nic({ link, mac: A }, [F.CTRL, F.RX, F.EXTRA, F.MAC_ADDR, F.VLAN], { queueSize: 64 });
  const multicast = "01:00:5e:00:00:01";
  const passes = (content: Uint8Array): boolean => {
    nic.give(1600);
    link.deliver(content);
    const got = nic.take() !== undefined;
    return got;
  };
  const seen = (): string => [A, OTHER, multicast, ALL].map((to) => (passes(frame(to, B)) ? "+" : "-")).join("");
  assert.equal(seen(), "++++");
  assert.equal(nic.control(0, 0, 0), 0);
  assert.equal(seen(), "+--+");
  assert.equal(nic.control(0, 1, 1), 0);
  assert.equal(seen(), "+-++");
  assert.equal(nic.control(0, 3, 1), 0);
  assert.equal(seen(), "+--+", "no multicast");
  assert.equal(nic.control(0, 2, 1), 0);
  assert.equal(seen(), "++-+", "all unicast");
  assert.equal(nic.control(0, 4, 1), 0);
  assert.equal(seen(), "---+", "no unicast");
  assert.equal(nic.control(0, 5, 1), 0);
  assert.equal(seen(), "----", "no broadcast");
  for (const command of [1, 2, 3, 4, 5]) nic.control(0, command, 0);
  assert.equal(nic.control(1, 0, 1, 0, 0, 0, ...mac(OTHER), 1, 0, 0, 0, ...mac(multicast)), 0);
  assert.equal(seen(), "++++");
  assert.equal(nic.control(1, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
  assert.equal(seen(), "+--+");
  assert.equal(nic.control(1, 1, ...mac(OTHER)), 0);
  assert.equal(seen(), "-+-+");
  assert.equal(nic.device.mac, OTHER);
  assert.equal(nic.driver.readConfig(5, 1), 0x0c);
  const many = Array.from({ length: 300 }, (_, i) => [0x52, 0x54, 0, 1, i >> 8, i & 255]).flat();
  assert.equal(nic.control(1, 0, 300 & 255, 300 >> 8, 0, 0, ...many, 0, 0, 0, 0), 0);
  assert.equal(seen(), "++-+", "with too many addresses all pass");

  const tagged = (vlan: number): Uint8Array => {
    const content = frame(OTHER, B);
    content.set([0x81, 0, vlan >> 8, vlan & 255], 12);
    return content;
  };
  assert.deepEqual([passes(tagged(5)), passes(tagged(0))], [false, true]);
  assert.equal(nic.control(2, 0, 5, 0), 0);
  assert.deepEqual([passes(tagged(5)), passes(tagged(6))], [true, false]);
  assert.equal(nic.control(2, 1, 5, 0), 0);
  assert.equal(passes(tagged(5)), false);
});

test("commands that are none, or malformed, are answered with an error", () => {
  const nic = new Nic({ link: new TestLink(), queuePairs: 2 }, [F.CTRL, F.RX, F.VLAN, F.MAC_ADDR, F.MQ]);
  for (const [kind, command, ...data] of [
    [0, 2, 1],
    [0, 6, 1],
    [0, 0],
    [0, 0, 1, 1],
    [1, 0, 255, 255, 255, 255],
    [1, 0, 0, 0, 0, 0],
    [1, 1, 1, 2, 3],
    [1, 2],
    [2, 0, 0, 16],
    [2, 2, 1, 0],
    [3, 0],
    [4, 0, 0, 0],
    [4, 0, 3, 0],
    [4, 1, 1, 0],
    [9, 9],
  ] as const) {
    assert.equal(nic.control(kind, command, ...data), 1, `${kind}.${command} ${data.join(" ")}`);
  }
  fc.assert(
    fc.property(fc.nat({ max: 6 }), fc.nat({ max: 6 }), fc.uint8Array({ maxLength: 40 }), (kind, command, data) => {
      nic.driver.guest.release(1 << 16);
      assert.ok([0, 1].includes(nic.control(kind, command, ...data)));
    }),
  );
  assert.equal(nic.driver.status, 15);
});

test("announcing: the driver is asked, and answers", () => {
  const nic = new Nic({ link: new TestLink() }, [F.STATUS, F.CTRL, F.ANNOUNCE]);
  const before = nic.driver.signals[0] ?? 0;
  nic.device.announce();
  assert.equal(nic.driver.readConfig(6, 2), 3);
  assert.equal(nic.driver.signals[0], before + 1);
  assert.equal(nic.control(3, 0), 0);
  assert.equal(nic.driver.readConfig(6, 2), 1);
});

/** An IPv4 datagram of UDP between two ports. */
function datagram(to: string, from: string, source: number, destination: number, back = false): Uint8Array {
  const bytes = frame(to, from, 60, 0);
  const [a, b] = back ? [2, 1] : [1, 2];
  bytes.set([0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, a, 10, 0, 0, b], 12);
  bytes.set([source >> 8, source & 255, destination >> 8, destination & 255], 34);
  return bytes;
}

test("multiqueue: a flow comes back on the pair that it was sent on", () => {
  const link = new TestLink();
  const nic = new Nic({ link, mac: A, queuePairs: 4 }, [F.CTRL, F.MQ]);
  for (let pair = 0; pair < 4; pair++) for (let i = 0; i < 6; i++) nic.give(1600, { queue: 2 * pair });
  link.deliver(datagram(A, B, 7, 1000, true));
  assert.ok(nic.take(0), "one pair until the driver says otherwise");
  assert.equal(nic.control(4, 0, 4, 0), 0);
  for (const pair of [3, 1, 2, 0]) {
    nic.send(datagram(B, A, 1000 + pair, 7), { queue: 2 * pair + 1 });
    link.deliver(datagram(A, B, 7, 1000 + pair, true));
    assert.ok(nic.take(2 * pair), `pair ${pair}`);
  }
  assert.equal(nic.control(4, 0, 1, 0), 0);
  link.deliver(datagram(A, B, 7, 1003, true));
  assert.ok(nic.take(0));
  assert.equal(nic.send(datagram(B, A, 1, 2), { queue: 3 }), undefined, "queues that are off are not read");
  assert.equal(flowHash(datagram(B, A, 1, 2)), flowHash(datagram(A, B, 2, 1, true)));
  assert.equal(flowHash(frame(A, B)), -1);
});

test("without MQ the control queue follows the first pair", () => {
  const nic = new Nic({ link: new TestLink(), queuePairs: 4 }, [F.CTRL, F.RX]);
  nic.driver.rings.length = 3;
  assert.equal(nic.control(0, 0, 0), 0);
});

test("a link that is congested: frames wait in the ring", async () => {
  const link = new TestLink();
  const nic = new Nic({ link, mac: A }, [F.EVENT]);
  link.congested = true;
  assert.equal(nic.send(frame(B, A)), undefined);
  link.congested = false;
  link.receiver?.writable();
  await settle();
  assert.equal(nic.driver.ring(1).take()?.length, 0);
  assert.equal(link.sent.length, 1);
});

test("saved and restored: filters, address and queues go on, the cable is the new place's", async () => {
  const nic = new Nic({ link: new TestLink(), mac: A }, [F.CTRL, F.RX, F.MAC_ADDR, F.STATUS]);
  nic.give(1600);
  nic.control(0, 0, 0);
  nic.control(1, 1, ...mac(OTHER));
  await nic.device.suspend();
  const state = nic.device.save();
  const link = new TestLink();
  const target = new VirtioNet({ link, mac: B });
  target.restore(state);
  target.connect({ name: "the destination" });
  target.memory.map(nic.driver.guest.base, nic.driver.guest.bytes.length, "read-write", {
    bytes: nic.driver.guest.bytes,
  });
  target.config.write(4, 2, 6);
  assert.equal(target.mac, OTHER);
  assert.ok(link.deliver(frame(A, B)));
  assert.equal(nic.take(), undefined, "filtered");
  assert.ok(link.deliver(frame(OTHER, B)));
  assert.deepEqual(nic.take()?.frame, frame(OTHER, B));
});

test("frames that wait for a congested link go out of the next one", async () => {
  const link = new TestLink();
  const nic = new Nic({ link, mac: A }, [F.EVENT]);
  link.congested = true;
  assert.equal(nic.send(frame(B, A)), undefined);
  const next = new TestLink();
  nic.device.plug(next);
  await settle();
  assert.equal(nic.driver.ring(1).take()?.length, 0);
  assert.equal(next.sent.length, 1);
});
