// The part of the contract about interrupts, over the software trigger, which every back end offers to test its path.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { isRing3Error } from "../../packages/ring3/src/binary/error.ts";
import type { Interrupt, Interrupts, PciFunction } from "../../packages/ring3/src/pci/function.ts";
import { type OpenFixture, rejectsCode, throwsCode } from "./fixture.ts";

type Kind = "msix" | "msi" | "intx";

/** Bound on how long an interrupt may take that is expected; emulated machines are slow. */
const patienceMs = 20_000;

function switchOn(interrupts: Interrupts, kind: Kind): readonly Interrupt[] {
  if (kind === "intx") return [interrupts.intx()];
  return kind === "msi" ? interrupts.msi(1) : interrupts.msix(1);
}

function bestKind({ available }: Interrupts): Kind | undefined {
  return available.msix > 0 ? "msix" : available.msi > 0 ? "msi" : available.intx > 0 ? "intx" : undefined;
}

/** One interrupt of the best kind, or the test is skipped. */
function oneInterrupt(t: TestContext, fn: PciFunction): Interrupt | undefined {
  const kind = bestKind(fn.interrupts);
  const interrupt = kind === undefined ? undefined : switchOn(fn.interrupts, kind)[0];
  if (interrupt === undefined) t.skip("the function has no interrupt");
  return interrupt;
}

/** Takes interrupts until `total` have come; more than that is an error. */
async function collect(interrupt: Interrupt, total: number): Promise<void> {
  let seen = 0;
  while (seen < total) seen += await interrupt.next({ timeoutMs: patienceMs });
  assert.equal(seen, total);
}

export function interruptContract(open: OpenFixture): void {
  for (const kind of ["intx", "msi", "msix"] as const) {
    test(`${kind}: what is raised is counted and none is lost`, async (t) => {
      const { interrupts } = (await open(t)).fn;
      if (interrupts.available[kind] === 0) return t.skip(`no ${kind}`);
      assert.equal(interrupts.active, "none");
      const [interrupt] = switchOn(interrupts, kind);
      assert.ok(interrupt !== undefined);
      assert.equal(interrupts.active, kind);
      assert.equal(interrupt.vector, 0);
      assert.equal(interrupt.poll(), 0);
      // Somebody waits already.
      const waiting = interrupt.next({ timeoutMs: patienceMs });
      interrupt.trigger();
      assert.equal(await waiting, 1);
      // Nobody waits while they come.
      for (let i = 0; i < 5; i++) interrupt.trigger();
      await collect(interrupt, 5);
      assert.equal(interrupt.poll(), 0);
      interrupts.disable();
      assert.equal(interrupts.active, "none");
      throwsCode(() => interrupt.poll(), "INTERRUPT_CLOSED");
      throwsCode(() => interrupt.trigger(), "INTERRUPT_CLOSED");
      await rejectsCode(interrupt.next(), "INTERRUPT_CLOSED");
    });
  }

  test("only one kind is on at a time", async (t) => {
    const { interrupts } = (await open(t)).fn;
    const kinds = (["intx", "msi", "msix"] as const).filter((kind) => interrupts.available[kind] > 0);
    for (const on of kinds) {
      switchOn(interrupts, on);
      for (const other of kinds) throwsCode(() => switchOn(interrupts, other), "INTERRUPTS_BUSY");
      assert.equal(interrupts.active, on);
      interrupts.disable();
    }
    interrupts.disable();
  });

  test("what is not there cannot be switched on", async (t) => {
    const { interrupts } = (await open(t)).fn;
    const { intx, msi, msix } = interrupts.available;
    if (intx === 0) throwsCode(() => interrupts.intx(), "NOT_SUPPORTED", "TOO_MANY_VECTORS");
    if (msi < 32) throwsCode(() => interrupts.msi(32), "NOT_SUPPORTED", "TOO_MANY_VECTORS");
    throwsCode(() => interrupts.msix(msix + 1), "NOT_SUPPORTED", "TOO_MANY_VECTORS");
    assert.throws(() => interrupts.msi(3), Error);
    assert.throws(() => interrupts.msi(0), Error);
    assert.throws(() => interrupts.msix(-1), Error);
    assert.equal(interrupts.active, "none");
  });

  test("several vectors keep apart", async (t) => {
    const { interrupts } = (await open(t)).fn;
    const { msi, msix } = interrupts.available;
    const count = Math.min(4, 2 ** Math.floor(Math.log2(Math.max(msi, msix, 1))));
    if (count < 2) return t.skip("one vector only");
    const vectors = msix >= count ? interrupts.msix(count) : interrupts.msi(count);
    assert.deepEqual(
      vectors.map(({ vector }) => vector),
      Array.from({ length: count }, (_, i) => i),
    );
    for (const [i, interrupt] of vectors.entries()) for (let n = 0; n <= i; n++) interrupt.trigger();
    for (const [i, interrupt] of vectors.entries()) await collect(interrupt, i + 1);
  });

  test("vectors can be added where the back end says so", async (t) => {
    const { interrupts } = (await open(t)).fn;
    if (interrupts.available.msix < 3) return t.skip("fewer than three MSI-X vectors");
    const [first] = interrupts.msix(1);
    assert.ok(first !== undefined);
    if (!interrupts.growable) {
      throwsCode(() => interrupts.addMsix(1, 2), "NOT_SUPPORTED");
      return;
    }
    throwsCode(() => interrupts.addMsix(0, 1), "INTERRUPTS_BUSY");
    throwsCode(() => interrupts.addMsix(1, interrupts.available.msix), "TOO_MANY_VECTORS");
    first.trigger();
    const added = interrupts.addMsix(1, 2);
    assert.deepEqual(
      added.map(({ vector }) => vector),
      [1, 2],
    );
    added[1]?.trigger();
    await collect(first, 1);
    assert.ok(added[1] !== undefined);
    await collect(added[1], 1);
    interrupts.disable();
    await rejectsCode(added[1].next(), "INTERRUPT_CLOSED");
  });

  test("waiting ends by time-out and by abort, and an interrupt afterwards is not lost", async (t) => {
    const { fn } = await open(t);
    const interrupt = oneInterrupt(t, fn);
    if (interrupt === undefined) return;
    await rejectsCode(interrupt.next({ timeoutMs: 1 }), "TIMEOUT");
    const reason = new Error("enough");
    const controller = new AbortController();
    const waiting = interrupt.next({ signal: controller.signal });
    controller.abort(reason);
    await assert.rejects(waiting, reason);
    await assert.rejects(interrupt.next({ signal: controller.signal }), reason);
    interrupt.trigger();
    await collect(interrupt, 1);
  });

  test("a listener is called until disposed, and its exceptions become events", async (t) => {
    const { fn } = await open(t);
    const interrupt = oneInterrupt(t, fn);
    if (interrupt === undefined) return;
    let seen = 0;
    let wake = (): void => undefined;
    const listener = interrupt.listen((count) => {
      seen += count;
      wake();
    });
    for (let i = 1; i <= 3; i++) {
      const called = new Promise<void>((resolve) => (wake = resolve));
      interrupt.trigger();
      await called;
      assert.equal(seen, i);
    }
    listener[Symbol.dispose]();
    interrupt.trigger();
    await collect(interrupt, 1);
    assert.equal(seen, 3);
    const told = new Promise<string>((resolve) => fn.events.on("error", ({ description }) => resolve(description)));
    using _ = interrupt.listen(() => {
      throw new Error("listener failed on purpose");
    });
    interrupt.trigger();
    assert.match(await told, /listener failed on purpose/);
  });

  test("the iterator yields counts and ends when the interrupt is switched off", async (t) => {
    const { fn } = await open(t);
    const interrupt = oneInterrupt(t, fn);
    if (interrupt === undefined) return;
    let total = 0;
    interrupt.trigger();
    interrupt.trigger();
    for await (const count of interrupt) {
      total += count;
      assert.ok(count > 0);
      if (total === 3) fn.interrupts.disable();
      else interrupt.trigger();
      if (total > 3) break;
    }
    assert.ok(total >= 3);
  });

  test("whoever waits when interrupts are switched off is told", async (t) => {
    const { fn } = await open(t);
    const interrupt = oneInterrupt(t, fn);
    if (interrupt === undefined) return;
    const waiting = [interrupt.next(), interrupt.next({ timeoutMs: patienceMs })];
    const all = Promise.allSettled(waiting);
    fn.interrupts.disable();
    for (const result of await all) {
      assert.ok(result.status === "rejected" && isRing3Error(result.reason, "INTERRUPT_CLOSED"));
    }
    // And it can be switched on again.
    const again = oneInterrupt(t, fn);
    again?.trigger();
    if (again !== undefined) await collect(again, 1);
  });

  test("the line interrupt masks and unmasks", async (t) => {
    const { interrupts } = (await open(t)).fn;
    if (interrupts.available.intx === 0) return t.skip("no line interrupt");
    const line = interrupts.intx();
    line.mask();
    line.unmask();
    line.trigger();
    await collect(line, 1);
    line.unmask();
    line.trigger();
    await collect(line, 1);
  });
}
