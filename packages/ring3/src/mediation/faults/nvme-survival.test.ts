// Every kind of fault happens to ring3's NVMe driver, at start, at work and at the end: each command ends, with a result or an
// error, the driver ends, and what it said was written is on the disk.
// seconds: 14
import assert from "node:assert/strict";
import { test } from "node:test";
import { VirtualClock } from "../../../../../tests/fakes/virtual-clock.ts";
import { isRing3Error } from "../../binary/error.ts";
import { memoryBacking } from "../../devices/block-backing.ts";
import { NvmeDevice } from "../../devices/nvme/index.ts";
import { NvmeDriver, type NvmeOptions } from "../../drivers/nvme/index.ts";
import { knownCompletions, knownRegisters } from "../../known-registers.ts";
import { inProcess } from "../../virtual/in-process.ts";
import { faulty, type Injection } from "./faulty.ts";
import type { Fault, FaultPlan } from "./plan.ts";

const BLOCK = 512;
const ROUNDS = 24;
const DEPTH = 4;
/** Beyond any wait of the driver, in virtual time, so what takes longer hangs. */
const HANG_MS = 3_600_000;

interface Outcome {
  readonly injected: readonly Injection[];
  readonly acknowledged: number;
  readonly failed: number;
  readonly codes: ReadonlySet<string>;
  /** Reads of what was written that gave something else. */
  readonly wrongReads: number;
}

/** Drives a controller with the faults of `plan` and checks what must hold whatever happens. */
async function survive(plan: FaultPlan, options: NvmeOptions = {}): Promise<Outcome> {
  const clock = new VirtualClock();
  const backing = memoryBacking(2 ** 20);
  const device = new NvmeDevice({ namespaces: [{ backing }], clock });
  const inner = inProcess(device);
  const injected: Injection[] = [];
  const fn = faulty(inner, plan, {
    registers: knownRegisters(inner),
    completions: knownCompletions(inner),
    onInjected: (injection) => void injected.push(injection),
    after: (delayMs, callback) => clock.after(delayMs, callback),
  });
  const hang = Promise.withResolvers<never>();
  const watchdog = clock.after(HANG_MS, () => hang.reject(new Error(`it hangs, after ${JSON.stringify(injected)}`)));
  const codes = new Set<string>();
  /** What each block may hold: what was acknowledged last, and what was tried since. */
  const may = new Map<number, number[]>();
  let acknowledged = 0;
  let failed = 0;
  let wrongReads = 0;
  const note = (error: unknown): void => {
    assert.ok(isRing3Error(error), `not an error of ours: ${String(error)}`);
    codes.add(error.code);
    failed++;
  };
  const work = async (): Promise<void> => {
    let nvme: NvmeDriver;
    try {
      nvme = await NvmeDriver.start(fn, {
        clock,
        timeoutMs: 500,
        adminTimeoutMs: 500,
        abortTimeoutMs: 100,
        shutdownTimeoutMs: 100,
        ...options,
      });
    } catch (error) {
      note(error);
      return;
    }
    const disk = nvme.namespace(1);
    for (let round = 0; round < ROUNDS; round++) {
      await Promise.all(
        Array.from({ length: DEPTH }, async (_, lane) => {
          const block = lane * 8 + (round % 8);
          const value = 1 + ((round * DEPTH + lane) % 255);
          may.set(block, [...(may.get(block) ?? [0]), value]);
          try {
            await disk.write(BigInt(block), new Uint8Array(BLOCK).fill(value));
            acknowledged++;
            may.set(block, [value]);
            const read = await disk.read(BigInt(block), 1);
            if (!read.every((byte) => byte === value)) wrongReads++;
          } catch (error) {
            note(error);
          }
        }),
      );
    }
    await nvme[Symbol.asyncDispose]();
  };
  await Promise.race([work(), hang.promise]);
  watchdog[Symbol.dispose]();
  await fn[Symbol.asyncDispose]();
  for (const [block, values] of may) {
    const held = new Set(backing.contents.subarray(block * BLOCK, (block + 1) * BLOCK));
    assert.equal(held.size, 1, `block ${block} is torn`);
    assert.ok(
      values.includes([...held][0] ?? -1),
      `block ${block} holds ${[...held].join()}, and may hold ${values.join()}`,
    );
  }
  assert.equal(inner.dma.mappedBytes, 0, "nothing stays mapped");
  return { injected, acknowledged, failed, codes, wrongReads };
}

/** Occasions spread over a driver's life: at its start, at work, and late. */
const spread = [1, 2, 5, 9, 17, 30, 55, 120, 300];

const single: Readonly<Record<string, (at: number) => Fault>> = {
  "reads of any register give ones": (at) => ({ kind: "all-ones", at }),
  "reads of CSTS give ones for long": (at) => ({ kind: "all-ones", where: { register: "CSTS" }, at, times: 0 }),
  "CSTS.RDY sticks at 0": (at) => ({ kind: "stuck-bits", where: { register: "CSTS" }, clear: 1, at }),
  "CSTS.RDY sticks at 1": (at) => ({ kind: "stuck-bits", where: { register: "CSTS" }, set: 1, at }),
  "CSTS.CFS sticks at 1": (at) => ({ kind: "stuck-bits", where: { register: "CSTS" }, set: 2, at }),
  "CSTS.CFS is seen for a while": (at) => ({ kind: "stuck-bits", where: { register: "CSTS" }, set: 2, at, times: 2 }),
  "CAP has bits stuck": (at) => ({ kind: "stuck-bits", where: { register: "CAP_*" }, set: 0x0000_00f0, at }),
  "a write is lost": (at) => ({ kind: "lost-write", at }),
  "doorbells are lost": (at) => ({ kind: "lost-write", where: { register: "SQ*TDBL" }, at, times: 3 }),
  "head doorbells are lost": (at) => ({ kind: "lost-write", where: { register: "CQ*HDBL" }, at, times: 3 }),
  "an interrupt is lost": (at) => ({ kind: "lost-interrupt", at }),
  "all interrupts are lost": (at) => ({ kind: "lost-interrupt", at, times: 0 }),
  "an interrupt is late": (at) => ({ kind: "late-interrupt", delayMs: 50, at, times: 3 }),
  "an interrupt is later than any patience": (at) => ({ kind: "late-interrupt", delayMs: 20_000, at, times: 3 }),
  "interrupts come that nobody sent": (at) => ({ kind: "spurious-interrupt", at, times: 5 }),
  "interrupts of the I/O queue come that nobody sent": (at) => ({
    kind: "spurious-interrupt",
    vector: 1,
    at,
    times: 5,
  }),
  "a completion says failed": (at) => ({ kind: "bad-completion", field: "status", at }),
  "a completion says failed, for good": (at) => ({ kind: "bad-completion", field: "status", value: 0x4002, at }),
  "a completion is of no command": (at) => ({ kind: "bad-completion", field: "identifier", at }),
  "a completion has the old phase": (at) => ({ kind: "bad-completion", field: "phase", at }),
  "a completion is of another queue": (at) => ({ kind: "bad-completion", field: "queue", at }),
  "a completion has an impossible head": (at) => ({ kind: "bad-completion", field: "head", at }),
  "bits flip in what the device writes": (at) => ({ kind: "dma-corruption", at, times: 4, bits: 3 }),
  "the link goes down": (at) => ({ kind: "link-down", forMs: 20, at }),
  "the link goes down for long": (at) => ({ kind: "link-down", forMs: 60_000, at }),
  "the function vanishes": (at) => ({ kind: "removal", at }),
  "the function vanishes, and it is noticed late": (at) => ({ kind: "removal", noticedMs: 5000, at }),
  "an error is reported": (at) => ({ kind: "aer", at }),
  "a fatal error is reported": (at) => ({ kind: "aer", severity: "fatal", recoverMs: 30, at }),
};

for (const [title, faultAt] of Object.entries(single)) {
  test(title, async () => {
    let struck = 0;
    for (const [index, at] of spread.entries()) {
      const completion = index % 2 === 0 ? "adaptive" : "interrupt";
      const outcome = await survive({ faults: [faultAt(at)] }, { completion });
      struck += outcome.injected.length;
      if (faultAt(at).kind !== "dma-corruption") assert.equal(outcome.wrongReads, 0);
      // Without a fault nothing fails.
      if (outcome.injected.length === 0) assert.equal(outcome.failed, 0);
    }
    assert.ok(struck > 0, "the fault never happened");
  });
}

test("many faults by chance, from seeds", async () => {
  const often = (fault: Fault): Fault => ({ ...fault, at: 20, times: 0, probability: 0.01 });
  let struck = 0;
  let acknowledged = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const faults = [
      often({ kind: "all-ones" }),
      often({ kind: "lost-write" }),
      often({ kind: "lost-interrupt" }),
      often({ kind: "late-interrupt", delayMs: 30 }),
      often({ kind: "spurious-interrupt" }),
      often({ kind: "bad-completion", field: "identifier" }),
      often({ kind: "bad-completion", field: "status" }),
    ];
    const outcome = await survive({ seed, faults });
    struck += outcome.injected.length;
    acknowledged += outcome.acknowledged;
    assert.equal(outcome.wrongReads, 0);
  }
  assert.ok(struck > 10 && acknowledged > 100, `${struck} faults, ${acknowledged} writes`);
});

test("the same seed gives the same faults", async () => {
  const plan: FaultPlan = {
    seed: 7,
    faults: [{ kind: "stuck-bits", where: { register: "CSTS" }, set: 0x100, probability: 0.5 }],
  };
  const [first, second] = [await survive(plan), await survive(plan)];
  assert.ok(first.injected.length > 0);
  assert.deepEqual(first.injected, second.injected);
});
