// Waiting: looks about as long as commands take, leaves slow ones to the interrupt, and lets the event loop run.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Clock } from "../clock.ts";
import { CompletionWait, type Waited } from "./completion-wait.ts";

class Bench implements Clock, Waited {
  nowMs = 0;
  pending = 0;
  settled = 0;
  announced = 0;
  looks = 0;
  /** When the command in flight completes. */
  doneMs = Number.POSITIVE_INFINITY;
  tookMs = 0;

  now(): number {
    return this.nowMs;
  }
  after(): Disposable {
    return { [Symbol.dispose]() {} };
  }
  soon(callback: () => void): void {
    setImmediate(callback);
  }
  get ready(): boolean {
    this.looks++;
    this.nowMs += 0.002;
    return this.pending > 0 && this.nowMs >= this.doneMs;
  }
  announce(): void {
    this.announced++;
    if (this.pending === 0) return;
    if (this.doneMs === Number.POSITIVE_INFINITY) this.doneMs = this.nowMs + this.tookMs;
  }
  settle(): void {
    this.settled++;
    this.pending = 0;
    this.doneMs = Number.POSITIVE_INFINITY;
  }
}

/** Runs one command; returns whether looking found it, without an interrupt. */
async function command(bench: Bench, wait: CompletionWait, interruptMs = 0): Promise<boolean> {
  bench.pending = 1;
  const before = bench.settled;
  wait.kick();
  await new Promise((resolve) => setImmediate(resolve));
  if (bench.settled > before) return true;
  bench.nowMs = Math.max(bench.nowMs, bench.doneMs + interruptMs);
  wait.look();
  assert.equal(bench.settled, before + 1);
  return false;
}

test("adaptive: finds fast commands by looking, leaves slow ones alone, and comes back", async () => {
  const bench = new Bench();
  const wait = new CompletionWait("adaptive", bench, bench);
  bench.tookMs = 0.05;
  for (let i = 0; i < 30; i++) assert.ok(await command(bench, wait));
  bench.tookMs = 5;
  for (let i = 0; i < 30; i++) await command(bench, wait);
  const before = bench.looks;
  assert.equal(await command(bench, wait), false);
  assert.ok(bench.looks - before < 10, "a slow device is not looked at");
  bench.tookMs = 0.02;
  let found = false;
  for (let i = 0; i < 60; i++) found = await command(bench, wait);
  assert.ok(found, "a device that got fast again is looked at again");
});

test("interrupt: never looks by itself", async () => {
  const bench = new Bench();
  const wait = new CompletionWait("interrupt", bench, bench);
  assert.equal(await command(bench, wait), false);
  assert.equal(bench.looks, 1);
});

test("polled: needs no interrupt, and a clock that stands still does not hold it", async () => {
  const bench = new Bench();
  const wait = new CompletionWait("polled", bench, bench);
  bench.tookMs = 3;
  bench.pending = 1;
  wait.kick();
  while (bench.settled === 0) await new Promise((resolve) => setImmediate(resolve));
  Object.defineProperty(bench, "ready", { get: () => false });
  bench.pending = 1;
  wait.kick();
  await new Promise((resolve) => setImmediate(resolve));
  wait.stop();
});

test("many kicks in one run of continuations ring once", async () => {
  const bench = new Bench();
  const wait = new CompletionWait("interrupt", bench, bench);
  for (let i = 0; i < 10; i++) wait.kick();
  await Promise.resolve();
  assert.equal(bench.announced, 1);
});

test("commands that follow each other for ever still let the event loop run", async () => {
  const bench = new Bench();
  const wait = new CompletionWait("adaptive", bench, bench);
  bench.tookMs = 0.01;
  let turns = 0;
  let rounds = 0;
  let stop = false;
  const settle = bench.settle.bind(bench);
  bench.settle = () => {
    settle();
    rounds++;
    if (stop) return;
    queueMicrotask(() => {
      bench.pending = 1;
      wait.kick();
    });
  };
  bench.pending = 1;
  wait.kick();
  while (turns < 5) {
    await new Promise((resolve) => setImmediate(resolve));
    turns++;
    // What an interrupt would do.
    bench.nowMs += 0.1;
    wait.look();
  }
  stop = true;
  assert.ok(rounds > 10);
});

test("adaptive: looks again where commands became quick, though each interrupt takes longer than it may look", async () => {
  const bench = new Bench();
  const wait = new CompletionWait("adaptive", bench, bench);
  const runs = async (count: number, tookMs: number): Promise<number> => {
    bench.tookMs = tookMs;
    let looked = 0;
    for (let i = 0; i < count; i++) if (await command(bench, wait, 0.6)) looked++;
    return looked;
  };
  await runs(20, 5);
  await runs(64, 0.2);
  assert.equal(await runs(50, 0.2), 50);
});
