// `ring3 lspci --json` against its published schema, over generated functions: every value has its place, every register its
// raw bits, and every capability that lspci decodes has its registers.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { toJson } from "../../packages/cli/src/text.ts";
import { PciAddress } from "../../packages/ring3/src/pci/address.ts";
import { bytesConfigAccess } from "../../packages/ring3/src/pci/config-space.ts";
import {
  type DescribedFunction,
  describeFunction,
  IdNames,
  LSPCI_JSON_SCHEMA,
  LSPCI_SCHEMA_VERSION,
} from "../../packages/ring3/src/pci/lspci/index.ts";
import { generatedConfig, numbersFrom } from "./generated-config.ts";
import { generatedFacts } from "./generated-facts.ts";

const FUNCTIONS = 800;
const SCHEMA_FILE = join(import.meta.dirname, "../../docs/lspci.schema.json");
/** What lspci shows by name only, as `<?>`: standard ones, and extended ones from 0x100 on. */
const NAMED_ONLY: ReadonlySet<number> = new Set([
  ...[0x00, 0x06, 0x0b, 0x0c, 0x0e, 0x0f, 0x15],
  ...[0x00, 0x04, 0x06, 0x08, 0x0a, 0x0c, 0x11, 0x14, 0x16, 0x1a, 0x1c, 0x20, 0x21, 0x22, 0x25, 0x28, 0x29].map(
    (id) => 0x100 + id,
  ),
  ...[0x2b, 0x2c, 0x2d, 0x33, 0x35, 0x37, 0x38, 0x39].map((id) => 0x100 + id),
]);

function described(seed: number): { readonly bytes: Uint8Array; readonly fn: DescribedFunction } {
  const pick = numbersFrom(seed);
  const bytes = generatedConfig(pick);
  const facts = generatedFacts(pick, (bytes[0x0e] ?? 0) & 0x7f);
  const source = { address: new PciAddress(0, 0, 0, 0), method: "test", config: bytesConfigAccess(bytes), facts };
  return { bytes, fn: describeFunction(source, { names: new IdNames(undefined, 0) }) };
}

test("the schema in docs/ is the one that the library exports", () => {
  assert.deepEqual(JSON.parse(readFileSync(SCHEMA_FILE, "utf8")), LSPCI_JSON_SCHEMA);
});

test("generated functions are valid by the schema, and what is not is refused", () => {
  const validate = new Ajv2020({ allErrors: true, strict: true, strictRequired: false }).compile(LSPCI_JSON_SCHEMA);
  const functions = Array.from({ length: FUNCTIONS }, (_, seed) => described(seed).fn);
  const value = JSON.parse(toJson({ schemaVersion: LSPCI_SCHEMA_VERSION, functions })) as { functions: object[] };
  assert.ok(validate(value), JSON.stringify(validate.errors?.slice(0, 3)));
  assert.ok(!validate({ ...value, schemaVersion: LSPCI_SCHEMA_VERSION + 1 }));
  assert.ok(!validate({ ...value, functions: [{ ...value.functions[0], vendorId: 0x10000 }] }));
  assert.ok(!validate({ ...value, functions: [{ ...value.functions[0], header: [{ name: "COMMAND" }] }] }));
});

test("raw bits are those of config space, and fields are cut out of them", () => {
  for (let seed = 0; seed < FUNCTIONS; seed++) {
    const { bytes, fn } = described(seed);
    const registers = [...fn.header, ...fn.capabilities.flatMap((capability) => capability.registers)];
    for (const { name, offset, width, raw, fields } of registers) {
      const actual = bytes.subarray(offset, offset + width / 8).reduceRight((value, byte) => value * 256 + byte, 0);
      assert.equal(raw, actual, name);
      for (const value of Object.values(fields)) assert.ok(value <= raw, name);
    }
  }
});

test("every capability that lspci decodes has registers", () => {
  const seen = new Map<number, number>();
  for (let seed = 0; seed < FUNCTIONS; seed++) {
    for (const { kind, id, name, registers } of described(seed).fn.capabilities) {
      const key = kind === "extended" ? id + 0x100 : id;
      if (name !== undefined && key < 0x140) seen.set(key, Math.max(seen.get(key) ?? 0, registers.length));
    }
  }
  assert.deepEqual(
    [...seen].filter(([key, count]) => (count === 0) !== NAMED_ONLY.has(key)).map(([key]) => key.toString(16)),
    [],
  );
  assert.ok(seen.size - NAMED_ONLY.size > 40);
});
