// Each attack on a mediated function: its outcome is the one of the table in docs/security.md, and whatever it was, the other
// user's memory, function and service are untouched.
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { inProcess } from "../../packages/ring3/src/virtual/index.ts";
import { attacks, attacksAt } from "./attacks/list.ts";
import { LibraryScene } from "./attacks/library-scene.ts";
import { AttackedService, ServiceScene } from "./attacks/service-scene.ts";

suite("mediate() and its server in this process", () => {
  for (const attack of attacksAt("library")) {
    const { group, what, outcome } = attack;
    test(`${group}: ${what}`, async () => {
      await using scene = await LibraryScene.open();
      assert.equal(await attack.run(scene), outcome);
      await scene.neighbour.check();
      assert.equal(await scene.neighbour.strayInterrupts(), 0);
    });
  }

  test("a function that a user has cannot be opened in the mediator's own process", async () => {
    await using scene = await LibraryScene.open();
    assert.throws(() => inProcess(scene.neighbourFunction), {
      code: "FUNCTION_BUSY",
      message: new RegExp(`pid ${process.pid}`),
    });
  });
});

suite("a running ring3d", () => {
  let attacked: AttackedService;
  before(async () => {
    attacked = await AttackedService.start();
  });
  after(() => attacked[Symbol.asyncDispose]());

  for (const attack of attacksAt("ring3d")) {
    const { group, what, outcome } = attack;
    test(`${group}: ${what}`, async () => {
      using scene = await ServiceScene.open(attacked);
      assert.equal(await attack.run(scene), outcome);
      await scene.neighbour.check();
      assert.equal(await scene.neighbour.strayInterrupts(), 0);
    });
  }

  test("after all of them it ends as it should", async () => assert.equal(await attacked.stop(), 0));
});

test("there are enough of them", () => assert.ok(attacks.length >= 40, String(attacks.length)));
