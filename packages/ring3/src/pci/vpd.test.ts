// Vital product data: the specification's example form, checksum, damage, and reading through the capability.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { readVpd } from "./capabilities/vital-product-data.ts";
import { bytesConfigAccess, type ConfigAccess, ConfigSpace } from "./config-space.ts";
import { parseVpd, vpdLength, vpdText } from "./vpd.ts";

const ascii = (text: string): number[] => Array.from(text, (character) => character.charCodeAt(0));
const keyword = (name: string, data: readonly number[]): number[] => [...ascii(name), data.length, ...data];
const large = (tag: number, data: readonly number[]): number[] => [tag, data.length & 0xff, data.length >> 8, ...data];

/** A complete image with a correct checksum. */
function image(identifier: string, partNumber: string, serial: string): Uint8Array {
  const before = large(0x82, ascii(identifier));
  const fields = [...keyword("PN", ascii(partNumber)), ...keyword("SN", ascii(serial))];
  const readOnly = [...fields, ...keyword("RV", [0, 0])];
  const head = [...before, 0x90, readOnly.length & 0xff, readOnly.length >> 8, ...fields, ...ascii("RV"), 2];
  const sum = head.reduce((total, byte) => total + byte, 0);
  const readWrite = large(0x91, [...keyword("YA", ascii("asset 7")), ...keyword("RW", [0, 0, 0])]);
  return Uint8Array.from([...head, -sum & 0xff, 0, ...readWrite, 0x78]);
}

const sample = image("Quad port adapter", "P-1234", "S0001");

test("identifier, read-only and writable keywords, checksum", () => {
  const vpd = parseVpd(sample);
  assert.equal(vpd.identifier, "Quad port adapter");
  assert.deepEqual(
    vpd.readOnly.map(({ keyword, data }) => [keyword, vpdText(data)]),
    [
      ["PN", "P-1234"],
      ["SN", "S0001"],
    ],
  );
  assert.deepEqual(
    vpd.readWrite.map(({ keyword, data }) => [keyword, vpdText(data)]),
    [["YA", "asset 7"]],
  );
  assert.equal(vpd.checksumValid, true);
  assert.deepEqual(vpd.problems, []);
  assert.equal(vpdLength(sample), sample.length);
});

test("a changed byte before the checksum shows, one behind it does not", () => {
  const changed = sample.slice();
  changed[5] = (changed[5] ?? 0) + 1;
  assert.equal(parseVpd(changed).checksumValid, false);
  assert.match(parseVpd(changed).problems.join(), /checksum is wrong/);
  const behind = sample.slice();
  behind[behind.length - 5] = 0x55;
  assert.equal(parseVpd(behind).checksumValid, true);
});

test("blank and cut images give problems and what is there", () => {
  assert.match(parseVpd(new Uint8Array(64).fill(0xff)).problems.join(), /blank or cut short/);
  assert.match(parseVpd(new Uint8Array(64)).problems.join(), /no item begins at 0x0/);
  assert.equal(vpdLength(new Uint8Array(64).fill(0xff)), 0);
  const cut = parseVpd(sample.subarray(0, 34));
  assert.equal(cut.identifier, "Quad port adapter");
  assert.ok(cut.problems.length >= 2);
});

test("no bytes make the parser throw or run on", () => {
  const tags = fc.constantFrom(0x82, 0x90, 0x91, 0x78, 0x00, 0xff, 0x7f, 0x52, 0x56);
  const bytes = fc.array(fc.oneof(tags, fc.nat(255), fc.constantFrom(0, 1, 2, 3)), { maxLength: 300 });
  fc.assert(
    fc.property(bytes, (values) => {
      const data = Uint8Array.from(values);
      parseVpd(data);
      assert.ok(vpdLength(data) >= 0);
    }),
    { numRuns: 1000 },
  );
});

/** A function whose VPD answers after `delay` looks at the F bit. */
function functionWithVpd(content: Uint8Array, delay: number): ConfigSpace {
  const bytes = new Uint8Array(256);
  bytes.set([0x86, 0x80, 0, 0x10, 0, 0, 0x10, 0]);
  bytes[0x34] = 0x50;
  bytes[0x50] = 0x03;
  const inner = bytesConfigAccess(bytes);
  const view = new DataView(bytes.buffer);
  let left = 0;
  const access: ConfigAccess = {
    size: 256,
    read(offset, width) {
      if (offset === 0x52 && left > 0 && --left === 0) view.setUint8(0x53, view.getUint8(0x53) | 0x80);
      return inner.read(offset, width);
    },
    write(offset, width, value) {
      inner.write(offset, width, value);
      if (offset !== 0x52) return;
      left = delay;
      for (let i = 0; i < 4; i++) bytes[0x54 + i] = content[(value & 0x7fff) + i] ?? 0xff;
    },
  };
  return new ConfigSpace(access);
}

test("reading through the capability stops at the end tag", () => {
  assert.deepEqual(readVpd(functionWithVpd(sample, 3)), sample);
  assert.equal(readVpd(functionWithVpd(new Uint8Array(0), 1)).length, 0);
});

test("a function that never answers is a time-out, by the clock that was given", () => {
  let clock = 0;
  const config = functionWithVpd(sample, Number.POSITIVE_INFINITY);
  assert.throws(() => readVpd(config, { timeoutMs: 50, now: () => (clock += 10) }), { code: "TIMEOUT" });
});

test("an endless list ends at the 32 KiB that can be addressed", () => {
  const endless = new Uint8Array(0x8000).map((_, index) => [0x82, 0x01, 0x00, 0x41][index % 4] ?? 0);
  assert.equal(readVpd(functionWithVpd(endless, 1)).length, 0x8000);
});
