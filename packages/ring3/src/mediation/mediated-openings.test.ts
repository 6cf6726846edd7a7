// A real function behind rules, with several clients of one user and a line of those who want it next.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Sample, SampleDevice } from "../../../../tests/fakes/sample-device.ts";
import { createMemoryFile, EventFd, MappedMemory } from "../linux/index.ts";
import { FakeClient, turn, until } from "../vfio-user/fake-client.ts";
import { Command, DmaMap, IrqSet, RegionAccess, WireErrno } from "../vfio-user/messages.ts";
import { type FunctionServer, serve } from "../vfio-user/server.ts";
import { type InProcessFunction, inProcess } from "../virtual/in-process.ts";
import { type MediatedFunction, mediate } from "./index.ts";

const { EEXIST, EINVAL } = WireErrno;

interface Scene extends AsyncDisposable {
  readonly real: InProcessFunction;
  readonly mediated: MediatedFunction;
  readonly server: FunctionServer;
}

async function scene(t: TestContext): Promise<Scene> {
  const directory = mkdtempSync(join(tmpdir(), "ring3-mediated-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const stack = new AsyncDisposableStack();
  const real = stack.use(inProcess(new SampleDevice()));
  const mediated = stack.use(await mediate(real));
  const server = stack.use(await serve(mediated, join(directory, "s"), { openings: 2, queue: 2 }));
  return { real, mediated, server, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

async function write(client: FakeClient, offset: number, value: number, region = 0): Promise<void> {
  const place = RegionAccess.bytes({ offset: BigInt(offset), region, count: 4 });
  const payload = Uint8Array.of(...place, ...new Uint8Array(Uint32Array.of(value).buffer));
  assert.equal(await client.errno(Command.REGION_WRITE, payload), 0);
}

const registerAt = (offset: number): Uint8Array => RegionAccess.bytes({ offset: BigInt(offset), region: 0, count: 4 });

async function read(client: FakeClient, offset: number): Promise<number> {
  const { payload } = await client.request(Command.REGION_READ, registerAt(offset));
  return new DataView(payload.buffer).getUint32(16, true);
}

const irqs = (client: FakeClient, index: number, start: number, events: readonly EventFd[]): Promise<number> =>
  client.errno(Command.DEVICE_SET_IRQS, IrqSet.bytes({ argsz: 20, flags: 0x24, index, start, count: events.length }), {
    fds: events.map(({ fd }) => fd),
  });

const map = async (client: FakeClient, iova: number): Promise<number> => {
  using file = createMemoryFile(0x1000);
  using view = MappedMemory.file(file.duplicate(), 0, 0x1000);
  view.bytes.fill(iova >>> 12);
  const payload = DmaMap.bytes({ argsz: 32, flags: 3, address: BigInt(iova), size: 0x1000n });
  return await client.errno(Command.DMA_MAP, payload, { fds: [file] });
};

/** How often it was signalled, once it was. */
async function signalled(event: EventFd): Promise<number> {
  let count = 0;
  await until(() => (count += event.read()) > 0, "it is signalled");
  return count;
}

test("two clients have vectors and memory of a real function, and each takes its own away", async (t) => {
  await using all = await scene(t);
  const { mediated, server } = all;
  const a = await FakeClient.open(server.path);
  using b = await FakeClient.open(server.path);
  using mine = new EventFd();
  using theirs = new EventFd();
  await write(a, 4, 6, 7);
  assert.deepEqual([await irqs(a, 2, 0, [mine, mine]), await irqs(b, 2, 1, [theirs])], [0, 0]);
  // A real function has one kind on.
  assert.equal(await irqs(b, 1, 0, [theirs]), EINVAL);
  assert.deepEqual([await map(a, 0x1000), await map(b, 0x2000), await map(b, 0x1000)], [0, 0, EEXIST]);
  assert.equal(mediated.lockedBytes, 0x2000);
  await write(a, Sample.SOURCE, 0x2000);
  await write(b, Sample.TARGET, 0x1000);
  await write(a, Sample.SIZE, 16);
  await write(a, Sample.COPY, 1);
  assert.equal(await read(b, Sample.COPY), 0, "it reached the memory of both");
  await write(a, Sample.RAISE, 0);
  await write(a, Sample.RAISE, 1);
  assert.deepEqual([await signalled(mine), await signalled(theirs)], [1, 1]);
  const resets = counted(all);
  a[Symbol.dispose]();
  await until(() => server.clients.length === 1, "a has left");
  assert.equal(mediated.lockedBytes, 0x1000);
  await write(b, Sample.RAISE, 0);
  await write(b, Sample.RAISE, 1);
  assert.deepEqual([await signalled(theirs), mine.read(), resets()], [1, 0, 0]);
});

test("one's reset holds the other one up, and who waits has it after the last one's", async (t) => {
  await using all = await scene(t);
  const { real, server } = all;
  const a = await FakeClient.open(server.path);
  const b = await FakeClient.open(server.path);
  const pending: (() => void)[] = [];
  const reset = real.reset.bind(real);
  real.reset = async () => {
    await new Promise<void>((resolve) => pending.push(resolve));
    return await reset();
  };
  await write(b, Sample.SCRATCH, 7);
  a.send(Command.DEVICE_RESET);
  await until(() => pending.length === 1, "the reset began");
  b.send(Command.REGION_READ, registerAt(Sample.SCRATCH));
  for (let i = 0; i < 10; i++) await turn();
  assert.ok(a.silent && b.silent);
  pending.shift()?.();
  const [done, value] = [await a.next(), await b.next()];
  assert.deepEqual([done.errno, value.payload[16]], [0, 0]);
  // The third waits for a place, and has it when one of the two has left.
  const third = FakeClient.connect(server.path);
  third.send(Command.VERSION, Uint8Array.of(0, 0, 0, 0));
  await until(() => server.statistics.waiting === 1, "it waits");
  await write(a, Sample.SCRATCH, 8);
  a[Symbol.dispose]();
  assert.equal((await third.next()).errno, 0);
  assert.equal(pending.length, 0);
  // All leave; the next one has it after the reset.
  b[Symbol.dispose]();
  third[Symbol.dispose]();
  await until(() => pending.length === 1, "it is being reset");
  const next = FakeClient.connect(server.path);
  next.send(Command.VERSION, Uint8Array.of(0, 0, 0, 0));
  await until(() => server.statistics.waiting === 1, "the next waits");
  assert.ok(next.silent);
  pending.shift()?.();
  assert.equal((await next.next()).errno, 0);
  assert.equal(await read(next, Sample.SCRATCH), 0);
  next[Symbol.dispose]();
  await until(() => pending.length === 1, "the last reset began");
  pending.shift()?.();
});

/** Counts resets of the real function from now on. */
function counted({ real }: Scene): () => number {
  let count = 0;
  const reset = real.reset.bind(real);
  real.reset = () => {
    count++;
    return reset();
  };
  return () => count;
}
