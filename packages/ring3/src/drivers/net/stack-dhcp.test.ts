// The stack with an address by DHCP, whose server is the test: probing, taking, giving back.
import assert from "node:assert/strict";
import test from "node:test";
import {
  arp,
  type Cable,
  datagram,
  isArp,
  isIp,
  OURS,
  PEER,
  type Station,
  station,
  THEIRS,
} from "../../../../../tests/fakes/net-cable.ts";
import { type Clock, systemClock } from "../clock.ts";
import { get32, put32 } from "./byte-order.ts";
import { bytes32 } from "./dhcp-message.ts";
import { ipv4 } from "./ipv4-address.ts";
import type { Stack } from "./stack.ts";
import { putUdpHeader } from "./udp.ts";

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

const LEASED = ipv4("192.0.2.50");

/** Takes an address; what the station says about it afterwards is read. */
async function leased(clock: Clock = systemClock): Promise<{ readonly setup: Station; readonly stack: Stack }> {
  const setup = await station({ dhcp: { probeMs: 0 }, clock });
  await answerDhcp(setup.cable, 2, LEASED);
  await answerDhcp(setup.cable, 5, LEASED);
  const stack = await setup.starting;
  await setup.cable.next(isArp);
  return { setup, stack };
}

test("an address is probed, taken, announced", async () => {
  await using setup = await station({ dhcp: { probeMs: 5 } });
  const { cable } = setup;
  await answerDhcp(cable, 2, LEASED);
  await answerDhcp(cable, 5, LEASED);
  const probe = await cable.next(isArp);
  assert.deepEqual([get32(probe, 28), get32(probe, 38)], [0, LEASED]);
  // A switch that gives back what was sent to everybody: nobody has the address.
  cable.give(probe);
  const stack = await setup.starting;
  assert.deepEqual([stack.configuration.address, stack.configuration.prefix], ["192.0.2.50", 24]);
  const announced = await cable.next(isArp);
  assert.deepEqual([get32(announced, 28), get32(announced, 38)], [LEASED, LEASED]);
  cable.give(announced);
  cable.give(arp(1, THEIRS, PEER, LEASED));
  await cable.next(isArp);
  assert.deepEqual([stack.statistics.addressConflicts, stack.statistics.notForUs], [0, 2]);
});

test("the lease is given back before the stack leaves, to a server whose Ethernet address has to be asked for", async () => {
  const { setup } = await leased();
  const { cable } = setup;
  const leaving = setup[Symbol.asyncDispose]();
  const asked = await cable.next(isArp);
  assert.deepEqual([get32(asked, 28), get32(asked, 38)], [LEASED, PEER]);
  cable.give(arp(2, THEIRS, PEER, LEASED));
  const release = await cable.next(isIp(17));
  assert.equal(dhcpType(release), 7);
  assert.deepEqual([...release.subarray(0, 6)], THEIRS);
  assert.deepEqual([get32(release, 26), get32(release, 30), get32(release, 42 + 12)], [LEASED, PEER, LEASED]);
  await leaving;
  assert.equal(cable.frames.filter(isIp(17)).length, 0);
});

test("a server that is not there any more does not keep the stack for long", async () => {
  const { setup } = await leased({ ...systemClock, now: () => 50 * performance.now() });
  const leaving = setup[Symbol.asyncDispose]();
  const again = (await setup.starting)[Symbol.asyncDispose]();
  await setup.cable.next(isArp);
  await leaving;
  await again;
  assert.equal(setup.cable.frames.filter(isIp(17)).length, 0);
});

test("an address that somebody has is declined; without a lease the start fails when it is told to", async () => {
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
