// seconds: 3
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { createMemoryFile, EventFd, type FileDescriptor, UnixSocket } from "../linux/index.ts";
import * as native from "../linux/native.ts";
import type { BarIndex } from "../pci/function.ts";
import { BARE_VERSION, FakeClient, message, turn, until, versionPayload } from "./fake-client.ts";
import { openDescriptors, ServedTestDevice, serveTestDevice } from "./fake-served.ts";
import {
  Command,
  DeviceInfo,
  DmaAccess,
  DmaMap,
  IrqSet,
  MigrationData,
  MultiWrite,
  RegionAccess,
  RegionInfo,
  RegionWriteMulti,
} from "./messages.ts";

const F_SETFL = 4;

const interesting = fc.oneof(
  fc.constantFrom(0n, 1n, 4n, 16n, 32n, 0x1000n, 0xffff_ffffn, 2n ** 31n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n),
  fc.bigInt({ min: 0n, max: 0x4000n }),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);
const word = fc.oneof(
  fc.nat(64),
  fc.constantFrom(0x21, 0x22, 0x24, 0x1000, 0xffff_ffff),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);

/** Payloads that look like something: words and quadwords that the structures might have at their places. */
const payload = fc
  .array(fc.oneof({ arbitrary: word, weight: 3 }, { arbitrary: interesting, weight: 2 }), { maxLength: 12 })
  .map((values) => {
    const bytes: number[] = [];
    for (const value of values) {
      const width = typeof value === "bigint" ? 8 : 4;
      for (let i = 0; i < width; i++) bytes.push(Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
    }
    return Uint8Array.from(bytes);
  });

const sent = fc.record({
  command: fc.oneof(fc.constantFrom(...Object.values(Command)), fc.nat(30)),
  payload: fc.oneof(payload, fc.uint8Array({ maxLength: 80 })),
  flags: fc.oneof(fc.constantFrom(0, 0, 0, 0x10), fc.constantFrom(1, 2, 0x20, 0x30, 0xffff_fff0)),
  fds: fc.array(fc.nat(3), { maxLength: 4 }),
  /** What the header claims beyond the truth; mostly nothing. */
  more: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, -1, 1000),
});

test("no sequence of messages stops the server, or leaves descriptors or maps behind", async () => {
  await using served = await serveTestDevice({ clientTimeoutMs: 1 });
  using file = createMemoryFile(0x10_0000);
  using event = new EventFd();
  // The client's own socket too: kept by the server it would make the client look alive for ever.
  const kinds = (client: FakeClient): readonly FileDescriptor[] => [
    file,
    event.fd,
    client.socket.fd,
    served.server.closed ? file : event.fd,
  ];
  await turn();
  const before = openDescriptors();
  let answered = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(sent, { minLength: 1, maxLength: 25 }), fc.boolean(), async (messages, greets) => {
      using client = FakeClient.connect(served.path);
      client.raw(message(Command.VERSION, greets ? BARE_VERSION : Uint8Array.of(9)));
      for (const { command, payload: body, flags, fds, more } of messages) {
        const bytes = message(command, body, { flags, size: 16 + body.length + more });
        const choice = kinds(client);
        client.socket.send(
          [bytes],
          fds.map((kind) => choice[kind] as FileDescriptor),
        );
        if (command === Command.REGION_READ) await turn();
      }
      await turn();
      await turn();
    }),
    { numRuns: 400 },
  );
  await until(() => served.server.client === undefined, "the last client is gone");
  using client = await FakeClient.open(served.path);
  answered += (await client.request(Command.DEVICE_GET_INFO, DeviceInfo.bytes({ argsz: 16 }))).errno === 0 ? 1 : 0;
  client[Symbol.dispose]();
  await until(() => served.server.client === undefined, "it is gone");
  await until(() => openDescriptors() === before, `${before} descriptors are open again`);
  assert.equal(answered, 1);
  assert.equal(served.device.memory.count, 0);
});

const READ_PAGE = message(Command.REGION_READ, RegionAccess.bytes({ offset: 0n, region: 3, count: 4096 }));

test("a client that leaves its own end of the connection behind unread is noticed", async () => {
  await using served = await serveTestDevice({ clientTimeoutMs: 20 });
  await turn();
  const before = openDescriptors();
  {
    using client = await FakeClient.open(served.path);
    // The replies fill the socket. What comes then is not read: its descriptor lies in the kernel, or in our buffer.
    for (let i = 0; i < 100; i++) client.raw(READ_PAGE);
    await turn();
    client.raw(READ_PAGE.subarray(0, 8), [client.socket.fd]);
  }
  await until(() => served.server.client === undefined, "the client is gone");
  const last = served.events.at(-1);
  assert.ok(last?.type === "disconnected" && last.reason.includes("does not read its replies"), JSON.stringify(last));
  await until(() => openDescriptors() === before, "nothing of it is left");
});

test("replies wait for a client that reads slowly, and are whole then", async () => {
  await using served = await serveTestDevice({ clientTimeoutMs: 20 });
  using client = await FakeClient.open(served.path);
  let sent = 0;
  for (; sent < 600; sent++) if (client.socket.send([READ_PAGE]) !== READ_PAGE.length) break;
  for (let i = 0; i < sent; i++) {
    assert.equal((await client.next()).payload.length, 16 + 4096);
    if (i % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 60));
  }
  assert.ok(served.server.client !== undefined);
});

test("a client that leaves its end behind in the second socket is noticed", async () => {
  await using served = await serveTestDevice({ clientTimeoutMs: 20 });
  {
    using client = FakeClient.connect(served.path);
    const hello = await client.request(Command.VERSION, versionPayload({ twin_socket: { supported: true } }));
    using twin = new FakeClient(new UnixSocket(hello.fds[0] as FileDescriptor));
    twin.socket.send([new Uint8Array(8)], [client.socket.fd]);
  }
  await until(() => served.server.client === undefined, "the client is gone");
});

test("descriptors of a reply that the client does not read yet wait with it", async () => {
  await using served = await serveTestDevice();
  await using other = await serveTestDevice();
  using lazy = await FakeClient.open(served.path, { max_msg_fds: 8 });
  let sent = 0;
  const ask = message(Command.DEVICE_GET_REGION_INFO, RegionInfo.bytes({ argsz: 4096, index: 2 }));
  for (; sent < 2000; sent++) if (lazy.socket.send([sent % 2 === 0 ? READ_PAGE : ask]) !== ask.length) break;
  // Nobody else waits for it meanwhile.
  using busy = await FakeClient.open(other.path);
  const started = performance.now();
  for (let i = 0; i < 20; i++) assert.equal(await busy.errno(Command.DEVICE_RESET), 0);
  assert.ok(performance.now() - started < 900);
  for (let i = 0; i < sent; i++) {
    const { payload, fds } = await lazy.next();
    assert.equal(payload.length, i % 2 === 0 ? 16 + 4096 : 32 + 16 + 2 * 16);
    for (const fd of fds) fd.close();
  }
});

test("what comes while the device waits for the client outside of any request is served", async () => {
  await using served = await serveTestDevice();
  using client = await FakeClient.open(served.path, { max_msg_fds: 8 });
  served.device.config.write(4, 2, 6);
  assert.equal(
    await client.errno(Command.DMA_MAP, DmaMap.bytes({ argsz: 32, flags: 3, address: 0x1000n, size: 0x1000n })),
    0,
  );
  // All three lie in the socket when the device begins to read, so that no further event tells of them.
  const answer = new Uint8Array(20);
  answer.set(DmaAccess.bytes({ address: 0x1000n, count: 4n }));
  client.send(Command.DEVICE_GET_INFO, DeviceInfo.bytes({ argsz: 16 }), { id: 7, flags: 0 });
  client.send(Command.DMA_READ, answer, { id: 1, flags: 1 });
  client.send(Command.DEVICE_GET_INFO, DeviceInfo.bytes({ argsz: 16 }), { id: 8 });
  served.device.memory.read(0x1000, new Uint8Array(4));
  const ids: number[] = [];
  while (ids.length < 3) ids.push((await client.next()).id);
  assert.deepEqual(
    ids.sort((a, b) => a - b),
    [1, 7, 8],
  );
});

test("half a message does not keep a client that left alive, also where the function is polled", async () => {
  await using served = await serveTestDevice({ clientTimeoutMs: 10 }, new ServedTestDevice({ polled: true }));
  {
    using client = await FakeClient.open(served.path);
    client.raw(READ_PAGE.subarray(0, 20), [client.socket.fd]);
  }
  await until(() => served.server.client === undefined, "the client is gone");
});

test("an eventfd that blocks and is full holds up nobody", async () => {
  await using served = await serveTestDevice();
  using client = await FakeClient.open(served.path, { max_msg_fds: 8 });
  using event = new EventFd();
  const set = (flags: number, index: number): Uint8Array =>
    IrqSet.bytes({ argsz: 20, flags, index, start: 0, count: 1 });
  assert.equal(await client.errno(Command.DEVICE_SET_IRQS, set(0x24, 2), { fds: [event.fd] }), 0);
  // Flags belong to the open file, so the client can change them afterwards.
  native.attemptCall(() => native.write(event.fd.number, new Uint8Array(BigUint64Array.of(2n ** 64n - 2n).buffer), 8));
  native.attemptCall(() => native.fcntl(event.fd.number, F_SETFL, 0));
  for (let i = 0; i < 3; i++) assert.equal(await client.errno(Command.DEVICE_SET_IRQS, set(0x21, 2)), 0);
});

test("migration data in pieces of nothing takes no memory", async () => {
  await using served = await serveTestDevice();
  using client = await FakeClient.open(served.path);
  const state = Uint8Array.from([16, 0, 0, 0, 2, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal(await client.errno(Command.DEVICE_FEATURE, state), 0);
  const piece = message(Command.MIG_DATA_WRITE, MigrationData.bytes({ argsz: 8, size: 0 }), { flags: 0x10 });
  const many = new Uint8Array(1000 * piece.length);
  for (let i = 0; i < 1000; i++) many.set(piece, i * piece.length);
  const send = async (): Promise<void> => {
    for (let i = 0; i < 40; i++) {
      client.raw(many);
      assert.equal(await client.errno(Command.DEVICE_GET_INFO, DeviceInfo.bytes({ argsz: 16 })), 0);
    }
  };
  await send();
  const before = process.memoryUsage().heapUsed;
  await send();
  await send();
  await send();
  const grown = process.memoryUsage().heapUsed - before;
  assert.ok(grown < 2 ** 24, `${grown} bytes for 120,000 pieces`);
});

/** A device whose registers take their time. */
class SlowDevice extends ServedTestDevice {
  protected override write32(bar: BarIndex, offset: number, value: number): void {
    super.write32(bar, offset, value);
    for (const until = performance.now() + 0.5; performance.now() < until; );
  }
}

function manyWrites(count: number): Uint8Array {
  const bytes = new Uint8Array(RegionWriteMulti.size + count * MultiWrite.size);
  bytes.set(RegionWriteMulti.bytes({ wr_cnt: BigInt(count) }));
  for (let i = 0; i < count; i++) {
    const write = MultiWrite.bytes({ offset: 8n, region: 0, count: 4, data: BigInt(i) });
    bytes.set(write, RegionWriteMulti.size + i * MultiWrite.size);
  }
  return message(Command.REGION_WRITE_MULTI, bytes);
}

test("many writes in one message leave others their turns, and come before what follows", async () => {
  const device = new SlowDevice();
  await using served = await serveTestDevice({}, device);
  using client = await FakeClient.open(served.path);
  client.raw(manyWrites(100));
  client.send(Command.REGION_READ, RegionAccess.bytes({ offset: 8n, region: 0, count: 4 }), { id: 2 });
  let turns = 0;
  while (client.silent) {
    await turn();
    turns++;
  }
  assert.ok(turns > 10, `${turns} turns`);
  assert.equal((await client.next()).command, Command.REGION_WRITE_MULTI);
  assert.equal(new DataView((await client.next()).payload.buffer).getUint32(16, true), 99);
});

test("a client that leaves in the middle of many writes is noticed at once", async () => {
  const device = new SlowDevice();
  await using served = await serveTestDevice({}, device);
  {
    using client = await FakeClient.open(served.path);
    client.raw(manyWrites(4000));
    await until(() => device.log.length > 0, "the first write");
  }
  await until(() => served.server.client === undefined, "the client is gone");
  assert.ok(device.log.length < 4000);
});
