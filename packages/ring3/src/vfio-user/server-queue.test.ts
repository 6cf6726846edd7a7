// Clients that wait for a function: who gets it when, who leaves the line, and who is told that it takes too long.
// seconds: 2
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Ring3Error } from "../binary/error.ts";
import { FakeClient, message, turn, until, versionPayload } from "./fake-client.ts";
import { openDescriptors, type Served, ServedTestDevice, serveTestDevice } from "./fake-served.ts";
import { Command, RegionAccess, WireErrno } from "./messages.ts";

const { EACCES, EBUSY } = WireErrno;

/** Connects and asks for the function; the answer is still to come. */
function ask(served: Served): FakeClient {
  const client = FakeClient.connect(served.path);
  client.send(Command.VERSION, versionPayload({ refusal_text: true }));
  return client;
}

/** Asks, and comes to wait. */
async function wait(served: Served): Promise<FakeClient> {
  const { waiting } = served.server.statistics;
  const client = ask(served);
  await until(() => served.server.statistics.waiting === waiting + 1, "it waits");
  return client;
}

const refusal = async (client: FakeClient): Promise<[number, string]> => {
  const { errno, payload } = await client.next();
  await client.hangUp();
  client[Symbol.dispose]();
  return [errno, new TextDecoder().decode(payload)];
};

async function works(client: FakeClient): Promise<void> {
  const request = RegionAccess.bytes({ offset: 8n, region: 0, count: 4 });
  assert.equal((await client.request(Command.REGION_READ, request)).errno, 0);
}

/** A device whose reset after each user ends when the test says so. */
class SlowDevice extends ServedTestDevice {
  readonly #resets: (() => void)[] = [];
  #settling: Promise<void> | undefined;

  override get settling(): Promise<void> | undefined {
    return this.#settling;
  }

  override connect(host: Parameters<ServedTestDevice["connect"]>[0]): void {
    if (this.#settling !== undefined) throw new Ring3Error("FUNCTION_BUSY", "it is being reset", { errno: "EBUSY" });
    super.connect(host);
  }

  override disconnect(options?: Parameters<ServedTestDevice["disconnect"]>[0]): void {
    if (this.connectedTo === undefined) return;
    super.disconnect(options);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#settling = promise.finally(() => (this.#settling = undefined));
    this.#resets.push(resolve);
  }

  settled(): void {
    this.#resets.shift()?.();
  }
}

test("first come, first served; whoever finds no place is told who has it", async () => {
  await using served = await serveTestDevice({ queue: 2 });
  const { server, events } = served;
  const holder = await FakeClient.open(served.path);
  const first = await wait(served);
  const second = await wait(served);
  const [errno, words] = await refusal(ask(served));
  assert.equal(errno, EBUSY);
  assert.match(words, new RegExp(`in use by pid ${process.pid} `));
  assert.deepEqual([server.statistics.waiting, server.statistics.clients], [2, 1]);
  await works(holder);
  assert.ok(first.silent && second.silent);
  holder[Symbol.dispose]();
  assert.equal((await first.next()).errno, 0);
  await works(first);
  assert.ok(second.silent);
  first[Symbol.dispose]();
  assert.equal((await second.next()).errno, 0);
  await works(second);
  assert.equal(server.statistics.waiting, 0);
  const seen = events.map((event) => (event.type === "waiting" ? `waiting behind ${event.ahead}` : event.type));
  const change = ["disconnected", "connected"];
  assert.deepEqual(seen, ["connected", "waiting behind 0", "waiting behind 1", "refused", ...change, ...change]);
  second[Symbol.dispose]();
});

test("a client that goes away leaves the line, and one that sends more meanwhile waits all the same", async () => {
  await using served = await serveTestDevice({ queue: 3 });
  const holder = await FakeClient.open(served.path);
  const first = await wait(served);
  const second = await wait(served);
  const third = await wait(served);
  first[Symbol.dispose]();
  await until(() => served.server.statistics.waiting === 2, "the first is gone");
  const read = message(Command.REGION_READ, RegionAccess.bytes({ offset: 8n, region: 0, count: 4 }), { id: 7 });
  second.raw(read);
  for (let i = 0; i < 10; i++) await turn();
  assert.ok(second.silent);
  holder[Symbol.dispose]();
  assert.equal((await second.next()).errno, 0);
  assert.equal((await second.next()).id, 7);
  // Both leave before the server has looked.
  third[Symbol.dispose]();
  second[Symbol.dispose]();
  await until(() => served.server.statistics.clients === 0 && served.server.statistics.waiting === 0, "all are gone");
  assert.equal(served.server.statistics.connections, 2);
  using later = await FakeClient.open(served.path);
  await works(later);
});

test("waiting has an end where it is bounded, and saying hello late has nothing to do with it", async () => {
  await using served = await serveTestDevice({ queue: 2, queueMs: 30 });
  using holder = await FakeClient.open(served.path);
  const words = await Promise.all([refusal(ask(served)), refusal(ask(served))]);
  const who = `in use by pid ${process.pid} (uid ${process.getuid?.()})`;
  const expected = [EBUSY, `the function is ${who}, and that did not change within 30 ms`];
  assert.deepEqual(words, [expected, expected]);
  assert.deepEqual([served.server.statistics.waiting, served.server.statistics.refusals], [0, 2]);
  await works(holder);
});

test("the time to say hello ends when it was said", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  await using served = await serveTestDevice({ queue: 1 });
  using holder = await FakeClient.open(served.path);
  using waiting = await wait(served);
  using silent = FakeClient.connect(served.path);
  for (let i = 0; i < 5; i++) await turn();
  t.mock.timers.tick(60_000);
  await silent.hangUp();
  assert.equal(served.server.statistics.waiting, 1);
  holder[Symbol.dispose]();
  assert.equal((await waiting.next()).errno, 0);
});

test("those who wait have the function once it is reset; without a queue one waits for the reset alone", async () => {
  for (const queue of [0, 2]) {
    using device = new SlowDevice();
    await using served = await serveTestDevice({ queue }, device);
    const holder = await FakeClient.open(served.path);
    const early = queue === 0 ? undefined : await wait(served);
    holder[Symbol.dispose]();
    await until(() => device.settling !== undefined, "it is being reset");
    const late = await wait(served);
    const [errno, words] = await refusal(ask(served));
    assert.equal(errno, EBUSY);
    assert.match(words, /being given to pid \d+/);
    for (let i = 0; i < 10; i++) await turn();
    assert.ok(late.silent && early?.silent !== false);
    device.settled();
    const next = early ?? late;
    assert.equal((await next.next()).errno, 0);
    await works(next);
    if (early !== undefined) {
      early[Symbol.dispose]();
      await until(() => device.settling !== undefined, "it is being reset again");
      assert.ok(late.silent);
      device.settled();
      assert.equal((await late.next()).errno, 0);
    }
    late[Symbol.dispose]();
    await until(() => served.server.statistics.clients === 0, "the last has left");
    device.settled();
  }
});

test("nobody is let in behind the back of those who wait, nor whom the administrator does not want any more", async () => {
  let closed = false;
  await using served = await serveTestDevice({
    queue: 4,
    admit: () => {
      if (closed) throw new Ring3Error("CLOSED", "it is closed for today", { errno: "EACCES" });
    },
  });
  const holder = await FakeClient.open(served.path);
  const first = await wait(served);
  const second = await wait(served);
  // The holder hangs up and somebody else asks before the server has looked.
  holder[Symbol.dispose]();
  const third = ask(served);
  assert.equal((await first.next()).errno, 0);
  await until(() => served.server.statistics.waiting === 2, "the others wait");
  assert.ok(second.silent && third.silent);
  closed = true;
  await served.server.disconnect("closing time");
  assert.deepEqual(await refusal(second), [EACCES, "it is closed for today"]);
  assert.deepEqual(await refusal(third), [EACCES, "it is closed for today"]);
  await first.hangUp();
  first[Symbol.dispose]();
});

test("a server that is closed sends those away who wait", async () => {
  await using served = await serveTestDevice({ queue: 2 });
  using holder = await FakeClient.open(served.path);
  using waiting = await wait(served);
  await served.server.close();
  await holder.hangUp();
  await waiting.hangUp();
});

test("with several openings the holder's user need not wait while there is room", async () => {
  await using served = await serveTestDevice({ queue: 2, openings: 2 });
  const a = await FakeClient.open(served.path);
  const b = await FakeClient.open(served.path);
  const c = await wait(served);
  b[Symbol.dispose]();
  assert.equal((await c.next()).errno, 0);
  assert.equal(served.server.statistics.clients, 2);
  const d = await wait(served);
  const e = await wait(served);
  const { resets } = served.device;
  await served.server.disconnect("now the next ones");
  // Both have it now, after one reset.
  assert.deepEqual([(await d.next()).errno, (await e.next()).errno], [0, 0]);
  assert.deepEqual([served.device.resets, served.server.clients.length], [resets + 1, 2]);
  for (const client of [a, c, d, e]) client[Symbol.dispose]();
});

test("numbers are numbers", async () => {
  for (const options of [
    { queue: -1 },
    { queue: 0.5 },
    { queueMs: -1 },
    { queueMs: Number.NaN },
    { queueMs: 2 ** 31 },
  ]) {
    await assert.rejects(serveTestDevice(options), RangeError);
  }
});

test("any order of coming and going against a line of names", async () => {
  const before = { open: 0 };
  await using served = await serveTestDevice({ queue: 3 });
  const step = fc.record({ who: fc.nat(6), comes: fc.boolean() });
  const run = async (steps: readonly { readonly who: number; readonly comes: boolean }[]): Promise<void> => {
    const clients = new Map<number, FakeClient>();
    /** The first has it, the others wait. */
    let line: number[] = [];
    const leave = async (who: number): Promise<void> => {
      const had = line[0] === who;
      clients.get(who)?.[Symbol.dispose]();
      clients.delete(who);
      line = line.filter((other) => other !== who);
      const next = had && line[0] !== undefined ? clients.get(line[0]) : undefined;
      if (next !== undefined) assert.equal((await next.next()).errno, 0);
    };
    for (const { who, comes } of steps) {
      if (comes && !clients.has(who)) {
        const client = ask(served);
        if (line.length > 3) {
          assert.equal((await refusal(client))[0], EBUSY);
          continue;
        }
        clients.set(who, client);
        line.push(who);
        if (line.length === 1) assert.equal((await client.next()).errno, 0);
      } else if (!comes && clients.has(who)) await leave(who);
      await until(() => {
        const { clients: now, waiting } = served.server.statistics;
        return now === Math.min(line.length, 1) && waiting === Math.max(line.length - 1, 0);
      }, "the line is as long as it should be");
      for (const other of line.slice(1)) assert.ok(clients.get(other)?.silent);
    }
    for (const who of line.toReversed()) await leave(who);
    await until(() => served.server.statistics.clients === 0, "all have left");
  };
  await run([{ who: 0, comes: true }]);
  before.open = openDescriptors();
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 40, size: "max" }), run), { numRuns: 60 });
  assert.equal(openDescriptors(), before.open);
});
