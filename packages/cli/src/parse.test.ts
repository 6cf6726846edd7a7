import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { command } from "./command.ts";
import { nearest, parseCommand, parseInteger } from "./parse.ts";
import { UsageError } from "./usage-error.ts";

const sample = command({
  summary: "x",
  operands: [
    { name: "FIRST", description: "the first" },
    { name: "MORE", description: "others", variadic: true, optional: true },
  ],
  options: {
    block: { kind: "integer", short: "b", value: "N", initial: 7n, maximum: 0x1000n, description: "a number" },
    mode: { kind: "choice", choices: ["fast", "slow"], description: "a choice" },
    output: { kind: "text", value: "FILE", description: "a file" },
    yes: { kind: "flag", short: "y", description: "a flag" },
  },
  examples: [],
  run: async () => undefined,
});
const parse = (...words: string[]) => parseCommand(sample, words);
const fails = (pattern: RegExp, ...words: string[]): void => {
  assert.throws(
    () => parse(...words),
    (error) => error instanceof UsageError && pattern.test(error.message),
  );
};

test("options come by their kind, with defaults, in any order", () => {
  const { input, global } = parse("a", "-b", "0x10", "--yes", "b", "--json", "--mode=slow", "c");
  assert.deepEqual(input.operands, ["a", "b", "c"]);
  assert.deepEqual(input.options, { block: 16n, mode: "slow", output: undefined, yes: true });
  assert.equal(global.json, true);
  assert.deepEqual(parse("a").input.options, { block: 7n, mode: undefined, output: undefined, yes: false });
});

test("repeated options come in order, integers with their suffixes", () => {
  const repeated = command({
    ...sample,
    operands: [],
    options: {
      file: { kind: "texts", value: "PATH", description: "files" },
      size: { kind: "integers", value: "N", minimum: 512n, description: "sizes" },
    },
  });
  const { input } = parseCommand(repeated, ["--file", "b", "--size", "4K", "--file=a", "--size", "1T"]);
  assert.deepEqual(input.options, { file: ["b", "a"], size: [4096n, 2n ** 40n] });
  assert.deepEqual(parseCommand(repeated, []).input.options, { file: [], size: [] });
  assert.throws(() => parseCommand(repeated, ["--size", "512", "--size", "8"]), /--size takes an integer.*"8"/);
});

test("mistakes say what to write instead", () => {
  fails(/FIRST is missing: the first/);
  fails(/unknown option --outptu; did you mean --output\?/, "a", "--outptu", "x");
  fails(/--mode takes one of fast, slow, not "wild"/, "a", "--mode", "wild");
  fails(/--block takes an integer from 0 to 4096, not "5K"/, "a", "--block", "5K");
  fails(/--block takes an integer.*"-1"/, "a", "--block=-1");
  fails(/--block/, "a", "--block");
  fails(/--yes/, "a", "--yes=1");
  const strict = command({
    ...sample,
    options: {},
    operands: [{ name: "ONE", description: "one" }],
    run: async () => undefined,
  });
  assert.throws(() => parseCommand(strict, ["a", "b"]), /"b" is one argument too many/);
});

test("help is noticed before anything is missing", () => {
  assert.equal(parse("--help").global.help, true);
});

test("integers are decimal, hexadecimal or with a suffix", () => {
  assert.equal(parseInteger("4096"), 4096n);
  assert.equal(parseInteger("0xFf"), 255n);
  assert.equal(parseInteger("128K"), 131072n);
  assert.equal(parseInteger("2g"), 2n ** 31n);
  for (const text of ["", "-1", "1.5", "0x", "K", "1KK", "1e3", "１"])
    assert.equal(parseInteger(text), undefined, text);
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 80n }), (value) => parseInteger(`0x${value.toString(16)}`) === value),
  );
});

test("a mistyped word finds its neighbour, and a far one none", () => {
  assert.equal(nearest("idntify", ["identify", "smart"]), "identify");
  assert.equal(nearest("s", ["identify", "smart"]), "smart");
  assert.equal(nearest("zzzzzz", ["identify", "smart"]), undefined);
});

test("any words end in a parse or a UsageError", () => {
  const word = fc.oneof(fc.string(), fc.constantFrom("--block", "-b", "-y", "--", "--mode", "fast", "--yes", "-byx"));
  fc.assert(
    fc.property(fc.array(word), (words) => {
      try {
        parse(...words);
      } catch (error) {
        assert.ok(error instanceof UsageError, String(error));
      }
    }),
  );
});
