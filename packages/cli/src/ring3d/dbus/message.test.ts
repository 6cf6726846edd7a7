import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeMessage, type DbusMessage, encodeMessage, messageSize } from "./message.ts";
import { DbusFormatError, type DbusValue } from "./values.ts";

const name = fc.stringMatching(/^[a-zA-Z_.]{1,30}$/);
const kinds: Readonly<Record<string, fc.Arbitrary<DbusValue>>> = {
  y: fc.nat({ max: 255 }),
  b: fc.boolean(),
  u: fc.nat({ max: 0xffff_ffff }),
  t: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  s: fc.string({ unit: "grapheme" }),
  h: fc.nat({ max: 3 }),
  v: fc.oneof(fc.boolean(), fc.string(), fc.nat({ max: 0xffff_ffff })),
};
const body = fc
  .array(fc.constantFrom(...Object.keys(kinds)), { maxLength: 6 })
  .chain((letters) =>
    fc.tuple(...letters.map((letter) => kinds[letter] ?? fc.constant(0))).map((values) => ({ letters, values })),
  );
const message: fc.Arbitrary<DbusMessage> = fc
  .record({ member: name, destination: name, serial: fc.nat({ max: 0xffff_ffff }), body, replySerial: fc.nat() })
  .map(({ body: { letters, values }, ...rest }) => ({
    ...rest,
    type: "call" as const,
    path: "/org/freedesktop/login1",
    ...(letters.length > 0 ? { signature: letters.join("") } : {}),
    body: values,
  }));

test("messages are read as they were written", () => {
  fc.assert(
    fc.property(message, (given) => {
      const bytes = encodeMessage(given);
      assert.equal(messageSize(bytes), bytes.length);
      assert.deepEqual(decodeMessage(bytes), given);
    }),
  );
});

test("a message as the specification lays it out", () => {
  const call = { type: "call", serial: 1, path: "/a", member: "M", body: ["x"], signature: "s" } as const;
  assert.equal(
    Buffer.from(encodeMessage(call)).toString("hex"),
    [
      "6c010001 06000000 01000000 27000000",
      "01016f00 02000000 2f610000 00000000",
      "03017300 01000000 4d000000 00000000",
      "08016700 01730000",
      "01000000 7800",
    ]
      .join("")
      .replaceAll(" ", ""),
  );
});

test("the other byte order is read, and types that are not known leave the body out", () => {
  const signal = Buffer.from("42040001000000040000000200000007080167000162000000000001", "hex");
  assert.equal(messageSize(signal), signal.length);
  const { type, serial, body: values } = decodeMessage(signal);
  assert.deepEqual([type, serial, values], ["signal", 2, [true]]);
  const bytes = encodeMessage({ type: "signal", serial: 1, signature: "u", body: [0] });
  bytes[bytes.lastIndexOf("u".charCodeAt(0))] = "a".charCodeAt(0);
  assert.deepEqual(decodeMessage(bytes).body, []);
});

test("bytes that are no message are refused, and nothing else happens", () => {
  const refused = (bytes: Uint8Array): void => {
    try {
      const size = messageSize(bytes);
      if (size !== undefined && size <= bytes.length) decodeMessage(bytes.subarray(0, size));
    } catch (error) {
      assert.ok(error instanceof DbusFormatError, String(error));
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), refused));
  fc.assert(
    fc.property(message, fc.nat(), fc.nat({ max: 255 }), (given, place, value) => {
      const bytes = encodeMessage(given);
      bytes[place % bytes.length] = value;
      refused(bytes);
    }),
    { numRuns: 1000 },
  );
  assert.equal(messageSize(new Uint8Array(15)), undefined);
  const variants = Buffer.from(`08${"017600".repeat(50_000)}`, "hex");
  const header = Buffer.from("6c010001000000000100000000000000", "hex");
  header.writeUInt32LE(variants.length, 12);
  refused(Buffer.concat([header, variants, Buffer.alloc(8)]));
});
