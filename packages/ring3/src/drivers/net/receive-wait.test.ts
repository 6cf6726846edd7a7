import assert from "node:assert/strict";
import { test } from "node:test";
import { VirtualClock } from "../../../../../tests/fakes/virtual-clock.ts";
import type { ReceiveMode } from "./device.ts";
import { ReceiveWait } from "./receive-wait.ts";

/** A queue whose packets and interrupt are the test's. */
function scene(mode: ReceiveMode) {
  const clock = new VirtualClock();
  const queue = { packets: 0, armed: 0, looks: 0, onArm: (): void => {} };
  const wait = new ReceiveWait(
    mode,
    {
      get ready(): boolean {
        queue.looks++;
        return queue.packets > 0;
      },
      arm: () => {
        queue.armed++;
        queue.onArm();
      },
    },
    clock,
  );
  return { clock, queue, wait };
}

for (const mode of ["polled", "interrupt", "adaptive"] as const) {
  test(`${mode}: a packet that waits, one that comes, none in time, the end, and a signal`, async () => {
    const { clock, queue, wait } = scene(mode);
    queue.packets = 1;
    assert.equal(await wait.wait(), true);
    assert.equal(queue.armed, 0, "what waits already needs no interrupt");
    queue.packets = 0;
    const before = clock.now();
    assert.equal(await wait.wait({ timeoutMs: 30 }), false);
    assert.ok(clock.now() - before >= 30);
    clock.after(5, () => {
      queue.packets = 1;
      if (queue.armed > 0) wait.wake();
    });
    assert.equal(await wait.wait({ timeoutMs: 1000 }), true);
    queue.packets = 0;
    const controller = new AbortController();
    clock.after(5, () => controller.abort(new Error("enough")));
    await assert.rejects(wait.wait({ signal: controller.signal }), { message: "enough" });
    clock.after(5, () => wait.end(new Error("over")));
    await assert.rejects(wait.wait(), { message: "over" });
    await assert.rejects(wait.wait(), { message: "over" });
    assert.equal(queue.armed > 0, mode !== "polled");
  });
}

test("a packet between the last look and the arming is seen without an interrupt", async () => {
  const { queue, wait } = scene("interrupt");
  queue.onArm = () => {
    queue.packets = 1;
  };
  assert.equal(await wait.wait(), true);
  assert.equal(queue.armed, 1);
});

test("an interrupt for nothing is armed again", async () => {
  const { queue, wait } = scene("interrupt");
  queue.onArm = () => {
    if (queue.armed === 3) queue.packets = 1;
    queueMicrotask(() => wait.wake());
  };
  assert.equal(await wait.wait(), true);
  assert.equal(queue.armed, 3);
});

test("adaptive looks before it arms, and less when packets take long", async () => {
  const { clock, queue, wait } = scene("adaptive");
  const looksOf = async (afterMs: number): Promise<number> => {
    queue.packets = 0;
    queue.looks = 0;
    clock.after(afterMs, () => {
      queue.packets = 1;
      wait.wake();
    });
    assert.equal(await wait.wait(), true);
    return queue.looks;
  };
  assert.ok((await looksOf(5)) > 50);
  for (let i = 0; i < 30; i++) await looksOf(20);
  assert.ok((await looksOf(20)) < 10);
});

test("a busy queue lets the event loop have its turn", async () => {
  const { queue, wait, clock } = scene("adaptive");
  queue.packets = 1;
  let turns = 0;
  let counting = true;
  const count = (): void => {
    turns++;
    if (counting) setImmediate(count);
  };
  setImmediate(count);
  const end = clock.now() + 100;
  while (clock.now() < end) assert.equal(await wait.wait(), true);
  counting = false;
  assert.ok(turns > 10);
});
