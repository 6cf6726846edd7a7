import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { captured } from "../captured-run.ts";
import { macFor, openNetwork, parseLink } from "./network.ts";

test("links by their words", () => {
  assert.deepEqual(parseLink("switch"), { kind: "switch" });
  assert.deepEqual(parseLink("tap:tap0"), { kind: "tap", name: "tap0" });
  assert.deepEqual(parseLink("stream:/tmp/a:b"), { kind: "stream", path: "/tmp/a:b" });
  for (const wrong of ["tap", "tap:", "hub:1", ""]) assert.throws(() => parseLink(wrong), /tap:NAME or stream:PATH/);
});

test("several cards meet in a switch: what one sends reaches the others", async () => {
  using resources = new DisposableStack();
  const { links, description } = await openNetwork([], 3, resources);
  assert.equal(description, "a switch with 3 devices");
  const heard: number[] = [];
  for (const [index, link] of links.entries()) {
    link.attach({
      receive: () => heard.push(index) > 0,
      linkChanged: () => undefined,
      writable: () => undefined,
    });
  }
  const broadcast = new Uint8Array(60).fill(0xff, 0, 6);
  broadcast.set([0x52, 0x54, 0, 0, 0, 1], 6);
  assert.equal(links[0]?.send(broadcast), true);
  while (heard.length < 2) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(new Set(heard), new Set([1, 2]));
});

test("one card and one stream are plugged together, without a switch", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "ring3-network-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "net.sock");
  using resources = new DisposableStack();
  const { links, description } = await openNetwork([{ kind: "stream", path }], 1, resources);
  assert.equal(description, `stream:${path}`);
  assert.equal(links[0]?.up, false);
  const wired = await openNetwork([{ kind: "stream", path }, { kind: "switch" }], 1, resources);
  assert.equal(wired.description, `a switch with 1 device and stream:${path}`);
});

test("addresses follow from the socket's path", () => {
  assert.match(macFor("/tmp/a.sock"), /^52:54:00(:[0-9a-f]{2}){3}$/);
  assert.equal(macFor("/tmp/a.sock"), macFor("/tmp/../tmp/a.sock"));
  assert.notEqual(macFor("/tmp/a.sock"), macFor("/tmp/b.sock"));
});

test("mistakes are usage errors", async () => {
  const cases: [RegExp, ...string[]][] = [
    [/--socket is missing/],
    [/plugged into nothing: give --link/, "--socket", "/a"],
    [/each --socket takes another path/, "--socket", "/a", "--socket", "/a"],
    [/2 --mac for 1 cards/, "--socket", "/a", "--mac", "52:54:00:00:00:01", "--mac", "52:54:00:00:00:02"],
    [/an address of one card.*"01:00:5e:00:00:01"/, "--socket", "/a", "--mac", "01:00:5e:00:00:01"],
    [/--state keeps one card/, "--socket", "/a", "--socket", "/b", "--state", "/s"],
    [/tap:NAME or stream:PATH/, "--socket", "/a", "--link", "hub"],
  ];
  for (const [message, ...words] of cases) {
    const { status, stderr } = await captured(["serve", "virtio-net", ...words]);
    assert.equal(status, 2, stderr);
    assert.match(stderr, message);
  }
});
