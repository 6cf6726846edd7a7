import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { UsageError } from "../usage-error.ts";
import { type DiskInput, openDisks, serialNumber } from "./disks.ts";

const none: DiskInput = { file: [], create: undefined, memory: [], null: [], "read-only": false, shared: false };

test("disks in memory and disks that keep nothing, in this order", async () => {
  await using resources = new AsyncDisposableStack();
  const disks = await openDisks({ ...none, null: [4096n], memory: [1024n, 2048n] }, resources);
  assert.deepEqual(
    disks.map(({ backing }) => backing.sizeBytes),
    [1024, 2048, 4096],
  );
});

test("what makes no sense together is refused", async () => {
  await using resources = new AsyncDisposableStack();
  for (const input of [
    none,
    { ...none, memory: [1024n], create: 1024n },
    { ...none, file: ["disk.img"], create: 1024n, "read-only": true },
  ]) {
    await assert.rejects(openDisks(input, resources), UsageError);
  }
});

test("a file belongs to one server, unless both say that they share it", async () => {
  await using resources = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), "ring3-disks-"));
  resources.defer(() => rmSync(folder, { recursive: true, force: true }));
  const file = [join(folder, "disk.img")];
  const open = (shared: boolean): Promise<unknown> => openDisks({ ...none, file, shared, create: 4096n }, resources);
  await open(true);
  await assert.rejects(open(false), /locked|in use/i);
  await open(true);
});

test("a serial number follows from the path, and fits into the 20 characters of both kinds of disk", () => {
  const number = serialNumber(undefined, { ...none, file: ["/a.img"] }, "/s.sock");
  assert.equal(number, serialNumber(undefined, { ...none, file: ["/a.img"] }, "/other.sock"));
  assert.notEqual(number, serialNumber(undefined, none, "/s.sock"));
  assert.ok(number.length <= 20);
  assert.equal(serialNumber("mine", none, "/s.sock"), "mine");
});
