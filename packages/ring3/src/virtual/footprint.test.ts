// A process may hold a thousand functions: what one of them costs, with a driver on it.
// seconds: 2
import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { SAMPLE_CONSTANT, SampleDevice } from "../../../../tests/fakes/sample-device.ts";
import { type InProcessFunction, inProcess } from "./index.ts";

const COUNT = 1000;
const LIMIT_BYTES = 100 * 1024;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

function usedBytes(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

test("a thousand functions, each with a driver and a mapping, take at most 100 KiB each", async () => {
  // The first ones pay for code and the arena.
  for (let i = 0; i < 20; i++) await inProcess(new SampleDevice())[Symbol.asyncDispose]();
  const before = usedBytes();
  const functions: InProcessFunction[] = [];
  for (let i = 0; i < COUNT; i++) {
    const fn = inProcess(new SampleDevice());
    assert.equal(fn.bar(0).read32(0), SAMPLE_CONSTANT);
    fn.interrupts.msix(8);
    fn.dma.allocate(4096);
    functions.push(fn);
  }
  // The arena's pages come on top: what the devices declared, and what was mapped.
  const arenaBytes = 2 * 4096;
  const each = (usedBytes() - before) / COUNT + arenaBytes;
  for (const fn of functions) await fn[Symbol.asyncDispose]();
  assert.ok(each <= LIMIT_BYTES, `${Math.round(each / 1024)} KiB each`);
});
