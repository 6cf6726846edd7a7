import assert from "node:assert/strict";
import { test } from "node:test";
import { UsageError } from "../usage-error.ts";
import { parseBarRule, parseTraps } from "./mediation-options.ts";

test("a range names BAR, offset, size and what becomes of accesses", () => {
  assert.deepEqual(parseBarRule("bar0+0x1000+256=read-only"), {
    bar: 0,
    offset: 0x1000,
    size: 256,
    access: "read-only",
  });
  assert.deepEqual(parseBarRule("BAR5+0+0x10=limited:20"), {
    bar: 5,
    offset: 0,
    size: 16,
    access: "limited",
    writesPerSecond: 20,
  });
});

test("what is no range is refused with how one is written", () => {
  for (const text of ["", "bar6+0+4=hidden", "bar0+0=hidden", "bar0+0+4", "bar0+0+4=limited", "bar0+0+4=limited:0"]) {
    assert.throws(() => parseBarRule(text), UsageError, text);
  }
});

test("traps are BARs or all of them", () => {
  assert.equal(parseTraps([]), false);
  assert.equal(parseTraps(["bar1", "all"]), true);
  assert.deepEqual(parseTraps(["bar1", "4"]), [1, 4]);
  assert.throws(() => parseTraps(["bar9"]), UsageError);
});
