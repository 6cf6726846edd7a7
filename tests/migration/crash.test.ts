// A server that is killed at any moment and started again with its state file: the driver goes on over the same function,
// and no write that was acknowledged is lost, done twice over something newer, or done from memory that holds other data by
// then. Points of death lie where an event loop, a state file and a disk can part.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { NvmeDriver } from "../../packages/ring3/src/drivers/nvme/index.ts";
import { connect } from "../../packages/ring3/src/vfio-user/client.ts";
import { Random } from "../hostile/random.ts";
import { DiskProcess } from "./disk-process.ts";
import type { Death, DiskOrder } from "./disk-server.ts";
import { BLOCK_BYTES, Workload } from "./workload.ts";

const BLOCKS = 2048;
/** With each kind of doorbell. */
const POINTS = 12;
/** A driver gives a controller up that needs five resets within a minute. */
const POINTS_PER_DRIVER = 4;

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "ring3-crash-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Where the next server dies; `undefined`: wherever it is when the test kills it. */
function nextDeath(random: Random): Death | undefined {
  const at = random.pick(["save", "saved", "write", "written", undefined] as const);
  return at && { at, after: random.oneIn(2) ? random.below(40) : 20 + random.below(300), lingerMs: random.below(4) };
}

/** Servers of one function, of which one after the other dies. */
class MortalServers implements AsyncDisposable {
  readonly #order: DiskOrder;
  #server: DiskProcess = new DiskProcess();
  #next: DiskProcess = new DiskProcess();
  #death: Death | undefined;

  constructor(order: DiskOrder) {
    this.#order = order;
  }

  /** Serves, until it is killed. */
  async begin(): Promise<void> {
    await this.#server.serve(this.#order);
  }

  /** Resolves when the present server has died, by itself or after some work, and another serves in its place. */
  async pass(random: Random, workload: Workload, nextDeath?: Death): Promise<void> {
    if (this.#death === undefined) {
      await workload.completes(20 + random.below(200));
      await this.#server.kill();
    } else await workload.until(this.#server.ended);
    assert.deepEqual(this.#server.complaints, []);
    this.#server = this.#next;
    this.#next = new DiskProcess();
    this.#death = nextDeath;
    await this.#server.serve({ ...this.#order, ...(nextDeath && { death: nextDeath }) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#server.kill(), this.#next.kill()]);
  }
}

const seed = Number(process.env["RING3_SEED"] ?? 1);

test(`${2 * POINTS} deaths of a server lose nothing (RING3_SEED=${seed})`, { timeout: 180_000 }, async (t) => {
  const place = folder(t);
  const disk = join(place, "disk");
  writeFileSync(disk, new Uint8Array(BLOCKS * BLOCK_BYTES));
  const random = new Random(seed);
  const workload = new Workload({ blocks: BLOCKS, workers: 12, seed });
  for (const mappableDoorbells of [false, true]) {
    const name = mappableDoorbells ? "mapped" : "trapped";
    const [socket, state] = [join(place, `${name}.sock`), join(place, `${name}.state`)];
    await using servers = new MortalServers({ disk, socket, state, mappableDoorbells, slowEvery: 5 });
    await servers.begin();
    await using fn = await connect(socket, { reconnect: { timeoutMs: 20_000 } });
    for (let point = 0; point < POINTS; point += POINTS_PER_DRIVER) {
      await using driver = await NvmeDriver.start(fn);
      workload.start(driver);
      for (let i = 1; i <= POINTS_PER_DRIVER; i++) {
        await servers.pass(random, workload, i < POINTS_PER_DRIVER ? nextDeath(random) : undefined);
      }
      await workload.completes(100);
      await workload.stop();
      await workload.verify(driver);
    }
  }
  workload.verifyBytes(readFileSync(disk));
  t.diagnostic(`${workload.completed} commands, ${workload.undecided} done again`);
});
