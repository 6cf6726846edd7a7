// Each attack on a mediated function, served over vfio-user: its outcome is the one of the table, and whatever it was, the
// other user's memory and service are untouched, and the next user gets a function that works.
import assert from "node:assert/strict";
import { test } from "node:test";
import { attacks } from "./mediation-attacks.ts";
import { Scene } from "./mediation-scene.ts";

for (const attack of attacks) {
  const { group, what, outcome } = attack;
  test(`${group}: ${what}`, async () => {
    await using scene = await Scene.open();
    assert.equal(await attack.run(scene), outcome);
    await scene.check();
  });
}

test("there are enough of them", () => assert.ok(attacks.length >= 40, String(attacks.length)));
