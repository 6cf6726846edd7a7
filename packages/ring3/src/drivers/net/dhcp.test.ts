import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { get32, put32 } from "./byte-order.ts";
import { DhcpClient } from "./dhcp-client.ts";
import { bytes32, DhcpOption, DhcpType, readReply } from "./dhcp-message.ts";
import { ipv4, ipv4Text } from "./ipv4-address.ts";

const MAC = Uint8Array.of(0x52, 0x54, 0, 0, 0, 1);
const SERVER = ipv4("192.0.2.254");
const ADDRESS = ipv4("192.0.2.50");

/** A server's message, byte by byte as RFC 2131, figure 1, has it. */
function reply(
  request: Uint8Array,
  type: number,
  options: [number, number[] | Uint8Array][] = [],
  address = ADDRESS,
): Uint8Array {
  const bytes = new Uint8Array(400);
  bytes.set([2, 1, 6, 0]);
  bytes.set(request.subarray(4, 8), 4);
  put32(bytes, 16, address);
  bytes.set(MAC, 28);
  bytes.set([0x63, 0x82, 0x53, 0x63], 236);
  let at = 240;
  for (const [code, value] of [[53, [type]], [54, bytes32(SERVER)], ...options] as [number, number[]][]) {
    bytes.set([code, value.length, ...value], at);
    at += 2 + value.length;
  }
  bytes[at] = 255;
  return bytes;
}

const LEASE: [number, Uint8Array][] = [
  [DhcpOption.SUBNET_MASK, bytes32(ipv4("255.255.255.0"))],
  [DhcpOption.LEASE_SECONDS, bytes32(3600)],
  [DhcpOption.ROUTERS, bytes32(SERVER)],
];

/** The value of an option in a request. */
function option(request: Uint8Array, wanted: number): Uint8Array | undefined {
  for (let at = 240; request[at] !== 255; at += 2 + (request[at + 1] as number)) {
    if (request[at] === wanted) return request.subarray(at + 2, at + 2 + (request[at + 1] as number));
  }
  return undefined;
}

const type = (request: Uint8Array | undefined): number | undefined =>
  request === undefined ? undefined : option(request, 53)?.[0];

function bound(nowMs = 0): { client: DhcpClient; request: Uint8Array } {
  const client = new DhcpClient({ mac: MAC, random: () => 0.5 }, nowMs);
  const discover = client.tick(nowMs)?.payload as Uint8Array;
  const request = client.receive(reply(discover, DhcpType.OFFER, LEASE), nowMs)?.payload as Uint8Array;
  assert.equal(client.receive(reply(request, DhcpType.ACK, LEASE), nowMs), undefined);
  assert.equal(client.state, "bound");
  return { client, request };
}

test("discover, offer, request, ack: RFC 2131, figure 3", () => {
  const client = new DhcpClient({ mac: MAC, hostName: "ring3", random: () => 0.5 }, 0);
  const discover = client.tick(0);
  assert.equal(ipv4Text(discover?.destination ?? 0), "255.255.255.255");
  const first = discover?.payload as Uint8Array;
  assert.ok(first.length >= 300, "RFC 1542: shorter ones are dropped by relays");
  assert.deepEqual([...first.subarray(0, 4), first[10]], [1, 1, 6, 0, 0x80]);
  assert.deepEqual([...(option(first, 61) ?? [])], [1, ...MAC]);
  assert.equal(Buffer.from(option(first, 12) ?? []).toString(), "ring3");
  const request = client.receive(reply(first, DhcpType.OFFER, LEASE), 10)?.payload as Uint8Array;
  assert.equal(type(request), DhcpType.REQUEST);
  assert.deepEqual(option(request, 50), bytes32(ADDRESS));
  assert.deepEqual(option(request, 54), bytes32(SERVER));
  assert.equal(get32(request, 12), 0, "ciaddr stays zero while selecting");
  client.receive(reply(request, DhcpType.ACK, LEASE), 20);
  assert.deepEqual(client.lease, {
    address: ADDRESS,
    prefix: 24,
    routers: [SERVER],
    dnsServers: [],
    domainName: undefined,
    mtu: undefined,
    server: SERVER,
    leaseSeconds: 3600,
    renewalSeconds: 1800,
    rebindingSeconds: 3150,
  });
  assert.equal(client.dueMs, 10 + 1_800_000, "T1 counts from the request");
});

test("silence: 4, 8, 16, 32, 64, 64 s; requests four times, then from the start", () => {
  const client = new DhcpClient({ mac: MAC, random: () => 0.5 }, 0);
  let nowMs = 0;
  const waits: number[] = [];
  let discover: Uint8Array | undefined;
  for (let i = 0; i < 6; i++) {
    discover = client.tick(nowMs)?.payload;
    waits.push(client.dueMs - nowMs);
    nowMs = client.dueMs;
  }
  assert.deepEqual(waits, [4000, 8000, 16_000, 32_000, 64_000, 64_000]);
  client.receive(reply(discover as Uint8Array, DhcpType.OFFER, LEASE), nowMs);
  const kinds: (number | undefined)[] = [];
  for (let i = 0; i < 4; i++) {
    nowMs = client.dueMs;
    kinds.push(type(client.tick(nowMs)?.payload));
  }
  assert.deepEqual(kinds, [3, 3, 3, 1]);
});

test("renewing asks the server alone, rebinding everybody, and then the lease is over", () => {
  const { client } = bound();
  const renew = client.tick(1_800_000);
  assert.deepEqual(
    [client.state, ipv4Text(renew?.destination ?? 0), ipv4Text(renew?.source ?? 0)],
    ["renewing", "192.0.2.254", "192.0.2.50"],
  );
  assert.equal(get32(renew?.payload as Uint8Array, 12), ADDRESS);
  assert.equal(option(renew?.payload as Uint8Array, 50), undefined, "table 5: no requested address while renewing");
  client.receive(reply(renew?.payload as Uint8Array, DhcpType.ACK, LEASE), 1_800_100);
  assert.deepEqual([client.state, client.dueMs], ["bound", 3_600_000]);
  const again = client.tick(3_600_000);
  assert.ok(again !== undefined);
  while (client.state !== "rebinding") client.tick(client.dueMs);
  assert.ok(client.dueMs > 1_800_000 + 3_150_000 - 1);
  while (client.lease !== undefined) assert.ok(client.tick(client.dueMs) !== undefined);
  assert.equal(client.state, "selecting");
});

test("nak starts anew; decline waits; release ends", () => {
  const first = bound();
  const renew = first.client.tick(1_800_000)?.payload as Uint8Array;
  first.client.receive(reply(renew, DhcpType.NAK), 1_800_001);
  assert.deepEqual([first.client.state, first.client.lease], ["selecting", undefined]);
  const { client } = bound();
  const decline = client.decline(5)?.payload as Uint8Array;
  assert.equal(type(decline), DhcpType.DECLINE);
  assert.deepEqual([...(option(decline, 61) ?? [])], [1, ...MAC]);
  assert.deepEqual([client.lease, client.dueMs], [undefined, 10_005]);
  const last = bound();
  const release = last.client.release(50);
  assert.deepEqual([type(release?.payload), ipv4Text(release?.destination ?? 0)], [DhcpType.RELEASE, "192.0.2.254"]);
  assert.deepEqual([...(option(release?.payload as Uint8Array, 61) ?? [])], [1, ...MAC], "as in the request");
  assert.equal(last.client.dueMs, Number.POSITIVE_INFINITY);
});

test("a server that refuses what it offered is asked again at once, then less and less often", () => {
  const client = new DhcpClient({ mac: MAC, random: () => 0.5 }, 0);
  const waits: number[] = [];
  for (let nowMs = 0, i = 0; i < 8; i++, nowMs = client.dueMs) {
    const discover = client.tick(nowMs)?.payload as Uint8Array;
    const request = client.receive(reply(discover, DhcpType.OFFER, LEASE), nowMs)?.payload as Uint8Array;
    client.receive(reply(request, DhcpType.NAK), nowMs);
    waits.push(client.dueMs - nowMs);
  }
  assert.deepEqual(waits, [0, 4000, 8000, 16_000, 32_000, 64_000, 64_000, 64_000]);
  const discover = client.tick(client.dueMs)?.payload as Uint8Array;
  const nowMs = client.dueMs;
  const request = client.receive(reply(discover, DhcpType.OFFER, LEASE), nowMs)?.payload as Uint8Array;
  client.receive(reply(request, DhcpType.ACK, LEASE), nowMs);
  const renew = client.tick(client.dueMs)?.payload as Uint8Array;
  client.receive(reply(renew, DhcpType.NAK), 2e9);
  assert.equal(client.dueMs, 2e9, "a lease in between makes it the first refusal");
});

test("answers that are not for us or say nonsense change nothing", () => {
  const client = new DhcpClient({ mac: MAC, random: () => 0.5 }, 0);
  const discover = client.tick(0)?.payload as Uint8Array;
  const wrong: Uint8Array[] = [];
  const change = (act: (bytes: Uint8Array) => void): void => {
    const bytes = reply(discover, DhcpType.OFFER, LEASE);
    act(bytes);
    wrong.push(bytes);
  };
  change((bytes) => (bytes[0] = 1));
  change((bytes) => (bytes[28] = 0x53));
  change((bytes) => (bytes[7] = (bytes[7] as number) ^ 1));
  change((bytes) => (bytes[236] = 0));
  change((bytes) => (bytes[242] = DhcpType.ACK));
  change((bytes) => put32(bytes, 16, ipv4("224.0.0.1")));
  wrong.push(reply(discover, DhcpType.OFFER).subarray(0, 250));
  for (const bytes of wrong.slice(0, -1)) assert.equal(client.receive(bytes, 0), undefined);
  const request = client.receive(reply(discover, DhcpType.OFFER, LEASE), 0)?.payload as Uint8Array;
  const acks: [number, number[] | Uint8Array][][] = [
    [
      [DhcpOption.SUBNET_MASK, bytes32(ipv4("255.0.255.0"))],
      [DhcpOption.LEASE_SECONDS, bytes32(60)],
    ],
    [[DhcpOption.SUBNET_MASK, bytes32(ipv4("255.255.255.0"))]],
  ];
  for (const options of acks) client.receive(reply(request, DhcpType.ACK, options), 0);
  client.receive(reply(request, DhcpType.ACK, LEASE, ipv4("192.0.2.51")), 0);
  assert.deepEqual([client.state, client.refused], ["requesting", 4]);
});

test("options go on in file and sname, and in pieces; any bytes are read without a throw", () => {
  const bytes = reply(new Uint8Array(300), DhcpType.ACK, [
    [DhcpOption.OVERLOAD, [3]],
    [DhcpOption.DOMAIN_NAME, [...Buffer.from("exa")]],
  ]);
  bytes.set([DhcpOption.DOMAIN_NAME, 4, ...Buffer.from("mple"), 255], 108);
  bytes.set([DhcpOption.MTU, 2, 5, 0xdc, 255], 44);
  const read = readReply(bytes, MAC);
  assert.equal(Buffer.from(read?.options.get(DhcpOption.DOMAIN_NAME) ?? []).toString(), "example");
  assert.deepEqual([...(read?.options.get(DhcpOption.MTU) ?? [])], [5, 0xdc]);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 0, maxLength: 100 }), (tail) => {
      const message = Uint8Array.of(...bytes.subarray(0, 240), ...tail);
      readReply(message, MAC);
    }),
  );
});
