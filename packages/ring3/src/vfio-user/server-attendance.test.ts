// Several functions of one process, whose clients wait for each other: one answers the server only once another one has its own
// answer, as the devices of one QEMU do. The clients run in a thread of their own, since the server blocks its thread while it
// waits.
// seconds: 7
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import fc from "fast-check";
import type { BarIndex } from "../pci/function.ts";
import { BARE_VERSION, FakeClient, type FakeMessage, message, turn } from "./fake-client.ts";
import { Register, type Served, ServedTestDevice, serveTestDevice } from "./fake-served.ts";
import { Command, DmaAccess, DmaMap, HeaderFlag, RegionAccess } from "./messages.ts";
import { Attendance } from "./server-attendance.ts";
import type { ServeOptions } from "./server-options.ts";

const MEMORY = 0x1000;
/** A register whose write has another device read its client's memory, as a packet does that one card sends to another. */
const NEIGHBOUR = 0x300;

class LinkedDevice extends ServedTestDevice {
  neighbour: ServedTestDevice | undefined;

  protected override write32(bar: BarIndex, offset: number, value: number): void {
    if (offset === NEIGHBOUR) this.neighbour?.memory.read(MEMORY, new Uint8Array(value));
    super.write32(bar, offset, value);
  }
}

function read(offset: number, count = 4, region = 0): Uint8Array {
  return RegionAccess.bytes({ offset: BigInt(offset), region, count });
}

function write(offset: number, value: number, region = 0): Uint8Array {
  return Uint8Array.of(...read(offset, 4, region), ...new Uint8Array(Uint32Array.of(value).buffer));
}

async function open(path: string, capabilities: object = { max_msg_fds: 16 }): Promise<FakeClient> {
  const client = await FakeClient.open(path, capabilities);
  assert.equal(await client.errno(Command.REGION_WRITE, write(4, 6, 7)), 0);
  const map = DmaMap.bytes({ argsz: 32, flags: 3, offset: 0n, address: BigInt(MEMORY), size: 0x10_0000n });
  assert.equal(await client.errno(Command.DMA_MAP, map), 0);
  assert.equal(await client.errno(Command.REGION_WRITE, write(Register.ADDRESS, MEMORY)), 0);
  return client;
}

function post(client: FakeClient, offset: number, value: number): void {
  client.send(Command.REGION_WRITE, write(offset, value), { flags: HeaderFlag.NO_REPLY });
}

function isReply({ flags }: FakeMessage): boolean {
  return (flags & HeaderFlag.TYPE_MASK) === HeaderFlag.REPLY;
}

async function question(client: FakeClient): Promise<FakeMessage> {
  const asked = await client.next();
  assert.ok(!isReply(asked));
  return asked;
}

function answer(client: FakeClient, { id, command, payload }: FakeMessage, fill = 0x5a): void {
  const { address, count } = DmaAccess.from(payload);
  const data = command === Command.DMA_READ ? new Uint8Array(Number(count)).fill(fill) : new Uint8Array(0);
  client.send(command, Uint8Array.of(...DmaAccess.bytes({ address, count }), ...data), { id, flags: HeaderFlag.REPLY });
}

async function value(client: FakeClient, offset: number, id = 7): Promise<number> {
  const { payload } = await client.request(Command.REGION_READ, read(offset), { id });
  return new DataView(payload.slice(16).buffer).getUint32(0, true);
}

type Dialogue = (paths: readonly string[]) => Promise<void>;
const [A, B, C] = [0, 1, 2];

const dialogues: Readonly<Record<string, Dialogue>> = {
  "a client answers only after another one's read, which sees every write before it": async (paths) => {
    using a = await open(paths[A] as string);
    using b = await open(paths[B] as string);
    post(a, Register.READ, 4);
    const asked = await question(a);
    post(b, 8, 0x1234);
    assert.equal(await value(b, 8), 0x1234);
    assert.equal(await b.errno(Command.REGION_WRITE, write(0x10, 0xffff_ffff, 7)), 0);
    answer(a, asked);
    assert.equal(await value(a, Register.DATA), 0x5a5a_5a5a);
  },

  "a function is connected to while another one waits": async (paths) => {
    using a = await open(paths[A] as string);
    post(a, Register.READ, 4);
    const asked = await question(a);
    using b = await open(paths[B] as string);
    assert.equal(await value(b, 8), 0);
    answer(a, asked);
    assert.equal(await value(a, Register.DATA), 0x5a5a_5a5a);
  },

  "a client that comes while its function still waits for the former one is taken afterwards": async (paths) => {
    using a = await open(paths[A] as string);
    {
      using b = await open(paths[B] as string);
      // The neighbour waits on behalf of a client that leaves.
      b.send(Command.REGION_WRITE, write(NEIGHBOUR, 4), { id: 60 });
      const asked = await question(a);
      b[Symbol.dispose]();
      using next = FakeClient.connect(paths[B] as string);
      next.send(Command.VERSION, BARE_VERSION);
      // Long enough for it to be heard.
      using c = await open(paths[C] as string);
      for (let i = 0; i < 20; i++) assert.equal(await value(c, 8), 0);
      answer(a, asked);
      assert.equal((await next.next()).errno, 0);
    }
    assert.equal(await value(a, 8), 0);
  },

  "what a client already sent is not forgotten, although its socket is empty by then": async (paths) => {
    using a = await open(paths[A] as string);
    using b = await open(paths[B] as string);
    // One message has the neighbour ask its client; the read behind it comes along in the same piece.
    b.raw(
      Uint8Array.of(
        ...message(Command.REGION_WRITE, write(NEIGHBOUR, 4), { flags: HeaderFlag.NO_REPLY }),
        ...message(Command.REGION_WRITE, write(8, 0x77), { flags: HeaderFlag.NO_REPLY }),
        ...message(Command.REGION_READ, read(8), { id: 70 }),
      ),
    );
    const asked = await question(a);
    const reply = await b.next();
    assert.deepEqual([reply.id, reply.payload[16]], [70, 0x77]);
    answer(a, asked);
    assert.equal(await value(b, NEIGHBOUR), 4);
  },

  "a device in the middle of a command answers, while another device asks for memory on its behalf": async (paths) => {
    using a = await open(paths[A] as string);
    using b = await open(paths[B] as string);
    b.send(Command.REGION_WRITE, write(NEIGHBOUR, 4), { id: 60 });
    const asked = await question(a);
    assert.equal(await value(b, 8, 61), 0);
    // Once more, inside of that.
    b.send(Command.REGION_WRITE, write(NEIGHBOUR, 8), { id: 62 });
    const inner = await question(a);
    assert.equal(await value(a, 8, 63), 0);
    answer(a, asked);
    answer(a, inner);
    assert.deepEqual([(await b.next()).id, (await b.next()).id], [62, 60]);
  },

  "waits inside each other end, in whatever order the answers come": async (paths) => {
    using a = await open(paths[A] as string);
    using b = await open(paths[B] as string);
    using c = await open(paths[C] as string);
    const clients = [a, b, c];
    const orders = [
      [0, 1, 2],
      [2, 1, 0],
      [1, 2, 0],
      [0, 2, 1],
    ];
    for (const [round, order] of orders.entries()) {
      const asked: FakeMessage[] = [];
      for (const client of clients) {
        post(client, Register.READ, 4);
        asked.push(await question(client));
      }
      for (const client of clients) assert.equal(await value(client, 8), 0);
      for (const i of order) answer(clients[i] as FakeClient, asked[i] as FakeMessage, 16 * round + i + 1);
      // Who waits further out goes on later: until then its client is answered as while it waits.
      for (const [i, client] of clients.entries()) {
        while (((await value(client, Register.DATA)) & 0xff) !== 16 * round + i + 1) await turn();
      }
    }
  },

  "whoever leaves or talks nonsense meanwhile is disconnected, and nobody else notices": async (paths) => {
    using a = await open(paths[A] as string);
    post(a, Register.READ, 4);
    const asked = await question(a);
    {
      using b = await open(paths[B] as string);
      assert.equal(await value(b, 8), 0);
    }
    using b = await open(paths[B] as string);
    b.raw(Uint8Array.of(1, 0, 9, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
    await b.hangUp();
    // And in the middle of its own wait.
    using c = await open(paths[C] as string);
    post(c, Register.READ, 4);
    await question(c);
    c[Symbol.dispose]();
    answer(a, asked);
    assert.equal(await value(a, Register.DATA), 0x5a5a_5a5a);
    using again = await open(paths[C] as string);
    assert.equal(await value(again, 8), 0);
  },

  "nonsense behind a command that takes long is found while another one waits": async (paths) => {
    using a = await open(paths[A] as string);
    using b = await open(paths[B] as string);
    b.raw(
      Uint8Array.of(
        ...message(Command.REGION_WRITE, write(NEIGHBOUR, 4), { flags: HeaderFlag.NO_REPLY }),
        ...message(Command.REGION_WRITE, write(8, 1), { flags: HeaderFlag.NO_REPLY, size: 5 }),
      ),
    );
    const asked = await question(a);
    assert.equal(await value(a, 8), 0);
    answer(a, asked);
    await b.hangUp();
    assert.equal(await value(a, 8), 0);
  },

  "a client that hangs up in the middle of a command of its own": async (paths) => {
    using a = await open(paths[A] as string);
    {
      using b = await open(paths[B] as string);
      b.send(Command.REGION_WRITE, write(NEIGHBOUR, 4), { id: 60 });
      const asked = await question(a);
      b[Symbol.dispose]();
      assert.equal(await value(a, 8), 0);
      answer(a, asked);
    }
    assert.equal(await value(a, 8), 0);
    using again = await open(paths[B] as string);
    assert.equal(await value(again, 8), 0);
  },

  "any interleaving ends with every request answered once": async (paths) => {
    const step = fc.tuple(
      fc.nat({ max: 2 }),
      fc.constantFrom("post", "write", "read", "neighbour", "both", "answer", "answer", "reset", "master"),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), (steps) => interleave(paths, steps)),
      { numRuns: 30 },
    );
  },
};

/** A client of an interleaving: what it was asked, and what it expects. */
class Talker {
  readonly client: FakeClient;
  readonly questions: FakeMessage[] = [];
  readonly expected: Set<number> = new Set();
  #lastId = 1000;

  constructor(client: FakeClient) {
    this.client = client;
  }

  ask(command: number, payload: Uint8Array): void {
    this.expected.add(++this.#lastId);
    this.client.send(command, payload, { id: this.#lastId });
  }

  async take(): Promise<void> {
    while (!this.client.silent) {
      const got = await this.client.next();
      if (isReply(got)) assert.ok(this.expected.delete(got.id));
      else this.questions.push(got);
    }
  }

  answer(): void {
    const asked = this.questions.pop();
    if (asked !== undefined) answer(this.client, asked);
  }
}

async function interleave(paths: readonly string[], steps: readonly (readonly [number, string])[]): Promise<void> {
  using clients = new DisposableStack();
  const talkers: Talker[] = [];
  for (const path of paths) talkers.push(new Talker(clients.use(await open(path))));
  for (const [index, step] of steps) {
    const talker = talkers[index] as Talker;
    const { client } = talker;
    if (step === "post") post(client, Register.READ, 4);
    else if (step === "write") talker.ask(Command.REGION_WRITE, write(Register.WRITE, 4));
    else if (step === "read") talker.ask(Command.REGION_READ, read(8));
    else if (step === "neighbour") talker.ask(Command.REGION_WRITE, write(NEIGHBOUR, 4));
    else if (step === "both") {
      client.raw(
        Uint8Array.of(
          ...message(Command.REGION_WRITE, write(NEIGHBOUR, 4), { flags: HeaderFlag.NO_REPLY }),
          ...message(Command.REGION_WRITE, write(Register.READ, 4), { flags: HeaderFlag.NO_REPLY }),
        ),
      );
    } else if (step === "reset") talker.ask(Command.DEVICE_RESET, new Uint8Array(0));
    else if (step === "master") talker.ask(Command.REGION_WRITE, write(4, 6, 7));
    else {
      await talker.take();
      talker.answer();
    }
  }
  for (const talker of talkers) talker.ask(Command.REGION_READ, read(8));
  while (talkers.some(({ expected }) => expected.size > 0)) {
    for (const talker of talkers) {
      await talker.take();
      while (talker.questions.length > 0) talker.answer();
    }
    await turn();
  }
}

/** Everybody is asked before anybody answers, as far as the server goes; then all answer what they are asked. */
async function everybody(paths: readonly string[]): Promise<void> {
  using clients = new DisposableStack();
  const talkers: Talker[] = [];
  for (const path of paths) talkers.push(new Talker(clients.use(await open(path))));
  for (const [index, { client, questions }] of talkers.entries()) {
    post(client, Register.READ, 4);
    // One after the other, so that each wait lies inside those before it.
    if (index < 40) questions.push(await question(client));
  }
  for (const talker of talkers) talker.ask(Command.REGION_READ, read(Register.DATA));
  while (talkers.some(({ expected }) => expected.size > 0)) {
    for (const talker of talkers) {
      await talker.take();
      talker.answer();
    }
    await turn();
  }
}

/** Never answers, while another client reads and reads. */
async function silent(paths: readonly string[]): Promise<void> {
  using a = await open(paths[A] as string);
  using b = await open(paths[B] as string);
  post(a, Register.READ, 4);
  await question(a);
  let over = false;
  const end = a.hangUp().finally(() => {
    over = true;
  });
  let reads = 0;
  for (; !over; reads++) {
    assert.equal(await value(b, 8), 0);
    await turn();
  }
  await end;
  assert.ok(reads > 0);
  assert.equal(await value(b, 8), 0);
}

/** The server is closed by what happens to another client meanwhile. */
async function closed(paths: readonly string[]): Promise<void> {
  using a = await open(paths[A] as string);
  {
    using b = await open(paths[B] as string);
    post(a, Register.READ, 4);
    await question(a);
    assert.equal(await value(b, 8), 0);
  }
  await a.hangUp();
}

if (isMainThread) {
  const serveAll = async (count: number, options: ServeOptions = {}) => {
    const stack = new AsyncDisposableStack();
    const devices = Array.from({ length: count }, () => new LinkedDevice());
    const all: Served[] = [];
    for (const device of devices) all.push(stack.use(await serveTestDevice(options, device)));
    for (const [i, device] of devices.entries()) device.neighbour = devices[(i + count - 1) % count];
    return { all, paths: all.map(({ path }) => path), [Symbol.asyncDispose]: () => stack.disposeAsync() };
  };
  const dialogue = async (name: string, paths: readonly string[]): Promise<void> => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { name, paths } });
    await once(worker, "exit");
  };

  for (const name of Object.keys(dialogues)) {
    test(name, async () => {
      await using served = await serveAll(3);
      await dialogue(name, served.paths);
      for (const { events } of served.all) assert.equal(events.filter(({ type }) => type === "error").length, 0);
    });
  }

  test("waits of eighty functions lie inside each other only so deep, and all end", async () => {
    await using served = await serveAll(80);
    await dialogue("everybody", served.paths);
    for (const { device } of served.all) assert.equal(device.memory.faults, 0);
  });

  test("a client that never answers is disconnected in time, however busy another one keeps the server", async () => {
    await using served = await serveAll(2, { clientTimeoutMs: 200 });
    await dialogue("silent", served.paths);
    const last = served.all[A]?.events.at(-1);
    assert.ok(last?.type === "disconnected" && last.reason.includes("did not answer DMA_READ"), JSON.stringify(last));
    assert.equal(served.all[B]?.events.filter(({ type }) => type === "fault").length, 0);
  });

  test("a server that is closed while a session of it waits ends that wait", async () => {
    await using served = await serveAll(2);
    const [a, b] = served.all as [Served, Served];
    b.server.on(({ type }) => void (type === "disconnected" && a.server.close()));
    await dialogue("closed", served.paths);
    assert.equal(a.device.memory.faults, 1);
  });

  test("who waits too deep is told so, and nobody is served for it", () => {
    const attendance = new Attendance();
    let depth = 0;
    const deeper = (): void => {
      depth++;
      attendance.inside(deeper);
    };
    deeper();
    assert.equal(depth, 65);
    assert.equal(
      attendance.inside(() => {}),
      true,
    );
  });
} else {
  const { name, paths } = workerData as { name: string; paths: readonly string[] };
  if (name === "everybody") await everybody(paths);
  else if (name === "silent") await silent(paths);
  else if (name === "closed") await closed(paths);
  else await dialogues[name]?.(paths);
}
