import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { parseVpd, vpdText } from "../pci/index.ts";
import { encodeVpd } from "./index.ts";

const name = fc.string({
  minLength: 2,
  maxLength: 2,
  unit: fc.constantFrom(...Array.from("ABCDEFGHIJKLMNOPQSTUXYZ0123456789")),
});
const text = fc.string({
  maxLength: 40,
  unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)),
});
const keywords = fc.dictionary(name, text, { maxKeys: 6 });

test("what was encoded is what drivers read, with a checksum that is right", () => {
  fc.assert(
    fc.property(text, keywords, keywords, fc.nat(100), (identifier, readOnly, readWrite, spareBytes) => {
      const vpd = parseVpd(encodeVpd({ identifier, readOnly, readWrite, spareBytes }));
      assert.deepEqual(vpd.problems, []);
      assert.equal(vpd.identifier, identifier);
      assert.equal(vpd.checksumValid, true);
      const read = (list: typeof vpd.readOnly): unknown =>
        Object.fromEntries(list.map(({ keyword, data }) => [keyword, vpdText(data)]));
      assert.deepEqual(read(vpd.readOnly), { ...readOnly });
      assert.deepEqual(read(vpd.readWrite), { ...readWrite });
    }),
  );
});

test("the bytes of the specification's layout", () => {
  const bytes = encodeVpd({
    identifier: "A",
    readOnly: { PN: "1" },
    readWrite: { V1: Uint8Array.of(7) },
    spareBytes: 2,
  });
  const head = [0x82, 1, 0, 0x41, 0x90, 8, 0, 0x50, 0x4e, 1, 0x31, 0x52, 0x56, 1];
  const checksum = 256 - (head.reduce((sum, byte) => sum + byte, 0) % 256);
  const rest = [0x91, 9, 0, 0x56, 0x31, 1, 7, 0x52, 0x57, 2, 0, 0, 0x78];
  assert.deepEqual([...bytes], [...head, checksum, ...rest]);
});

test("what cannot be encoded is refused", () => {
  for (const content of [
    { identifier: "Ä" },
    { identifier: "", readOnly: { PNX: "1" } },
    { identifier: "", readWrite: { V0: new Uint8Array(256) } },
  ]) {
    assert.throws(() => encodeVpd(content), { code: "DECLARATION_INVALID" });
  }
});
