import assert from "node:assert/strict";
import test from "node:test";
import { put16 } from "./byte-order.ts";
import { finishSum, sumBytes } from "./checksum.ts";
import { IgmpHost } from "./igmp.ts";
import { ipv4, ipv4Text } from "./ipv4-address.ts";

const GROUP = ipv4("239.1.2.3");

/** What is sent at `nowMs`, as `destination: bytes`. */
function sent(host: IgmpHost, nowMs: number): string[] {
  return host.tick(nowMs).map(({ destination, payload }) => {
    assert.equal(sumBytes(payload, 0, payload.length), 0xffff);
    const shown = payload.slice();
    put16(shown, 2, 0);
    return `${ipv4Text(destination)}: ${Buffer.from(shown).toString("hex")}`;
  });
}

function query(bytes: number[], host: IgmpHost, nowMs: number): void {
  const message = Uint8Array.from(bytes);
  put16(message, 2, finishSum(sumBytes(message, 0, message.length)));
  host.receive(message, 0, message.length, nowMs);
}

test("version 3: joining and leaving are said twice (RFC 3376, section 5.1), a query is answered in its time", () => {
  const host = new IgmpHost(() => 0.5);
  assert.ok(host.join(GROUP, 0));
  assert.deepEqual(sent(host, 0), ["224.0.0.22: 220000000000000104000000ef010203"]);
  assert.deepEqual(sent(host, 499), []);
  assert.equal(sent(host, 500).length, 1);
  assert.equal(host.dueMs, Number.POSITIVE_INFINITY);
  // A general query with a maximum of 10 s.
  query([0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0], host, 1000);
  assert.equal(host.dueMs, 6000);
  assert.deepEqual(sent(host, 6000), ["224.0.0.22: 220000000000000102000000ef010203"]);
  assert.ok(host.join(GROUP, 6000));
  assert.ok(!host.leave(GROUP, 6000), "it was joined twice");
  assert.ok(host.leave(GROUP, 6000));
  assert.deepEqual(sent(host, 6000), ["224.0.0.22: 220000000000000103000000ef010203"]);
  assert.equal(sent(host, 6500).length, 1);
  assert.equal(host.dueMs, Number.POSITIVE_INFINITY);
});

test("version 2 while an older querier is heard (RFC 2236): reports to the group, suppression, leave to all routers", () => {
  const host = new IgmpHost(() => 0.5);
  query([0x11, 100, 0, 0, 0, 0, 0, 0], host, 0);
  host.join(GROUP, 0);
  assert.deepEqual(sent(host, 0), ["239.1.2.3: 16000000ef010203"]);
  sent(host, 1000);
  query([0x11, 20, 0, 0, 0xef, 1, 2, 3], host, 2000);
  assert.equal(host.dueMs, 3000);
  query([0x16, 0, 0, 0, 0xef, 1, 2, 3], host, 2500);
  assert.equal(host.dueMs, Number.POSITIVE_INFINITY, "somebody else has reported");
  host.leave(GROUP, 4000);
  assert.deepEqual(sent(host, 4000), ["224.0.0.2: 17000000ef010203"]);
  host.join(GROUP, 300_000);
  assert.match(sent(host, 300_000)[0] ?? "", /^224\.0\.0\.22: 22/, "version 3 again after its time");
});

test("what is no group, 224.0.0.1, malformed messages, and too many groups", () => {
  const host = new IgmpHost();
  assert.ok(!host.join(ipv4("192.0.2.1"), 0));
  assert.ok(host.join(ipv4("224.0.0.1"), 0));
  assert.equal(host.dueMs, Number.POSITIVE_INFINITY);
  host.receive(Uint8Array.of(0x11, 0, 0, 0), 0, 4, 0);
  host.receive(Uint8Array.of(0x11, 0, 0, 0, 0, 0, 0, 0), 0, 8, 0);
  // Four sources announced, none there.
  query([0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 4], host, 0);
  assert.equal(host.malformed, 3);
  let joined = 1;
  while (host.join(ipv4("239.0.0.0") + joined, 0)) joined++;
  assert.equal(joined, 64);
});
