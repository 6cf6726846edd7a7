import assert from "node:assert/strict";
import { test } from "node:test";
import { FunctionEventSource } from "./events.ts";
import type { FunctionEvent } from "./function.ts";

test("listeners get the events of their type, in order, until disposed", () => {
  const source = new FunctionEventSource();
  const seen: string[] = [];
  using first = source.on("removed", ({ reason }) => seen.push(`first ${reason}`));
  {
    using _second = source.on("removed", ({ reason }) => seen.push(`second ${reason}`));
    source.emit("removed", { reason: "unplugged" });
  }
  source.emit("reset", { method: "flr" });
  source.emit("removed", { reason: "again" });
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  source.emit("removed", { reason: "unheard" });
  assert.deepEqual(seen, ["first unplugged", "second unplugged", "first again"]);
});

test("the same function may listen twice and each disposal ends one", () => {
  const source = new FunctionEventSource();
  let calls = 0;
  const listener = (): void => void calls++;
  const one = source.on("reset", listener);
  source.on("reset", listener);
  one[Symbol.dispose]();
  source.emit("reset", { method: "flr" });
  assert.equal(calls, 1);
});

test("a listener that throws stops neither the others nor the sender", () => {
  const errors: unknown[] = [];
  const source = new FunctionEventSource({ onListenerError: (error) => errors.push(error) });
  let heard = 0;
  source.on("error", () => {
    throw new Error("first");
  });
  source.on("error", () => void heard++);
  source.on("error", () => {
    throw new Error("third");
  });
  source.emit("error", { description: "surprise down" });
  assert.equal(heard, 1);
  assert.deepEqual(errors.map(String), ["Error: first", "Error: third"]);
});

test("listeners that come or go during an event", () => {
  const source = new FunctionEventSource();
  const seen: string[] = [];
  let later: Disposable | undefined;
  source.on("reset", () => {
    seen.push("a");
    later?.[Symbol.dispose]();
    source.on("reset", () => seen.push("new"));
  });
  later = source.on("reset", () => seen.push("b"));
  source.emit("reset", { method: "bus" });
  assert.deepEqual(seen, ["a"]);
});

test("an iterator gets what comes after it was made, and ends with the source", async () => {
  const source = new FunctionEventSource();
  source.emit("reset", { method: "pm" });
  const iterator = source[Symbol.asyncIterator]();
  const waiting = iterator.next();
  source.emit("power", { state: "D3hot" });
  source.emit("removed", { reason: "unplugged" });
  source.close();
  source.emit("reset", { method: "flr" });
  assert.deepEqual(await waiting, { done: false, value: { type: "power", state: "D3hot" } });
  assert.deepEqual(await iterator.next(), { done: false, value: { type: "removed", reason: "unplugged" } });
  assert.deepEqual(await iterator.next(), { done: true, value: undefined });
  const late: FunctionEvent[] = [];
  for await (const event of source) late.push(event);
  assert.deepEqual(late, []);
});

test("a waiting iterator ends when the source closes, and leaves it when broken off", async () => {
  const source = new FunctionEventSource();
  const pending = source[Symbol.asyncIterator]().next();
  const events: FunctionEvent[] = [];
  const loop = (async () => {
    for await (const event of source) {
      events.push(event);
      break;
    }
  })();
  source.emit("reset", { method: "flr" });
  await loop;
  source.emit("reset", { method: "bus" });
  source.close();
  assert.equal((await pending).done, false);
  assert.equal(events.length, 1);
});

test("a queue that nobody empties drops its oldest events", async () => {
  const source = new FunctionEventSource({ queueLimit: 2 });
  const iterator = source[Symbol.asyncIterator]();
  for (const sleptMs of [1, 2, 3]) source.emit("resumed", { sleptMs });
  source.close();
  assert.deepEqual((await iterator.next()).value, { type: "resumed", sleptMs: 2 });
  assert.deepEqual((await iterator.next()).value, { type: "resumed", sleptMs: 3 });
  assert.equal((await iterator.next()).done, true);
});
