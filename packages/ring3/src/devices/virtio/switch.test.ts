import assert from "node:assert/strict";
import test from "node:test";
import type { DeviceClock } from "../clock.ts";
import type { NetReceiver } from "./net-link.ts";
import { EthernetSwitch, type SwitchPort } from "./switch.ts";

/** Time that the test owns. */
class FakeClock implements DeviceClock {
  nowMs = 0;
  readonly #soon: (() => void)[] = [];
  now(): number {
    return this.nowMs;
  }
  after(): Disposable {
    return { [Symbol.dispose]() {} };
  }
  soon(callback: () => void): void {
    this.#soon.push(callback);
  }
  turn(): void {
    for (const callback of this.#soon.splice(0)) callback();
  }
}

class Station implements NetReceiver {
  readonly got: Uint8Array[] = [];
  readonly port: SwitchPort;
  takes = true;
  ups: boolean[] = [];
  onFrame: ((frame: Uint8Array) => void) | undefined;

  constructor(port: SwitchPort) {
    this.port = port;
    port.attach(this);
  }
  receive(frame: Uint8Array): boolean {
    if (!this.takes) return false;
    this.got.push(frame.slice());
    this.onFrame?.(frame);
    return true;
  }
  linkChanged(up: boolean): void {
    this.ups.push(up);
  }
  writable(): void {}
}

function frame(to: number, from: number, size = 60): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set([2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from]);
  return bytes;
}

const broadcast = (from: number): Uint8Array => {
  const bytes = frame(0, from);
  bytes.fill(0xff, 0, 6);
  return bytes;
};

function three(options = {}) {
  const clock = new FakeClock();
  const cables = new EthernetSwitch({ clock, ...options });
  const stations = [1, 2, 3].map((name) => new Station(cables.port(`${name}`))) as [Station, Station, Station];
  const counts = (): number[] => stations.map(({ got }) => got.splice(0).length);
  return { clock, cables, stations, counts };
}

test("it floods until it knows, forgets with time, and notices a move", () => {
  const {
    clock,
    stations: [a, b, c],
    counts,
    cables,
  } = three({ ageingMs: 1000 });
  a.port.send(frame(2, 1));
  assert.deepEqual(counts(), [0, 1, 1]);
  b.port.send(frame(1, 2));
  assert.deepEqual(counts(), [1, 0, 0]);
  a.port.send(frame(2, 1));
  assert.deepEqual(counts(), [0, 1, 0]);
  a.port.send(broadcast(1));
  assert.deepEqual(counts(), [0, 1, 1]);
  c.port.send(frame(1, 2));
  assert.deepEqual(counts(), [1, 0, 0]);
  a.port.send(frame(2, 1));
  assert.deepEqual(counts(), [0, 0, 1], "2 is at c now");
  clock.nowMs = 1500;
  assert.deepEqual(cables.addresses(), []);
  a.port.send(frame(2, 1));
  assert.deepEqual(counts(), [0, 1, 1], "nobody was heard of for too long");
  assert.equal(a.port.statistics.flooded, 3);
});

test("what no switch forwards", () => {
  const {
    stations: [a],
    counts,
  } = three();
  const pause = frame(0, 1);
  pause.set([0x01, 0x80, 0xc2, 0, 0, 1]);
  a.port.send(pause);
  const fromGroup = frame(2, 1);
  fromGroup[6] = 3;
  assert.equal(a.port.send(fromGroup), false);
  assert.equal(a.port.send(new Uint8Array(13)), false);
  assert.equal(a.port.send(frame(2, 1, 65_554)), false);
  a.port.send(frame(1, 1));
  assert.deepEqual(counts(), [0, 0, 0]);
  assert.deepEqual([a.port.statistics.filtered, a.port.statistics.malformed], [2, 3]);
});

test("the table has an end: what was heard of longest ago goes", () => {
  const {
    stations: [a],
    cables,
  } = three({ maximumAddresses: 3 });
  for (let from = 1; from <= 5; from++) a.port.send(frame(9, from));
  assert.deepEqual(
    cables.addresses().map(({ mac }) => mac),
    ["02:00:00:00:00:03", "02:00:00:00:00:04", "02:00:00:00:00:05"],
  );
});

test("a loop costs frames and no stack, and a turn ends", () => {
  const {
    clock,
    cables,
    stations: [a],
  } = three({ queueFrames: 8 });
  const other = new EthernetSwitch({ clock, queueFrames: 8 });
  for (const name of ["one", "two"]) cables.connect(other.port(name), name);
  a.port.send(broadcast(1));
  for (let i = 0; i < 50; i++) clock.turn();
  const wired = cables.ports.filter(({ name }) => name === "one" || name === "two");
  assert.ok(wired.every(({ statistics }) => statistics.received > 10));
  for (const port of wired) port[Symbol.dispose]();
  clock.turn();
  assert.equal(cables.ports.length, 3);
});

test("an answer that a delivery brings forth comes a turn later, in order", () => {
  const {
    clock,
    stations: [a, b],
    counts,
  } = three();
  a.port.send(frame(2, 1));
  b.port.send(frame(1, 2));
  counts();
  b.onFrame = () => {
    for (let i = 0; i < 3; i++) b.port.send(frame(1, 2, 60 + i));
  };
  a.port.send(frame(2, 1));
  assert.equal(a.got.length, 0);
  clock.turn();
  assert.deepEqual(
    a.got.map(({ length }) => length),
    [60, 61, 62],
  );
});

test("ports: unplugged, down, disposed, refusing", () => {
  const {
    stations: [a, b, c],
    cables,
    counts,
  } = three();
  b.port.setUp(false);
  c.takes = false;
  a.port.send(broadcast(1));
  assert.deepEqual(counts(), [0, 0, 0]);
  assert.deepEqual([b.port.statistics.dropped, c.port.statistics.dropped], [1, 1]);
  assert.equal(b.port.send(frame(1, 2)), false);
  b.port.setUp(true);
  b.port.send(frame(1, 2));
  assert.deepEqual(b.ups, [false, true]);
  b.port[Symbol.dispose]();
  assert.equal(b.port.send(frame(1, 2)), false);
  assert.equal(
    cables.addresses().some(({ port }) => port === "2"),
    false,
  );
  a.port.attach(undefined);
  c.port.send(broadcast(3));
  assert.equal(a.port.statistics.dropped, 1);
});

test("a link that is congested: its frames wait at the port, up to a limit, and go when it is free", () => {
  const {
    clock,
    cables,
    stations: [a],
  } = three({ queueFrames: 4 });
  const sent: Uint8Array[] = [];
  let receiver: NetReceiver | undefined;
  const link = {
    up: true,
    congested: true,
    send: (content: Uint8Array) => sent.push(content) > 0,
    attach: (to: NetReceiver | undefined) => {
      receiver = to;
    },
  };
  const port = cables.connect(link, "uplink");
  for (let i = 0; i < 6; i++) a.port.send(broadcast(1));
  clock.turn();
  assert.equal(sent.length, 0);
  assert.equal(port.statistics.dropped, 2);
  link.congested = false;
  receiver?.writable();
  clock.turn();
  assert.equal(sent.length, 4);
  assert.ok(receiver?.receive(frame(1, 9)));
  assert.equal(a.got.length, 1);
  receiver?.linkChanged(false);
  assert.equal(port.up, false);
  port[Symbol.dispose]();
  assert.equal(receiver, undefined);
});

test("a port that goes down forgets who was there, so that they are found where they went", () => {
  const wires = new EthernetSwitch({ clock: new FakeClock() });
  const [one, two, three] = [new Station(wires.port()), new Station(wires.port()), new Station(wires.port())];
  one.port.send(frame(0xff, 1));
  one.port.setUp(false);
  assert.deepEqual(wires.addresses(), []);
  two.port.send(frame(1, 2));
  assert.equal(three.got.length, 2, "flooded");
});
