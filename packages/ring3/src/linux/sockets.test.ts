// seconds: 1
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { fchmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { createArena } from "./arena-memory.ts";
import { EventFd } from "./event-fd.ts";
import { readAt, writeAt } from "./file-access.ts";
import { FileDescriptor } from "./file-descriptor.ts";
import { openFilesCount } from "./limits.ts";
import { createMemoryFile } from "./memory-file.ts";
import { pageSize } from "./memory-map.ts";
import { waitReadable, watch } from "./poller.ts";
import { boundPath, probeListener, UnixListener, UnixSocket } from "./sockets.ts";
import * as native from "./native.ts";
import { DeviceWindow } from "./windows.ts";

const folder = mkdtempSync(join(tmpdir(), "ring3-sockets-"));
after(() => rmSync(folder, { recursive: true }));

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

test("bytes and descriptors arrive together, at the bytes that they were sent with", () => {
  const [left, right] = UnixSocket.pair();
  using _left = left;
  using _right = right;
  using signal = new EventFd();
  using file = createMemoryFile(pageSize);
  assert.equal(left.send([text("he"), text("llo")], [signal.fd, file]), 5);
  const into = new Uint8Array(16);
  const { size, fds, fdsLost } = right.receive(into);
  assert.equal(new TextDecoder().decode(into.subarray(0, size)), "hello");
  assert.equal(fds.length, 2);
  assert.equal(fdsLost, false);
  using theirs = new EventFd(fds[0]);
  theirs.write(3);
  assert.equal(signal.read(), 3);
  assert.equal(signal.read(), 0);
  writeAt(fds[1] as FileDescriptor, 100, text("same file"));
  const bytes = new Uint8Array(9);
  readAt(file, 100, bytes);
  assert.equal(new TextDecoder().decode(bytes), "same file");
  const CLOSE_ON_EXEC = 0o2000000;
  const flags = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fds[1]?.number}`, "utf8"))?.[1] ?? "0";
  assert.equal(Number.parseInt(flags, 8) & CLOSE_ON_EXEC, CLOSE_ON_EXEC);
  fds[1]?.close();
  assert.deepEqual(right.receive(into), { size: -11, fds: [], fdsLost: false });
  left.fd.close();
  assert.equal(right.receive(into).size, 0);
  assert.throws(() => left.send([text("x")]), { code: "FD_CLOSED" });
  assert.equal(right.send([text("x")]), -32);
});

test("more descriptors than there is room for are closed, not leaked", () => {
  const [left, right] = UnixSocket.pair();
  using _left = left;
  using narrow = new UnixSocket(right.fd, { maximumFds: 2 });
  const signals = Array.from({ length: 5 }, () => new EventFd());
  const before = openFilesCount();
  assert.equal(
    left.send(
      [text("x")],
      signals.map(({ fd }) => fd),
    ),
    1,
  );
  const { size, fds, fdsLost } = narrow.receive(new Uint8Array(4));
  assert.equal(size, 1);
  assert.equal(fds.length, 2);
  assert.equal(fdsLost, true);
  for (const fd of fds) fd.close();
  assert.equal(openFilesCount(), before);
  for (const signal of signals) signal[Symbol.dispose]();
});

test("253 descriptors in one message, a full buffer, large parts", () => {
  const [left, right] = UnixSocket.pair();
  using _left = left;
  using wide = new UnixSocket(right.fd, { maximumFds: 253 });
  using signal = new EventFd();
  assert.equal(left.send([text("x")], Array(253).fill(signal.fd)), 1);
  const { fds } = wide.receive(new Uint8Array(1));
  assert.equal(fds.length, 253);
  for (const fd of fds) fd.close();
  assert.throws(() => left.send([text("x")], Array(254).fill(signal.fd)), RangeError);
  assert.throws(() => left.send(Array(17).fill(text("x"))), RangeError);
  const megabyte = new Uint8Array(2 ** 20).fill(7);
  let sent = 0;
  for (let result = 0; result >= 0; sent += Math.max(result, 0)) result = left.send([megabyte]);
  const into = new Uint8Array(2 ** 16);
  let received = 0;
  while (received < sent) {
    const { size } = wide.receive(into);
    assert.ok(size > 0 && into[0] === 7 && into[size - 1] === 7);
    received += size;
  }
  assert.equal(received, sent);
});

test("seqpacket keeps messages apart", () => {
  const [left, right] = UnixSocket.pair("seqpacket");
  using _left = left;
  using _right = right;
  left.send([text("one")]);
  left.send([text("three")]);
  assert.equal(right.receive(new Uint8Array(64)).size, 3);
  assert.equal(right.receive(new Uint8Array(64)).size, 5);
});

test("listen, connect, credentials, and errors that name the fix", async () => {
  const path = join(folder, "socket");
  assert.throws(() => UnixSocket.connect(path), { errno: "ENOENT", call: `connect ${path}` });
  using listener = UnixListener.listen(path);
  assert.equal(listener.accept(), undefined);
  assert.throws(() => UnixListener.listen(path), { errno: "EADDRINUSE", message: /remove/ });
  const accepted = new Promise<UnixSocket>((resolve) => {
    const watching = watch(listener.fd, () => {
      const socket = listener.accept();
      if (socket === undefined) return;
      watching[Symbol.dispose]();
      resolve(socket);
    });
  });
  using client = UnixSocket.connect(path);
  using server = await accepted;
  const { pid, uid, gid } = server.peerCredentials();
  assert.equal(pid, process.pid);
  assert.equal(uid, process.getuid?.());
  // Node counts the group of the process among them.
  assert.deepEqual(sorted([...(server.peerGroups() ?? []), gid]), sorted([...(process.getgroups?.() ?? []), gid]));
  client.send([text("x")]);
  assert.deepEqual(waitReadable([server.fd, listener.fd], 1000), [server.fd]);
  client.shutdown();
  assert.equal(server.receive(new Uint8Array(4)).size, 1);
  assert.equal(server.receive(new Uint8Array(4), true).size, 0);
  assert.throws(() => UnixSocket.connect(`/${"x".repeat(200)}`), { code: "PATH_INVALID" });
  assert.throws(() => UnixSocket.connect(""), { code: "PATH_INVALID" });
});

test("a socket that listens already is taken over, anything else is left alone", () => {
  const path = join(folder, "inherited");
  const first = UnixListener.listen(path);
  const copy = first.fd.duplicate().number;
  {
    using listener = UnixListener.inherited(copy);
    first[Symbol.dispose]();
    using client = UnixSocket.connect(path);
    using server = listener.accept();
    assert.ok(server !== undefined && client.send([text("x")]) === 1);
    assert.equal(listener.accept(), undefined);
  }
  const invalid = (number: number, message: RegExp): void =>
    assert.throws(() => UnixListener.inherited(number), { code: "LISTEN_FD_INVALID", message });
  invalid(copy, /is not open/);
  for (const number of [-1, 1.5, Number.NaN, 2 ** 40]) invalid(number, /is no number/);
  using file = createMemoryFile(pageSize);
  invalid(file.number, /is no socket/);
  const [left, right] = UnixSocket.pair();
  invalid(left.fd.number, /does not listen/);
  using packets = UnixListener.listen(join(folder, "packets"), { kind: "seqpacket" });
  invalid(packets.fd.number, /is no stream socket/);
  assert.equal(left.send([text("x")]), 1);
  right[Symbol.dispose]();
  left[Symbol.dispose]();
});

test("as many additional groups as the peer has", {
  skip: process.getuid?.() !== 0 && "only root chooses groups",
}, () => {
  const before = process.getgroups?.() ?? [];
  for (const groups of [[], [7], Array.from({ length: 100 }, (_, i) => 5000 + i), before]) {
    process.setgroups?.(groups);
    const [left, right] = UnixSocket.pair();
    assert.deepEqual(sorted(left.peerGroups() ?? []), sorted(groups));
    left[Symbol.dispose]();
    right[Symbol.dispose]();
  }
});

function sorted(groups: readonly number[] = []): readonly number[] {
  return [...new Set(groups)].sort((a, b) => a - b);
}

test("another process maps the same memory and signals; killing it is no problem", async () => {
  const path = join(folder, "peer");
  using listener = UnixListener.listen(path);
  const child = spawn(process.execPath, ["--input-type=module", "-e", PEER], {
    env: { ...process.env, RING3_SOCKET: path, RING3_LINUX: new URL("./index.ts", import.meta.url).href },
    stdio: ["ignore", "inherit", "inherit"],
  });
  waitReadable([listener.fd], 20_000);
  using socket = listener.accept() as UnixSocket;
  assert.notEqual(socket, undefined);
  assert.equal(socket.peerCredentials().pid, child.pid);
  const { fds } = socket.receive(new Uint8Array(16), true);
  const [file, bell] = fds as [FileDescriptor, FileDescriptor];
  using signal = new EventFd(bell);
  const window = DeviceWindow.map(createArena(), file, 0, pageSize);
  const rung = new Promise<number>((resolve) => {
    const watching = signal.watch((count) => {
      watching[Symbol.dispose]();
      resolve(count);
    });
  });
  window.write32(0, 41);
  socket.send([text("go")]);
  assert.equal(await rung, 1);
  assert.equal(window.read32(4), 42);
  child.kill("SIGKILL");
  await once(child, "exit");
  assert.equal(window.read32(4), 42);
  file.close();
});

const PEER = `
  const { createArena, createMemoryFile, DeviceWindow, EventFd, UnixSocket, pageSize } = await import(process.env.RING3_LINUX);
  const file = createMemoryFile(pageSize), bell = new EventFd();
  const window = DeviceWindow.map(createArena(), file, 0, pageSize);
  const socket = UnixSocket.connect(process.env.RING3_SOCKET);
  socket.send([new Uint8Array(1)], [file, bell.fd]);
  socket.receive(new Uint8Array(4), true);
  window.write32(4, window.read32(0) + 1);
  bell.write();
  setInterval(() => {}, 1000);`;

test("a watch that keeps no process alive does not abort one that ends while its descriptor is ready", () => {
  const script = `
    const { UnixSocket, watch } = await import(${JSON.stringify(new URL("./index.ts", import.meta.url).href)});
    const [one, other] = UnixSocket.pair();
    watch(one.fd, () => undefined, { keepsAlive: false });
    process.on("exit", () => other.send([new Uint8Array(1)]));`;
  const { status, signal, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script]);
  assert.deepEqual([status, signal], [0, null], stderr.toString());
});

test("whether somebody listens", () => {
  const directory = mkdtempSync(join(tmpdir(), "ring3-probe-"));
  const path = join(directory, "s");
  assert.equal(probeListener(path), "none");
  const listener = UnixListener.listen(path, { backlog: 1, before: (fd) => fchmodSync(fd.number, 0o600) });
  assert.equal(statSync(path).mode & 0o777, 0o600);
  // A full queue is no reason to wait.
  for (let i = 0; i < 5; i++) assert.equal(probeListener(path), "live");
  listener[Symbol.dispose]();
  assert.equal(probeListener(path), "dead");
  rmSync(directory, { recursive: true });
});

test("a peer's groups are those that it had", () => {
  const [left, right] = UnixSocket.pair();
  using _left = left;
  using _right = right;
  const sorted = (groups: readonly number[]): number[] => groups.toSorted((a, b) => a - b);
  // Node adds the effective group, which the kernel does not count among them.
  const own = new Set([...(left.peerGroups() ?? []), process.getegid?.() ?? 0]);
  assert.deepEqual(sorted([...own]), sorted([...new Set(process.getgroups?.())]));
});

test("more groups than there is room for at first", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  const program = `
    import { UnixSocket } from ${JSON.stringify(join(import.meta.dirname, "sockets.ts"))};
    const groups = Array.from({ length: 300 }, (_, index) => 5000 + index);
    process.setgroups(groups);
    const [left] = UnixSocket.pair();
    if (String(left.peerGroups()) !== String(groups)) throw new Error(String(left.peerGroups()));`;
  const script = join(folder, "groups.mjs");
  writeFileSync(script, program);
  const { status, stderr } = spawnSync(process.execPath, [script], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
});

/** A datagram socket at an address, as the service manager's. */
function receiver(address: Uint8Array): UnixSocket {
  const AF_UNIX = 1;
  const SOCK_DGRAM = 2;
  const number = native.systemCall("socket", () => native.socket(AF_UNIX, SOCK_DGRAM, 0));
  native.systemCall("bind", () => native.bind(number, address, address.length));
  return new UnixSocket(new FileDescriptor(number));
}

test("datagrams keep their ends, at a path and at an abstract name", () => {
  const path = join(folder, "datagrams");
  const name = `@ring3-test-${process.pid}`;
  const addresses = [
    [path, text(`\x01\0${path}\0`)],
    [name, text(`\x01\0\0${name.slice(1)}`)],
  ] as const;
  for (const [to, address] of addresses) {
    using there = receiver(address);
    using here = UnixSocket.connect(to, "datagram");
    assert.equal(here.send([text("READY=1\n"), text("STATUS=x")]), 16);
    here.send([text("second")]);
    const into = new Uint8Array(100);
    for (const expected of ["READY=1\nSTATUS=x", "second"]) {
      const { size } = there.receive(into);
      assert.equal(new TextDecoder().decode(into.subarray(0, size)), expected);
    }
  }
  assert.throws(() => UnixSocket.connect("@nobody-there", "datagram"), { errno: "ECONNREFUSED" });
});

test("a listening socket's path is known; what has none has none", () => {
  for (const path of [join(folder, "bound"), join(folder, "b".repeat(106 - folder.length))]) {
    using listener = UnixListener.listen(path);
    assert.equal(boundPath(listener.fd.number), path);
  }
  const [left, right] = UnixSocket.pair();
  using _left = left;
  using _right = right;
  assert.equal(boundPath(left.fd.number), undefined);
  using file = FileDescriptor.open("/dev/null");
  assert.equal(boundPath(file.number), undefined);
  const name = `@ring3-bound-${process.pid}`;
  using abstract = receiver(text(`\x01\0\0${name.slice(1)}`));
  assert.equal(boundPath(abstract.fd.number), undefined);
});

test("a descriptor that is given up stays open, and one that was inherited is not passed on", () => {
  const pipe = FileDescriptor.pipe();
  using _write = pipe.write;
  const { read } = pipe;
  const number = read.release();
  assert.throws(() => read.number, { code: "FD_CLOSED" });
  read.close();
  native.fcntl(number, 2, 0);
  const flags = (): string => /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${number}`, "utf8"))?.[1] ?? "";
  assert.equal(Number.parseInt(flags(), 8) & 0o2000000, 0);
  using again = FileDescriptor.inherited(number);
  assert.equal(Number.parseInt(flags(), 8) & 0o2000000, 0o2000000);
  assert.equal(again.number, number);
});
