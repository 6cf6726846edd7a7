// A client that answers the server only once it has its own answer, as QEMU does: its processor reads a register with a lock
// held that its main loop needs to read memory for the server. Each dialogue runs in a thread of its own, since the server
// blocks its thread while it waits.
// seconds: 7
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import fc from "fast-check";
import { createMemoryFile } from "../linux/index.ts";
import type { BarIndex } from "../pci/function.ts";
import { FakeClient, type FakeMessage, message } from "./fake-client.ts";
import { Register, ServedTestDevice, serveTestDevice } from "./fake-served.ts";
import { Command, DmaAccess, DmaMap, DmaUnmap, HeaderFlag, IrqSet, RegionAccess } from "./messages.ts";

const MEMORY = 0x1000;
/** Registers that hold their offset; the third reads the client's memory first. */
const LONG_READ = 0x200;

/** A register that takes longer to read than the server waits for a client. */
const SLOW_READ = 0x300;
const SLOW_MS = 1500;
const CLIENT_TIMEOUT_MS = 1000;

class LongReadDevice extends ServedTestDevice {
  protected override read32(bar: BarIndex, offset: number): number {
    if (offset === SLOW_READ) for (const until = performance.now() + SLOW_MS; performance.now() < until; );
    if (offset === LONG_READ + 8) this.memory.read(MEMORY, new Uint8Array(4));
    return offset >= LONG_READ ? offset : super.read32(bar, offset);
  }
}

function read(offset: number, count = 4, region = 0): Uint8Array {
  return RegionAccess.bytes({ offset: BigInt(offset), region, count });
}

function write(offset: number, value: number, region = 0): Uint8Array {
  return Uint8Array.of(...read(offset, 4, region), ...new Uint8Array(Uint32Array.of(value).buffer));
}

/** A client whose memory comes without a file, and whose device has its DMA address. */
async function open(path: string): Promise<FakeClient> {
  const client = await FakeClient.open(path, { max_msg_fds: 16 });
  assert.equal(await client.errno(Command.REGION_WRITE, write(4, 6, 7)), 0);
  const map = DmaMap.bytes({ argsz: 32, flags: 3, offset: 0n, address: BigInt(MEMORY), size: 0x10_0000n });
  assert.equal(await client.errno(Command.DMA_MAP, map), 0);
  assert.equal(await client.errno(Command.REGION_WRITE, write(Register.ADDRESS, MEMORY)), 0);
  return client;
}

/** The next command of the server, which must be one. */
async function question(client: FakeClient): Promise<FakeMessage> {
  const asked = await client.next();
  assert.equal(asked.flags & HeaderFlag.TYPE_MASK, HeaderFlag.COMMAND);
  return asked;
}

function answer(client: FakeClient, { id, command, payload }: FakeMessage, fill = 0x5a): void {
  const { address, count } = DmaAccess.from(payload);
  const data = command === Command.DMA_READ ? new Uint8Array(Number(count)).fill(fill) : new Uint8Array(0);
  client.send(command, Uint8Array.of(...DmaAccess.bytes({ address, count }), ...data), { id, flags: HeaderFlag.REPLY });
}

/** Has the server ask for `size` bytes, by a posted write. */
async function asked(client: FakeClient, size: number): Promise<FakeMessage> {
  client.send(Command.REGION_WRITE, write(Register.READ, size), { flags: HeaderFlag.NO_REPLY });
  return await question(client);
}

const dialogues: Readonly<Record<string, (path: string) => Promise<void>>> = {
  "a register read is answered while the server waits for memory, and sees every write before it": async (path) => {
    using client = await open(path);
    const first = await asked(client, 4);
    client.send(Command.REGION_WRITE, write(8, 0x1234), { flags: HeaderFlag.NO_REPLY });
    const reply = await client.request(Command.REGION_READ, read(8), { id: 77 });
    assert.deepEqual([...reply.payload.subarray(16)], [0x34, 0x12, 0, 0]);
    answer(client, first);
    const done = await client.request(Command.REGION_READ, read(Register.DATA), { id: 78 });
    assert.deepEqual([...done.payload.subarray(16)], [0x5a, 0x5a, 0x5a, 0x5a]);
  },

  "so are config accesses, writes with a reply, maps, interrupts and information": async (path) => {
    using client = await open(path);
    const first = await asked(client, 4);
    using event = createMemoryFile(4096);
    const requests: readonly (readonly [number, Uint8Array])[] = [
      [Command.REGION_READ, read(0, 4, 7)],
      [Command.REGION_READ, read(0, 256, 7)],
      [Command.REGION_WRITE, write(0x10, 0xffff_ffff, 7)],
      [Command.REGION_WRITE, write(12, 5)],
      [Command.DMA_MAP, DmaMap.bytes({ argsz: 32, flags: 3, offset: 0n, address: 0x80_0000n, size: 4096n })],
      [Command.DEVICE_SET_IRQS, IrqSet.bytes({ argsz: 20, flags: 0x21, index: 2, start: 0, count: 0 })],
      [Command.DEVICE_GET_INFO, Uint8Array.of(16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)],
      [Command.DMA_UNMAP, DmaUnmap.bytes({ argsz: 24, flags: 0, address: 0x80_0000n, size: 4096n })],
    ];
    for (const [index, [command, payload]] of requests.entries()) {
      const reply = await client.request(command, payload, { id: 100 + index });
      assert.equal(reply.errno, 0, `command ${command}`);
    }
    assert.equal((await client.request(Command.DMA_MAP, new Uint8Array(3), { id: 200, fds: [event] })).errno, 22);
    answer(client, first);
    assert.equal((await client.request(Command.DEVICE_RESET, undefined, { id: 201 })).errno, 0);
  },

  "questions inside questions, answered in any order": async (path) => {
    using client = await open(path);
    const outer = await asked(client, 4);
    // A write that wants an answer, and asks for memory itself; then a read inside of that.
    client.send(Command.REGION_WRITE, write(Register.READ, 8), { id: 50 });
    const inner = await question(client);
    assert.equal((await client.request(Command.REGION_READ, read(8), { id: 51 })).errno, 0);
    answer(client, outer, 1);
    answer(client, inner, 2);
    assert.equal((await client.next()).id, 50);
    const reply = await client.request(Command.REGION_READ, read(Register.DATA), { id: 52 });
    assert.equal(reply.payload[16], 1, "the outer one ended last");
  },

  "an answer that is being made is not touched by those that are given meanwhile": async (path) => {
    using client = await open(path);
    // The device below reads memory in the middle of this.
    client.send(Command.REGION_READ, read(LONG_READ, 64), { id: 60 });
    const first = await question(client);
    assert.equal((await client.request(Command.REGION_READ, read(0, 128, 7), { id: 61 })).payload.length, 16 + 128);
    answer(client, first);
    const outer = await client.next();
    assert.deepEqual([outer.id, outer.payload.length], [60, 16 + 64]);
    const words = new Uint32Array(outer.payload.slice(16).buffer);
    assert.deepEqual(
      [...words],
      Array.from({ length: 16 }, (_, i) => LONG_READ + 4 * i),
    );
  },

  "any interleaving of questions, answers and accesses ends with every request answered once": async (path) => {
    const step = fc.constantFrom("post", "write", "read", "long", "answer", "reset", "master");
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), (steps) => interleave(path, steps)),
      { numRuns: 100 },
    );
  },
};

async function interleave(path: string, steps: readonly string[]): Promise<void> {
  using client = await open(path);
  const questions: FakeMessage[] = [];
  const expected = new Set<number>();
  let lastId = 1000;
  const ask = (command: number, payload: Uint8Array): void => {
    expected.add(++lastId);
    client.send(command, payload, { id: lastId });
  };
  const take = (got: FakeMessage): void => {
    if ((got.flags & HeaderFlag.TYPE_MASK) === HeaderFlag.REPLY) assert.ok(expected.delete(got.id));
    else questions.push(got);
  };
  for (const step of steps) {
    if (step === "post") client.send(Command.REGION_WRITE, write(Register.READ, 4), { flags: HeaderFlag.NO_REPLY });
    else if (step === "write") ask(Command.REGION_WRITE, write(Register.WRITE, 4));
    else if (step === "read") ask(Command.REGION_READ, read(8));
    else if (step === "long") ask(Command.REGION_READ, read(LONG_READ, 200));
    else if (step === "reset") ask(Command.DEVICE_RESET, new Uint8Array(0));
    else if (step === "master") ask(Command.REGION_WRITE, write(4, 6, 7));
    else if (questions.length > 0) answer(client, questions.pop() as FakeMessage);
    else if (!client.silent) take(await client.next());
  }
  // A read behind everything: when it is answered, and no question is open, all is done.
  ask(Command.REGION_READ, read(8));
  while (expected.size > 0) {
    while (questions.length > 0) answer(client, questions.pop() as FakeMessage);
    take(await client.next());
  }
}

const takings: Readonly<Record<string, readonly [command: number, payload: Uint8Array]>> = {
  "bus mastering": [Command.REGION_WRITE, write(4, 2, 7)],
  "its state": [Command.DEVICE_RESET, new Uint8Array(0)],
  "the memory": [Command.DMA_UNMAP, DmaUnmap.bytes({ argsz: 24, flags: 0, address: BigInt(MEMORY), size: 0x10_0000n })],
};

async function takeAway(path: string, what: string): Promise<void> {
  using client = await open(path);
  const first = await asked(client, 4);
  const [command, payload] = takings[what] as (typeof takings)[string];
  assert.equal((await client.request(command, payload, { id: 9 })).errno, 0);
  answer(client, first);
  assert.equal((await client.request(Command.REGION_READ, read(0), { id: 10 })).errno, 0);
}

/** Answers at once, behind a read that takes long. */
async function answerBehind(path: string): Promise<void> {
  using client = await open(path);
  const first = await asked(client, 4);
  client.send(Command.REGION_READ, read(SLOW_READ), { id: 50 });
  answer(client, first);
  assert.equal((await client.next()).id, 50);
  const done = await client.request(Command.REGION_READ, read(Register.DATA), { id: 51 });
  assert.equal(done.payload[16], 0x5a);
  // Nor has it used up the server's patience.
  const second = await asked(client, 4);
  for (let id = 100; id < 300; id++) await client.request(Command.REGION_READ, read(8), { id });
  answer(client, second, 0x66);
  const again = await client.request(Command.REGION_READ, read(Register.DATA), { id: 52 });
  assert.equal(again.payload[16], 0x66);
}

/** Asks and asks, and never answers. */
async function onlyAsk(path: string, inner: Uint8Array): Promise<void> {
  using client = await open(path);
  await asked(client, 4);
  const command = inner.length === 16 ? Command.REGION_READ : Command.REGION_WRITE;
  client.raw(Uint8Array.from(Array.from({ length: 40 }, (_, id) => [...message(command, inner, { id })]).flat()));
  for (;;) await client.next();
}

if (isMainThread) {
  /** Runs a dialogue in its thread. Rejects as it does. */
  const dialogue = async (path: string, name: string, what?: unknown): Promise<void> => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { path, name, what } });
    await once(worker, "exit");
  };

  for (const name of Object.keys(dialogues)) {
    test(name, async () => {
      await using served = await serveTestDevice({}, new LongReadDevice());
      await dialogue(served.path, name);
      assert.equal(served.events.filter(({ type }) => type === "error").length, 0);
    });
  }

  for (const what of Object.keys(takings)) {
    test(`what a client takes away while it is asked for memory is a DMA fault: ${what}`, async () => {
      await using served = await serveTestDevice();
      await dialogue(served.path, "take away", what);
      assert.equal(served.device.memory.faults, 1);
    });
  }

  test("an answer that came while the server was busy with another command is not late", async () => {
    await using served = await serveTestDevice({ clientTimeoutMs: CLIENT_TIMEOUT_MS }, new LongReadDevice());
    await dialogue(served.path, "answer behind");
  });

  for (const inner of [read(8), write(Register.READ, 8)]) {
    const how = inner.length === 16 ? "reads" : "writes that ask for memory themselves";
    test(`a client that never answers is disconnected in time, however many ${how} it sends`, async () => {
      await using served = await serveTestDevice({ clientTimeoutMs: 200 });
      await assert.rejects(dialogue(served.path, "only ask", inner), /hung up/);
      const last = served.events.at(-1);
      assert.ok(last?.type === "disconnected" && last.reason.includes("did not answer DMA_READ"), JSON.stringify(last));
      await dialogue(served.path, Object.keys(dialogues)[0] as string);
    });
  }
} else {
  const { path, name, what } = workerData as { path: string; name: string; what: never };
  if (name === "take away") await takeAway(path, what);
  else if (name === "answer behind") await answerBehind(path);
  else if (name === "only ask") await onlyAsk(path, what);
  else await dialogues[name]?.(path);
}
