// seconds: 3
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { NOTICE_KINDS } from "./kinds.ts";
import { LineReader } from "./lines.ts";
import { isNoticeMessage, parseMessage, parseRequest, requestId } from "./messages.ts";

const docs = join(import.meta.dirname, "../../../../../docs");
const schema = JSON.parse(readFileSync(join(docs, "ring3d-notices.schema.json"), "utf8")) as object;
const validator = new Ajv2020({ strict: true, allowUnionTypes: true });
validator.addSchema(schema, "notices");
const fits = (definition: string): ((value: unknown) => boolean) => {
  const validate = validator.getSchema(`notices#/$defs/${definition}`);
  return (value) => validate?.(value) === true;
};

/** Values that look like messages, some of them right. */
const nearly = (fields: Readonly<Record<string, fc.Arbitrary<unknown>>>): fc.Arbitrary<Record<string, unknown>> => {
  const strange = fc.oneof(fc.constant(undefined), fc.jsonValue({ maxDepth: 1 }));
  const field = (right: fc.Arbitrary<unknown>) =>
    fc.oneof({ weight: 12, arbitrary: right }, { weight: 1, arbitrary: strange });
  return fc.record(Object.fromEntries(Object.entries(fields).map(([name, right]) => [name, field(right)])));
};
const kinds = fc.oneof(fc.subarray([...NOTICE_KINDS]), fc.array(fc.constantFrom<string>(...NOTICE_KINDS, "sleep")));
const answer = fc.constantFrom("consent", "refuse", "need-reset", "none", "maybe");
const request = fc.oneof(
  nearly({ id: fc.nat(), request: fc.constant("functions") }),
  nearly({
    id: fc.nat(),
    request: fc.constant("register"),
    function: fc.string({ maxLength: 130 }),
    notices: kinds,
    pid: fc.option(fc.nat(), { nil: undefined }),
  }),
  nearly({
    id: fc.nat(),
    request: fc.constant("reply"),
    notice: fc.nat(),
    answer,
    reason: fc.option(fc.string({ maxLength: 260 }), { nil: undefined }),
  }),
  nearly({ id: fc.nat(), request: fc.constantFrom("open", "shut"), function: fc.string() }),
);

test("the parser takes the requests that the schema takes, and no others", () => {
  const inSchema = fits("request");
  fc.assert(
    fc.property(request, (value) => {
      const line = JSON.stringify(value);
      const plain: unknown = JSON.parse(line);
      let taken = true;
      try {
        assert.deepEqual(parseRequest(line), plain);
      } catch (error) {
        assert.ok(error instanceof Error && "code" in error && error.code === "REQUEST_INVALID", String(error));
        taken = false;
      }
      assert.equal(taken, inSchema(plain), line);
    }),
    { numRuns: 3000 },
  );
});

test("the parser takes what the service says as the schema does", () => {
  const says = [fits("answer"), fits("notice")];
  const error = fc.oneof(fc.record({ code: fc.string(), message: fc.string() }), fc.constant({ code: 1 }));
  const message = fc.oneof(
    nearly({ id: fc.nat(), result: fc.constant({ a: 1 }) }),
    nearly({ id: fc.option(fc.nat()), error }),
    nearly({
      notice: fc.nat(),
      kind: fc.constantFrom(...NOTICE_KINDS),
      function: fc.string(),
      description: fc.string(),
      answers: fc.option(fc.array(answer), { nil: undefined }),
      graceMs: fc.option(fc.nat(), { nil: undefined }),
    }),
  );
  fc.assert(
    fc.property(message, (value) => {
      const line = JSON.stringify(value);
      const plain: unknown = JSON.parse(line);
      let taken = true;
      try {
        assert.deepEqual(parseMessage(line), plain);
      } catch (thrown) {
        assert.ok(thrown instanceof Error && "code" in thrown && thrown.code === "MESSAGE_INVALID", String(thrown));
        taken = false;
      }
      assert.equal(taken, says.filter((fit) => fit(plain)).length === 1, line);
    }),
    { numRuns: 3000 },
  );
});

test("what is wrong with a request is said", () => {
  const wrong = (value: unknown, message: RegExp): void =>
    assert.throws(() => parseRequest(typeof value === "string" ? value : JSON.stringify(value)), { message });
  wrong("nonsense", /one JSON object on one line/);
  wrong("[1]", /one JSON object on one line/);
  wrong({ request: "functions" }, /"id" takes a whole number/);
  wrong({ id: 1, request: "toString" }, /"request" takes one of functions, register, reply, open/);
  wrong({ id: 1, request: "open" }, /"function" takes a function's name/);
  wrong({ id: 1, request: "open", function: "x", more: 2 }, /open has no field "more"/);
  wrong(
    { id: 1, request: "register", function: "x", notices: ["sleep"] },
    /"notices" takes an array of some of remove/,
  );
  wrong({ id: 1, request: "reply", notice: -1, answer: "consent" }, /"notice" takes a whole number/);
  assert.equal(requestId('{"id":7,"request":3}'), 7);
  assert.equal(requestId('{"id":-7}'), null);
  assert.equal(requestId("nonsense"), null);
  assert.ok(!isNoticeMessage(parseMessage('{"id":1,"result":{}}')));
  assert.throws(() => parseMessage("x"), { code: "MESSAGE_INVALID" });
});

test("the examples of the guide are messages", () => {
  const text = readFileSync(join(docs, "ring3d-notices.md"), "utf8");
  const lines = Array.from(text.matchAll(/^([<>]) (\{.*\})$/gm), ([, direction, line]) => ({ direction, line }));
  assert.ok(lines.length >= 10);
  const whole = validator.getSchema("notices");
  for (const { direction, line = "" } of lines) {
    assert.ok(whole?.(JSON.parse(line)), line);
    if (direction === ">") parseRequest(line);
    else parseMessage(line);
  }
});

test("lines come out as they went in, however the stream is cut", () => {
  const line = fc.string({ unit: "binary", minLength: 1, maxLength: 20 }).filter((text) => !text.includes("\n"));
  fc.assert(
    fc.property(fc.array(line), fc.array(fc.nat({ max: 9 })), (lines, cuts) => {
      const bytes = new TextEncoder().encode(lines.map((text) => `${text}\n`).join(""));
      const reader = new LineReader(80);
      const out: string[] = [];
      let at = 0;
      for (const size of [...cuts, bytes.length]) {
        out.push(...reader.push(bytes.subarray(at, at + size)));
        at += size;
      }
      const kept = lines.filter((text) => text.trim() !== "");
      assert.deepEqual(out, kept);
      assert.equal(reader.unfinished, 0);
    }),
  );
  const reader = new LineReader(4);
  assert.deepEqual([...reader.push(new TextEncoder().encode("abcd\n\n \r\nab"))], ["abcd"]);
  assert.equal(reader.unfinished, 2);
  assert.throws(() => [...reader.push(new TextEncoder().encode("cde"))], { code: "LINE_TOO_LONG" });
});
