// A trace of a mediated function that begins and ends while its user works.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EduDevice } from "../../devices/edu/device.ts";
import { EduDriver } from "../../drivers/edu/driver.ts";
import { eduRegisters } from "../../specs/edu/index.ts";
import { inProcess } from "../../virtual/in-process.ts";
import { mediate } from "../index.ts";
import type { TraceEvent } from "./event.ts";
import { MediationTrace } from "./mediation-trace.ts";

test("it has everything from its beginning to its end, by name, and nothing else", async () => {
  await using fn = inProcess(new EduDevice());
  await using mediated = await mediate(fn, { trap: true });
  const events: TraceEvent[] = [];
  const write = (event: TraceEvent): void => void events.push(event);
  await using user = inProcess(mediated);
  await using edu = await EduDriver.start(user, { completion: "msi" });
  await edu.factorial(5);
  assert.equal(events.length, 0);
  {
    using _trace = new MediationTrace(mediated, { write }, { registers: eduRegisters });
    await edu.factorial(6);
    user.config.read32(0);
  }
  const before = events.length;
  await edu.factorial(7);
  user.config.read32(0);
  assert.equal(events.length, before);

  assert.equal(events[0]?.type, "open");
  const accesses = events.flatMap((event) =>
    event.type === "bar" || event.type === "config"
      ? [[event.type, event.op, event.decoded?.register, event.value]]
      : [],
  );
  assert.deepEqual(accesses.slice(1), [
    ["bar", "write", "FACTORIAL", 6],
    ["bar", "read", "INTERRUPT_STATUS", 1],
    ["bar", "write", "INTERRUPT_ACKNOWLEDGE", 1],
    ["bar", "read", "FACTORIAL", 720],
    ["config", "read", "VENDOR_ID+DEVICE_ID", 0x11e8_1234],
  ]);
  assert.ok(events.some(({ type }) => type === "interrupt"));
});

test("each user is a function of the trace of its own", async () => {
  await using fn = inProcess(new EduDevice());
  await using mediated = await mediate(fn);
  const events: TraceEvent[] = [];
  using _trace = new MediationTrace(mediated, { write: (event) => void events.push(event) }, { fn: 5 });
  for (let user = 0; user < 2; user++) {
    await using opened = inProcess(mediated);
    opened.config.read32(0);
    await opened[Symbol.asyncDispose]();
    await mediated.settling;
  }
  const sessions = events.filter(({ type }) => type === "open" || type === "close").map(({ type, fn: n }) => [type, n]);
  assert.deepEqual(sessions, [
    ["open", 5],
    ["close", 5],
    ["open", 6],
    ["close", 6],
  ]);
  // What the mediator and the trace look at for themselves is no user's access, and has no names.
  assert.equal(events[0]?.type, "open");
  const accesses = events.filter(({ type }) => type === "config");
  assert.deepEqual([...new Set(accesses.map(({ fn: n, type }) => [n, type].join()))], ["5,config", "6,config"]);
  const closed = events.findIndex(({ type }) => type === "close");
  const opened = events.findIndex(({ type, fn: n }) => type === "open" && n === 6);
  assert.ok(!events.slice(closed, opened).some(({ type }) => type === "config"));
});
