import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { isRing3Error } from "../binary/error.ts";
import { linuxOperations } from "./operations.ts";
import { present } from "./sysfs.ts";

function directory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), "ring3-operations-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

test("waiting ends when the file appears, even in a directory that is not there yet", async () => {
  using place = directory();
  const operations = linuxOperations();
  for (const folder of ["now", "later"]) {
    const node = join(place.path, folder, "14");
    if (folder === "now") mkdirSync(join(place.path, folder));
    const waiting = operations.waitUntil(join(place.path, folder), () => present(node), 10_000);
    mkdirSync(join(place.path, folder), { recursive: true });
    writeFileSync(node, "");
    assert.equal(await waiting, true);
  }
  assert.equal(await operations.waitUntil(place.path, () => false, 1), false);
});

test("a failed write names the call and its errno", async () => {
  using place = directory();
  const operations = linuxOperations();
  await assert.rejects(operations.write(join(place.path, "absent"), "x"), (error) => {
    return (
      isRing3Error(error, "HOST_CALL_FAILED") && error.errno === "ENOENT" && error.call?.startsWith("write ") === true
    );
  });
  // An attribute is never created.
  assert.equal(present(join(place.path, "absent")), false);
  writeFileSync(join(place.path, "attribute"), "");
  await operations.write(join(place.path, "attribute"), "vfio-pci\n");
  assert.equal(readFileSync(join(place.path, "attribute"), "utf8"), "vfio-pci\n");
});

test("records are saved whole, with their directory, and removed without complaint", async () => {
  using place = directory();
  const operations = linuxOperations();
  const path = join(place.path, "ring3/bindings/x.json");
  await operations.save(path, "{}\n");
  await operations.save(path, "[]\n");
  assert.equal(readFileSync(path, "utf8"), "[]\n");
  await operations.remove(path);
  await operations.remove(path);
  assert.equal(present(path), false);
});

test("a module that cannot be loaded says so", async () => {
  await assert.rejects(linuxOperations().loadModule("ring3-no-such-module"), /MODULE_MISSING: .*ring3-no-such-module/);
});
