// The stack over virtio-net in process, with a test on the other side of the cable that writes every frame by hand.
import assert from "node:assert/strict";
import test from "node:test";
import type { NetLink, NetReceiver } from "../../devices/virtio/index.ts";
import { VirtioNet } from "../../devices/virtio/index.ts";
import { inProcess } from "../../virtual/index.ts";
import { VirtioNetDriver } from "../virtio/net-driver.ts";
import { get16, get32, put16, put32 } from "./byte-order.ts";
import { finishSum, sumBytes } from "./checksum.ts";
import { bytes32 } from "./dhcp-message.ts";
import { ipv4 } from "./ipv4-address.ts";
import { Stack, type StackOptions } from "./stack.ts";
import { putUdpHeader } from "./udp.ts";

const OURS = [0x52, 0x54, 0, 0, 0, 1];
const THEIRS = [0x52, 0x54, 0, 0, 0, 2];
const [ADDRESS, PEER] = [ipv4("192.0.2.1"), ipv4("192.0.2.2")];

/** A cable whose other end is the test. */
class Cable implements NetLink {
  readonly up = true;
  readonly congested = false;
  readonly frames: Uint8Array[] = [];
  #receiver: NetReceiver | undefined;
  #waiting: (() => void)[] = [];

  send(frame: Uint8Array): boolean {
    this.frames.push(frame.slice());
    for (const waiting of this.#waiting.splice(0)) waiting();
    return true;
  }

  attach(receiver: NetReceiver | undefined): void {
    this.#receiver = receiver;
  }

  give(frame: Uint8Array): void {
    assert.ok(this.#receiver?.receive(frame));
  }

  /** The next frame that `matches`; those before it are forgotten. */
  async next(matches: (frame: Uint8Array) => boolean): Promise<Uint8Array> {
    for (;;) {
      for (let frame = this.frames.shift(); frame !== undefined; frame = this.frames.shift()) {
        if (matches(frame)) return frame;
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }
}

async function station(options: StackOptions = { address: "192.0.2.1/24" }) {
  const cable = new Cable();
  const mac = OURS.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
  const fn = inProcess(new VirtioNet({ link: cable, mac }));
  const driver = await VirtioNetDriver.start(fn);
  const starting = Stack.start(driver, options);
  const close = async (): Promise<void> => {
    await driver[Symbol.asyncDispose]();
    await fn[Symbol.asyncDispose]();
  };
  return {
    cable,
    starting,
    close,
    [Symbol.asyncDispose]: async () => {
      await (await starting)[Symbol.asyncDispose]();
      await close();
    },
  };
}

const isArp = (frame: Uint8Array): boolean => get16(frame, 12) === 0x0806;
const isIp = (protocol: number) => (frame: Uint8Array) => get16(frame, 12) === 0x0800 && frame[23] === protocol;

function arp(operation: number, sender: number[], address: number, target: number, source = sender): Uint8Array {
  const frame = new Uint8Array(60);
  frame.set([
    ...(operation === 1 ? [255, 255, 255, 255, 255, 255] : OURS),
    ...source,
    8,
    6,
    0,
    1,
    8,
    0,
    6,
    4,
    0,
    operation,
    ...sender,
  ]);
  put32(frame, 28, address);
  put32(frame, 38, target);
  return frame;
}

function datagram(
  protocol: number,
  payload: Uint8Array,
  options: { source?: number; destination?: number; fragment?: number; id?: number; mac?: number[] } = {},
): Uint8Array {
  const { source = PEER, destination = ADDRESS, fragment = 0, id = 7, mac = OURS } = options;
  const frame = new Uint8Array(Math.max(60, 34 + payload.length));
  frame.set([...mac, ...THEIRS, 8, 0, 0x45, 0], 0);
  put16(frame, 16, 20 + payload.length);
  put16(frame, 18, id);
  put16(frame, 20, fragment);
  frame.set([64, protocol], 22);
  put32(frame, 26, source);
  put32(frame, 30, destination);
  put16(frame, 24, finishSum(sumBytes(frame, 14, 20)));
  frame.set(payload, 34);
  return frame;
}

function udp(port: number, data: Uint8Array, source = PEER, destination = ADDRESS): Uint8Array {
  const bytes = new Uint8Array(8 + data.length);
  bytes.set(data, 8);
  putUdpHeader(bytes, 0, 1000, port, data.length, source, destination);
  return bytes;
}

test("ARP: announces, answers, asks, and does not believe what nobody asked for", async () => {
  await using setup = await station();
  const { cable } = setup;
  const stack = await setup.starting;
  const announced = await cable.next(isArp);
  assert.deepEqual([get16(announced, 20), get32(announced, 28), get32(announced, 38)], [1, ADDRESS, ADDRESS]);
  cable.give(arp(1, THEIRS, PEER, ADDRESS));
  const answer = await cable.next(isArp);
  assert.deepEqual([...answer.subarray(0, 12)], [...THEIRS, ...OURS]);
  assert.deepEqual([get16(answer, 20), get32(answer, 28), get32(answer, 38)], [2, ADDRESS, PEER]);
  assert.deepEqual(
    stack.neighbours.map(({ address }) => address),
    ["192.0.2.2"],
  );
  // A reply that was not asked for, one from another network, one whose frame came from somebody else, and a double of us.
  cable.give(arp(2, THEIRS, ipv4("192.0.2.77"), ADDRESS));
  cable.give(arp(1, THEIRS, ipv4("198.51.100.1"), ADDRESS));
  cable.give(arp(2, THEIRS, PEER, ADDRESS, [2, 2, 2, 2, 2, 2]));
  cable.give(arp(1, THEIRS, ADDRESS, ADDRESS));
  const defence = await cable.next(isArp);
  assert.equal(get32(defence, 28), ADDRESS);
  assert.deepEqual(
    stack.neighbours.map(({ address }) => address),
    ["192.0.2.2"],
  );
  const { malformed, addressConflicts } = stack.statistics;
  assert.deepEqual([malformed, addressConflicts], [{ "arp off-link": 1, "arp spoofed": 1 }, 1]);
});

test("UDP: to a bound port, to none, damaged; sending waits for the neighbour", async () => {
  await using setup = await station();
  const { cable } = setup;
  const stack = await setup.starting;
  using endpoint = stack.udp.bind(7);
  assert.throws(() => stack.udp.bind(7), { code: "NET_PORT_BUSY" });
  assert.throws(() => endpoint.send(new Uint8Array(65_508), "192.0.2.2", 9), { code: "NET_INVALID" });
  const data = Uint8Array.of(1, 2, 3);
  cable.give(datagram(17, udp(7, data)));
  assert.deepEqual(await endpoint.receive(), { data, address: "192.0.2.2", port: 1000, destination: "192.0.2.1" });
  const damaged = datagram(17, udp(7, data));
  damaged[44] = 9;
  cable.give(damaged);
  cable.give(datagram(17, udp(8, data)));
  // The error waits for the neighbour as everything does.
  await cable.next((frame) => isArp(frame) && get32(frame, 38) === PEER);
  cable.give(arp(2, THEIRS, PEER, ADDRESS));
  const error = await cable.next(isIp(1));
  assert.deepEqual([error[34], error[35]], [3, 3]);
  assert.deepEqual(error.subarray(42, 70), datagram(17, udp(8, data)).subarray(14, 42));
  assert.deepEqual(stack.statistics.malformed, { "udp checksum": 1 });
  assert.equal(stack.statistics.udpNoPort, 1);
  assert.ok(endpoint.send(data, "192.0.2.2", 9));
  const sent = await cable.next(isIp(17));
  assert.deepEqual([get16(sent, 34), get16(sent, 36), get16(sent, 38)], [7, 9, 11]);
  assert.deepEqual([...sent.subarray(42, 45)], [1, 2, 3]);
  assert.equal(endpoint.send(data, "198.51.100.1", 9), false, "no gateway, no route");
  // Nobody listens there: the endpoint hears of it.
  const unreachable = new Uint8Array(36);
  unreachable.set([3, 3]);
  unreachable.set(sent.subarray(14, 42), 8);
  put16(unreachable, 2, finishSum(sumBytes(unreachable, 0, 36)));
  cable.give(datagram(1, unreachable));
  cable.give(datagram(17, udp(7, data)));
  await endpoint.receive();
  assert.equal(endpoint.statistics.reported, 1);
});

test("a datagram in fragments, last one first; overlapping ones give nothing", async () => {
  await using setup = await station();
  const { cable } = setup;
  const stack = await setup.starting;
  using endpoint = stack.udp.bind(7);
  const data = Uint8Array.from({ length: 2000 }, (_, i) => i & 0xff);
  const whole = udp(7, data);
  cable.give(datagram(17, whole.subarray(1000), { fragment: 125, id: 1 }));
  cable.give(datagram(17, whole.subarray(0, 1000), { fragment: 0x2000, id: 1 }));
  assert.deepEqual((await endpoint.receive())?.data, data);
  cable.give(datagram(17, whole.subarray(992), { fragment: 124, id: 2 }));
  cable.give(datagram(17, whole.subarray(0, 1000), { fragment: 0x2000, id: 2 }));
  cable.give(datagram(17, udp(7, Uint8Array.of(9))));
  assert.deepEqual((await endpoint.receive())?.data, Uint8Array.of(9));
  assert.equal(stack.statistics.reassembly.overlapping, 1);
});

test("malformed frames of every kind are counted and answered by nothing", async () => {
  await using setup = await station();
  const { cable } = setup;
  const stack = await setup.starting;
  using endpoint = stack.udp.bind(7);
  await cable.next(isArp);
  const change = (act: (frame: Uint8Array) => void): void => {
    const frame = datagram(17, udp(7, Uint8Array.of(1)));
    act(frame);
    cable.give(frame);
  };
  change((frame) => (frame[14] = 0x55));
  change((frame) => (frame[14] = 0x41));
  change((frame) => put16(frame, 16, 1500));
  change((frame) => (frame[24] = 0xee));
  change((frame) => put16(frame, 38, 7));
  cable.give(datagram(17, udp(7, Uint8Array.of(1), ADDRESS), { source: ADDRESS }));
  cable.give(datagram(17, udp(7, Uint8Array.of(1), -1), { source: -1 }));
  cable.give(datagram(17, udp(7, Uint8Array.of(1), PEER, ipv4("192.0.2.3")), { destination: ipv4("192.0.2.3") }));
  cable.give(datagram(17, udp(7, Uint8Array.of(1)), { mac: [2, 9, 9, 9, 9, 9] }));
  cable.give(Uint8Array.of(...OURS, ...THEIRS, 0x81, 0, 0, 5, 8, 0));
  cable.give(Uint8Array.of(...OURS, ...THEIRS, 0x86, 0xdd, 0, 0));
  cable.give(datagram(17, udp(7, Uint8Array.of(2))));
  assert.deepEqual((await endpoint.receive())?.data, Uint8Array.of(2));
  const { malformed, notForUs, unknownProtocol, received, udp: taken } = stack.statistics;
  assert.deepEqual(malformed, {
    "ipv4 version": 1,
    "ipv4 header-length": 1,
    "ipv4 total-length": 1,
    "ipv4 checksum": 1,
    "udp length": 1,
    "ipv4 source": 2,
  });
  // The frame for another station was kept away by the device.
  assert.deepEqual([notForUs, unknownProtocol, taken, received], [2, 1, 1, 11]);
  assert.deepEqual(cable.frames, []);
});

const dhcpType = (frame: Uint8Array): number => frame[42 + 242] as number;

/** Answers the next message to a DHCP server. */
async function answerDhcp(cable: Cable, type: number, address: number): Promise<void> {
  const request = await cable.next(isIp(17));
  const message = new Uint8Array(300);
  message.set([2, 1, 6, 0]);
  message.set(request.subarray(46, 50), 4);
  put32(message, 16, address);
  message.set(OURS, 28);
  const options = [53, 1, type, 54, 4, ...bytes32(PEER), 1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 14, 16, 255];
  message.set([0x63, 0x82, 0x53, 0x63, ...options], 236);
  const bytes = new Uint8Array(308);
  bytes.set(message, 8);
  putUdpHeader(bytes, 0, 67, 68, 300, PEER, -1);
  cable.give(datagram(17, bytes, { destination: -1, mac: [255, 255, 255, 255, 255, 255] }));
}

test("DHCP: an address is probed, taken, announced and given back", async () => {
  const leased = ipv4("192.0.2.50");
  const setup = await station({ dhcp: { probeMs: 5 } });
  const { cable } = setup;
  await answerDhcp(cable, 2, leased);
  await answerDhcp(cable, 5, leased);
  const probe = await cable.next(isArp);
  assert.deepEqual([get32(probe, 28), get32(probe, 38)], [0, leased]);
  const stack = await setup.starting;
  assert.deepEqual([stack.configuration.address, stack.configuration.prefix], ["192.0.2.50", 24]);
  const announced = await cable.next(isArp);
  assert.deepEqual([get32(announced, 28), get32(announced, 38)], [leased, leased]);
  cable.give(arp(1, THEIRS, PEER, leased));
  await cable.next(isArp);
  const { frames } = cable;
  await setup[Symbol.asyncDispose]();
  const [release] = frames.filter(isIp(17));
  assert.equal(release === undefined ? 0 : dhcpType(release), 7);
});

test("DHCP: an address that somebody has is declined; without a lease the start fails when it is told to", async () => {
  const stop = new AbortController();
  const setup = await station({ dhcp: { probeMs: 60_000, signal: stop.signal } });
  const { cable } = setup;
  const failed = assert.rejects(setup.starting, /enough/);
  await answerDhcp(cable, 2, ipv4("192.0.2.50"));
  await answerDhcp(cable, 5, ipv4("192.0.2.50"));
  await cable.next(isArp);
  cable.give(arp(2, THEIRS, ipv4("192.0.2.50"), 0));
  assert.equal(dhcpType(await cable.next(isIp(17))), 4);
  stop.abort(new Error("enough"));
  await failed;
  await setup.close();
});
