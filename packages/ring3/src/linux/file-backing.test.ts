import assert from "node:assert/strict";
import {
  existsSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import * as fc from "fast-check";
import { fileBacking } from "./file-backing.ts";

const MIB = 1024 * 1024;

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "ring3-backing-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "disk.img");
}

test("what is written is in the file when the write is reported", async (t) => {
  const path = place(t);
  await using disk = fileBacking(path, { createBytes: MIB });
  assert.equal(disk.sizeBytes, MIB);
  await disk.write(512, Uint8Array.of(1, 2, 3, 4));
  assert.deepEqual([...readFileSync(path).subarray(510, 518)], [0, 0, 1, 2, 3, 4, 0, 0]);
  await disk.flush();
  const target = new Uint8Array(6);
  await disk.read(511, target);
  assert.deepEqual([...target], [0, 1, 2, 3, 4, 0]);
});

test("reads and writes in any order leave what an array would hold", async (t) => {
  const path = place(t);
  await using disk = fileBacking(path, { createBytes: 64 * 1024 });
  const model = new Uint8Array(64 * 1024);
  const operation = fc.record({
    kind: fc.constantFrom("write" as const, "zero" as const, "read" as const),
    offset: fc.nat(60_000),
    size: fc.integer({ min: 1, max: 5000 }),
    value: fc.nat(255),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { maxLength: 20 }), async (operations) => {
      for (const { kind, offset, size, value } of operations) {
        const end = Math.min(offset + size, model.length);
        if (kind === "write") {
          await disk.write(offset, new Uint8Array(end - offset).fill(value));
          model.fill(value, offset, end);
        } else if (kind === "zero") {
          await disk.zero(offset, end - offset);
          model.fill(0, offset, end);
        } else {
          const target = new Uint8Array(end - offset);
          await disk.read(offset, target);
          assert.ok(Buffer.from(target).equals(model.subarray(offset, end)));
        }
      }
      assert.ok(readFileSync(path).equals(model));
    }),
    { numRuns: 50 },
  );
});

test("memory that goes away during a read costs that read, not the process", async (t) => {
  const path = place(t);
  writeFileSync(path, new Uint8Array(MIB).fill(7));
  await using disk = fileBacking(path);
  const target = new Uint8Array(MIB);
  const reading = disk.read(0, target);
  structuredClone(target.buffer, { transfer: [target.buffer] });
  if (reading !== undefined) await assert.rejects(reading);
  const wanted = new Uint8Array(MIB);
  const cancellation = { aborted: false };
  const other = disk.read(0, wanted, cancellation);
  cancellation.aborted = true;
  await other;
  assert.equal(wanted[0], other === undefined ? 7 : 0);
});

test("discarded space is given back", async (t) => {
  const path = place(t);
  writeFileSync(path, new Uint8Array(4 * MIB).fill(7));
  await using disk = fileBacking(path);
  await disk.flush();
  const before = statSync(path).blocks;
  await disk.discard(MIB, 2 * MIB);
  const target = new Uint8Array(2);
  await disk.read(MIB - 1, target);
  assert.equal(target[0], 7);
  assert.equal(target[1], 0);
  // Not every file system punches holes.
  assert.ok(statSync(path).blocks <= before);
});

test("one writer or several readers", async (t) => {
  const path = place(t);
  {
    await using _writer = fileBacking(path, { createBytes: MIB });
    assert.throws(() => fileBacking(path), /FILE_LOCKED.*another process/);
    assert.throws(() => fileBacking(path, { readOnly: true }), /FILE_LOCKED/);
  }
  await using reader = fileBacking(path, { readOnly: true });
  await using _other = fileBacking(path, { readOnly: true });
  assert.throws(() => fileBacking(path), /FILE_LOCKED/);
  assert.throws(() => reader.write(0, new Uint8Array(1)), /READ_ONLY/);
  await reader.flush();
});

test("what is no disk is refused with the way out", async (t) => {
  const path = place(t);
  assert.throws(() => fileBacking(path), /SYSTEM_CALL.*ENOENT.*truncate -s 1G/);
  assert.equal(existsSync(path), false);
  writeFileSync(path, "");
  assert.throws(() => fileBacking(path), /FILE_UNUSABLE.*empty/);
  assert.throws(() => fileBacking("/dev/null"), /FILE_UNUSABLE.*neither/);
  truncateSync(path, 4096);
  await using disk = fileBacking(path, { createBytes: MIB });
  assert.equal(disk.sizeBytes, 4096, "a file that exists keeps its size");
  assert.throws(() => disk.read(4000, new Uint8Array(97)), /FILE_RANGE/);
  assert.throws(() => disk.write(-1, new Uint8Array(1)), /FILE_RANGE/);
  ftruncateSync(openSync(path, "r+"), 0);
  await assert.rejects(async () => await disk.read(0, new Uint8Array(1)), /FILE_RANGE.*shorter/);
});
