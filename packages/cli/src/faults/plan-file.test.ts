// Plans as people write them: what is right is taken as it is, and what is wrong is said with line and column.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseFaultPlan } from "./plan-file.ts";

test("a plan of every kind", () => {
  const plan = parseFaultPlan(
    `
seed: 7
faults:
  - { kind: all-ones, where: { register: CSTS }, at: 3 }
  - { kind: stuck-bits, where: { bar: 0, offset: 0x1c, size: 4, op: read }, set: 0x2 }
  - { kind: lost-write, where: { register: "SQ*TDBL" }, probability: 0.1, times: 0 }
  - { kind: lost-interrupt, vector: 1 }
  - { kind: late-interrupt, delayMs: 20 }
  - { kind: spurious-interrupt, at: 5 }
  - { kind: bad-completion, field: status }
  - { kind: dma-corruption, bits: 2 }
  - { kind: link-down, forMs: 50 }
  - { kind: removal, noticedMs: 10, at: 100 }
  - { kind: aer, severity: fatal, recoverMs: 30 }
`,
    "plan.yaml",
  );
  assert.equal(plan.faults.length, 11);
  assert.deepEqual(plan.faults[1], {
    kind: "stuck-bits",
    where: { bar: 0, offset: 0x1c, size: 4, op: "read" },
    set: 2,
  });
});

test("mistakes are told with line and column, all at once", () => {
  const text = `faults:
  - kind: all-ones
    where: { registers: CSTS }
  - kind: late-interrupt
  - kind: explode
  - kind: lost-write
    probability: 2
seeds: 1
`;
  assert.throws(
    () => parseFaultPlan(text, "plan.yaml"),
    (error: Error) => {
      const lines = error.message.split("\n").slice(1);
      assert.deepEqual(
        lines.map((line) => line.trim().split(": ")[0]),
        ["plan.yaml:3:25", "plan.yaml:4:5", "plan.yaml:5:11", "plan.yaml:7:18", "plan.yaml:8:8"],
      );
      assert.match(lines.join("\n"), /kind takes one of all-ones, stuck-bits/);
      return true;
    },
  );
  assert.throws(() => parseFaultPlan("faults: [", "plan.yaml"), /plan.yaml:1:\d+: /);
  assert.throws(() => parseFaultPlan("", "plan.yaml"), /plan.yaml:1:1: a plan is a mapping/);
});
