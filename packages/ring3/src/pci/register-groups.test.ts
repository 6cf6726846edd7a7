import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import type { RegisterGroup } from "./register.ts";
import { capabilityGroups } from "./register-groups.ts";

test("every capability that is declared can be named, each id once", async () => {
  const folder = join(import.meta.dirname, "capabilities");
  const declared = new Set<string>();
  const key = ({ kind, id }: RegisterGroup): string => `${kind} ${id.toString(16)}`;
  for (const file of readdirSync(folder).filter((name) => !name.endsWith(".test.ts"))) {
    const exports = Object.values((await import(join(folder, file))) as Record<string, unknown>);
    for (const value of exports) {
      if (typeof value === "object" && value !== null && "registers" in value)
        declared.add(key(value as RegisterGroup));
    }
  }
  assert.deepEqual(capabilityGroups.map(key).sort(), [...declared].sort());
});
