import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { browserSafe, floors, importsBelow, violations } from "./floors.ts";

const root = join(import.meta.dirname, "../..");
const library = join(root, "packages/ring3/src");

test("imports of the library point down only", () => {
  const imports = importsBelow(library);
  assert.ok(imports.length > 50, "the sources were found");
  assert.deepEqual(violations(imports), []);
});

test("a wrong import of each kind is found", () => {
  const at = (file: string, specifier: string) => violations([{ file, line: 1, specifier }]);
  assert.equal(at("binary/field.ts", "../pci/function.ts").length, 1);
  assert.equal(at("drivers/nvme/driver.ts", "../../vfio/index.ts").length, 1);
  assert.equal(at("drivers/nvme/driver.ts", "node:fs").length, 1);
  assert.equal(at("vfio/device.ts", "koffi").length, 1);
  assert.equal(at("elsewhere/x.ts", "../binary/field.ts").length, 1);
  assert.deepEqual(at("linux/calls.ts", "koffi"), []);
  assert.deepEqual(at("drivers/nvme/driver.ts", "../../specs/nvme/registers.ts"), []);
});

test("browser-safe floors use no global of Node", () => {
  const bad: string[] = [];
  for (const floor of browserSafe) {
    for (const file of globSync("**/*.ts", { cwd: join(library, floor) })) {
      if (file.endsWith(".test.ts")) continue;
      const code = readFileSync(join(library, floor, file), "utf8")
        .replace(/\/\*[\s\S]*?\*\//g, "")
        .replace(/\/\/.*$/gm, "")
        .replace(/"[^"\n]*"|`[^`]*`/g, "");
      for (const [, name] of code.matchAll(/(?<![#.\w])(Buffer|process|require|__dirname|setImmediate)(?=[.([])/g)) {
        if (!code.includes(`typeof ${name} ===`)) bad.push(`${floor}/${file}: ${name}`);
      }
    }
  }
  assert.deepEqual(bad, []);
});

test("the command imports the library by its public exports only", () => {
  const bad = importsBelow(join(root, "packages/cli/src")).filter(
    ({ specifier }) => specifier.includes("packages/") || /^(\.\.\/)+ring3\//.test(specifier),
  );
  assert.deepEqual(bad, []);
});

test("ARCHITECTURE.md names every floor with what it may import", () => {
  const text = readFileSync(join(root, "ARCHITECTURE.md"), "utf8");
  for (const [floor, allowed] of Object.entries(floors)) {
    const row = text.split("\n").find((line) => line.startsWith(`| \`${floor}/\``));
    assert.ok(row !== undefined, `no row for ${floor}`);
    const cell = row.split("|")[3]?.trim();
    assert.equal(cell, allowed.length === 0 ? "nothing" : allowed.join(", "));
  }
});
