import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { ArpOperation, ArpPacket, putArp } from "./arp.ts";
import { get32, put32 } from "./byte-order.ts";
import { finishSum, sumBytes } from "./checksum.ts";
import { EthernetHeader, putType } from "./ethernet.ts";
import { IcmpMessage, IcmpType, putEcho, putError, quoted } from "./icmp.ts";
import { fragmentPayload, Ipv4Header, Ipv4Outgoing, putIpv4Header, ROUTER_ALERT } from "./ipv4.ts";
import {
  ipv4,
  ipv4Text,
  isHostAddress,
  multicastMac,
  parseIpv4,
  parseNetwork,
  prefixMask,
  prefixOfMask,
} from "./ipv4-address.ts";
import { putUdpHeader, UdpHeader } from "./udp.ts";

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text.trim().split(/\s+/), (byte) => Number.parseInt(byte, 16));
}

test("checksum: the example of RFC 1071, section 3", () => {
  const bytes = bytesOf("00 01 f2 03 f4 f5 f6 f7");
  assert.equal(sumBytes(bytes, 0, 8), 0xddf2);
  assert.equal(finishSum(0xddf2), 0x220d);
  assert.equal(sumBytes(bytes, 0, 7), (0xddf2 - 0xf7 + 0xffff) % 0xffff);
});

test("checksum: any bytes with their checksum sum up to all ones, in any split", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(200), (content, split) => {
      const even = Math.min(content.length, split) & ~1;
      const parts = sumBytes(content, even, content.length - even, sumBytes(content, 0, even));
      assert.equal(parts, sumBytes(content, 0, content.length));
      const sum = finishSum(parts);
      const padded = content.length % 2 === 1 ? [...content, 0] : [...content];
      assert.equal(sumBytes(Uint8Array.of(...padded, sum >>> 8, sum & 0xff), 0, padded.length + 2), 0xffff);
    }),
  );
});

test("addresses: text and back, networks, groups", () => {
  assert.equal(ipv4Text(ipv4("192.0.2.255")), "192.0.2.255");
  for (const wrong of ["192.0.2", "192.0.2.256", "192.0.2.01", "a.b.c.d", "", "1.2.3.4.5"]) {
    assert.equal(parseIpv4(wrong), undefined);
    assert.throws(() => ipv4(wrong), { code: "ADDRESS_INVALID" });
  }
  assert.deepEqual(parseNetwork("10.1.2.3/8"), { address: 0x0a010203, prefix: 8 });
  for (const wrong of [
    "10.0.0.0/8",
    "10.255.255.255/8",
    "224.0.0.1/4",
    "10.0.0.1/33",
    "10.0.0.1",
    "127.0.0.1/8",
    "0.0.0.1/8",
  ]) {
    assert.throws(() => parseNetwork(wrong), { code: "ADDRESS_INVALID" });
  }
  // RFC 3021: both addresses of a network of two.
  assert.ok(isHostAddress(ipv4("192.0.2.0"), 31) && isHostAddress(ipv4("192.0.2.1"), 32));
  for (let prefix = 0; prefix <= 32; prefix++) assert.equal(prefixOfMask(prefixMask(prefix)), prefix);
  assert.equal(prefixOfMask(ipv4("255.0.255.0")), -1);
  // RFC 1112, section 6.4: only 23 bits of the group count.
  assert.equal(multicastMac(ipv4("224.1.2.3")), 0x01005e010203);
  assert.equal(multicastMac(ipv4("239.129.2.3")), 0x01005e010203);
});

test("Ethernet: plain, tagged, short", () => {
  const header = new EthernetHeader();
  const frame = new Uint8Array(64);
  assert.equal(putType(frame, 0, 0x0800, -1), 14);
  assert.ok(header.read(frame, 0, 60));
  assert.deepEqual([header.type, header.payloadAt, header.vlan], [0x0800, 14, -1]);
  assert.equal(putType(frame, 2, 0x0806, 0x123), 18);
  assert.ok(header.read(frame, 2, 60));
  assert.deepEqual([header.type, header.payloadAt, header.vlan], [0x0806, 18, 0x123]);
  assert.equal(header.read(frame, 2, 17), false);
  assert.equal(header.read(frame, 2, 13), false);
});

// An echo request as ping makes them; its two checksums are written by the tests.
const PING = bytesOf(`45 00 00 54 a6 f2 40 00 40 01 12 57 c0 a8 00 01 c0 a8 00 0a
  08 00 9b c5 00 01 00 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 10 11 12 13 14 15 16 17
  18 19 1a 1b 1c 1d 1e 1f 20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f 30 31 32 33 34 35 36 37`);

test("IPv4: every field of a header", () => {
  const bytes = PING.slice();
  const header = new Ipv4Header();
  bytes[10] = 0;
  bytes[11] = 0;
  const sum = finishSum(sumBytes(bytes, 0, 20));
  bytes[10] = sum >>> 8;
  bytes[11] = sum & 0xff;
  assert.equal(header.read(bytes, 0, bytes.length), undefined);
  const { headerBytes, payloadBytes, identification, dontFragment, fragment, timeToLive, protocol } = header;
  assert.deepEqual([headerBytes, payloadBytes, identification, dontFragment, fragment], [20, 64, 0xa6f2, true, false]);
  assert.deepEqual(
    [timeToLive, protocol, ipv4Text(header.source), ipv4Text(header.destination)],
    [64, 1, "192.168.0.1", "192.168.0.10"],
  );
});

test("IPv4: the header of the Wikipedia article on its checksum", () => {
  const bytes = bytesOf("45 00 00 73 00 00 40 00 40 11 b8 61 c0 a8 00 01 c0 a8 00 c7");
  const header = new Ipv4Header();
  assert.equal(header.read(Uint8Array.of(...bytes, ...new Uint8Array(95)), 0, 115), undefined);
  const outgoing = new Ipv4Outgoing();
  Object.assign(outgoing, {
    protocol: 17,
    payloadBytes: 95,
    dontFragment: true,
    source: header.source,
    destination: header.destination,
  });
  const written = new Uint8Array(20);
  putIpv4Header(written, 0, outgoing);
  assert.deepEqual(written, bytes);
});

test("IPv4: what a header must not say", () => {
  const header = new Ipv4Header();
  const outgoing = new Ipv4Outgoing();
  Object.assign(outgoing, { protocol: 17, payloadBytes: 8, source: ipv4("192.0.2.1"), destination: ipv4("192.0.2.2") });
  const read = (change: ((bytes: Uint8Array) => void) | undefined, available = 28): string | undefined => {
    const bytes = new Uint8Array(64);
    putIpv4Header(bytes, 0, outgoing);
    if (change !== undefined) {
      change(bytes);
      bytes[10] = 0;
      bytes[11] = 0;
      const sum = finishSum(sumBytes(bytes, 0, ((bytes[0] as number) & 15) * 4));
      bytes[10] = sum >>> 8;
      bytes[11] = sum & 0xff;
    }
    return header.read(bytes, 0, available);
  };
  assert.equal(read(undefined), undefined);
  assert.equal(read(undefined, 19), "short");
  assert.equal(read(undefined, 27), "total-length");
  assert.equal(
    read((bytes) => (bytes[0] = 0x65)),
    "version",
  );
  assert.equal(
    read((bytes) => (bytes[0] = 0x44)),
    "header-length",
  );
  assert.equal(
    read((bytes) => (bytes[0] = 0x4f)),
    "header-length",
  );
  assert.equal(
    read((bytes) => (bytes[3] = 19)),
    "total-length",
  );
  assert.equal(
    read((bytes) => (bytes[12] = 224)),
    "source",
  );
  assert.equal(
    read((bytes) => (bytes[12] = 127)),
    "source",
  );
  assert.equal(
    read((bytes) => put32(bytes, 12, -1)),
    "source",
  );
  // The ping of death: a last piece behind the longest datagram's end.
  assert.equal(
    read((bytes) => ((bytes[6] = 0x1f), (bytes[7] = 0xff))),
    "fragment",
  );
  // A piece in the middle whose length is no multiple of 8.
  assert.equal(
    read((bytes) => ((bytes[6] = 0x20), (bytes[3] = 27))),
    "fragment",
  );
  const bad = new Uint8Array(64);
  putIpv4Header(bad, 0, outgoing);
  bad[8] = 1;
  assert.equal(header.read(bad, 0, 28), "checksum");
  assert.equal(header.read(bad, 0, 28, true), undefined);
});

test("IPv4: options are written, and skipped when read", () => {
  const outgoing = new Ipv4Outgoing();
  Object.assign(outgoing, {
    protocol: 2,
    payloadBytes: 8,
    options: ROUTER_ALERT,
    source: ipv4("192.0.2.1"),
    destination: ipv4("224.0.0.22"),
  });
  const bytes = new Uint8Array(64);
  assert.equal(putIpv4Header(bytes, 3, outgoing), 24);
  const header = new Ipv4Header();
  assert.equal(header.read(bytes, 3, 32), undefined);
  assert.deepEqual([header.headerBytes, header.payloadBytes, header.protocol], [24, 8, 2]);
  assert.equal(fragmentPayload(1500, 20), 1480);
  assert.equal(fragmentPayload(576, 24), 552);
});

test("headers: whatever bytes come, reading neither throws nor reaches beyond", () => {
  const parts = [new Ipv4Header(), new IcmpMessage(), new UdpHeader(), new ArpPacket()] as const;
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.boolean(), (bytes, looksRight) => {
      const [header, icmp, udp, arp] = parts;
      if (looksRight && bytes.length > 0) bytes[0] = 0x45;
      const problem = header.read(bytes, 0, bytes.length, looksRight);
      if (problem === undefined) assert.ok(header.headerBytes + header.payloadBytes <= bytes.length);
      if (udp.read(bytes, 0, bytes.length, 1, 2, "trust") === undefined)
        assert.ok(udp.payloadBytes + 8 <= bytes.length);
      icmp.read(bytes, 0, bytes.length);
      quoted(bytes, 0, bytes.length);
      arp.read(bytes, 0, bytes.length, 0);
    }),
    { numRuns: 2000 },
  );
});

test("ARP: the request that RFC 826's example would make, and its answer", () => {
  const asker = bytesOf("02 00 00 00 00 01");
  const frame = new Uint8Array(60);
  frame.set(asker, 6);
  const at = putType(frame, 0, 0x0806, -1);
  const content = {
    operation: ArpOperation.REQUEST,
    senderMac: asker,
    senderAddress: ipv4("192.0.2.1"),
    targetMac: new Uint8Array(6),
    targetAddress: ipv4("192.0.2.2"),
  };
  assert.equal(putArp(frame, at, content), 28);
  assert.deepEqual(
    frame.slice(14, 42),
    bytesOf("00 01 08 00 06 04 00 01 02 00 00 00 00 01 c0 00 02 01 00 00 00 00 00 00 c0 00 02 02"),
  );
  const arp = new ArpPacket();
  assert.equal(arp.read(frame, at, 46, 6), undefined);
  assert.deepEqual(
    [arp.operation, ipv4Text(arp.senderAddress), ipv4Text(arp.targetAddress)],
    [1, "192.0.2.1", "192.0.2.2"],
  );
  assert.equal(arp.read(frame, at, 27, 6), "short");
  frame[6] = 4;
  assert.equal(arp.read(frame, at, 46, 6), "spoofed", "the frame has another source than the packet");
  frame[6] = 2;
  put32(frame, at + 14, -1);
  assert.equal(arp.read(frame, at, 46, 6), "spoofed", "nobody has the address of all");
  frame[at + 5] = 16;
  assert.equal(arp.read(frame, at, 46, 6), "format");
});

test("ICMP: an echo, and an error that quotes a datagram", () => {
  const bytes = PING.slice(20);
  putEcho(bytes, 0, IcmpType.ECHO_REQUEST, 1, 1, bytes.length - 8);
  const icmp = new IcmpMessage();
  assert.equal(icmp.read(bytes, 0, bytes.length), undefined);
  assert.deepEqual([icmp.type, icmp.identifier, icmp.sequence, icmp.payloadBytes], [8, 1, 1, 56]);
  bytes[30] = (bytes[30] as number) ^ 1;
  assert.equal(icmp.read(bytes, 0, bytes.length), "checksum");
  const datagram = new Uint8Array(40);
  const outgoing = new Ipv4Outgoing();
  Object.assign(outgoing, {
    protocol: 17,
    payloadBytes: 20,
    source: ipv4("192.0.2.1"),
    destination: ipv4("192.0.2.2"),
  });
  putIpv4Header(datagram, 0, outgoing);
  putUdpHeader(datagram, 20, 1000, 7, 12, outgoing.source, outgoing.destination);
  const message = new Uint8Array(64);
  const length = putError(message, 0, { type: IcmpType.UNREACHABLE, code: 3 }, datagram, 0, 28);
  assert.equal(icmp.read(message, 0, length), undefined);
  assert.deepEqual([icmp.type, icmp.code], [3, 3]);
  const about = quoted(message, 0, length);
  assert.deepEqual(about, {
    protocol: 17,
    source: outgoing.source,
    destination: outgoing.destination,
    first: 1000,
    second: 7,
  });
  assert.equal(quoted(message, 0, length - 1), undefined);
});

test("UDP: checksum over the pseudo header, odd lengths, none, partial", () => {
  const [source, destination] = [ipv4("192.0.2.1"), ipv4("198.51.100.7")];
  const header = new UdpHeader();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(0xffff), fc.nat(99), (payload, port, flip) => {
      const bytes = new Uint8Array(8 + payload.length);
      bytes.set(payload, 8);
      putUdpHeader(bytes, 0, port, 7, payload.length, source, destination);
      assert.ok(bytes[6] !== 0 || bytes[7] !== 0, "zero would say that there is no checksum");
      assert.equal(header.read(bytes, 0, bytes.length, source, destination), undefined);
      assert.deepEqual([header.sourcePort, header.destinationPort, header.payloadBytes], [port, 7, payload.length]);
      const at = flip % bytes.length;
      bytes[at] = (bytes[at] as number) ^ 0x10;
      if (at !== 4 && at !== 5) assert.equal(header.read(bytes, 0, bytes.length, source, destination), "checksum");
    }),
  );
  const bytes = new Uint8Array(12);
  putUdpHeader(bytes, 0, 1, 2, 4, source, destination, true);
  // 192.0.2.1 + 198.51.100.7 + 17 + 12, by hand.
  const sum = 0xc000 + 0x0201 + 0xc633 + 0x6407 + 17 + 12;
  assert.equal((get32(bytes, 4) & 0xffff) >>> 0, (sum & 0xffff) + (sum >>> 16));
  bytes[6] = 0;
  bytes[7] = 0;
  assert.equal(header.read(bytes, 0, 12, source, destination), undefined, "no checksum");
  assert.equal(header.read(bytes, 0, 11, source, destination), "length");
  bytes[5] = 7;
  assert.equal(header.read(bytes, 0, 12, source, destination), "length");
});
