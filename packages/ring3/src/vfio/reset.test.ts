import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { ConfigSpace } from "../pci/config-space.ts";
import { Ending } from "../pci/ending.ts";
import { readResetMethods, retryReset, untilReady } from "./reset.ts";

/** Config space whose first words are what `vendor` says at each look. */
function config(vendor: () => number): ConfigSpace {
  return new ConfigSpace({
    size: 256,
    read: (_offset, width) => {
      const id = vendor();
      return id === 0xffff ? 2 ** (8 * width) - 1 : id;
    },
    write: () => undefined,
  });
}

test("waits while config space reads ones, then while it says request retry", async () => {
  let looks = 0;
  await untilReady(
    config(() => (++looks < 12 ? 0xffff : looks < 20 ? 0x0001 : 0x8086)),
    new Ending(),
    5000,
  );
  assert.ok(looks >= 20);
});

test("gives up in time, and at once when the function ended", async () => {
  await assert.rejects(
    untilReady(
      config(() => 0xffff),
      new Ending(),
      0,
    ),
    (error: unknown) => isRing3Error(error, "RESET_TIMEOUT"),
  );
  const ending = new Ending();
  const gone = new Ring3Error("FUNCTION_REMOVED", "on purpose");
  const waiting = untilReady(
    config(() => 0xffff),
    ending,
    60_000,
  );
  ending.end(gone);
  await assert.rejects(waiting, gone);
});

test("a reset is repeated while somebody holds the function", async () => {
  const outcomes = ["busy", "busy", "done"] as const;
  let attempts = 0;
  await retryReset(() => outcomes[attempts++] ?? "done", new Ending(), 5000);
  assert.equal(attempts, 3);
  await assert.rejects(
    retryReset(() => "busy", new Ending(), 0),
    (error: unknown) => isRing3Error(error, "RESET_BUSY"),
  );
  await assert.rejects(
    retryReset(() => "unsupported", new Ending(), 0),
    (error: unknown) => isRing3Error(error, "NOT_SUPPORTED"),
  );
});

test("reset methods come from sysfs, where VFIO can reset at all", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "ring3-reset-"));
  t.after(() => rmSync(folder, { recursive: true }));
  assert.deepEqual(readResetMethods(folder, true), ["unknown"], "before Linux 5.15 there is no such file");
  writeFileSync(join(folder, "reset_method"), "flr bus shiny\n");
  assert.deepEqual(readResetMethods(folder, true), ["flr", "bus", "unknown"]);
  assert.deepEqual(readResetMethods(folder, false), []);
});
