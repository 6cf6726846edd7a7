// A host that writes anything anywhere: no exception of the model, no write outside what it may reach, and a reset always
// brings the controller back.
// seconds: 1
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { NvmeHost, turns } from "../../../../../tests/fakes/nvme-host.ts";
import { inProcess } from "../../virtual/in-process.ts";
import { memoryBacking, NvmeDevice } from "./index.ts";

const PAGES = 24;

type Action =
  | { readonly kind: "register"; readonly offset: number; readonly value: number }
  | { readonly kind: "doorbell"; readonly index: number; readonly value: number }
  | { readonly kind: "memory"; readonly word: number; readonly values: readonly number[] }
  | {
      readonly kind: "command";
      readonly queue: number;
      readonly words: readonly number[];
      readonly pages: readonly number[];
    }
  | { readonly kind: "burst" }
  | { readonly kind: "reset" };

const word = fc.oneof(fc.nat(0xffff_ffff), fc.constantFrom(0, 1, 2, 0xffff_ffff, 0x8000_0000, 4096), fc.nat(64));
const opcode = fc.oneof(fc.constantFrom(0, 1, 2, 5, 6, 8, 9, 10, 12, 0x7c), fc.nat(255));
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("register" as const),
      offset: fc.nat(0x1a).map((n) => 4 * n),
      value: word,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("doorbell" as const),
      index: fc.nat(12),
      value: fc.oneof(fc.nat(20), word),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("memory" as const),
      word: fc.nat(PAGES * 1024 - 20),
      values: fc.array(word, { minLength: 1, maxLength: 20 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("command" as const),
      queue: fc.nat(2),
      words: fc.tuple(
        opcode,
        fc.constantFrom(0, 0, 0, 0x4000, 0x8000, 0x100),
        fc.constantFrom(1, 1, 2, 0, 0xffff_ffff),
        fc.nat(40),
        fc.constantFrom(0, 1, 3, 5, 0x1_0001),
        fc.nat(300),
      ),
      pages: fc.tuple(fc.nat(PAGES + 2), fc.nat(PAGES + 2), fc.constantFrom(0, 0, 512, 4088, 2)),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: "burst" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "reset" as const }) },
);

for (const mappableDoorbells of [false, true]) {
  test(`anything anywhere (doorbells ${mappableDoorbells ? "in memory" : "as registers"})`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(action, { minLength: 10, maxLength: 60 }), async (actions) => {
        const device = new NvmeDevice({
          namespaces: [{ backing: memoryBacking(65_536) }, { backing: memoryBacking(65_536), blockSize: 4096 }],
          mappableDoorbells,
          ioQueues: 4,
          maxQueueEntries: 64,
        });
        const faults: string[] = [];
        device.events.on(
          "fault",
          ({ description }) => void (description.startsWith("DMA_FAULT") || faults.push(description)),
        );
        await using fn = inProcess(device);
        const host = new NvmeHost(fn);
        // What the device may reach, and memory around it that it may not.
        const before = fn.dma.arena.reserve(4096);
        const memory = fn.dma.allocate(PAGES * 4096);
        const behind = fn.dma.arena.reserve(4096);
        before.bytes.fill(0xe1);
        behind.bytes.fill(0xe2);
        const bar = fn.bar(0);
        const start = async (): Promise<void> => {
          host.enable(16);
          device.runPoll();
          for (const id of [1, 2]) await host.createPair(id, 8);
        };
        await start();
        for (const step of actions) {
          if (step.kind === "register") bar.write32(step.offset, step.value);
          else if (step.kind === "doorbell") bar.write32(0x1000 + 4 * step.index, step.value);
          else if (step.kind === "memory") memory.words.set(step.values, step.word);
          else if (step.kind === "burst") device.runPoll();
          else if (step.kind === "reset") await fn.reset();
          else {
            const [operation, flags, nsid, cdw10, cdw11, cdw12] = step.words as [
              number,
              number,
              number,
              number,
              number,
              number,
            ];
            const [first, second, inside] = step.pages as [number, number, number];
            const command = {
              opcode: operation,
              flags: flags >>> 8,
              nsid,
              cdw10,
              cdw11,
              cdw12,
              prp1: memory.iova + first * 4096 + inside,
              prp2: memory.iova + second * 4096,
            };
            host.post(command, step.queue);
            host.ring(step.queue);
          }
          fn.busMaster = true;
        }
        device.runPoll();
        await turns(2);
        assert.ok(before.bytes.every((byte) => byte === 0xe1) && behind.bytes.every((byte) => byte === 0xe2));
        await fn.reset();
        await start();
        assert.equal(await host.status({ opcode: 0x02, nsid: 1, prp1: memory.iova }, 1), 0, "a reset brings it back");
        assert.deepEqual(faults, []);
      }),
      { numRuns: 60 },
    );
  });
}
