import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import test from "node:test";
import * as fc from "fast-check";
import { Latencies } from "./latency.ts";
import { Progress } from "./progress.ts";
import { binarySize, columns, styleFor, toJson, wrap } from "./text.ts";

test("columns are as wide as their widest cell, marks of colours not counted", () => {
  const style = styleFor(true, {});
  assert.equal(
    columns(
      [
        ["a", "bb"],
        ["ccc", "d"],
      ],
      { indent: 1 },
    ),
    " a    bb\n ccc  d",
  );
  const painted = columns([
    [style.red("a"), "x"],
    ["bb", "y"],
  ]).split("\n");
  assert.ok(painted[0]?.endsWith("   x"));
});

test("colours only on a terminal that wants them", () => {
  assert.notEqual(styleFor(true, {}).red("x"), "x");
  for (const [terminal, environment] of [
    [false, {}],
    [true, { NO_COLOR: "1" }],
    [true, { TERM: "dumb" }],
  ] as const) {
    assert.equal(styleFor(terminal, environment).red("x"), "x");
  }
});

test("JSON keeps every key and loses no digit", () => {
  const value = {
    a: undefined,
    b: 5n,
    c: 2n ** 64n,
    d: new Uint8Array([1, 255]),
    e: [{ f: undefined }],
    g: Buffer.from("a"),
  };
  assert.deepEqual(JSON.parse(toJson(value)), {
    a: null,
    b: 5,
    c: "18446744073709551616",
    d: "01ff",
    e: [{ f: null }],
    g: "61",
  });
});

test("sizes and paragraphs", () => {
  assert.deepEqual([0, 1023, 4096, 1536, 2n ** 50n].map(binarySize), ["0 B", "1023 B", "4 KiB", "1.5 KiB", "1.0 PiB"]);
  assert.equal(wrap("aa bb cc", 5), "aa bb\ncc");
});

test("quantiles are exact to 1.6 percent and lie between the extremes", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 2_000_000_000 }), { minLength: 1 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (samples, quantile) => {
        const latencies = new Latencies();
        for (const sample of samples) latencies.add(sample);
        const sorted = samples.toSorted((a, b) => a - b);
        const exact = sorted[Math.max(1, Math.ceil(quantile * sorted.length)) - 1] ?? 0;
        const found = latencies.quantile(quantile);
        assert.ok(found >= exact && found <= exact * (1 + 1 / 64) + 1, `${found} for ${exact}`);
      },
    ),
  );
  assert.deepEqual(new Latencies().summary().p99, 0);
});

test("progress rewrites one line on a terminal and is silent elsewhere for a while, or when asked", () => {
  const shown = (isTerminal: boolean, quiet: boolean): string => {
    let now = 0;
    let text = "";
    const stream = new PassThrough().setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      text += chunk;
    });
    const progress = new Progress({ stream, isTerminal, quiet, now: () => now });
    for (; now <= 6000; now += 50) progress.update(() => `${now} ms`);
    progress.step("step");
    return text;
  };
  const lines = shown(true, false).split("\r\u001b[K");
  assert.deepEqual([lines[0], lines[1], lines[2], lines.at(-1)], ["", "100 ms", "200 ms", "step\n"]);
  assert.equal(shown(false, false), "5000 ms\nstep\n");
  assert.equal(shown(true, true), "");
});
