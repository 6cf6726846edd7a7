// Loaded before a suite in the guest: names each test as it begins, synchronously, so that a process that a signal ends
// in the middle still tells which test it was in. The reporter's own events come too late for that.
import { writeSync } from "node:fs";
import { beforeEach } from "node:test";
import { MARK } from "./reporter.ts";

beforeEach((context) => {
  writeSync(1, `\n${MARK}${JSON.stringify({ type: "enter", name: context.fullName })}\n`);
});
