// A function moves from one server process to another while its driver is at work: no byte of the disk is lost, every page
// that the device wrote on the way is in the log, and what cannot move stays where it is.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { NvmeDriver } from "../../packages/ring3/src/drivers/nvme/index.ts";
import { connect } from "../../packages/ring3/src/vfio-user/client.ts";
import type { VfioUserFunction } from "../../packages/ring3/src/vfio-user/client-function.ts";
import { throwsCode } from "../contract/fixture.ts";
import { DiskProcess } from "./disk-process.ts";
import type { DiskOrder } from "./disk-server.ts";
import { BLOCK_BYTES, Workload } from "./workload.ts";

const BLOCKS = 2048;
const PAGE = 4096;
/** A device that stands still makes a test fail instead of hang. */
const limit = { timeout: 90_000 } as const;
const seed = Number(process.env["RING3_SEED"] ?? 1);

interface Place {
  readonly folder: string;
  readonly disk: string;
  /** Serves the disk at the socket `name`. */
  readonly serve: (name: string, order?: Partial<DiskOrder>) => Promise<DiskProcess>;
  readonly socket: (name: string) => string;
}

function place(t: TestContext, mappableDoorbells: boolean): Place {
  const folder = mkdtempSync(join(tmpdir(), "ring3-move-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const disk = join(folder, "disk");
  writeFileSync(disk, new Uint8Array(BLOCKS * BLOCK_BYTES));
  const socket = (name: string): string => join(folder, `${name}.sock`);
  const serve = async (name: string, order: Partial<DiskOrder> = {}): Promise<DiskProcess> => {
    const server = new DiskProcess();
    t.after(() => server[Symbol.asyncDispose]());
    await server.serve({ disk, socket: socket(name), mappableDoorbells, shared: true, slowEvery: 5, ...order });
    return server;
  };
  return { folder, disk, serve, socket };
}

for (const mappableDoorbells of [false, true]) {
  const doorbells = `doorbells ${mappableDoorbells ? "mapped" : "trapped"}`;

  test(
    `a driver at work moves to and fro, then its server dies, ${doorbells} (RING3_SEED=${seed})`,
    limit,
    async (t) => {
      const { folder, disk, serve, socket } = place(t, mappableDoorbells);
      const first = await serve("a");
      const stated = { state: join(folder, "state") };
      const second = await serve("b", stated);
      await using fn = await connect(socket("a"), { reconnect: { timeoutMs: 20_000 } });
      await using driver = await NvmeDriver.start(fn);
      const recovered: unknown[] = [];
      driver.events.on("recovered", (event) => recovered.push(event));
      const workload = new Workload({ blocks: BLOCKS, workers: 12, seed });
      workload.start(driver);
      for (const name of ["b", "a", "b", "a", "b"]) {
        await workload.completes(60);
        fn.moveTo(socket(name));
      }
      await workload.completes(60);
      // Nothing had to be done again: the commands under way went along.
      assert.deepEqual(recovered, []);
      await first.kill();
      await workload.completes(60);
      await second.kill();
      const third = await serve("b", stated);
      await workload.completes(60);
      await workload.stop();
      assert.equal(recovered.length, 1);
      await workload.verify(driver);
      workload.verifyBytes(readFileSync(disk));
      for (const { complaints } of [first, second, third]) assert.deepEqual(complaints, []);
    },
  );

  test(`every page that the device writes before the move is in the log, ${doorbells}`, limit, async (t) => {
    const { serve, socket } = place(t, mappableDoorbells);
    const first = await serve("a");
    await serve("b");
    await using fn = await connect(socket("a"));
    await using driver = await NvmeDriver.start(fn);
    const written: Range[] = [];
    const read: Range[] = [];
    const workload = new Workload({ blocks: BLOCKS, workers: 12, seed });
    workload.start(driver, (target, source) => {
      written.push(target);
      read.push(source);
    });
    written.push(...(await first.completionQueues()));
    fn.migration.startDmaLog([], PAGE);
    fn.migration.setState("pre-copy");
    // A copy that is kept up by the log alone, as that of a machine far away would be.
    const copy = new PageCopy(fn, written);
    let pages = 0;
    for (let round = 0; round < 20; round++) {
      await workload.completes(30);
      pages += copy.follow(read);
    }
    fn.migration.setState("stop");
    pages += copy.follow(read);
    copy.compare();
    assert.ok(pages >= 40, `${pages} pages were in the log`);
    fn.moveTo(socket("b"));
    await first.kill();
    await workload.completes(60);
    await workload.stop();
    await workload.verify(driver);
  });
}

test("a move that the other server does not take leaves everything as it was", limit, async (t) => {
  const { folder, serve, socket } = place(t, false);
  await serve("a");
  const small = join(folder, "small");
  writeFileSync(small, new Uint8Array(BLOCKS * 256));
  await serve("small", { disk: small });
  await serve("busy");
  await using _ = await connect(socket("busy"));
  await using fn = await connect(socket("a"));
  await using driver = await NvmeDriver.start(fn);
  const workload = new Workload({ blocks: BLOCKS, workers: 12, seed });
  workload.start(driver);
  for (const [name, code] of [
    ["small", "SERVER_REFUSED"],
    ["busy", "SERVER_REFUSED"],
    ["nobody", "SYSTEM_CALL"],
  ] as const) {
    await workload.completes(30);
    throwsCode(() => fn.moveTo(socket(name)), code);
    assert.equal(fn.migration.state, "running");
    assert.equal(fn.path, socket("a"));
  }
  await workload.completes(30);
  await workload.stop();
  await workload.verify(driver);
});

interface Range {
  readonly iova: number;
  readonly size: number;
}

/** The pages of some ranges of DMA memory, as they were when the log last named them. */
class PageCopy {
  readonly #fn: VfioUserFunction;
  readonly #pages: Map<number, Uint8Array> = new Map();

  constructor(fn: VfioUserFunction, ranges: readonly Range[]) {
    this.#fn = fn;
    for (const { iova, size } of ranges) {
      for (let page = iova - (iova % PAGE); page < iova + size; page += PAGE) this.#pages.set(page, this.#bytes(page));
    }
  }

  /** Copies what the log names, which must be nothing of `untouched`. Returns the number of pages named. */
  follow(untouched: readonly Range[]): number {
    let named = 0;
    for (const { iova, size } of this.#fn.dma.mappings()) {
      const bitmap = this.#fn.migration.readDmaLog({ iova, size }, PAGE);
      for (let i = 0; i < size / PAGE; i++) {
        if (((bitmap[i >>> 3] ?? 0) & (1 << (i & 7))) === 0) continue;
        const page = iova + i * PAGE;
        named++;
        const wrong = untouched.find((range) => page >= range.iova && page < range.iova + range.size);
        assert.equal(wrong, undefined, `the log names page 0x${page.toString(16)}, which the device only read`);
        if (this.#pages.has(page)) this.#pages.set(page, this.#bytes(page));
      }
    }
    return named;
  }

  /** The copy is the memory itself. */
  compare(): void {
    for (const [page, bytes] of this.#pages) {
      const same = Buffer.from(bytes).equals(Buffer.from(this.#bytes(page)));
      assert.ok(same, `page 0x${page.toString(16)} was written, and the log did not say so`);
    }
  }

  #bytes(page: number): Uint8Array {
    const { arena } = this.#fn.dma;
    const mapping = this.#fn.dma.mappings().find(({ iova, size }) => page >= iova && page < iova + size);
    assert.ok(mapping !== undefined);
    return arena.bytes(mapping.arenaOffset + page - mapping.iova, PAGE).slice();
  }
}
