// Several clients of one user at one function: each with memory and signals of its own, all with the same function.
// seconds: 1
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync } from "node:fs";
import { test } from "node:test";
import { createMemoryFile, EventFd, type FileDescriptor, MappedMemory } from "../linux/index.ts";
import { FakeClient, message, turn, until, versionPayload } from "./fake-client.ts";
import { Register, type Served, serveTestDevice } from "./fake-served.ts";
import {
  Command,
  DeviceFeature,
  DmaMap,
  DmaUnmap,
  Feature,
  FeatureFlag,
  FeatureMigrationState,
  IrqSet,
  MigrationState,
  RegionAccess,
  RegionInfo,
  WireErrno,
} from "./messages.ts";

const { EBUSY, EEXIST, ENOENT } = WireErrno;
const MSIX = 2;
const [ERROR, REQUEST] = [3, 4];

function access(offset: number, value: number, region = 0): Uint8Array {
  return Uint8Array.of(
    ...RegionAccess.bytes({ offset: BigInt(offset), region, count: 4 }),
    ...new Uint8Array(Uint32Array.of(value).buffer),
  );
}

async function write(client: FakeClient, offset: number, value: number, region = 0): Promise<void> {
  assert.equal(await client.errno(Command.REGION_WRITE, access(offset, value, region)), 0);
}

async function read(client: FakeClient, offset: number, region = 0): Promise<number> {
  const request = RegionAccess.bytes({ offset: BigInt(offset), region, count: 4 });
  const { payload } = await client.request(Command.REGION_READ, request);
  return new DataView(payload.buffer).getUint32(16, true);
}

const map = (client: FakeClient, address: number, file?: FileDescriptor): Promise<number> =>
  client.errno(
    Command.DMA_MAP,
    DmaMap.bytes({ argsz: 32, flags: 3, address: BigInt(address), size: 0x1000n }),
    file === undefined ? {} : { fds: [file] },
  );

const unmap = (client: FakeClient, address: number, size = 0x1000, flags = 0): Promise<number> =>
  client.errno(Command.DMA_UNMAP, DmaUnmap.bytes({ argsz: 24, flags, address: BigInt(address), size: BigInt(size) }));

/** Sets signals from `start` on; without any events it takes `count` away. */
const signals = (client: FakeClient, index: number, start: number, events: readonly EventFd[], count = events.length) =>
  client.errno(Command.DEVICE_SET_IRQS, IrqSet.bytes({ argsz: 20, flags: 0x24, index, start, count }), {
    fds: events.map(({ fd }) => fd),
  });

const disable = (client: FakeClient, index: number): Promise<number> =>
  client.errno(Command.DEVICE_SET_IRQS, IrqSet.bytes({ argsz: 20, flags: 0x21, index, start: 0, count: 0 }));

const mappedAt = ({ device }: Served): number[] => device.memory.maps().map(({ iova }) => iova);

/** As a driver that is to be signalled has it. */
const busMaster = (client: FakeClient): Promise<void> => write(client, 4, 6, 7);

test("as many as may, of one user, and the function is given back when the last leaves", async () => {
  await using served = await serveTestDevice({ openings: 2 });
  const { device, server, events } = served;
  const { resets } = device;
  const first = await FakeClient.open(served.path);
  const second = await FakeClient.open(served.path);
  assert.deepEqual([server.clients.length, server.statistics.clients, server.statistics.connections], [2, 2, 2]);
  using third = FakeClient.connect(served.path);
  const reply = await third.request(Command.VERSION, versionPayload({ refusal_text: true }));
  assert.equal(reply.errno, EBUSY);
  const words = new TextDecoder().decode(reply.payload);
  assert.match(words, new RegExp(`in use by pid ${process.pid} \\(uid ${process.getuid?.()}\\), and with 2 clients`));
  await write(first, 8, 7);
  assert.equal(await read(second, 8), 7);
  first[Symbol.dispose]();
  await until(() => server.clients.length === 1, "the first has left");
  assert.equal(await read(second, 8), 7);
  assert.equal(device.resets, resets);
  // There is room again.
  const fourth = await FakeClient.open(served.path);
  assert.equal(await read(fourth, 8), 7);
  second[Symbol.dispose]();
  fourth[Symbol.dispose]();
  await until(() => server.client === undefined, "all have left");
  assert.deepEqual([device.resets, device.words[2], device.connectedTo], [resets + 1, 0, undefined]);
  assert.deepEqual(
    events.map(({ type }) => type),
    ["connected", "connected", "refused", "disconnected", "connected", "disconnected", "disconnected"],
  );
});

test("each has its own maps in one address space, and takes only those with it", async () => {
  await using served = await serveTestDevice({ openings: 3 });
  using file = createMemoryFile(0x1000);
  const a = await FakeClient.open(served.path);
  using b = await FakeClient.open(served.path);
  assert.deepEqual([await map(a, 0x1000, file), await map(b, 0x2000, file), await map(a, 0x3000)], [0, 0, 0]);
  assert.deepEqual([await map(b, 0x1000, file), await map(a, 0x2000)], [EEXIST, EEXIST]);
  // Another one's is not there for who unmaps.
  assert.deepEqual([await unmap(b, 0x1000), await unmap(a, 0x2000)], [ENOENT, ENOENT]);
  assert.equal(await unmap(b, 0x0, 0x10_0000), 0);
  assert.deepEqual(mappedAt(served), [0x1000, 0x3000]);
  assert.equal(await map(b, 0x2000, file), 0);
  assert.equal(await unmap(b, 0, 0, 2), 0);
  assert.deepEqual(mappedAt(served), [0x1000, 0x3000]);
  assert.equal(await map(b, 0x4000, file), 0);
  a[Symbol.dispose]();
  await until(() => served.server.clients.length === 1, "a has left");
  assert.deepEqual(mappedAt(served), [0x4000]);
  served.device.memory.busMaster = true;
  served.device.memory.write(0x4000, Uint8Array.of(5));
  using view = MappedMemory.file(file.duplicate(), 0, 0x1000);
  assert.equal(view.bytes[0], 5);
});

test("a device asks the client whose memory it is, whoever told it to", async () => {
  await using served = await serveTestDevice({ openings: 2, clientTimeoutMs: 200 });
  using a = await FakeClient.open(served.path);
  const b = await FakeClient.open(served.path);
  await busMaster(a);
  assert.equal(await map(b, 0x5000), 0);
  await write(a, Register.ADDRESS, 0x5000);
  // The answer is there before the question: the server waits for it in this thread.
  const data = Uint8Array.of(...new Uint8Array(BigUint64Array.of(0x5000n, 4n).buffer), 0x44, 0x33, 0x22, 0x11);
  b.raw(message(Command.DMA_READ, data, { id: 1, flags: 1 }));
  await write(a, Register.READ, 4);
  assert.equal(await read(a, Register.DATA), 0x1122_3344);
  assert.equal((await b.next()).command, Command.DMA_READ);
  // One that does not answer is hung up on; whoever told the device to is not.
  await write(a, Register.READ, 4);
  assert.equal((await b.next()).command, Command.DMA_READ);
  await b.hangUp();
  b[Symbol.dispose]();
  assert.equal(served.server.clients.length, 1);
  assert.equal(await read(a, Register.ADDRESS), 0x5000);
});

test("of an interrupt vector the last signal counts, and goes with who set it", async () => {
  await using served = await serveTestDevice({ openings: 3 });
  const { interrupts } = served.device;
  using a = await FakeClient.open(served.path);
  const b = await FakeClient.open(served.path);
  await busMaster(a);
  using mine = new EventFd();
  using other = new EventFd();
  assert.deepEqual([await signals(a, MSIX, 0, [mine, mine, mine]), await signals(b, MSIX, 1, [other])], [0, 0]);
  const raised = (): number[] => {
    for (const vector of [0, 1, 2]) interrupts.raise(vector);
    return [mine.read(), other.read()];
  };
  assert.deepEqual(raised(), [2, 1]);
  // What is another one's is not taken away, by vector or by kind.
  assert.equal(await signals(a, MSIX, 0, [], 3), 0);
  assert.deepEqual(raised(), [0, 1]);
  assert.deepEqual([await signals(a, MSIX, 2, [mine]), await disable(b, MSIX), await disable(b, MSIX)], [0, 0, 0]);
  assert.equal(interrupts.mode, "msix");
  assert.deepEqual(raised(), [1, 0]);
  assert.equal(await signals(b, MSIX, 0, [other, other, other]), 0);
  assert.deepEqual(raised(), [0, 3]);
  b[Symbol.dispose]();
  await until(() => served.server.clients.length === 1, "b has left");
  // What it had taken over is nobody's now; the kind is off with the last signal.
  assert.deepEqual([...raised(), interrupts.mode], [0, 0, "intx"]);
  assert.equal(await signals(a, MSIX, 0, [mine]), 0);
  interrupts.raise(0);
  assert.equal(mine.read(), 1);
});

test("errors and requests for removal go to everybody", async () => {
  await using served = await serveTestDevice({ openings: 3 });
  const clients = await Promise.all([0, 1, 2].map(() => FakeClient.open(served.path)));
  const events = clients.map(() => new EventFd());
  for (const index of [ERROR, REQUEST]) {
    for (const [i, client] of clients.entries())
      assert.equal(await signals(client, index, 0, [events[i] as EventFd]), 0);
  }
  const told = (tell: () => void): number[] => {
    tell();
    return events.map((event) => event.read());
  };
  const { device } = served;
  assert.deepEqual(
    told(() => device.interrupts.signalError()),
    [1, 1, 1],
  );
  assert.deepEqual(
    told(() => device.requestRemoval()),
    [1, 1, 1],
  );
  assert.equal(await disable(clients[0] as FakeClient, ERROR), 0);
  clients[1]?.[Symbol.dispose]();
  await until(() => served.server.clients.length === 2, "one has left");
  assert.deepEqual(
    told(() => device.interrupts.signalError()),
    [0, 0, 1],
  );
  assert.deepEqual(
    told(() => device.requestRemoval()),
    [1, 0, 1],
  );
  assert.equal(await signals(clients[0] as FakeClient, ERROR, 0, [events[1] as EventFd]), 0);
  assert.deepEqual(
    told(() => device.interrupts.signalError()),
    [0, 1, 1],
  );
  clients[2]?.[Symbol.dispose]();
  await until(() => served.server.clients.length === 1, "one is left");
  // Off and on again is on once.
  for (let i = 0; i < 3; i++) {
    assert.equal(await disable(clients[0] as FakeClient, ERROR), 0);
    assert.equal(await signals(clients[0] as FakeClient, ERROR, 0, [events[0] as EventFd]), 0);
  }
  const { interrupts } = served.server.statistics;
  assert.deepEqual(
    told(() => device.interrupts.signalError()),
    [1, 0, 0],
  );
  assert.equal(served.server.statistics.interrupts, interrupts + 1);
  for (const client of clients) client[Symbol.dispose]();
  for (const event of events) event[Symbol.dispose]();
});

test("one's reset is everybody's", async () => {
  await using served = await serveTestDevice({ openings: 2 });
  using a = await FakeClient.open(served.path);
  using b = await FakeClient.open(served.path);
  using file = createMemoryFile(0x1000);
  using event = new EventFd();
  await busMaster(a);
  assert.deepEqual([await map(a, 0x1000, file), await signals(a, MSIX, 0, [event])], [0, 0]);
  await write(a, 8, 7);
  assert.equal(await b.errno(Command.DEVICE_RESET), 0);
  assert.equal(await read(a, 8), 0);
  // Bus mastering and interrupts are off, memory stays mapped, as after any reset.
  assert.equal((await read(a, 4, 7)) & 7, 2);
  assert.deepEqual([served.device.interrupts.mode, mappedAt(served)], ["intx", [0x1000]]);
});

test("while one's reset takes its time, nobody's accesses reach the function", async () => {
  await using served = await serveTestDevice({ openings: 3 });
  const { device } = served;
  const { promise, resolve } = Promise.withResolvers<void>();
  device.resetByUser = () => promise.then(() => device.resetForUser());
  const a = await FakeClient.open(served.path);
  using b = await FakeClient.open(served.path);
  await write(b, 8, 7);
  a.send(Command.DEVICE_RESET);
  await until(() => (served.server.statistics.messages["DEVICE_RESET"] ?? 0) === 1, "the reset began");
  b.send(Command.REGION_READ, RegionAccess.bytes({ offset: 8n, region: 0, count: 4 }), { id: 9 });
  // One more opens it, and waits as well; the one that wanted the reset leaves.
  using c = await FakeClient.open(served.path);
  c.send(Command.REGION_READ, RegionAccess.bytes({ offset: 8n, region: 0, count: 4 }), { id: 10 });
  a[Symbol.dispose]();
  await until(() => served.server.clients.length === 2, "a has left");
  for (let i = 0; i < 10; i++) await turn();
  assert.ok(b.silent && c.silent && !device.log.includes("r4 8"));
  resolve();
  for (const [client, id] of [
    [b, 9],
    [c, 10],
  ] as const) {
    const reply = await client.next();
    assert.deepEqual([reply.id, reply.payload[16]], [id, 0]);
  }
});

test("mapped BARs show everybody the same memory, until the last has left", async () => {
  await using served = await serveTestDevice({ openings: 2 });
  const views: MappedMemory[] = [];
  const clients: FakeClient[] = [];
  for (let i = 0; i < 2; i++) {
    const client = await FakeClient.open(served.path);
    const info = RegionInfo.bytes({ argsz: 4096, index: 3 });
    const { fds } = await client.request(Command.DEVICE_GET_REGION_INFO, info);
    views.push(MappedMemory.file(fds[0] as FileDescriptor, 0, 0x1000));
    clients.push(client);
  }
  const [one, two] = views as [MappedMemory, MappedMemory];
  one.bytes[3] = 9;
  assert.deepEqual([two.bytes[3], served.device.barRead8(3, 3)], [9, 9]);
  clients[0]?.[Symbol.dispose]();
  await until(() => served.server.clients.length === 1, "one has left");
  two.bytes[3] = 8;
  assert.equal(served.device.barRead8(3, 3), 8);
  clients[1]?.[Symbol.dispose]();
  await until(() => served.server.client === undefined, "both have left");
  two.bytes[3] = 7;
  assert.notEqual(served.device.barRead8(3, 3), 7);
  for (const view of views) view[Symbol.dispose]();
});

test("a function that is moved has one client, and one that is shared is not moved", async () => {
  await using served = await serveTestDevice({ openings: 2 });
  using a = await FakeClient.open(served.path);
  const b = await FakeClient.open(served.path);
  const move = (client: FakeClient, device_state: number): Promise<number> => {
    const request = DeviceFeature.bytes({ argsz: 16, flags: FeatureFlag.SET | Feature.MIG_DEVICE_STATE });
    const state = FeatureMigrationState.bytes({ device_state, data_fd: 0 });
    return client.errno(Command.DEVICE_FEATURE, Uint8Array.of(...request, ...state));
  };
  assert.equal(await move(a, MigrationState.STOP), EBUSY);
  b[Symbol.dispose]();
  await until(() => served.server.clients.length === 1, "b has left");
  // The device takes its time to stop: it is on its way already.
  const { promise, resolve } = Promise.withResolvers<void>();
  served.device.suspending = promise;
  const stopped = move(a, MigrationState.STOP);
  const late = FakeClient.connect(served.path);
  assert.equal(await late.errno(Command.VERSION, versionPayload()), EBUSY);
  resolve();
  assert.equal(await stopped, 0);
  using later = FakeClient.connect(served.path);
  const reply = await later.request(Command.VERSION, versionPayload({ refusal_text: true }));
  assert.match(new TextDecoder().decode(reply.payload), new RegExp(`pid ${process.pid} is moving the function`));
  assert.equal(await move(a, MigrationState.RUNNING), 0);
  using back = await FakeClient.open(served.path);
  assert.equal(await read(back, 8), 0);
  late[Symbol.dispose]();
});

test("another user is told who has it", {
  skip: process.getuid?.() !== 0 && "only root has other users' processes",
}, async () => {
  await using served = await serveTestDevice({ openings: 3, mode: 0o666 });
  chmodSync(served.directory, 0o755);
  using holder = await FakeClient.open(served.path);
  const program = `
    const socket = require("node:net").connect(process.argv[1], () => socket.write(Buffer.from(process.argv[2], "hex")));
    socket.on("data", (bytes) => { console.log(bytes.readUInt32LE(12), bytes.subarray(16).toString()); socket.end(); });
  `;
  const hello = Buffer.from(message(Command.VERSION, versionPayload({ refusal_text: true }))).toString("hex");
  const child = spawn(process.execPath, ["-e", program, served.path, hello], {
    uid: 65_534,
    gid: 65_534,
    stdio: ["ignore", "pipe", "inherit"],
    env: {},
    cwd: "/",
  });
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  assert.equal(
    line.toString().trim(),
    `${EBUSY} the function is in use by pid ${process.pid} (uid 0); it has clients of one user at a time`,
  );
  assert.equal(await read(holder, 8), 0);
});

test("an administrator takes the function from everybody", async () => {
  await using served = await serveTestDevice({ openings: 3 });
  const clients = await Promise.all([0, 1, 2].map(() => FakeClient.open(served.path)));
  const { resets } = served.device;
  await served.server.disconnect("enough");
  assert.deepEqual([served.server.clients, served.device.resets], [[], resets + 1]);
  for (const client of clients) {
    await client.hangUp();
    client[Symbol.dispose]();
  }
  const reasons = served.events.filter(({ type }) => type === "disconnected");
  assert.deepEqual(
    reasons,
    clients.map(() => ({ type: "disconnected", pid: process.pid, reason: "enough" })),
  );
});

test("a number of clients is a number", async () => {
  for (const openings of [0, -1, 1.5, Number.NaN]) await assert.rejects(serveTestDevice({ openings }), RangeError);
});
