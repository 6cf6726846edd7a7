// seconds: 1
import assert from "node:assert/strict";
import { on, once } from "node:events";
import { describe, test } from "node:test";
import { Worker } from "node:worker_threads";
import { isRing3Error } from "../binary/error.ts";
import { arenaContract } from "../memory/arena-contract.test.ts";
import { emit, emitted } from "../memory/emitter.ts";
import { adviseHugePages, createArena, defaultArena } from "./arena-memory.ts";
import { FileIntegers } from "./file-access.ts";
import { FileDescriptor } from "./file-descriptor.ts";
import { createMemoryFile } from "./memory-file.ts";
import { pageSize } from "./memory-map.ts";
import * as native from "./native.ts";
import { mapShared, reserveShared } from "./shared-range.ts";
import { DeviceWindow } from "./windows.ts";

const MEBIBYTE = 2 ** 20;
const ONES = 0xffff_ffff;
const arenas = {
  webassembly: createArena({ initialBytes: 4 * MEBIBYTE }),
  mapped: createArena({ backing: "mapped" }),
} as const;

arenaContract("WebAssembly memory on Linux", () =>
  createArena({ initialBytes: 4 * MEBIBYTE, maximumBytes: 64 * MEBIBYTE }),
);
arenaContract("mapped memory on Linux", () => createArena({ backing: "mapped", maximumBytes: 128 * MEBIBYTE }));

test("the backing is what was asked for; the default arena is one", () => {
  assert.notEqual(arenas.webassembly.memory, undefined);
  assert.equal(arenas.mapped.memory, undefined);
  assert.equal(arenas.mapped.size, 2 ** 32);
  assert.equal(defaultArena(), defaultArena());
});

for (const [name, arena] of Object.entries(arenas)) {
  describe(`windows in ${name}`, () => {
    test("stores reach the file and the file's bytes the window; ones after revocation", () => {
      using file = createMemoryFile(4 * pageSize);
      const integers = new FileIntegers(file);
      const window = DeviceWindow.map(arena, file, pageSize, 2 * pageSize);
      window.write32(8, 0xdead_beef);
      assert.equal(integers.read(pageSize + 8, 4), 0xdead_beef);
      integers.write(2 * pageSize, 2, 0x1234);
      assert.equal(window.read16(pageSize), 0x1234);
      const stale = arena.words(window.arenaOffset, 4);
      window.suspend();
      assert.throws(() => window.read32(8), { code: "REGION_DISABLED" });
      stale[2] = 1;
      assert.deepEqual([...stale], [ONES, ONES, 1, ONES]);
      assert.equal(integers.read(pageSize + 8, 4), 0xdead_beef);
      window.resume();
      assert.equal(window.read32(8), 0xdead_beef);
      window[Symbol.dispose]();
      window[Symbol.dispose]();
      assert.deepEqual([...stale], [ONES, ONES, ONES, ONES]);
      assert.throws(() => window.read32(8), { code: "REGION_REVOKED" });
      window.resume();
      assert.equal(integers.read(pageSize + 8, 4), 0xdead_beef);
    });

    test("closing the descriptor revokes", () => {
      const file = createMemoryFile(pageSize);
      const window = DeviceWindow.map(arena, file, 0, pageSize);
      const suspended = DeviceWindow.map(arena, file, 0, pageSize);
      suspended.suspend();
      file.close();
      assert.throws(() => window.read32(0), { code: "REGION_REVOKED" });
      assert.throws(() => suspended.read32(0), { code: "REGION_REVOKED" });
      assert.throws(() => DeviceWindow.map(arena, file, 0, pageSize), { code: "FD_CLOSED" });
    });

    test("file offsets beyond 2 GiB and 4 GiB", () => {
      const far = 2 ** 40;
      using file = createMemoryFile(far + pageSize);
      for (const offset of [2 ** 31, 2 ** 32, far]) {
        using window = DeviceWindow.map(arena, file, offset, pageSize);
        window.write64(0, BigInt(offset));
        assert.equal(new FileIntegers(file).read64(offset), BigInt(offset));
      }
    });

    test("what could kill the process later is not mapped", () => {
      const used = arena.freeBytes;
      using file = createMemoryFile(2 * pageSize);
      assert.throws(() => DeviceWindow.map(arena, file, pageSize, 2 * pageSize), {
        code: "NOT_MAPPABLE",
        message: /end of a file/,
      });
      assert.throws(() => DeviceWindow.map(arena, file, 1, pageSize), { code: "NOT_MAPPABLE", message: /whole pages/ });
      assert.throws(() => DeviceWindow.map(arena, file, 0, 100), { code: "NOT_MAPPABLE" });
      using own = FileDescriptor.open(process.execPath, 0);
      assert.throws(() => DeviceWindow.map(arena, own, 0, pageSize), {
        code: "NOT_MAPPABLE",
        message: /F_SEAL_SHRINK/,
      });
      using open = new FileDescriptor(native.memfdCreate("ring3-unsealed", 3));
      native.ftruncate(open.number, pageSize);
      assert.throws(() => DeviceWindow.map(arena, open, 0, pageSize), {
        code: "NOT_MAPPABLE",
        message: /F_SEAL_SHRINK/,
      });
      const accepted = { shared: false, mayShrink: "accept" } as const;
      const elf = DeviceWindow.map(arena, own, 0, pageSize, accepted);
      assert.equal(elf.read32(0), 0x464c_457f);
      elf.write32(0, 1);
      assert.equal(new FileIntegers(own).read(0, 4), 0x464c_457f);
      using pipe = FileDescriptor.pipe().read;
      assert.throws(() => DeviceWindow.map(arena, pipe, 0, pageSize), { code: "SYSTEM_CALL", errno: "EACCES" });
      assert.equal(arena.freeBytes, used - pageSize);
    });

    test("windows beyond the tombstone's ones read zero there", () => {
      const size = 24 * MEBIBYTE;
      using file = createMemoryFile(size);
      const window = DeviceWindow.map(arena, file, 0, size);
      assert.equal(window.arenaOffset % (2 * MEBIBYTE), 0);
      window.write32(size - 4, 5);
      window.revoke();
      assert.equal(arena.words(window.arenaOffset + 15 * MEBIBYTE, 1)[0], ONES);
      assert.equal(arena.words(window.arenaOffset + size - 4, 1)[0], 0);
    });

    test("a revoked window's pages come back as zero memory when the arena needs them", () => {
      const small = createArena({
        initialBytes: 65536,
        maximumBytes: 65536,
        ...(name === "mapped" ? { backing: "mapped" } : {}),
      });
      using file = createMemoryFile(pageSize);
      const rest = small.freeBytes - pageSize;
      using other = small.reserve(rest);
      const window = DeviceWindow.map(small, file, 0, pageSize);
      window.write32(0, 77);
      assert.throws(() => small.reserve(pageSize), { code: "ARENA_FULL" });
      window.revoke();
      using range = small.reserve(pageSize);
      assert.equal(range.offset, window.arenaOffset);
      assert.ok(range.bytes.every((byte) => byte === 0));
      range.words[0] = 1;
      assert.equal(new FileIntegers(file).read(0, 4), 77);
      assert.equal(other.size, rest);
    });

    test("large ranges give their pages back and are zero again", () => {
      const range = arena.reserve(8 * MEBIBYTE, 2 * MEBIBYTE);
      adviseHugePages(range);
      range.bytes.fill(1);
      const { offset } = range;
      range[Symbol.dispose]();
      using again = arena.reserve(8 * MEBIBYTE, 2 * MEBIBYTE);
      assert.equal(again.offset, offset);
      assert.ok(again.words.every((word) => word === 0));
    });

    test("memory shared by descriptor", () => {
      using shared = reserveShared(arena, 3 * pageSize - 1);
      assert.equal(shared.range.size, 3 * pageSize);
      using peer = mapShared(arena, shared.fd.duplicate(), pageSize, pageSize);
      shared.range.words[pageSize / 4] = 0xabcd;
      assert.equal(peer.range.words[0], 0xabcd);
      const { offset } = shared.range;
      shared[Symbol.dispose]();
      assert.equal(shared.fd.closed, true);
      assert.equal(peer.range.words[0], 0xabcd);
      using reused = arena.reserve(3 * pageSize);
      if (reused.offset === offset) assert.equal(reused.words[pageSize / 4], 0);
    });

    test("huge pages from the pool, or an error that names it", () => {
      const free = arena.freeBytes;
      try {
        using huge = reserveShared(arena, MEBIBYTE, { huge: true });
        assert.equal(huge.range.size, 2 * MEBIBYTE);
        assert.equal(huge.range.offset % (2 * MEBIBYTE), 0);
        huge.range.words[0] = 5;
      } catch (error) {
        assert.ok(isRing3Error(error, "HUGE_PAGES_MISSING") && /nr_hugepages/.test(error.message));
      }
      assert.equal(arena.freeBytes, free);
    });

    test("a worker reads on while its window is suspended, resumed and revoked: no crash, ones, then an error", async () => {
      using file = createMemoryFile(pageSize);
      const window = DeviceWindow.map(arena, file, 0, pageSize);
      window.write32(0, 7);
      const worker = new Worker(WINDOW_WORKER, {
        eval: true,
        workerData: {
          arena: arena.handle(),
          window: window.handle(),
          linux: new URL("./arena-memory.ts", import.meta.url).href,
          memory: new URL("../memory/window.ts", import.meta.url).href,
        },
      });
      const exited = once(worker, "exit");
      const messages = on(worker, "message");
      const message = async (): Promise<unknown> => (await messages.next()).value?.[0];
      assert.equal(await message(), "attached");
      for (let round = 0; round < 200; round++) {
        window.suspend();
        window.resume();
      }
      window.suspend();
      assert.equal(await message(), "REGION_DISABLED");
      window.revoke();
      assert.equal(await message(), "REGION_REVOKED");
      assert.deepEqual(await message(), [7, ONES]);
      await exited;
    });
  });
}

const WINDOW_WORKER = `
  const { parentPort, workerData } = require("node:worker_threads");
  Promise.all([import(workerData.linux), import(workerData.memory)]).then(([{ attachArena }, { ArenaWindow }]) => {
    const arena = attachArena(workerData.arena);
    const window = ArenaWindow.attach(arena, workerData.window);
    const raw = arena.words(window.arenaOffset, 1);
    const seen = new Set();
    // Reads with and without the check until the check says \`code\` while the bytes are a tombstone's.
    const readUntil = (code) => {
      for (;;) {
        const unchecked = Atomics.load(raw, 0);
        seen.add(unchecked);
        try { seen.add(window.read32(0)); } catch (error) {
          if (error.code === code && unchecked === 0xffff_ffff) return error.code;
        }
      }
    };
    seen.add(window.read32(0));
    parentPort.postMessage("attached");
    parentPort.postMessage(readUntil("REGION_DISABLED"));
    parentPort.postMessage(readUntil("REGION_REVOKED"));
    parentPort.postMessage([...seen].sort((a, b) => a - b));
    arena.detach();
  });`;

test("an emitted loop that runs in a worker over a revoked window reads ones", async () => {
  const arena = arenas.webassembly;
  using file = createMemoryFile(pageSize);
  using flag = arena.reserve(pageSize);
  const window = DeviceWindow.map(arena, file, 0, pageSize);
  const worker = new Worker(
    `const { parentPort, workerData } = require("node:worker_threads");
     Promise.all([import(workerData.linux), import(workerData.emitter)]).then(([{ attachArena }, { emit, emitted }]) => {
       const arena = attachArena(workerData.arena);
       const { wait } = emit(arena, { wait: emitted([], { word: "i32" }, (body, { word }) => {
         body.store32(workerData.flag, 1);
         body.loop((loop) => {
           body.set(word, body.load32(workerData.offset));
           body.leave(loop, word.ne(0));
         });
         return word;
       }) });
       parentPort.postMessage(wait());
       arena.detach();
     });`,
    {
      eval: true,
      workerData: {
        arena: arena.handle(),
        flag: flag.offset,
        offset: window.arenaOffset,
        linux: new URL("./arena-memory.ts", import.meta.url).href,
        emitter: new URL("../memory/emitter.ts", import.meta.url).href,
      },
    },
  );
  const exited = once(worker, "exit");
  const started = new Int32Array(arena.buffer, flag.offset, 1);
  while (Atomics.load(started, 0) === 0) await new Promise((resolve) => setImmediate(resolve));
  const message = once(worker, "message");
  window.revoke();
  assert.deepEqual(await message, [-1]);
  await exited;
  const { sum } = emit(arena, { sum: emitted(["a"], {}, (body, { a }) => a.add(body.load32(window.arenaOffset))) });
  assert.equal(sum(1), 0);
});
