import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { Arena } from "./arena.ts";
import { arenaContract } from "./arena-contract.test.ts";
import { OwnedWindow } from "./window.ts";

const MEBIBYTE = 2 ** 20;

arenaContract("WebAssembly memory", () => Arena.create({ initialBytes: 4 * MEBIBYTE }));
arenaContract("a SharedArrayBuffer", () => Arena.over(new SharedArrayBuffer(4 * MEBIBYTE)));
arenaContract("an ArrayBuffer, as in a page without isolation", () => Arena.over(new ArrayBuffer(4 * MEBIBYTE)));

test("growth keeps views and windows, and goes on to the maximum", () => {
  const options = { initialBytes: MEBIBYTE, growthBytes: MEBIBYTE, maximumBytes: 8 * MEBIBYTE };
  const arena = Arena.create(options);
  const first = arena.reserve(4096);
  const window = OwnedWindow.over(arena, first.offset, 4096);
  const { words } = first;
  window.write32(0, 1);
  const second = arena.reserve(3 * MEBIBYTE, MEBIBYTE);
  assert.ok(arena.size >= 4 * MEBIBYTE);
  second.words[0] = 2;
  words[0] = 3;
  assert.equal(window.read32(0), 3);
  assert.equal(arena.words(first.offset, 1)[0], 3);
  assert.equal(arena.accessors.load32(second.offset), 2);
  assert.throws(() => arena.reserve(6 * MEBIBYTE), { code: "ARENA_FULL", message: /may grow to 8388608/ });
  using rest = arena.reserve(4096);
  assert.ok(rest.size === 4096 && arena.size <= 8 * MEBIBYTE);
});

test("a plain arena has no emitted loops and says what it cannot do", () => {
  const arena = Arena.over(new ArrayBuffer(MEBIBYTE));
  assert.equal(arena.memory, undefined);
  assert.throws(() => arena.reserve(2 * MEBIBYTE), { code: "ARENA_FULL", message: /cannot grow/ });
  assert.throws(() => Arena.attach(arena.handle()), { code: "ARENA_HANDLE_INVALID", message: /threads cannot share/ });
  assert.throws(() => Arena.over(new ArrayBuffer(4096)), { code: "ARENA_INVALID" });
  const foreign = { memory: undefined, buffer: new SharedArrayBuffer(MEBIBYTE), mapping: undefined };
  assert.throws(() => Arena.attach(foreign), { code: "ARENA_HANDLE_INVALID", message: /not an arena/ });
});

test("an attached arena reserves inside its own range, and its detachment is seen", () => {
  const arena = Arena.create({ initialBytes: MEBIBYTE });
  const own = arena.reserve(65536);
  const attached = Arena.attach(arena.handle(), own);
  using part = attached.reserve(4096);
  assert.ok(part.offset >= own.offset && part.offset + part.size <= own.offset + own.size);
  part.words[5] = 99;
  assert.equal(arena.words(part.offset, 6)[5], 99);
  assert.throws(() => attached.reserve(2 * 65536), { code: "ARENA_FULL", message: /the thread that made the arena/ });
  assert.throws(() => Arena.attach(arena.handle()).reserve(8), { code: "ARENA_FULL" });
  assert.equal(arena.control.attachments, 2);
  attached.detach();
  assert.equal(arena.control.attachments, 1);
});

for (const [name, arena] of [
  ["WebAssembly memory", Arena.create({ initialBytes: MEBIBYTE })],
  ["a SharedArrayBuffer", Arena.over(new SharedArrayBuffer(MEBIBYTE))],
] as const) {
  test(`a worker sees a window of ${name}, and its revocation`, async () => {
    const range = arena.reserve(4096);
    const window = OwnedWindow.over(arena, range.offset, 4096);
    window.write32(0, 41);
    const worker = new Worker(
      `const { parentPort, workerData } = require("node:worker_threads");
       Promise.all([import(workerData.arenaModule), import(workerData.windowModule)]).then(([{ Arena }, { ArenaWindow }]) => {
         const window = ArenaWindow.attach(Arena.attach(workerData.arena), workerData.window);
         window.write32(4, window.read32(0) + 1);
         parentPort.postMessage("attached");
         try { for (;;) window.read32(0); } catch (error) { parentPort.postMessage(error.code); }
       });`,
      {
        eval: true,
        workerData: {
          arena: arena.handle(),
          window: window.handle(),
          arenaModule: new URL("./arena.ts", import.meta.url).href,
          windowModule: new URL("./window.ts", import.meta.url).href,
        },
      },
    );
    const exited = once(worker, "exit");
    assert.deepEqual(await once(worker, "message"), ["attached"]);
    assert.equal(window.read32(4), 42);
    window.revoke();
    assert.deepEqual(await once(worker, "message"), ["REGION_REVOKED"]);
    await exited;
  });
}

test("a worker that attached before the arena grew sees what was reserved behind", async () => {
  const arena = Arena.create({ initialBytes: 65536, growthBytes: 65536 });
  const worker = new Worker(
    `const { parentPort, workerData } = require("node:worker_threads");
     Promise.all([import(workerData.arenaModule), import(workerData.windowModule)]).then(([{ Arena }, { ArenaWindow }]) => {
       const arena = Arena.attach(workerData.arena);
       parentPort.once("message", (handle) => {
         const window = ArenaWindow.attach(arena, handle);
         window.write32(4, window.read32(0) + arena.words(handle.offset, 1)[0]);
         parentPort.postMessage("done");
       });
       parentPort.postMessage("attached");
     });`,
    {
      eval: true,
      workerData: {
        arena: arena.handle(),
        arenaModule: new URL("./arena.ts", import.meta.url).href,
        windowModule: new URL("./window.ts", import.meta.url).href,
      },
    },
  );
  const exited = once(worker, "exit");
  await once(worker, "message");
  using range = arena.reserve(2 ** 20);
  using window = OwnedWindow.over(arena, range.offset + 2 ** 20 - 8, 8);
  window.write32(0, 21);
  const done = once(worker, "message");
  worker.postMessage(window.handle());
  await done;
  assert.equal(window.read32(4), 42);
  await exited;
});
