import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { CountedInterrupt, type SignalSource } from "./counted-interrupt.ts";

/** A source that a test signals; wake-ups come when the test says so. */
class ManualSource implements SignalSource {
  count = 0;
  watches = 0;
  referenced = false;
  #wake: (() => void) | undefined;

  take(): number {
    const count = this.count;
    this.count = 0;
    return count;
  }

  watch(wake: () => void): { ref(): void; unref(): void; [Symbol.dispose](): void } {
    this.watches++;
    this.#wake = wake;
    this.referenced = true;
    return {
      ref: () => void (this.referenced = true),
      unref: () => void (this.referenced = false),
      [Symbol.dispose]: () => void (this.#wake = undefined),
    };
  }

  get watched(): boolean {
    return this.#wake !== undefined;
  }

  wake(): void {
    this.#wake?.();
  }
}

function make(): { source: ManualSource; interrupt: CountedInterrupt; errors: unknown[] } {
  const source = new ManualSource();
  const errors: unknown[] = [];
  const interrupt = new CountedInterrupt(
    3,
    source,
    () => void source.count++,
    (error) => errors.push(error),
  );
  return { source, interrupt, errors };
}

const closed = new Ring3Error("INTERRUPT_CLOSED", "on purpose");

test("what is there is taken without a watch", async () => {
  const { source, interrupt } = make();
  source.count = 3;
  assert.equal(await interrupt.next(), 3);
  assert.equal(interrupt.poll(), 0);
  assert.equal(source.watches, 0);
});

test("one watch serves many waits, and holds the process only meanwhile", async () => {
  const { source, interrupt } = make();
  for (let i = 0; i < 3; i++) {
    const waiting = interrupt.next();
    assert.equal(source.referenced, true);
    source.count = 1;
    source.wake();
    assert.equal(await waiting, 1);
    assert.equal(source.referenced, false);
  }
  assert.equal(source.watches, 1);
});

test("a wake-up that nobody waits for keeps its count and ends the watch", async () => {
  const { source, interrupt } = make();
  const waiting = interrupt.next();
  source.count = 1;
  source.wake();
  await waiting;
  source.count = 2;
  source.wake();
  assert.equal(source.watched, false);
  source.count = 5;
  assert.equal(interrupt.poll(), 7);
});

test("waiters are served in turn", async () => {
  const { source, interrupt } = make();
  const first = interrupt.next();
  const second = interrupt.next();
  source.count = 2;
  source.wake();
  assert.equal(await first, 2);
  source.count = 4;
  source.wake();
  assert.equal(await second, 4);
});

test("a wake-up for nothing wakes nobody", async () => {
  const { source, interrupt } = make();
  const waiting = interrupt.next();
  source.wake();
  source.count = 1;
  source.wake();
  assert.equal(await waiting, 1);
});

test("listeners that throw are reported and the others called", () => {
  const { source, interrupt, errors } = make();
  const seen: number[] = [];
  using _first = interrupt.listen(() => {
    throw new Error("first");
  });
  using _second = interrupt.listen((count) => seen.push(count));
  source.count = 2;
  source.wake();
  assert.deepEqual(seen, [2]);
  assert.equal((errors[0] as Error).message, "first");
});

test("closing rejects who waits and who comes later, and ends iteration", async () => {
  const { source, interrupt } = make();
  const waiting = interrupt.next();
  const iterated = (async () => {
    let total = 0;
    for await (const count of interrupt) total += count;
    return total;
  })();
  interrupt.close(closed);
  await assert.rejects(waiting, closed);
  assert.equal(await iterated, 0);
  await assert.rejects(interrupt.next(), closed);
  assert.throws(() => interrupt.poll(), closed);
  assert.equal(source.watched, false);
});

test("iteration ends by error when the function was removed", async () => {
  const { interrupt } = make();
  const iterator = interrupt[Symbol.asyncIterator]();
  const waiting = iterator.next();
  interrupt.close(new Ring3Error("FUNCTION_REMOVED", "gone"));
  await assert.rejects(waiting, (error: unknown) => isRing3Error(error, "FUNCTION_REMOVED"));
});

test("lent, it belongs to another thread; ended, it says so", () => {
  const { interrupt } = make();
  interrupt.lend();
  assert.throws(
    () => interrupt.poll(),
    (error: unknown) => isRing3Error(error, "INTERRUPT_LENT"),
  );
  interrupt.trigger();
  interrupt.close(closed);
  assert.throws(() => interrupt.trigger(), closed);
});

test("somebody who waits keeps it from being lent", async () => {
  const { interrupt } = make();
  const waiting = interrupt.next();
  assert.throws(
    () => interrupt.lend(),
    (error: unknown) => isRing3Error(error, "INTERRUPTS_BUSY"),
  );
  interrupt.close(closed);
  await assert.rejects(waiting, closed);
});

test("whatever the order of signals, wake-ups and looks, every signal is counted once", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom("signal", "wake", "poll", "next", "abort")), async (steps) => {
      const { source, interrupt } = make();
      let signalled = 0;
      let counted = 0;
      const pending: Promise<void>[] = [];
      const controllers: AbortController[] = [];
      for (const step of steps) {
        if (step === "signal") {
          signalled++;
          source.count++;
        } else if (step === "wake") source.wake();
        else if (step === "poll") counted += interrupt.poll();
        else if (step === "abort") controllers.shift()?.abort(closed);
        else {
          const controller = new AbortController();
          controllers.push(controller);
          pending.push(
            interrupt.next({ signal: controller.signal }).then(
              (count) => void (counted += count),
              () => undefined,
            ),
          );
        }
      }
      counted += interrupt.poll();
      interrupt.close(closed);
      await Promise.all(pending);
      assert.equal(counted, signalled);
    }),
  );
});
