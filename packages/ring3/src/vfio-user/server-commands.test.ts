import assert from "node:assert/strict";
import { fstatSync } from "node:fs";
import { test } from "node:test";
import { EventFd, type FileDescriptor, MappedMemory } from "../linux/index.ts";
import { FakeClient, turn, until, versionPayload } from "./fake-client.ts";
import { openDescriptors, type Served, serveTestDevice } from "./fake-served.ts";
import {
  Command,
  DeviceInfo,
  HeaderFlag,
  Irq,
  IrqInfo,
  IrqSet,
  MultiWrite,
  RegionAccess,
  RegionInfo,
  RegionIoFds,
  RegionWriteMulti,
  SparseMmapArea,
  SubRegionIoEventFdShadow,
  WireErrno,
} from "./messages.ts";

const { EINVAL, EPERM, ENOTTY } = WireErrno;

function read(region: number, offset: number, count: number): Uint8Array {
  return RegionAccess.bytes({ offset: BigInt(offset), region, count });
}

function write(region: number, offset: number, data: Uint8Array, count = data.length): Uint8Array {
  const payload = new Uint8Array(16 + data.length);
  payload.set(RegionAccess.bytes({ offset: BigInt(offset), region, count }));
  payload.set(data, 16);
  return payload;
}

function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

async function open(served: Served, capabilities: object | undefined = { max_msg_fds: 16 }): Promise<FakeClient> {
  return await FakeClient.open(served.path, capabilities);
}

test("VERSION: the literal bytes of SPDK's greeting", async () => {
  await using served = await serveTestDevice();
  using client = FakeClient.connect(served.path);
  client.raw(Uint8Array.of(0, 0, 1, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  const reply = await client.next();
  assert.deepEqual([reply.id, reply.command, reply.flags, reply.errno], [0, 1, HeaderFlag.REPLY, 0]);
  assert.deepEqual([...reply.payload], [0, 0, 0, 0]);
});

test("VERSION: the reply is no longer than the request and says only what differs", async () => {
  await using served = await serveTestDevice();
  const proposal = {
    pgsizes: 4096,
    max_msg_fds: 16,
    max_dma_maps: 65535,
    max_data_xfer_size: 1048576,
    migration: { pgsize: 4096, max_bitmap_size: 268435456 },
    write_multiple: true,
  };
  for (const [minor, replied] of [
    [0, 0],
    [1, 1],
    [7, 1],
  ] as const) {
    using client = FakeClient.connect(served.path);
    const reply = await client.request(Command.VERSION, versionPayload(proposal, minor));
    assert.equal(reply.payload[2], replied);
    const text = new TextDecoder().decode(reply.payload.subarray(4));
    assert.equal(text, '{"capabilities":{"max_msg_fds":16,"write_multiple":true}}\0');
  }
  using short = FakeClient.connect(served.path);
  const request = versionPayload({ max_msg_fds: 1 });
  const reply = await short.request(Command.VERSION, request);
  assert.ok(reply.payload.length <= request.length);
});

test("VERSION: a client that posts its writes is told where each is to be waited for", async () => {
  for (const [options, proposal, answer] of [
    [{ postedWrites: false }, { posted_writes: true }, '{"capabilities":{"posted_writes":false}}\0'],
    [{ postedWrites: false }, { max_msg_fds: 1 }, '{"capabilities":{"max_msg_fds":16}}\0'],
    [{}, { posted_writes: true }, ""],
  ] as const) {
    await using served = await serveTestDevice(options);
    using client = FakeClient.connect(served.path);
    const reply = await client.request(Command.VERSION, versionPayload({ ...proposal, pgsizes: 4096 }));
    assert.equal(new TextDecoder().decode(reply.payload.subarray(4)), answer);
  }
});

test("VERSION: what is malformed is refused, and the connection ends", async () => {
  await using served = await serveTestDevice();
  const json = (text: string): Uint8Array => Uint8Array.of(0, 0, 0, 0, ...new TextEncoder().encode(text), 0);
  const bad = [
    new Uint8Array(0),
    new Uint8Array(3),
    Uint8Array.of(1, 0, 0, 0),
    json("{"),
    json("[]"),
    json("7"),
    json('{"capabilities":7}'),
    json('{"capabilities":{"max_msg_fds":-1}}'),
    json('{"capabilities":{"max_msg_fds":"x"}}'),
    json('{"capabilities":{"max_data_xfer_size":0}}'),
    json('{"capabilities":{"max_data_xfer_size":1.5}}'),
    json('{"capabilities":{"twin_socket":[]}}'),
    json(`{"x":"${"y".repeat(5000)}"}`),
  ];
  for (const payload of bad) {
    using client = FakeClient.connect(served.path);
    assert.equal(await client.errno(Command.VERSION, payload), EINVAL);
    await client.hangUp();
  }
  using early = FakeClient.connect(served.path);
  assert.equal(await early.errno(Command.DEVICE_RESET), EINVAL);
  await early.hangUp();
  assert.equal(served.server.statistics.connections, 0);
  using client = await open(served);
  assert.equal(await client.errno(Command.VERSION, versionPayload()), EINVAL);
});

test("GET_INFO", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  const request = DeviceInfo.bytes({ argsz: 16 });
  const { payload } = await client.request(Command.DEVICE_GET_INFO, request);
  assert.deepEqual([...new Uint32Array(payload.buffer)], [16, 3, 9, 5]);
  assert.equal(await client.errno(Command.DEVICE_GET_INFO, DeviceInfo.bytes({ argsz: 15 })), EINVAL);
  assert.equal(await client.errno(Command.DEVICE_GET_INFO, request.subarray(0, 12)), EINVAL);
});

test("REGION_INFO: sizes, flags, and the answer to too small an argsz", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  const info = async (index: number, argsz: number): Promise<{ bytes: Uint8Array; fds: readonly FileDescriptor[] }> => {
    const reply = await client.request(Command.DEVICE_GET_REGION_INFO, RegionInfo.bytes({ argsz, index }));
    assert.equal(reply.errno, 0);
    return { bytes: reply.payload, fds: reply.fds };
  };
  const expected = [
    [0, 3, 4096],
    [1, 3, 64],
    [5, 0, 0],
    [6, 1, 2048],
    [7, 3, 256],
    [8, 0, 0],
  ] as const;
  for (const [index, flags, size] of expected) {
    const { bytes, fds } = await info(index, 32);
    assert.deepEqual(RegionInfo.from(bytes), {
      argsz: 32,
      flags,
      index,
      cap_offset: 0,
      size: BigInt(size),
      offset: 0n,
    });
    assert.equal(fds.length, 0);
  }
  // QEMU's first question, and its second.
  const short = await info(2, 32);
  assert.equal(short.bytes.length, 32);
  assert.deepEqual(RegionInfo.from(short.bytes), {
    argsz: 80,
    flags: 7,
    index: 2,
    cap_offset: 0,
    size: 0x4000n,
    offset: 0n,
  });
  assert.equal(short.fds.length, 0);
  const full = await info(2, 80);
  assert.equal(RegionInfo.from(full.bytes).flags, 15);
  assert.equal(RegionInfo.from(full.bytes).cap_offset, 32);
  assert.deepEqual([...new Uint32Array(full.bytes.buffer, 32, 4)], [0x0001_0001, 0, 2, 0]);
  assert.deepEqual(SparseMmapArea.from(full.bytes, 48), { offset: 0x1000n, size: 0x1000n });
  assert.deepEqual(SparseMmapArea.from(full.bytes, 64), { offset: 0x3000n, size: 0x1000n });
  assert.equal(full.fds.length, 1);
  // The memory is the device's, at the BAR's offsets.
  using file = full.fds[0] as FileDescriptor;
  using mapped = MappedMemory.file(file, 0, 0x4000);
  mapped.bytes[0x3004] = 0x77;
  assert.equal(served.device.barRead8(2, 0x3004), 0x77);
  served.device.barWrite8(2, 0x1000, 0x66);
  assert.equal(mapped.bytes[0x1000], 0x66);
  const whole = await info(3, 4064);
  assert.equal(RegionInfo.from(whole.bytes).flags, 7);
  assert.deepEqual([whole.bytes.length, whole.fds.length], [32, 1]);
  whole.fds[0]?.close();
  const region = Command.DEVICE_GET_REGION_INFO;
  assert.equal(await client.errno(region, RegionInfo.bytes({ argsz: 31, index: 0 })), EINVAL);
  assert.equal(await client.errno(region, RegionInfo.bytes({ argsz: 32, index: 9 })), EINVAL);
  assert.equal(await client.errno(region, new Uint8Array(31)), EINVAL);
});

test("REGION_INFO: a client without capabilities gets a descriptor for each area", async () => {
  await using served = await serveTestDevice();
  using client = await FakeClient.open(served.path);
  const reply = await client.request(Command.DEVICE_GET_REGION_INFO, RegionInfo.bytes({ argsz: 4064, index: 2 }));
  assert.equal(reply.fds.length, 2);
  for (const fd of reply.fds) fd.close();
});

test("the memory of a BAR survives the client that mapped it, whose mapping then shows nobody anything", async () => {
  await using served = await serveTestDevice({ keepState: true });
  let file: FileDescriptor;
  {
    using client = await open(served);
    const request = RegionInfo.bytes({ argsz: 32, index: 3 });
    [file] = (await client.request(Command.DEVICE_GET_REGION_INFO, request)).fds as [FileDescriptor];
    served.device.barWrite32(3, 8, 0xabcd);
  }
  await until(() => served.server.client === undefined, "the client is gone");
  using second = await open(served);
  using owned = file;
  using mapped = MappedMemory.file(owned, 0, 4096);
  mapped.bytes.fill(0xff);
  const { payload } = await second.request(Command.REGION_READ, read(3, 8, 4));
  assert.equal(new DataView(payload.buffer).getUint32(16, true), 0xabcd);
});

test("REGION_READ and REGION_WRITE: the literal bytes of a register access", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  served.device.words[2] = 0xcafe_f00d;
  // offset 8, region 0, count 4
  const request = Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0);
  const reply = await client.request(Command.REGION_READ, request, { id: 0xbeef });
  assert.deepEqual([...reply.payload], [...request, 0x0d, 0xf0, 0xfe, 0xca]);
  const written = await client.request(Command.REGION_WRITE, Uint8Array.of(...request, 1, 2, 3, 4));
  assert.deepEqual([...written.payload], [...request]);
  assert.equal(served.device.words[2], 0x0403_0201);
});

test("REGION_READ and REGION_WRITE: widths, spans, config space, ROM and I/O", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  const data = async (region: number, offset: number, count: number): Promise<string> => {
    const { payload } = await client.request(Command.REGION_READ, read(region, offset, count));
    return Buffer.from(payload.subarray(16)).toString("hex");
  };
  assert.equal(await data(7, 0, 4), "34127856");
  assert.equal(await data(7, 2, 2), "7856");
  assert.equal(await data(7, 1, 1), "12");
  assert.equal(await data(7, 1, 5), "1278560300");
  assert.equal((await data(7, 0, 256)).length, 512);
  assert.equal(await data(6, 0, 4), "55aa07ff");
  assert.equal(await data(1, 5, 1), "05");
  served.device.words.set([0x0403_0201, 0x0807_0605]);
  assert.equal(await data(0, 0, 8), "0102030405060708");
  assert.equal(await data(0, 2, 2), "0304");
  assert.equal(await data(0, 3, 3), "040506");
  assert.equal(await data(0, 0, 0), "");
  assert.equal(await client.errno(Command.REGION_WRITE, write(7, 0x3c, Uint8Array.of(0x5a))), 0);
  assert.equal(await data(7, 0x3c, 1), "5a");
  assert.equal(await client.errno(Command.REGION_WRITE, write(3, 16, new Uint8Array(100).fill(9))), 0);
  assert.equal(await data(3, 112, 8), "0909090900000000");
  // Memory decoding off: the bus gives ones, and it is no error.
  assert.equal(await client.errno(Command.REGION_WRITE, write(7, 4, Uint8Array.of(0, 0))), 0);
  assert.equal(await data(0, 0, 4), "ffffffff");
  assert.equal(await data(0, 0, 6), "ffffffffffff");
});

test("REGION_READ and REGION_WRITE: what is refused", async () => {
  await using served = await serveTestDevice({ maximumTransferBytes: 4096 });
  using client = await open(served);
  const bad = [
    read(0, 4093, 4),
    read(0, 4096, 4),
    read(0, 4096, 1),
    read(5, 0, 1),
    read(8, 0, 1),
    read(9, 0, 1),
    read(0xffff_ffff, 0, 4),
    read(2, 0, 4097),
    read(2, 0, 0xffff_ffff),
    RegionAccess.bytes({ offset: 2n ** 64n - 4n, region: 0, count: 4 }),
    RegionAccess.bytes({ offset: 2n ** 32n, region: 0, count: 4 }),
    RegionAccess.bytes({ offset: 2n ** 53n, region: 0, count: 4 }),
    new Uint8Array(15),
    new Uint8Array(0),
  ];
  for (const payload of bad) assert.equal(await client.errno(Command.REGION_READ, payload), EINVAL);
  assert.equal(await client.errno(Command.REGION_WRITE, write(0, 0, word(1), 8)), EINVAL);
  assert.equal(await client.errno(Command.REGION_WRITE, write(0, 0, word(1), 2)), EINVAL);
  assert.equal(await client.errno(Command.REGION_WRITE, write(0, 4094, word(1))), EINVAL);
  assert.equal(await client.errno(Command.REGION_WRITE, write(7, 254, word(1))), EINVAL);
  assert.equal(await client.errno(Command.REGION_WRITE, write(6, 0, word(1))), EPERM);
  assert.equal(served.device.log.length, 0);
});

test("posted writes get no reply, failed ones neither, and come before what follows", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  for (let i = 1; i <= 50; i++) client.send(Command.REGION_WRITE, write(0, 8, word(i)), { flags: HeaderFlag.NO_REPLY });
  client.send(Command.REGION_WRITE, write(9, 0, word(1)), { flags: HeaderFlag.NO_REPLY });
  client.send(Command.REGION_WRITE, write(0, 1, word(1)), { flags: HeaderFlag.NO_REPLY });
  const { payload, id } = await client.request(Command.REGION_READ, read(0, 8, 4), { id: 99 });
  assert.equal(id, 99);
  assert.equal(new DataView(payload.buffer).getUint32(16, true), 50);
  assert.equal(served.server.statistics.errorReplies, 1);
});

test("REGION_WRITE_MULTI: all or nothing", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  const multi = (count: number, ...writes: Parameters<typeof MultiWrite.bytes>[0][]): Uint8Array =>
    Uint8Array.of(
      ...RegionWriteMulti.bytes({ wr_cnt: BigInt(count) }),
      ...writes.flatMap((entry) => [...MultiWrite.bytes(entry)]),
    );
  const one = { offset: 0n, region: 0, count: 4, data: 0x11n };
  const two = { offset: 4n, region: 0, count: 4, data: 0x22n };
  const reply = await client.request(Command.REGION_WRITE_MULTI, multi(2, one, two));
  assert.deepEqual([...reply.payload], [2, 0, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...served.device.words.subarray(0, 2)], [0x11, 0x22]);
  served.device.log.length = 0;
  for (const payload of [
    multi(2, one, { ...two, count: 9 }),
    multi(2, one, { ...two, offset: 4096n }),
    multi(2, one, { ...two, region: 17 }),
    multi(3, one, two),
    new Uint8Array(7),
    RegionWriteMulti.bytes({ wr_cnt: 2n ** 64n - 1n }),
  ]) {
    assert.equal(await client.errno(Command.REGION_WRITE_MULTI, payload), EINVAL);
  }
  assert.equal(served.device.log.length, 0);
  assert.equal((await client.request(Command.REGION_WRITE_MULTI, multi(0))).errno, 0);
});

test("IRQ_INFO", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  const expected = [
    [7, 1],
    [9, 4],
    [1, 40],
    [9, 1],
    [9, 1],
  ];
  for (const [index, [flags, count]] of expected.entries()) {
    const { payload } = await client.request(Command.DEVICE_GET_IRQ_INFO, IrqInfo.bytes({ argsz: 16, index }));
    assert.deepEqual(IrqInfo.from(payload), { argsz: 16, flags, index, count });
  }
  assert.equal(await client.errno(Command.DEVICE_GET_IRQ_INFO, IrqInfo.bytes({ argsz: 16, index: 5 })), EINVAL);
  assert.equal(await client.errno(Command.DEVICE_GET_IRQ_INFO, IrqInfo.bytes({ argsz: 8, index: 0 })), EINVAL);
});

const NONE_TRIGGER = 0x21;
const BOOL_TRIGGER = 0x22;
const EVENTFD_TRIGGER = 0x24;

function irqs(index: number, flags: number, start: number, count: number, data: readonly number[] = []): Uint8Array {
  return Uint8Array.of(...IrqSet.bytes({ argsz: 20 + data.length, flags, index, start, count }), ...data);
}

test("SET_IRQS: MSI-X in chunks, one taken away, triggered by software, disabled", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  const { device } = served;
  device.config.write(4, 2, 6);
  const events = Array.from({ length: 40 }, () => new EventFd());
  const fds = events.map(({ fd }) => fd);
  const set = async (payload: Uint8Array, sent: readonly FileDescriptor[] = []): Promise<number> =>
    await client.errno(Command.DEVICE_SET_IRQS, payload, { fds: sent });
  // As QEMU starts: nothing to take away, nothing to disable.
  assert.equal(await set(irqs(Irq.MSIX, EVENTFD_TRIGGER, 0, 1)), 0);
  assert.equal(await set(irqs(Irq.MSIX, NONE_TRIGGER, 0, 0)), 0);
  for (const start of [0, 16, 32]) {
    const chunk = fds.slice(start, start + 16);
    assert.equal(await set(irqs(Irq.MSIX, EVENTFD_TRIGGER, start, chunk.length), chunk), 0);
  }
  const signalled = (): number[] => events.flatMap((event, vector) => Array<number>(event.read()).fill(vector));
  for (const vector of [0, 17, 39]) device.interrupts.raise(vector);
  assert.deepEqual(signalled(), [0, 17, 39]);
  assert.equal(served.server.statistics.interrupts, 3);
  assert.equal(await set(irqs(Irq.MSIX, EVENTFD_TRIGGER, 17, 1)), 0);
  for (const vector of [0, 17, 39]) device.interrupts.raise(vector);
  assert.deepEqual(signalled(), [0, 39]);
  assert.equal(await set(irqs(Irq.MSIX, NONE_TRIGGER, 3, 2)), 0);
  assert.equal(await set(irqs(Irq.MSIX, BOOL_TRIGGER, 6, 3, [1, 0, 1])), 0);
  assert.deepEqual(signalled(), [3, 4, 6, 8]);
  assert.equal(await set(irqs(Irq.MSIX, NONE_TRIGGER, 0, 0)), 0);
  device.interrupts.raise(0);
  assert.deepEqual(signalled(), []);
  assert.equal(await set(irqs(Irq.MSIX, NONE_TRIGGER, 0, 0)), 0);
  for (const event of events) event[Symbol.dispose]();
});

test("SET_IRQS: INTx fires again at each unmask while the level is up", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  const { device } = served;
  using line = new EventFd();
  const set = async (payload: Uint8Array, sent: readonly FileDescriptor[] = []): Promise<number> =>
    await client.errno(Command.DEVICE_SET_IRQS, payload, { fds: sent });
  assert.equal(await set(irqs(Irq.INTX, EVENTFD_TRIGGER, 0, 1), [line.fd]), 0);
  device.interrupts.level(true);
  device.interrupts.level(true);
  assert.equal(line.read(), 1);
  const unmask = irqs(Irq.INTX, 0x11, 0, 1);
  assert.equal(await set(unmask), 0);
  assert.equal(line.read(), 1);
  assert.equal(await set(irqs(Irq.INTX, 0x09, 0, 1)), 0);
  device.interrupts.level(false);
  assert.equal(await set(unmask), 0);
  assert.equal(line.read(), 0);
  // A signal that masks, and one that unmasks.
  using masked = new EventFd();
  using resample = new EventFd();
  assert.equal(await set(irqs(Irq.INTX, 0x0c, 0, 1), [masked.fd]), 0);
  assert.equal(await set(irqs(Irq.INTX, 0x14, 0, 1), [resample.fd]), 0);
  device.interrupts.level(true);
  assert.deepEqual([line.read(), masked.read()], [1, 1]);
  resample.write();
  await until(() => line.read() === 1, "the line fires again");
});

test("SET_IRQS: what is refused, and no descriptor stays behind", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  using event = new EventFd();
  const before = openDescriptors();
  const set = async (payload: Uint8Array, sent: readonly FileDescriptor[] = []): Promise<number> =>
    await client.errno(Command.DEVICE_SET_IRQS, payload, { fds: sent });
  const two = [event.fd, event.fd];
  assert.equal(await set(irqs(5, NONE_TRIGGER, 0, 0)), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, NONE_TRIGGER, 1, 0)), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, EVENTFD_TRIGGER, 0, 0)), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, 0x11, 0, 0)), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, EVENTFD_TRIGGER, 0, 3), two), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, EVENTFD_TRIGGER, 39, 2), two), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, EVENTFD_TRIGGER, 0xffff_ffff, 2), two), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, EVENTFD_TRIGGER, 2, 0xffff_ffff), two), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, NONE_TRIGGER, 0, 2), two), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, 0x23, 0, 2), two), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, 0x64, 0, 2), two), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, 0x04, 0, 2), two), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, 0x3c, 0, 2), two), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, 0xff24, 0, 2), two), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, BOOL_TRIGGER, 0, 3, [1, 1])), EINVAL);
  assert.equal(await set(irqs(Irq.MSIX, 0x09, 0, 1)), ENOTTY);
  assert.equal(await set(irqs(Irq.MSI, 0x14, 0, 1), [event.fd]), ENOTTY);
  assert.equal(await set(new Uint8Array(19), two), EINVAL);
  // No eventfd: writing to it might block.
  assert.equal(await set(irqs(Irq.MSIX, EVENTFD_TRIGGER, 0, 1), [client.socket.fd]), EINVAL);
  assert.equal(openDescriptors(), before);
});

test("a full or blocking eventfd holds nobody up", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  served.device.config.write(4, 2, 6);
  using event = new EventFd();
  const payload = irqs(Irq.MSIX, EVENTFD_TRIGGER, 0, 1);
  assert.equal(await client.errno(Command.DEVICE_SET_IRQS, payload, { fds: [event.fd] }), 0);
  // Writing 2^64 - 2 fills the counter.
  for (let i = 0; i < 3; i++) event.write(2 ** 64 - 4096);
  event.write(4094);
  served.device.interrupts.raise(0);
  served.device.interrupts.raise(0);
  assert.equal((await client.request(Command.REGION_READ, read(0, 0, 4))).errno, 0);
});

test("GET_REGION_IO_FDS: signals become writes", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  const ask = async (argsz: number, index = 0): ReturnType<FakeClient["request"]> =>
    await client.request(Command.DEVICE_GET_REGION_IO_FDS, RegionIoFds.bytes({ argsz, index }));
  const short = await ask(16);
  assert.deepEqual(RegionIoFds.from(short.payload), { argsz: 16 + 3 * 48, flags: 0, index: 0, count: 0 });
  assert.equal(short.fds.length, 0);
  const { payload, fds } = await ask(16 + 3 * 48);
  assert.equal(RegionIoFds.from(payload).count, 3);
  const entries = [0, 1, 2].map((i) => SubRegionIoEventFdShadow.from(payload, 16 + 48 * i));
  assert.deepEqual(
    entries.map(({ offset, size, type, flags, fd_index }) => [Number(offset), Number(size), type, flags, fd_index]),
    [
      [0x40, 4, 0, 0, 0],
      [0x44, 4, 0, 1, 1],
      [0x48, 4, 2, 0, 2],
    ],
  );
  // The matching value lies where either text has it.
  assert.deepEqual([entries[1]?.shadow_offset, entries[1]?.datamatch], [0x22n, 0x22n]);
  assert.deepEqual([entries[2]?.shadow_mem_fd_index, entries[2]?.shadow_offset], [3, 0x48n]);
  assert.equal(fds.length, 4);
  using shadow = MappedMemory.file(fds[3] as FileDescriptor, 0, 4096);
  shadow.bytes.set(word(0x33), 0x48);
  for (const fd of fds.slice(0, 3)) new EventFd(fd).write();
  const { log } = served.device;
  await until(() => log.length === 3, "three writes");
  assert.deepEqual([...log].sort(), ["w4 40=11", "w4 44=22", "w4 48=33"]);
  for (const fd of fds) fd.close();
  assert.equal(RegionIoFds.from((await ask(1000, 7)).payload).count, 0);
  const errno = async (request: Partial<ReturnType<typeof RegionIoFds.from>>): Promise<number> =>
    await client.errno(Command.DEVICE_GET_REGION_IO_FDS, RegionIoFds.bytes(request));
  assert.equal(await errno({ argsz: 15 }), EINVAL);
  assert.equal(await errno({ argsz: 100, flags: 1 }), EINVAL);
  assert.equal(await errno({ argsz: 100, count: 1 }), EINVAL);
  assert.equal(await errno({ argsz: 100, index: 9 }), EINVAL);
});

test("DEVICE_RESET keeps BAR addresses and decoding", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  await client.errno(Command.REGION_WRITE, write(7, 0x10, word(0xfe00_0000)));
  await client.errno(Command.REGION_WRITE, write(0, 8, word(5)));
  const { resets } = served.device;
  const reply = await client.request(Command.DEVICE_RESET);
  assert.deepEqual([reply.errno, reply.payload.length], [0, 0]);
  assert.equal(served.device.resets, resets + 1);
  const { payload } = await client.request(Command.REGION_READ, read(7, 0x10, 4));
  assert.equal(new DataView(payload.buffer).getUint32(16, true), 0xfe00_0000);
  const after = await client.request(Command.REGION_READ, read(0, 8, 4));
  assert.equal(new DataView(after.payload.buffer).getUint32(16, true), 0);
});

test("commands that there are not, or that go the other way", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  for (const command of [0, 11, 12, 14, 19, 0xffff]) {
    assert.equal(await client.errno(command, new Uint8Array(64)), EINVAL);
  }
  // A reply that nobody waits for is dropped.
  client.send(Command.DMA_READ, new Uint8Array(16), { flags: HeaderFlag.REPLY });
  assert.equal((await client.request(Command.DEVICE_GET_INFO, DeviceInfo.bytes({ argsz: 16 }))).errno, 0);
  assert.equal(served.server.statistics.messages["unknown"], 4);
});

test("descriptors that a command does not take are closed", async () => {
  await using served = await serveTestDevice();
  using client = await open(served);
  using event = new EventFd();
  const before = openDescriptors();
  const fds = Array.from({ length: 16 }, () => event.fd);
  for (const command of [4, 5, 6, 7, 9, 10, 13, 15, 16, 17, 18, 77]) {
    await client.errno(command, new Uint8Array(64), { fds });
  }
  await turn();
  assert.equal(openDescriptors(), before);
  assert.equal(fstatSync(event.fd.number).nlink, 1);
});
