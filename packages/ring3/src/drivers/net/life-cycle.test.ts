import assert from "node:assert/strict";
import test from "node:test";
import { FakeGigabit } from "../../../../../tests/fakes/fake-gigabit.ts";
import { VirtualClock } from "../../../../../tests/fakes/virtual-clock.ts";
import { Ring3Error } from "../../binary/error.ts";
import { LifeCycle, type LifeSteps } from "./life-cycle.ts";

/** A life that notes its steps; `steps` does some of them its own way. */
function lived(steps: Partial<LifeSteps> = {}): {
  readonly life: LifeCycle;
  readonly seen: string[];
  readonly fake: FakeGigabit;
} {
  const seen: string[] = [];
  const fake = new FakeGigabit("igb");
  const note = (step: string): void => void seen.push(step);
  const life = new LifeCycle(fake.fn, new VirtualClock(), {
    patient: false,
    prepare: () => note("prepare"),
    bringUp: async () => note(`bring up${fake.fn.busMaster ? "" : " without bus mastering"}`),
    started: () => note("started"),
    quiesce: async () => note("quiesce"),
    inspect: () => undefined,
    lost: () => note("lost"),
    recovered: (reason) => note(`recovered: ${reason}`),
    finish: async (error) => note(`finish: ${error.code}`),
    ...steps,
  });
  return { life, seen, fake };
}

test("a start that fails at any step gives everything back, and says why", async () => {
  for (const step of ["prepare", "bringUp", "started"] as const) {
    const { life, seen } = lived({
      [step]: () => {
        throw new TypeError(step);
      },
    });
    await assert.rejects(life.start(), { name: "TypeError", message: step });
    assert.equal(seen.at(-1), "finish: NET_FAILED");
    assert.equal(life.failure?.code, "NET_FAILED");
    await assert.rejects(life.settled(), { code: "NET_FAILED" });
  }
});

test("a reason that comes while the device is being brought back does it once more, and is one loss", async () => {
  const { life, seen } = lived({ inspect: () => "it hangs" });
  await life.start();
  seen.length = 0;
  const both = [life.recover("first"), life.recover("second")];
  assert.equal(life.well, false);
  // Nobody looks at a device that is being brought back.
  life.look();
  await Promise.all(both);
  assert.deepEqual(seen, ["lost", "quiesce", "bring up", "quiesce", "bring up", "recovered: first"]);
  assert.deepEqual([life.well, life.resets], [true, 1]);
  life.look();
  await life.settled();
  assert.equal(seen.at(-1), "recovered: it hangs");
  await life.end(new Ring3Error("NET_CLOSED", "closed"));
});

test("a device that does not come back is given up after some attempts; a patient driver goes on", async () => {
  for (const patient of [false, true]) {
    let attempts = 0;
    const { life, seen } = lived({
      patient,
      bringUp: async () => {
        attempts++;
        if (attempts > 1 && attempts < 20) throw new Ring3Error("TIMEOUT", "no answer");
      },
    });
    await life.start();
    const restarted = life.restart("gone for a while");
    if (patient) await restarted;
    else await assert.rejects(restarted, { code: "TIMEOUT" });
    assert.equal(attempts, patient ? 20 : 7);
    assert.equal(seen.at(-1), patient ? "recovered: gone for a while" : "finish: TIMEOUT");
    await life.end(new Ring3Error("NET_CLOSED", "closed"));
  }
});

test("the end comes once, with its first reason, and nothing is brought back after it", async () => {
  const { life, seen, fake } = lived();
  await life.start();
  await Promise.all([
    life.end(new Ring3Error("NET_CLOSED", "closed")),
    life.end(new Ring3Error("NET_FAILED", "broken")),
  ]);
  fake.fn.remove();
  await life.recover("too late");
  assert.equal(seen.filter((step) => step.startsWith("finish")).join(), "finish: NET_CLOSED");
  assert.equal(seen.includes("lost"), false);
});
