// The other user of a ring3d that is attacked: works on its function without end, and ends with an error where anything is not
// right. Words: `edu` or `nvme`, the function's socket, and one of its own, where each line is answered once a round of work that
// began after it is over: with the address of its memory, the rounds so far, and the interrupts that nobody asked for.
import assert from "node:assert/strict";
import { chmodSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { EduDriver } from "../../../packages/ring3/src/drivers/edu/index.ts";
import { NvmeDriver } from "../../../packages/ring3/src/drivers/nvme/index.ts";
import type { Interrupt, PciFunction } from "../../../packages/ring3/src/pci/function.ts";
import { connect } from "../../../packages/ring3/src/vfio-user/index.ts";
import { counting } from "../machine.ts";
import { NEIGHBOUR_CONTENT, NEIGHBOUR_SIZE } from "../attack-places.ts";

interface Work {
  /** An interrupt of the function that nothing it does raises. */
  readonly idle: Interrupt;
  round(at: number): Promise<void>;
}

const BLOCK = 512;
/** Beyond those that the driver connects. */
const IDLE_VECTOR = 20;

function pattern(round: number): Uint8Array {
  return Uint8Array.from({ length: 8 * BLOCK }, (_, at) => (at * 7 + round) & 0xff);
}

const works: Readonly<Record<string, (fn: PciFunction) => Promise<Work>>> = {
  edu: async (fn) => {
    const edu = await EduDriver.start(fn, { completion: "poll", timeoutMs: 60_000 });
    const [idle] = fn.interrupts.msi(1);
    assert.ok(idle !== undefined);
    return {
      idle,
      round: async (round) => {
        assert.equal(edu.liveness(round), ~round >>> 0);
        assert.equal(await edu.factorial(10), 3_628_800);
        await edu.store(0, pattern(round));
        assert.deepEqual(await edu.load(0, 8 * BLOCK), pattern(round));
      },
    };
  },
  nvme: async (fn) => {
    const nvme = await NvmeDriver.start(fn, { completion: "interrupt" });
    const [idle] = fn.interrupts.addMsix(IDLE_VECTOR, 1);
    assert.ok(idle !== undefined);
    const namespace = nvme.namespace(1);
    return {
      idle,
      round: async (round) => {
        const first = (round % 1000) * 8;
        const content = Buffer.from(counting(first * BLOCK, 8 * BLOCK));
        assert.deepEqual(Buffer.from(await namespace.read(first, 8)), content);
        // The same again: other suites find the disk as it was.
        await namespace.write(first, content);
        assert.deepEqual(Buffer.from(await namespace.read(first, 8)), content);
      },
    };
  },
};

const [kind = "", path = "", own = ""] = process.argv.slice(2);
await using fn = await connect(path, { timeoutMs: 60_000 });
const work = await (works[kind]?.(fn) ?? assert.fail(kind));
const treasure = fn.dma.allocate(NEIGHBOUR_SIZE, { below: 2 ** 28 });
treasure.words.fill(NEIGHBOUR_CONTENT);

const asking: { readonly socket: Socket; readonly since: number }[] = [];
let rounds = 0;
const server = createServer((socket) => {
  socket.on("error", () => undefined);
  createInterface({ input: socket }).on("line", () => asking.push({ socket, since: rounds }));
});
rmSync(own, { force: true });
server.listen(own, () => {
  chmodSync(own, 0o777);
  console.log("ready");
});
for (;;) {
  await work.round(rounds++);
  assert.ok(
    treasure.words.every((word) => word === NEIGHBOUR_CONTENT),
    "its memory was changed",
  );
  for (const asker of asking.filter(({ since }) => since < rounds)) {
    asking.splice(asking.indexOf(asker), 1);
    asker.socket.write(`${JSON.stringify({ iova: treasure.iova, rounds, stray: work.idle.poll() })}\n`);
  }
}
