// Clients that are killed at any point of a busy session: the server is clean at once, and the next client finds a new
// device.
import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as after } from "node:timers/promises";
import { UnixSocket } from "../../packages/ring3/src/linux/index.ts";
import { Command } from "../../packages/ring3/src/vfio-user/messages.ts";
import { frame } from "./arbitraries.ts";
import { Random } from "./random.ts";
import { FULL, SEED, scaled } from "./scale.ts";
import { Serving } from "./serving.ts";

const KILLS = scaled(60, 1000);
/** Processes that are loaded and wait. */
const AHEAD = 2;
/** Connecting and starting take some of it. */
const SESSION_MS = 120;
const CLEAN_MS = 5000;
const CC = 0x14;
const CSTS = 0x1c;

interface Waiting {
  readonly child: ChildProcess;
  readonly loaded: Promise<unknown>;
}

function prepare(path: string): Waiting {
  const child = fork(join(import.meta.dirname, "busy-client.ts"), [path], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const failed = once(child, "exit").then(() => Promise.reject(new Error("a client ended before it began")));
  const loaded = Promise.race([once(child, "message"), failed]);
  loaded.catch(() => undefined);
  return { child, loaded };
}

/** A client of few words, which finds nothing of the one before. */
function findsNewDevice(path: string): void {
  using socket = UnixSocket.connect(path);
  const into = new Uint8Array(4096);
  const ask = (bytes: Uint8Array): DataView => {
    assert.equal(socket.send([bytes]), bytes.length);
    const { size, fds } = socket.receive(into, true);
    for (const fd of fds) fd.close();
    assert.ok(size >= 16, "the server hung up");
    assert.equal(new DataView(into.buffer).getUint32(8, true), 1, "an error");
    return new DataView(into.buffer);
  };
  const read = (region: number, offset: number): number =>
    ask(frame(Command.REGION_READ, Uint8Array.of(offset, 0, 0, 0, 0, 0, 0, 0, region, 0, 0, 0, 4, 0, 0, 0))).getUint32(
      32,
      true,
    );
  ask(frame(Command.VERSION, new Uint8Array(4)));
  // Ids, and COMMAND with memory and I/O on and bus mastering off.
  assert.equal(read(7, 0), 0x4e56_1234);
  assert.equal(read(7, 4) & 0xffff, 0x3);
  assert.equal(read(0, CC), 0);
  assert.equal(read(0, CSTS), 0);
}

test(`a client is killed at ${KILLS} points of a session (seed ${SEED})`, async (t) => {
  const random = new Random(SEED);
  await using serving = await Serving.start();
  const path = serving.socket("nvme");
  const before = await serving.idle();
  const waiting: Waiting[] = [];
  t.after(() => {
    for (const { child } of waiting) child.kill("SIGKILL");
  });
  let busy = 0;
  let worstMs = 0;
  let inFlight = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    while (waiting.length < Math.min(1 + AHEAD, KILLS - kill)) waiting.push(prepare(path));
    const { child, loaded } = waiting.shift() as Waiting;
    await loaded;
    const lifeMs = random.below(SESSION_MS * 10) / 10;
    let worked = false;
    child.once("message", () => (worked = true));
    child.send("go");
    // From the start of the session, or from when it is busy.
    if (!random.oneIn(3)) await Promise.race([once(child, "message"), after(SESSION_MS * 10)]);
    await after(lifeMs);
    const ended = once(child, "exit");
    assert.equal(child.exitCode, null, `seed ${SEED}, client ${kill} failed by itself`);
    child.kill("SIGKILL");
    await ended;
    const killed = performance.now();
    if (worked) busy++;
    let health = await serving.idle();
    // A connection that was taken and not heard yet is no client, and may have to be looked at first.
    const open = before.descriptors.length;
    while (health.descriptors.length !== open && performance.now() - killed < CLEAN_MS) health = await serving.idle();
    const cleanMs = performance.now() - killed;
    worstMs = Math.max(worstMs, cleanMs);
    const where = `seed ${SEED}, client ${kill}, killed after ${lifeMs} ms${worked ? ", busy" : ""}`;
    assert.ok(cleanMs < CLEAN_MS, `${where}: the server took ${Math.round(cleanMs)} ms`);
    assert.deepEqual(health.failures, [], where);
    assert.equal(health.maps, 0, where);
    assert.deepEqual(health.dirty, [], where);
    assert.deepEqual(health.descriptors, before.descriptors, where);
    inFlight = health.faults;
    findsNewDevice(path);
    if (FULL && kill % 100 === 99) console.error(`${kill + 1} clients were killed, ${busy} of them at work`);
  }
  t.diagnostic(
    `${busy} of ${KILLS} were at work; clean after ${Math.round(worstMs)} ms at most; ${inFlight} transfers met no memory`,
  );
  assert.ok(busy > KILLS / 4, `only ${busy} clients got to work`);
});
