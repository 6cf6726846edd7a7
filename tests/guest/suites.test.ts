// Every suite runs in a lane of `npm test`, whatever kernels there are, and the lanes have about as much to do.
import assert from "node:assert/strict";
import { globSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import type { KernelName } from "./kernels.ts";
import { type Assignment, findSuites, LANE_SECONDS, type Suite } from "./suites.ts";

const files = globSync("*.guest.ts", { cwd: join(import.meta.dirname, "suites") }).map((file) =>
  basename(file, ".guest.ts"),
);
const lane = (suites: readonly Suite[], kernel: KernelName): Suite[] =>
  suites.filter(({ kernels }) => kernels.includes(kernel));

for (const assignment of ["quick", "balanced", "all"] as const satisfies readonly Assignment[]) {
  for (const quick of ["iommufd", "debian"] as const) {
    test(`${assignment}, the quick kernel is ${quick}: no suite is left out`, () => {
      const suites = findSuites(assignment, quick);
      assert.deepEqual(suites.map(({ name }) => name).sort(), files.sort());
      const run = new Set([...lane(suites, "debian"), ...lane(suites, "iommufd")]);
      assert.equal(run.size, suites.length, "each is in a lane");
      assert.deepEqual(suites, findSuites(assignment, quick), "the same each time");
      const onAny = suites.filter(({ seconds }) => seconds > 0);
      const kernels = new Set(onAny.flatMap((suite) => suite.kernels));
      if (assignment === "quick" || (assignment === "balanced" && quick === "debian")) {
        assert.deepEqual([...kernels], [quick], "where there is one kernel, nothing is left for the other");
      }
      if (assignment !== "all") assert.ok(onAny.every((suite) => suite.kernels.length === 1));
    });
  }
}

test("balanced lanes differ by less than the smallest suite that was given to the longer one", () => {
  const suites = findSuites("balanced", "iommufd").filter(({ seconds }) => seconds > 0);
  const total = (kernel: KernelName): number =>
    lane(suites, kernel).reduce((sum, { seconds }) => sum + seconds, LANE_SECONDS[kernel]);
  const longer = total("iommufd") > total("debian") ? "iommufd" : "debian";
  const difference = Math.abs(total("iommufd") - total("debian"));
  assert.ok(difference <= Math.min(...lane(suites, longer).map(({ seconds }) => seconds)));
});
