import assert from "node:assert/strict";
import { fstatSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { createMemoryFile } from "./memory-file.ts";
import { SocketChannel } from "./socket-channel.ts";
import { UnixSocket } from "./sockets.ts";

const SIZES = { inputBytes: 65536, outputBytes: 8192 } as const;

function pair(): [SocketChannel, SocketChannel] {
  const [one, other] = UnixSocket.pair();
  return [new SocketChannel(one.fd, SIZES), new SocketChannel(other.fd, { ...SIZES, maximumFds: 3 })];
}

test("bytes and descriptors go across, from either area and at any place", () => {
  const [one, other] = pair();
  one.output.bytes.set([1, 2, 3, 4], 10);
  assert.equal(one.send(10, 4), 4);
  assert.equal(other.receive(100, 50), 4);
  assert.deepEqual([...other.input.bytes.subarray(100, 104)], [1, 2, 3, 4]);
  assert.equal(other.hasFds, false);
  one.request.words[0] = 0x0403_0201;
  using file = createMemoryFile(4096);
  assert.equal(one.sendWithFds(0, 4, [file, file], "request"), 4);
  assert.equal(other.receive(0, 4096), 4);
  assert.equal(other.input.words[0], 0x0403_0201);
  assert.ok(other.hasFds && !other.fdsLost);
  const fds = other.takeFds();
  assert.ok(!other.hasFds);
  assert.deepEqual(
    fds.map((fd) => fstatSync(fd.number).ino),
    [fstatSync(file.number).ino, fstatSync(file.number).ino],
  );
  for (const fd of fds) fd.close();
  assert.equal(other.receive(0, 4096), -11);
  one[Symbol.dispose]();
  assert.equal(other.receive(0, 4096), 0);
  other[Symbol.dispose]();
  assert.equal(other.receive(0, 4096), 0);
  assert.equal(other.send(0, 1), -32);
});

test("more descriptors than there is room for are lost and told, not leaked", () => {
  const [one, other] = pair();
  using file = createMemoryFile(4096);
  const before = readdirSync("/proc/self/fd").length;
  one.sendWithFds(0, 1, [file, file, file, file, file, file]);
  assert.equal(other.receive(0, 10), 1);
  assert.ok(other.fdsLost);
  for (const fd of other.takeFds()) fd.close();
  assert.equal(readdirSync("/proc/self/fd").length, before);
  one[Symbol.dispose]();
  other[Symbol.dispose]();
});

test("waiting is bounded, and ends when something happens", () => {
  const [one, other] = pair();
  assert.equal(other.wait("readable", 5), false);
  assert.equal(other.wait("writable", 0), true);
  one.send(0, 1);
  assert.equal(other.wait("readable", 10_000), true);
  while (one.send(0, 8192) > 0);
  assert.equal(one.wait("writable", 0), false);
  other[Symbol.dispose]();
  assert.equal(one.wait("readable", 10_000), true);
  one[Symbol.dispose]();
});

test("after disposal views find nothing", () => {
  const [one, other] = pair();
  const { words } = one.output;
  one[Symbol.dispose]();
  one[Symbol.dispose]();
  assert.equal(words.length, 0);
  other[Symbol.dispose]();
});
