import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { isRing3Error } from "../binary/error.ts";
import { type AccessedFunction, readConfig } from "./access.ts";
import { PciAddress } from "./address.ts";
import { bytesConfigAccess } from "./config-space.ts";
import { formatDump, parseDump } from "./dump.ts";

function fn(address: PciAddress, bytes: Uint8Array): AccessedFunction {
  return { address, method: "test", config: bytesConfigAccess(bytes), facts: {} };
}

const someAddress = fc
  .tuple(fc.integer({ min: 0, max: 0xffffff }), fc.integer({ min: 0, max: 0xffff }))
  .map(([domain, id]) => PciAddress.fromRoutingId(domain, id));

test("what is written is read back, whatever the sizes and the titles", () => {
  const size = fc.constantFrom(64, 128, 256, 4096);
  const bytes = size.chain((length) => fc.uint8Array({ minLength: length, maxLength: length }));
  const functions = fc.array(fc.tuple(someAddress, bytes, fc.string()), { maxLength: 4 });
  fc.assert(
    fc.property(functions, (given) => {
      const titles = new Map(given.map(([address, , title]) => [address, title]));
      const text = formatDump(
        given.map(([address, config]) => fn(address, config)),
        { title: ({ address }) => titles.get(address) ?? "" },
      );
      const read = parseDump(text);
      assert.deepEqual(
        read.map(({ address }) => address.toString()),
        given.map(([address]) => address.toString()),
      );
      for (const [index, [, config]] of given.entries()) {
        assert.deepEqual(readConfig(read[index] ?? assert.fail()), config);
      }
    }),
    { numRuns: 50 },
  );
});

test("the extents are those of -x, -xxx and -xxxx, and a CardBus header has 128 bytes", () => {
  const config = new Uint8Array(4096);
  const lines = (extent: "header" | "standard" | "all"): string[] =>
    formatDump([fn(PciAddress.parse("01:00.0"), config)], { extent })
      .trimEnd()
      .split("\n");
  assert.equal(lines("header").length, 1 + 4);
  assert.equal(lines("standard").length, 1 + 16);
  assert.equal(lines("all").length, 1 + 256);
  assert.equal(lines("all")[0], "0000:01:00.0 Unclassified device, not VGA");
  assert.equal(lines("all")[17], `100:${" 00".repeat(16)}`);
  config[0x0e] = 2;
  assert.equal(lines("header").length, 1 + 8);
});

test("a dump of other hands: no domain, CRLF, comments, gaps, rows in any order, several functions", () => {
  const functions = parseDump(
    [
      "some words that somebody wrote above",
      "00: 11 22",
      "00:1f.2 SATA controller\r",
      "\tFlags: fast devsel\r",
      "20: aa bb\r",
      "00: 86 80\r",
      "",
      "10: 99 (not of a function: the blank line ended it)",
      "10000:e0:00.0 NVMe behind a VMD",
      "00: 4d 14 ",
      "1fe: 12 34",
      "",
    ].join("\n"),
  );
  const [first, second] = functions;
  assert.ok(functions.length === 2 && first !== undefined && second !== undefined);
  assert.deepEqual([String(first.address), String(second.address)], ["0000:00:1f.2", "10000:e0:00.0"]);
  assert.equal(first.config.size, 0x22);
  assert.equal(first.config.read(0, 2), 0x8086);
  assert.equal(first.config.read(4, 4), 0xffff_ffff, "what the dump skips reads as ones");
  assert.equal(first.config.read(0x20, 2), 0xbbaa);
  assert.deepEqual(
    [second.config.size, second.config.read(0, 2), second.config.read(0x1fe, 2)],
    [0x200, 0x144d, 0x3412],
  );
  assert.throws(
    () => first.config.write(4, 2, 0),
    (error) => isRing3Error(error, "CONFIG_READ_ONLY"),
  );
});

test("what libpci refuses is refused with its line", () => {
  const heading = "00:00.0 x\n";
  const cases: [text: string, message: RegExp][] = [
    ["00:00.0 x", /line 1 .*cut off/],
    [`${heading}00: 1`, /line 2 .*cut off/],
    [`${heading}00: 11 2\n`, /line 2 .*"2" is no byte/],
    [`${heading}00: 11  22\n`, /line 2 .*no byte/],
    [`${heading}ff0:${" 00".repeat(17)}\n`, /beyond the 4096 bytes/],
    [`${"x".repeat(254)}\n`, /longer than 253/],
    ["00:20.0 x\n", /device number 20/],
  ];
  for (const [text, message] of cases) {
    assert.throws(
      () => parseDump(text),
      (error: Error) => isRing3Error(error, "DUMP_INVALID") && message.test(error.message),
      text.slice(0, 40),
    );
  }
  assert.deepEqual(parseDump(""), []);
  const far = fn(new PciAddress(0x1000000, 0, 0, 0), new Uint8Array(64));
  assert.throws(
    () => formatDump([far]),
    (error) => isRing3Error(error, "DUMP_INVALID"),
  );
});

test("no text does anything but parse or be refused", () => {
  const line = fc.oneof(
    fc.string(),
    fc.constantFrom("00:00.0 x", "0000:00:1f.7 y", "", "00: 11 22 33", "ff8: 00 11 22 33 44 55 66 77 88"),
    fc.stringMatching(/^[0-9a-f]{2,4}: [0-9a-f ]{0,50}$/),
  );
  fc.assert(
    fc.property(fc.array(line), (lines) => {
      try {
        for (const { config } of parseDump(lines.map((text) => `${text}\n`).join(""))) assert.ok(config.size <= 4096);
      } catch (error) {
        assert.ok(isRing3Error(error, "DUMP_INVALID"), String(error));
      }
    }),
  );
});
