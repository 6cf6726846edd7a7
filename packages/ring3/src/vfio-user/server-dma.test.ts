// seconds: 1
import assert from "node:assert/strict";
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createMemoryFile, FileDescriptor, MappedMemory, OPEN, UnixSocket, writeAt } from "../linux/index.ts";
import { FakeClient, type FakeMessage, until, versionPayload } from "./fake-client.ts";
import { openDescriptors, Register, type Served, serveTestDevice } from "./fake-served.ts";
import {
  Command,
  DmaAccess,
  DmaBitmap,
  DmaMap,
  DmaUnmap,
  HEADER_SIZE,
  HeaderFlag,
  RegionAccess,
  WireErrno,
} from "./messages.ts";

const { EINVAL, EEXIST, ENOENT, EACCES, ENODEV } = WireErrno;
const MAP = Command.DMA_MAP;
const UNMAP = Command.DMA_UNMAP;

function map(
  address: number | bigint,
  size: number | bigint,
  more: Partial<ReturnType<typeof DmaMap.from>> = {},
): Uint8Array {
  return DmaMap.bytes({ argsz: 32, flags: 3, address: BigInt(address), size: BigInt(size), ...more });
}

function unmap(address: number | bigint, size: number | bigint, flags = 0, argsz = 24): Uint8Array {
  return DmaUnmap.bytes({ argsz, flags, address: BigInt(address), size: BigInt(size) });
}

async function open(served: Served, capabilities: object | undefined = { max_msg_fds: 16 }): Promise<FakeClient> {
  const client = await FakeClient.open(served.path, capabilities);
  served.device.config.write(4, 2, 6);
  return client;
}

test("DMA_MAP with a file, at an offset, and DMA_UNMAP, whose reply repeats the request", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  using file = createMemoryFile(0x8000);
  using mine = MappedMemory.file(file, 0, 0x8000);
  const { memory } = served.device;
  const before = openDescriptors();
  const fds = [file];
  assert.equal(await client.errno(MAP, map(0x10_0000, 0x4000, { offset: 0x2000n }), { fds }), 0);
  assert.equal(await client.errno(MAP, map(0x7fff_ffff_f000, 0x1000), { fds }), 0);
  mine.bytes[0x2005] = 0x77;
  assert.equal(memory.view(0x10_0005, 1, "read")?.[0], 0x77);
  memory.write(0x7fff_ffff_f001, Uint8Array.of(0x66));
  assert.equal(mine.bytes[1], 0x66);
  assert.deepEqual([memory.count, served.server.statistics.dmaMappedBytes], [2, 0x5000]);
  // Both maps are of one file, which is open once.
  assert.equal(openDescriptors(), before + 2);
  const request = unmap(0x10_0000, 0x4000);
  assert.deepEqual((await client.request(UNMAP, request)).payload, request);
  // SPDK's client sends a descriptor along.
  assert.equal(await client.errno(UNMAP, unmap(0x7fff_ffff_f000, 0x1000), { fds }), 0);
  assert.equal(memory.count, 0);
  assert.equal(openDescriptors(), before);
});

test("DMA_MAP: what is refused leaves nothing behind", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  using file = createMemoryFile(0x4000);
  using readOnly = FileDescriptor.open(`/proc/self/fd/${file.number}`, OPEN.READ);
  assert.equal(await client.errno(MAP, map(0x1_0000, 0x2000), { fds: [file] }), 0);
  const before = openDescriptors();
  const top = 2n ** 64n;
  const cases: [Uint8Array, readonly FileDescriptor[], number][] = [
    [map(0x1_0000, 0x2000), [file], EEXIST],
    [map(0x1_1000, 0x2000), [file], EEXIST],
    [map(0xf000, 0x2000), [], EEXIST],
    [map(0, 0x10_0000), [], EEXIST],
    [map(0x2_0000, 0), [file], EINVAL],
    [map(top - 0x1000n, 0x2000), [file], EINVAL],
    [map(top - 0x1000n, 0x1000), [file], EINVAL],
    [map(0x1000, top - 1n), [file], EINVAL],
    [map(2n ** 53n, 0x1000), [], EINVAL],
    [map(0x2_0000, 0x1000, { flags: 0 }), [file], EINVAL],
    [map(0x2_0000, 0x1000, { flags: 0x13 }), [file], EINVAL],
    [map(0x2_0000, 0x1000, { argsz: 31 }), [file], EINVAL],
    [map(0x2_0000, 0x5000), [file], EINVAL],
    [map(0x2_0000, 0x1000, { offset: 0x4000n }), [file], EINVAL],
    [map(0x2_0000, 0x1000, { offset: top - 0x1000n }), [file], EINVAL],
    [map(0x2_0000, 0x1000, { offset: 2n ** 53n }), [file], EINVAL],
    [map(0x2_0000, 0x1000), [file, file], EINVAL],
    [map(0x2_0000, 0x1000), [client.socket.fd], EINVAL],
    [map(0x2_0000, 0x1000), [readOnly], EACCES],
    [map(0x2_0000, 0x1000).subarray(0, 31), [file], EINVAL],
    [new Uint8Array(0), [file], EINVAL],
  ];
  for (const [payload, fds, errno] of cases) {
    assert.equal(await client.errno(MAP, payload, { fds }), errno);
    assert.equal(openDescriptors(), before);
  }
  assert.equal(served.device.memory.count, 1);
  // What can only be read may be mapped for reading, and stores of the model's do not reach it.
  assert.equal(await client.errno(MAP, map(0x2_0000, 0x1000, { flags: 1 }), { fds: [readOnly] }), 0);
  assert.equal(served.device.memory.view(0x2_0000, 4, "write"), undefined);
  const view = served.device.memory.view(0x2_0000, 4, "read") as Uint8Array;
  view[0] = 99;
  assert.notEqual(served.device.memory.view(0x1_0000, 4, "read")?.[0], 99);
});

test("DMA_UNMAP: all, a range of several, and what is refused", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  const { memory } = served.device;
  for (let i = 0; i < 6; i++) assert.equal(await client.errno(MAP, map(i * 0x1000, 0x1000)), 0);
  const top = 2n ** 64n;
  for (const [payload, errno] of [
    [unmap(0x10_0000, 0x1000), ENOENT],
    [unmap(0x800, 0x1000), EINVAL],
    [unmap(0, 0x800), EINVAL],
    [unmap(0, 0), EINVAL],
    [unmap(top - 1n, 2), EINVAL],
    [unmap(0, top - 1n), EINVAL],
    [unmap(0, 0x1000, 4), EINVAL],
    [unmap(0, 0x1000, 0, 23), EINVAL],
    [unmap(0, 0x1000, 2), EINVAL],
    [unmap(0x1000, 0, 2), EINVAL],
    [unmap(0, 0, 3), EINVAL],
    [unmap(0, 0x1000).subarray(0, 23), EINVAL],
    [unmap(0, 0x1000, 1), EINVAL],
  ] as const) {
    assert.equal(await client.errno(UNMAP, payload), errno);
  }
  assert.equal(memory.count, 6);
  assert.equal(await client.errno(UNMAP, unmap(0x1000, 0x2000)), 0);
  assert.equal(memory.count, 4);
  assert.equal(await client.errno(UNMAP, unmap(0, 0, 2)), 0);
  assert.equal(memory.count, 0);
});

test("DMA_UNMAP with a dirty bitmap", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  using file = createMemoryFile(0x10_0000);
  assert.equal(await client.errno(MAP, map(0x10_0000, 0x10_0000), { fds: [file] }), 0);
  const request = (bitmapSize: number, argsz = 24 + 16 + bitmapSize, pgsize = 4096n): Uint8Array =>
    Uint8Array.of(...unmap(0x10_0000, 0x10_0000, 1, argsz), ...DmaBitmap.bytes({ pgsize, size: BigInt(bitmapSize) }));
  // Nothing is recorded yet.
  assert.equal(await client.errno(UNMAP, request(32)), EINVAL);
  served.device.memory.dirty.start(4096);
  served.device.memory.write(0x10_3000, Uint8Array.of(1));
  served.device.memory.write(0x1f_ffff, Uint8Array.of(1));
  assert.equal(await client.errno(UNMAP, request(24)), EINVAL);
  assert.equal(await client.errno(UNMAP, request(32, 71)), EINVAL);
  assert.equal(await client.errno(UNMAP, request(32, 72, 4095n)), EINVAL);
  assert.equal(await client.errno(UNMAP, request(32, 72, 0n)), EINVAL);
  assert.equal(await client.errno(UNMAP, request(2 ** 30)), EINVAL);
  const { payload } = await client.request(UNMAP, request(32));
  assert.equal(payload.length, 72);
  assert.deepEqual(
    [...payload.subarray(40)],
    Array.from({ length: 32 }, (_, i) => (i === 0 ? 8 : i === 31 ? 0x80 : 0)),
  );
  assert.equal(served.device.memory.count, 0);
});

test("a file that can be truncated is never mapped, so truncating it kills nobody", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  const path = join(served.directory, "file");
  const number = openSync(path, "w+");
  ftruncateSync(number, 0x4000);
  writeSync(number, Uint8Array.of(1, 2, 3, 4), 0, 4, 0x1000);
  {
    using file = FileDescriptor.open(path);
    assert.equal(await client.errno(MAP, map(0x10_0000, 0x3000, { offset: 0x1000n }), { fds: [file] }), 0);
  }
  const { memory } = served.device;
  assert.equal(memory.view(0x10_0000, 4, "read"), undefined);
  assert.equal(memory.read32(0x10_0000), 0x0403_0201);
  memory.write32(0x10_0004, 7);
  ftruncateSync(number, 0);
  assert.throws(() => memory.read32(0x10_0000), { code: "DMA_FAULT" });
  assert.equal(served.events.filter(({ type }) => type === "fault").length, 1);
  closeSync(number);
  assert.equal((await client.request(Command.DEVICE_RESET)).errno, 0);
});

test("a memfd without seals is sealed before it is mapped", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  // One that its owner sealed only against growing.
  using file = createMemoryFile(0x4000, { sealed: false });
  assert.equal(await client.errno(MAP, map(0, 0x4000), { fds: [file] }), 0);
  assert.throws(() => ftruncateSync(file.number, 0), { code: "EPERM" });
  assert.ok(served.device.memory.view(0, 0x4000, "write") !== undefined);
});

test("an odd offset and size, and the end of a file", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  using file = createMemoryFile(0x2345);
  writeAt(file, 0x2340, Uint8Array.of(1, 2, 3, 4, 5));
  assert.equal(await client.errno(MAP, map(0x1003, 0x100, { offset: 0x11n }), { fds: [file] }), 0);
  assert.ok(served.device.memory.view(0x1003, 0x100, "write") !== undefined);
  // The last, incomplete page goes by system calls.
  assert.equal(await client.errno(MAP, map(0x5000, 0x345, { offset: 0x2000n }), { fds: [file] }), 0);
  const last = new Uint8Array(5);
  served.device.memory.read(0x5340, last);
  assert.deepEqual([...last], [1, 2, 3, 4, 5]);
});

test("65,535 maps and no more", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  using file = createMemoryFile(65_536 * 4096);
  const { memory } = served.device;
  for (let i = 0; i < 65_535; i += 1) {
    memory.map(i * 0x2000, 0x1000, "read", { transfer: { read: () => undefined, write: () => undefined } });
  }
  assert.equal(await client.errno(MAP, map(2 ** 40, 0x1000), { fds: [file] }), WireErrno.ENOSPC);
  memory.unmap(0, 0x1000);
  assert.equal(await client.errno(MAP, map(2 ** 40, 0x1000), { fds: [file] }), 0);
});

// --- Maps without a file: messages to the client ------------------------------------------------------------------

function registerWrite(offset: number, value: number): Uint8Array {
  return Uint8Array.of(
    ...RegionAccess.bytes({ offset: BigInt(offset), region: 0, count: 4 }),
    ...new Uint8Array(Uint32Array.of(value).buffer),
  );
}

function registerRead(offset: number): Uint8Array {
  return RegionAccess.bytes({ offset: BigInt(offset), region: 0, count: 4 });
}

/** Answers before the question: the server looks for it once it has asked. Its message ids count from 1. */
function answerRead(client: FakeClient, id: number, address: number, data: Uint8Array, countBytes: 4 | 8 = 8): void {
  const payload = new Uint8Array(8 + countBytes + data.length);
  payload.set(DmaAccess.bytes({ address: BigInt(address), count: BigInt(data.length) }).subarray(0, 8 + countBytes));
  payload.set(data, 8 + countBytes);
  client.send(Command.DMA_READ, payload, { id, flags: HeaderFlag.REPLY });
}

async function withoutFile(served: Served, capabilities: object = { max_msg_fds: 16 }): Promise<FakeClient> {
  const client = await open(served, capabilities);
  assert.equal(await client.errno(MAP, map(0x1000, 0x10_0000)), 0);
  assert.equal(await client.errno(Command.REGION_WRITE, registerWrite(Register.ADDRESS, 0x2000)), 0);
  return client;
}

for (const countBytes of [8, 4] as const) {
  test(`DMA_READ inside a register write; the reply's count has ${countBytes} bytes`, async () => {
    await using served = await serveTestDevice();
    using client = await withoutFile(served);
    client.send(Command.REGION_WRITE, registerWrite(Register.READ, 8), { id: 40 });
    // Posted behind it, and before the answer: it waits for its turn.
    client.send(Command.REGION_WRITE, registerWrite(8, 0x55), { id: 41, flags: HeaderFlag.NO_REPLY });
    answerRead(client, 1, 0x2000, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), countBytes);
    const question = await client.next();
    assert.deepEqual([question.command, question.flags, question.id], [Command.DMA_READ, 0, 1]);
    assert.deepEqual(DmaAccess.from(question.payload), { address: 0x2000n, count: 8n });
    assert.equal((await client.next()).id, 40);
    assert.equal((await client.request(Command.REGION_READ, registerRead(8), { id: 42 })).payload[16], 0x55);
    const { words, log } = served.device;
    assert.equal(words[Register.DATA / 4], 0x0403_0201);
    assert.deepEqual(log.slice(-3), [`w4 ${Register.READ.toString(16)}=8`, "w4 8=55", "r4 8"]);
  });
}

test("DMA_READ and DMA_WRITE are split at what the client takes", async () => {
  await using served = await serveTestDevice();
  using client = await withoutFile(served, { max_data_xfer_size: 1000 });
  const data = Uint8Array.from({ length: 2500 }, (_, i) => i & 0xff);
  client.send(Command.REGION_WRITE, registerWrite(Register.READ, 2500), { id: 40 });
  for (let i = 0; i < 3; i++) {
    answerRead(client, i + 1, 0x2000 + 1000 * i, data.subarray(1000 * i, 1000 * i + 1000));
  }
  const counts: bigint[] = [];
  for (let i = 0; i < 3; i++) counts.push(DmaAccess.from((await client.next()).payload).count);
  assert.deepEqual(counts, [1000n, 1000n, 500n]);
  assert.equal((await client.next()).id, 40);
  assert.deepEqual(served.device.bytes.subarray(0, 2500), data);
  client.send(Command.REGION_WRITE, registerWrite(Register.WRITE, 2500), { id: 41 });
  for (let i = 0; i < 3; i++) {
    const count = BigInt(Math.min(1000, 2500 - 1000 * i));
    const answer = DmaAccess.bytes({ address: BigInt(0x2000 + 1000 * i), count });
    client.send(Command.DMA_WRITE, answer, { id: 4 + i, flags: HeaderFlag.REPLY });
  }
  const got: FakeMessage[] = [];
  for (let i = 0; i < 3; i++) got.push(await client.next());
  assert.deepEqual(
    got.flatMap(({ payload }) => [...payload.subarray(16)]),
    [...data],
  );
  assert.equal((await client.next()).id, 41);
  assert.deepEqual(served.server.statistics.commandsSent, { DMA_READ: 3, DMA_WRITE: 3 });
});

test("what the client refuses is a DMA fault; what it answers wrongly too", async () => {
  await using served = await serveTestDevice();
  using client = await withoutFile(served);
  const faults = (): number => served.device.memory.faults;
  const refuse = (id: number): void => {
    const bytes = new Uint8Array(HEADER_SIZE);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, id, true);
    view.setUint16(2, Command.DMA_READ, true);
    view.setUint32(4, 16, true);
    view.setUint32(8, HeaderFlag.REPLY | HeaderFlag.ERROR, true);
    view.setUint32(12, ENODEV, true);
    client.raw(bytes);
  };
  const answers = [
    () => refuse(1),
    () => answerRead(client, 2, 0x2000, new Uint8Array(7)),
    () => answerRead(client, 3, 0x2000, new Uint8Array(9)),
    () => client.send(Command.DMA_READ, new Uint8Array(0), { id: 4, flags: HeaderFlag.REPLY }),
    () =>
      client.send(Command.DMA_READ, Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0), { id: 5, flags: 1 }),
  ];
  for (const [i, answer] of answers.entries()) {
    client.send(Command.REGION_WRITE, registerWrite(Register.READ, 8), { id: 40 });
    answer();
    assert.equal((await client.next()).command, Command.DMA_READ);
    assert.equal((await client.next()).id, 40);
    assert.equal(faults(), i + 1);
  }
  assert.ok(served.server.statistics.faults >= answers.length);
});

test("a client that does not answer is disconnected, and the server goes on", async () => {
  await using served = await serveTestDevice({ clientTimeoutMs: 100 });
  using client = await withoutFile(served);
  client.send(Command.REGION_WRITE, registerWrite(Register.READ, 8));
  assert.equal((await client.next()).command, Command.DMA_READ);
  await client.hangUp();
  const last = served.events.at(-1);
  assert.ok(last?.type === "disconnected" && last.reason.includes("did not answer DMA_READ within 100 ms"));
  assert.equal(served.device.memory.count, 0);
  using next = await open(served);
  assert.equal((await next.request(Command.DEVICE_RESET)).errno, 0);
});

test("a client that sends without end instead of answering is disconnected", async () => {
  await using served = await serveTestDevice({ clientTimeoutMs: 2000 });
  using client = await withoutFile(served);
  using event = createMemoryFile(4096);
  client.send(Command.REGION_WRITE, registerWrite(Register.READ, 8));
  const fds = Array.from({ length: 16 }, () => event);
  for (let i = 0; i < 17; i++) client.send(Command.DEVICE_RESET, undefined, { fds, flags: HeaderFlag.NO_REPLY });
  const before = openDescriptors();
  assert.equal((await client.next()).command, Command.DMA_READ);
  await client.hangUp();
  const last = served.events.at(-1);
  assert.ok(last?.type === "disconnected" && last.reason.includes("does not answer"));
  assert.ok(openDescriptors() < before);
});

test("the second socket carries the server's commands, where the client proposes it", async () => {
  await using served = await serveTestDevice();
  using client = FakeClient.connect(served.path);
  const hello = await client.request(Command.VERSION, versionPayload({ twin_socket: { supported: true } }));
  const text = new TextDecoder().decode(hello.payload.subarray(4, -1));
  assert.deepEqual(JSON.parse(text), { capabilities: { twin_socket: { supported: true, fd_index: 0 } } });
  assert.equal(hello.fds.length, 1);
  using twin = new FakeClient(new UnixSocket(hello.fds[0] as FileDescriptor));
  served.device.config.write(4, 2, 6);
  assert.equal(await client.errno(MAP, map(0x1000, 0x1_0000)), 0);
  assert.equal(await client.errno(Command.REGION_WRITE, registerWrite(Register.ADDRESS, 0x1000)), 0);
  answerRead(twin, 1, 0x1000, Uint8Array.of(9, 0, 0, 0));
  client.send(Command.REGION_WRITE, registerWrite(Register.READ, 4), { id: 7 });
  assert.equal((await twin.next()).command, Command.DMA_READ);
  assert.equal((await client.next()).id, 7);
  assert.equal(served.device.words[Register.DATA / 4], 9);
  // Commands have no business there.
  twin.send(Command.DEVICE_RESET);
  client.send(Command.REGION_WRITE, registerWrite(Register.READ, 4), { id: 8 });
  await client.hangUp();
});

test("without the client's proposal, or the server's will, there is one socket", async () => {
  await using served = await serveTestDevice({ twinSocket: false });
  using client = FakeClient.connect(served.path);
  const hello = await client.request(Command.VERSION, versionPayload({ twin_socket: { supported: true } }));
  assert.deepEqual([hello.payload.length, hello.fds.length], [4, 0]);
});

test("a client that vanishes while the device reads its memory", async () => {
  await using served = await serveTestDevice({ clientTimeoutMs: 10_000 });
  {
    using client = await withoutFile(served);
    client.send(Command.REGION_WRITE, registerWrite(Register.READ, 8));
  }
  await until(() => served.server.client === undefined, "the server lets go");
  assert.equal(served.device.memory.count, 0);
});
