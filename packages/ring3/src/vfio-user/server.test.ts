// seconds: 2
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createMemoryFile, EventFd, MappedMemory, UnixListener, UnixSocket } from "../linux/index.ts";
import { FakeClient, message, turn, until, versionPayload } from "./fake-client.ts";
import { openDescriptors, ServedTestDevice, serveTestDevice } from "./fake-served.ts";
import {
  Command,
  DeviceInfo,
  DmaMap,
  DmaUnmap,
  HeaderFlag,
  IrqSet,
  RegionAccess,
  RegionInfo,
  WireErrno,
} from "./messages.ts";
import { serve } from "./server.ts";
import { StateFile } from "./server-state.ts";

const { EINVAL, EBUSY, EACCES } = WireErrno;

function registerWrite(offset: number, value: number): Uint8Array {
  return Uint8Array.of(
    ...RegionAccess.bytes({ offset: BigInt(offset), region: 0, count: 4 }),
    ...new Uint8Array(Uint32Array.of(value).buffer),
  );
}

async function registerRead(client: FakeClient, offset: number): Promise<number> {
  const request = RegionAccess.bytes({ offset: BigInt(offset), region: 0, count: 4 });
  const { payload } = await client.request(Command.REGION_READ, request);
  return new DataView(payload.buffer).getUint32(16, true);
}

test("QEMU's order, from the greeting to MSI-X", async () => {
  await using served = await serveTestDevice();
  using memory = createMemoryFile(0x10_0000);
  using event = new EventFd();
  using client = FakeClient.connect(served.path);
  const capabilities = {
    pgsizes: 4096,
    max_msg_fds: 16,
    max_dma_maps: 65535,
    max_data_xfer_size: 1048576,
    migration: { pgsize: 4096, max_bitmap_size: 268435456 },
    write_multiple: true,
  };
  const ok = async (command: number, payload: Uint8Array, fds: Parameters<FakeClient["raw"]>[1] = []): Promise<void> =>
    assert.equal(await client.errno(command, payload, { fds }), 0);
  await ok(Command.VERSION, versionPayload(capabilities));
  // Memory comes before any question about the device, several at a time.
  const maps = [
    DmaMap.bytes({ argsz: 32, flags: 3, address: 0n, size: 0xa_0000n }),
    DmaMap.bytes({ argsz: 32, flags: 1, address: 0xc_0000n, size: 0x4_0000n }),
    DmaMap.bytes({ argsz: 32, flags: 3, offset: 0xc_0000n, address: 0x10_0000n, size: 0x4_0000n }),
  ];
  for (const [i, map] of maps.entries()) {
    client.send(Command.DMA_MAP, map, { id: 50 + i, fds: i === 1 ? [] : [memory] });
  }
  for (let i = 0; i < 3; i++) assert.equal((await client.next()).id, 50 + i);
  assert.equal(served.device.memory.count, 3);
  for (const index of [0, 1, 2, 3, 4, 5, 7]) {
    const first = await client.request(Command.DEVICE_GET_REGION_INFO, RegionInfo.bytes({ argsz: 32, index }));
    const { argsz } = RegionInfo.from(first.payload);
    for (const fd of first.fds) fd.close();
    if (argsz > 32) await ok(Command.DEVICE_GET_REGION_INFO, RegionInfo.bytes({ argsz, index }));
  }
  const irqs = async (
    flags: number,
    count: number,
    fds: Parameters<FakeClient["raw"]>[1] = [],
    index = 2,
  ): Promise<void> =>
    await ok(Command.DEVICE_SET_IRQS, IrqSet.bytes({ argsz: 20, flags, index, start: 0, count }), fds);
  await irqs(0x24, 1, [event.fd], 0);
  await irqs(0x21, 0, [], 0);
  await ok(Command.DEVICE_RESET, new Uint8Array(0));
  await irqs(0x24, 1);
  await irqs(0x21, 0);
  await irqs(0x24, 1, [event.fd]);
  await irqs(0x21, 0);
  await irqs(
    0x24,
    16,
    Array.from({ length: 16 }, () => event.fd),
  );
  const busMaster = Uint8Array.of(...RegionAccess.bytes({ offset: 4n, region: 7, count: 2 }), 6, 0);
  await ok(Command.REGION_WRITE, busMaster);
  served.device.interrupts.raise(9);
  assert.equal(event.read(), 1);
  assert.equal(served.server.statistics.errorReplies, 0);
});

test("SPDK's order: no capabilities, message id 0, one question at a time, doorbells mapped", async () => {
  await using served = await serveTestDevice();
  using memory = createMemoryFile(0x20_0000);
  using client = await FakeClient.open(served.path);
  const ask = async (
    command: number,
    payload: Uint8Array,
    fds: Parameters<FakeClient["raw"]>[1] = [],
  ): ReturnType<FakeClient["request"]> => {
    const reply = await client.request(command, payload, { id: 0, fds });
    assert.deepEqual([reply.errno, reply.id], [0, 0]);
    return reply;
  };
  const info = await ask(Command.DEVICE_GET_INFO, DeviceInfo.bytes({ argsz: 16 }));
  const { num_regions } = DeviceInfo.from(info.payload);
  let doorbells: MappedMemory | undefined;
  for (let index = 0; index < num_regions; index++) {
    const { payload, fds } = await ask(Command.DEVICE_GET_REGION_INFO, RegionInfo.bytes({ argsz: 4064, index }));
    assert.ok(payload.length + 16 <= 4096);
    if (index === 2) doorbells = MappedMemory.file(fds[1] as (typeof fds)[number], 0x3000, 0x1000);
    for (const fd of fds) fd.close();
  }
  const command = RegionAccess.bytes({ offset: 4n, region: 7, count: 2 });
  await ask(Command.REGION_WRITE, Uint8Array.of(...command, 7, 4));
  const iova = 0x7f12_3420_0000n;
  const map = DmaMap.bytes({ argsz: 32, flags: 3, address: iova, size: 0x20_0000n });
  await ask(Command.DMA_MAP, map, [memory]);
  assert.ok(served.device.memory.view(Number(iova), 0x20_0000, "write") !== undefined);
  (doorbells as MappedMemory).bytes[0] = 9;
  assert.equal(served.device.barRead8(2, 0x3000), 9);
  await ask(Command.DMA_UNMAP, DmaUnmap.bytes({ argsz: 24, address: iova, size: 0x20_0000n }), [memory]);
  doorbells?.[Symbol.dispose]();
});

test("a client that vanishes is cleaned up at once, and the next finds a new device", async () => {
  await using served = await serveTestDevice();
  const { device } = served;
  await turn();
  const before = openDescriptors();
  for (let round = 0; round < 5; round++) {
    using memory = createMemoryFile(0x1_0000);
    using event = new EventFd();
    {
      using client = await FakeClient.open(served.path, { max_msg_fds: 16, twin_socket: { supported: true } });
      const map = DmaMap.bytes({ argsz: 32, flags: 3, address: 0x1000n, size: 0x1_0000n });
      assert.equal(await client.errno(Command.DMA_MAP, map, { fds: [memory] }), 0);
      const irqs = IrqSet.bytes({ argsz: 20, flags: 0x24, index: 2, start: 0, count: 2 });
      assert.equal(await client.errno(Command.DEVICE_SET_IRQS, irqs, { fds: [event.fd, event.fd] }), 0);
      assert.equal(await client.errno(Command.REGION_WRITE, registerWrite(8, 7)), 0);
      assert.equal(await registerRead(client, 8), 7);
      assert.equal(await client.errno(Command.DEVICE_GET_REGION_INFO, RegionInfo.bytes({ argsz: 64, index: 3 })), 0);
      // Half a message is left behind, with a descriptor.
      client.raw(message(Command.DEVICE_SET_IRQS, new Uint8Array(20), { size: 36 }).subarray(0, 20), [event.fd]);
    }
    await until(() => served.server.client === undefined, "the client is gone");
    assert.deepEqual([device.memory.count, device.words[2], device.interrupts.mode], [0, 0, "intx"]);
  }
  assert.equal(openDescriptors(), before);
  assert.equal(served.events.filter(({ type }) => type === "connected").length, 5);
  assert.equal(served.events.filter(({ type }) => type === "disconnected").length, 5);
});

test("a second client is told, and does not disturb the first; a successor need not wait", async () => {
  await using served = await serveTestDevice();
  {
    using first = await FakeClient.open(served.path);
    using second = FakeClient.connect(served.path);
    assert.equal(await second.errno(Command.VERSION, versionPayload()), EBUSY);
    await second.hangUp();
    assert.equal(await registerRead(first, 0), 0);
    const refused = served.events.at(-1);
    assert.ok(refused?.type === "refused" && refused.reason.includes(`in use by pid ${process.pid}`));
  }
  // The first has just hung up, and the server has not looked.
  using third = await FakeClient.open(served.path);
  assert.equal(await registerRead(third, 0), 0);
});

test("clients that say nothing, or half a greeting, hold nobody up and are not many", async () => {
  await using served = await serveTestDevice();
  const silent = Array.from({ length: 10 }, () => FakeClient.connect(served.path));
  for (const client of silent.slice(0, 5)) client.raw(message(Command.VERSION, versionPayload()).subarray(0, 17));
  using client = await FakeClient.open(served.path);
  assert.equal(await registerRead(client, 0), 0);
  const more = Array.from({ length: 10 }, () => FakeClient.connect(served.path));
  await until(() => served.server.statistics.refusals >= 4, "too many are hung up on");
  assert.equal(await registerRead(client, 0), 0);
  for (const other of [...silent, ...more]) other[Symbol.dispose]();
  await until(() => served.server.statistics.refusals === 20, "all are gone");
});

test("only users who may connect get the device", async () => {
  await using served = await serveTestDevice({ allowUids: [process.getuid?.() === 4711 ? 4712 : 4711] });
  using client = FakeClient.connect(served.path);
  assert.equal(await client.errno(Command.VERSION, versionPayload()), EACCES);
  await client.hangUp();
  await using other = await serveTestDevice({ allowUids: [process.getuid?.() ?? 0] });
  using allowed = await FakeClient.open(other.path);
  assert.equal(await registerRead(allowed, 0), 0);
});

test("the socket has its mode, and is gone at the end", async () => {
  let path: string;
  {
    await using served = await serveTestDevice();
    path = served.path;
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    await using open = await serveTestDevice({ mode: 0o666, owner });
    assert.equal(statSync(open.path).mode & 0o777, 0o666);
    await served.server.close();
    assert.ok(!existsSync(path));
    await served.server.close();
  }
});

test("a dead server's socket is taken over, a living one's and anything else is not", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ring3-server-"));
  const path = join(directory, "s");
  using device = new ServedTestDevice();
  UnixListener.listen(path)[Symbol.dispose]();
  assert.throws(() => UnixSocket.connect(path), { errno: "ECONNREFUSED" });
  {
    await using server = await serve(device, path);
    using other = new ServedTestDevice();
    await assert.rejects(serve(other, path), { code: "SOCKET_IN_USE" });
    using client = await FakeClient.open(server.path);
    assert.equal(await registerRead(client, 0), 0);
  }
  writeFileSync(path, "precious");
  await assert.rejects(serve(device, path), { code: "SOCKET_PATH_TAKEN" });
  assert.equal(readFileSync(path, "utf8"), "precious");
  await assert.rejects(serve(device, join(directory, "x".repeat(200))), { code: "PATH_INVALID" });
  await assert.rejects(serve(device, join(directory, "no", "s")), { errno: "ENOENT" });
  rmSync(directory, { recursive: true });
});

test("looking whether a server lives does not disturb its function", async () => {
  await using served = await serveTestDevice();
  const { resets } = served.device;
  using other = new ServedTestDevice();
  await assert.rejects(serve(other, served.path), { code: "SOCKET_IN_USE" });
  await until(() => served.server.statistics.refusals === 1, "it was noticed");
  assert.equal(served.device.resets, resets);
});

test("keepState: the next client finds the device as it was", async () => {
  await using served = await serveTestDevice({ keepState: true });
  {
    using client = await FakeClient.open(served.path);
    assert.equal(await client.errno(Command.REGION_WRITE, registerWrite(8, 7)), 0);
  }
  using client = await FakeClient.open(served.path);
  assert.equal(await registerRead(client, 8), 7);
});

test("a state file: what was answered is there for the next server", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ring3-server-"));
  const state = join(directory, "state");
  for (let round = 0; round < 4; round++) {
    await using served = await serveTestDevice({ state });
    using client = await FakeClient.open(served.path);
    assert.equal(await registerRead(client, 8), round);
    assert.equal(await client.errno(Command.REGION_WRITE, registerWrite(8, round + 1)), 0);
    // As a process that was killed now would leave it.
    using copy = new StateFile(state);
    using device = new ServedTestDevice();
    device.restore(copy.load() as Uint8Array);
    assert.equal(device.words[2], round + 1);
  }
  writeFileSync(join(directory, "other"), "precious");
  await assert.rejects(serveTestDevice({ state: join(directory, "other") }), { code: "STATE_INVALID" });
  rmSync(directory, { recursive: true });
});

test("a state file that was cut off anywhere holds the state before or this one", () => {
  const directory = mkdtempSync(join(tmpdir(), "ring3-server-"));
  const path = join(directory, "state");
  const states = [1, 2, 3].map((i) => new Uint8Array(3000 + i).fill(i));
  {
    using file = new StateFile(path);
    assert.equal(file.load(), undefined);
    for (const state of states) file.save(state);
    file.save(states[2] as Uint8Array);
  }
  using again = new StateFile(path);
  assert.deepEqual(again.load(), states[2]);
  // The third lies in the second slot, at 1 GiB.
  for (const at of [0, 5, 20, 23, 24, 100, 3026]) {
    const copy = join(directory, `copy${at}`);
    {
      using file = new StateFile(copy);
      for (const state of states) file.save(state);
    }
    spoil(copy, 2 ** 30 + at);
    using spoilt = new StateFile(copy);
    assert.deepEqual(spoilt.load(), states[1], `spoilt at ${at}`);
  }
  rmSync(directory, { recursive: true });
});

test("hooks for the state", async () => {
  const saved: Uint8Array[] = [];
  const store = { load: () => saved.at(-1), save: (bytes: Uint8Array) => void saved.push(bytes) };
  await using served = await serveTestDevice({ state: store });
  using client = await FakeClient.open(served.path);
  const before = saved.length;
  client.send(Command.REGION_WRITE, registerWrite(8, 1), { flags: HeaderFlag.NO_REPLY });
  assert.equal(await registerRead(client, 0), 0);
  assert.equal(saved.length, before + 1);
  assert.equal(served.server.statistics.stateSaves, saved.length);
});

test("a state that cannot be saved: said at the start, said once later, and no new client meanwhile", async () => {
  const saved: Uint8Array[] = [];
  let full = true;
  const store = {
    load: () => saved.at(-1),
    save: (bytes: Uint8Array) => void (full ? assert.fail("no space") : saved.push(bytes)),
  };
  await assert.rejects(serveTestDevice({ state: store }), { code: "STATE_NOT_SAVED" });
  full = false;
  await using served = await serveTestDevice({ state: store });
  const complaints = (): number => served.events.filter(({ type }) => type === "error").length;
  {
    using client = await FakeClient.open(served.path);
    assert.equal(await client.errno(Command.REGION_WRITE, registerWrite(8, 1)), 0);
    full = true;
    for (let i = 2; i < 5; i++) assert.equal(await client.errno(Command.REGION_WRITE, registerWrite(8, i)), 0);
    assert.equal(complaints(), 1);
    full = false;
    assert.equal(await client.errno(Command.REGION_WRITE, registerWrite(8, 5)), 0);
    using copy = new ServedTestDevice();
    copy.restore(saved.at(-1) as Uint8Array);
    assert.equal(copy.words[2], 5);
    full = true;
  }
  await assert.rejects(FakeClient.open(served.path));
  assert.ok(served.events.some((event) => event.type === "refused" && event.reason.includes("STATE_NOT_SAVED")));
  full = false;
  using client = await FakeClient.open(served.path);
  assert.equal(await registerRead(client, 8), 5);
});

test("whether a client was there is in the state: only then it is stale", async () => {
  class StaleDevice extends ServedTestDevice {
    stale = 0;
    protected override onStale(): void {
      this.stale++;
    }
  }
  const saved: Uint8Array[] = [];
  const store = { load: () => saved.at(-1), save: (bytes: Uint8Array) => void saved.push(bytes) };
  /** Serves what was saved last, with a client where `use` has one; how stale the state was. */
  const round = async (use?: (path: string) => Promise<unknown>): Promise<number> => {
    const device = new StaleDevice();
    await using served = await serveTestDevice({ state: store }, device);
    await use?.(served.path);
    return device.stale;
  };
  let connected: Uint8Array | undefined;
  const greet = async (path: string): Promise<void> => {
    using _ = await FakeClient.open(path);
    connected = saved.at(-1);
  };
  assert.equal(await round(), 0);
  assert.equal(await round(greet), 0);
  assert.equal(await round(), 0, "the server was closed in order");
  saved.push(connected as Uint8Array);
  assert.equal(await round(), 1, "as a server leaves it that is killed with a client, before it did anything");
  assert.equal(await round(), 0);
});

test("a state file that is damaged, or something else, is refused and left as it is", () => {
  const directory = mkdtempSync(join(tmpdir(), "ring3-server-"));
  const make = (name: string, fill: (path: string) => void): string => {
    const path = join(directory, name);
    fill(path);
    return path;
  };
  const states = [1, 2].map((i) => new Uint8Array(300).fill(i));
  const twice = (path: string): void => {
    using file = new StateFile(path);
    for (const state of states) file.save(state);
  };
  const damaged = make("damaged", (path) => {
    twice(path);
    for (const at of [100, 2 ** 30 + 100]) spoil(path, at);
  });
  for (const path of [
    damaged,
    make("text", (at) => writeFileSync(at, "precious")),
    make("image", (at) => writeFileSync(at, new Uint8Array(65536))),
    make("short", (at) => writeFileSync(at, "")),
  ]) {
    const before = statSync(path);
    if (before.size === 0) {
      using file = new StateFile(path);
      assert.equal(file.load(), undefined);
      continue;
    }
    assert.throws(() => new StateFile(path), { code: "STATE_INVALID" });
    assert.deepEqual([statSync(path).size, statSync(path).mtimeMs], [before.size, before.mtimeMs]);
  }
  // The very first write was interrupted: nothing was in the file.
  const torn = make("torn", (path) => {
    using file = new StateFile(path);
    file.save(states[0] as Uint8Array);
  });
  truncateSync(torn, 2 ** 30 + 100);
  using file = new StateFile(torn);
  assert.equal(file.load(), undefined);
  rmSync(directory, { recursive: true });
});

test("a function that polls is polled while a client is there, eagerly while there is work", async () => {
  await using served = await serveTestDevice({}, new ServedTestDevice({ polled: true }));
  const { device, server } = served;
  await turn();
  assert.equal(server.statistics.polls, 0);
  {
    using client = await FakeClient.open(served.path);
    device.work = 5;
    await until(() => server.statistics.polledWork === 5, "it was found");
    // Messages are answered between the polls.
    for (let i = 0; i < 100; i++) assert.equal(await registerRead(client, 0), 0);
    device.work = 7;
    await until(() => server.statistics.polledWork === 12, "it was found");
  }
  await until(() => server.client === undefined, "the client is gone");
  const { polls } = server.statistics;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(server.statistics.polls, polls);
});

test("a client that does not read its replies waits for itself only", async () => {
  await using served = await serveTestDevice();
  await using other = await serveTestDevice();
  using lazy = await FakeClient.open(served.path);
  const request = message(Command.REGION_READ, RegionAccess.bytes({ offset: 0n, region: 3, count: 4096 }));
  let sent = 0;
  for (; sent < 2000; sent++) if (lazy.socket.send([request]) !== request.length) break;
  using busy = await FakeClient.open(other.path);
  for (let i = 0; i < 20; i++) assert.equal(await registerRead(busy, 0), 0);
  // Once it reads, everything is there, in order.
  for (let i = 0; i < sent; i++) assert.equal((await lazy.next()).payload.length, 16 + 4096);
  assert.equal(await registerRead(lazy, 0), 0);
});

test("what is no message ends the connection, with a word", async () => {
  await using served = await serveTestDevice();
  for (const bytes of [
    message(9, new Uint8Array(0), { size: 15 }),
    message(9, new Uint8Array(0), { size: 0 }),
    message(9, new Uint8Array(0), { size: 0xffff_ffff }),
    message(9, new Uint8Array(16), { flags: 2 }),
  ]) {
    using client = await FakeClient.open(served.path);
    client.raw(bytes);
    await client.hangUp();
    const last = served.events.at(-1);
    assert.ok(last?.type === "disconnected" && last.reason.startsWith("MESSAGE_INVALID"), JSON.stringify(last));
  }
  using client = await FakeClient.open(served.path);
  assert.equal(await client.errno(99), EINVAL);
});

test("messages in pieces and in heaps", async () => {
  await using served = await serveTestDevice();
  using client = await FakeClient.open(served.path);
  for (const byte of message(Command.REGION_WRITE, registerWrite(8, 0x1234))) {
    client.raw(Uint8Array.of(byte));
    if (byte % 3 === 0) await turn();
  }
  assert.equal((await client.next()).errno, 0);
  assert.equal(await registerRead(client, 8), 0x1234);
  const heap = Array.from({ length: 200 }, (_, i) => [
    ...message(Command.REGION_WRITE, registerWrite(8, i), { id: i }),
  ]);
  client.raw(Uint8Array.from(heap.flat()));
  for (let i = 0; i < 200; i++) assert.equal((await client.next()).id, i);
  assert.equal(await registerRead(client, 8), 199);
});

test("what a listener throws does not stop the server, and a trace sees every message", async () => {
  const seen: string[] = [];
  await using served = await serveTestDevice({
    onMessage: ({ direction, command, kind, messageId, size, errno }) =>
      seen.push(`${direction} ${kind} ${command} ${messageId} ${size} ${errno}`),
  });
  using client = await FakeClient.open(served.path);
  assert.equal(await client.errno(Command.REGION_WRITE, registerWrite(8, 1), { id: 5 }), 0);
  assert.equal(await client.errno(99, undefined, { id: 6 }), EINVAL);
  assert.deepEqual(seen, [
    "received command VERSION 1 20 0",
    "sent reply VERSION 1 20 0",
    "received command REGION_WRITE 5 36 0",
    "sent reply REGION_WRITE 5 32 0",
    "received command command 99 6 16 0",
    "sent reply command 99 6 16 22",
  ]);
});

test("a server whose process is killed leaves a socket that the next takes over", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ring3-server-"));
  const path = join(directory, "s");
  const text = `
    import { serve } from ${JSON.stringify(new URL("./server.ts", import.meta.url).href)};
    import { ServedTestDevice } from ${JSON.stringify(new URL("./fake-served.ts", import.meta.url).href)};
    await serve(new ServedTestDevice(), ${JSON.stringify(path)}, { state: ${JSON.stringify(join(directory, "state"))} });
    process.stdout.write("ready");
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", text], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  {
    using client = await FakeClient.open(path);
    assert.equal(await client.errno(Command.REGION_WRITE, registerWrite(8, 0x77)), 0);
    const exited = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await exited;
    await client.hangUp();
  }
  assert.ok(existsSync(path));
  using device = new ServedTestDevice();
  await using server = await serve(device, path, { state: join(directory, "state") });
  using client = await FakeClient.open(server.path);
  assert.equal(await registerRead(client, 8), 0x77);
  rmSync(directory, { recursive: true });
});

/** Turns the bits of one byte over. */
function spoil(path: string, at: number): void {
  const file = openSync(path, "r+");
  const byte = new Uint8Array(1);
  readSync(file, byte, 0, 1, at);
  writeSync(file, Uint8Array.of((byte[0] as number) ^ 0xff), 0, 1, at);
  closeSync(file);
}
