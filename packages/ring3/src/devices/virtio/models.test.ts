import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { goldenMap } from "../../virtual/golden.ts";
import { memoryBacking } from "../block-backing.ts";
import { FakeVirtioDriver } from "./fake-function-driver.ts";
import { VirtioBlock, VirtioNet } from "./index.ts";
import type { VirtioFunction } from "./transport.ts";

const models: Record<string, () => VirtioFunction> = {
  block: () => new VirtioBlock({ backing: memoryBacking(1 << 20) }),
  net: () => new VirtioNet({ mac: "52:54:00:12:34:56", mtu: 1500 }),
};
const offered: Record<string, readonly number[]> = {
  block: [1, 2, 6, 9, 10, 11, 13, 14, 28, 29, 32, 33, 34, 40],
  net: [0, 3, 5, 15, 16, 17, 18, 19, 20, 21, 23, 28, 29, 32, 33, 34, 40, 63],
};

for (const [name, make] of Object.entries(models)) {
  test(`${name}: version 1 looks to drivers as it always did`, () => {
    const golden = readFileSync(new URL(`./golden-${name}-1.txt`, import.meta.url), "utf8");
    const device = make();
    assert.equal(device.identity.modelVersion, 1);
    assert.equal(goldenMap(device.declaration), golden);
    assert.deepEqual([...new FakeVirtioDriver(device).offered()], offered[name]);
  });
}
