// The stack, frame by frame: ARP, UDP, fragments, and what is malformed.
import assert from "node:assert/strict";
import test from "node:test";
import {
  ADDRESS,
  arp,
  datagram,
  isArp,
  isIp,
  OURS,
  PEER,
  station,
  THEIRS,
  udp,
} from "../../../../../tests/fakes/net-cable.ts";
import { get16, get32, put16 } from "./byte-order.ts";
import { finishSum, sumBytes } from "./checksum.ts";
import { ipv4 } from "./ipv4-address.ts";

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

test("the next station on the way: a neighbour, the gateway, nobody", async () => {
  await using setup = await station({ address: "192.0.2.1/24", gateway: "192.0.2.2" });
  const { cable } = setup;
  const stack = await setup.starting;
  const resolving = stack.resolve("198.51.100.7");
  await cable.next((frame) => isArp(frame) && get32(frame, 38) === PEER);
  cable.give(arp(2, THEIRS, PEER, ADDRESS));
  const gateway = { address: "192.0.2.2", mac: Uint8Array.from(THEIRS) };
  assert.deepEqual(await resolving, gateway);
  assert.deepEqual(await stack.resolve("192.0.2.2"), gateway);
  await assert.rejects(stack.resolve("192.0.2.1"), { code: "NET_UNREACHABLE", message: /no way/ });
});

test("a stack beside another one with its address says and answers nothing by ARP, and knows whom it is told", async () => {
  await using setup = await station({
    address: "192.0.2.1/24",
    arp: false,
    permanentNeighbours: [{ address: "192.0.2.2", mac: Uint8Array.from(THEIRS) }],
  });
  const { cable } = setup;
  const stack = await setup.starting;
  cable.give(arp(1, THEIRS, PEER, ADDRESS));
  using endpoint = stack.udp.bind(7);
  assert.ok(endpoint.send(Uint8Array.of(1), "192.0.2.2", 9));
  const first = await cable.next(() => true);
  assert.ok(isIp(17)(first));
  assert.deepEqual([...first.subarray(0, 6)], [...THEIRS]);
  cable.give(datagram(17, udp(7, Uint8Array.of(2))));
  assert.deepEqual((await endpoint.receive())?.data, Uint8Array.of(2));
  assert.equal(stack.statistics.arp, 1);
  assert.equal(cable.frames.length, 0);
});
