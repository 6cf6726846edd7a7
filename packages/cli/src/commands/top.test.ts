import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import test from "node:test";
import { stripVTControlCharacters } from "node:util";
import type { FunctionActivity } from "ring3/host";
import { FakeMachine } from "../../../ring3/src/host/fake-machine.ts";
import { captured } from "../captured-run.ts";
import { styleFor } from "../text.ts";
import { frameLines } from "../top/frame.ts";
import { ratesOf, sorted } from "../top/rates.ts";
import { ScreenTerminal } from "../top/terminal.ts";

const plain = styleFor(false, {});
const fn = (address: string, counts: readonly number[], corrected?: number): FunctionActivity => ({
  address,
  driver: "nvme",
  power: "D0",
  link: undefined,
  errors: corrected === undefined ? undefined : { correctable: corrected, nonfatal: 0, fatal: 0 },
  interrupts: counts.map((count, index) => ({ irq: 40 + index, name: `q${index}`, count })),
});

test("rates are what came within the interval; what is new or counts anew has none", () => {
  const before = [fn("a", [10, 20], 1), fn("b", [1000])];
  const rates = ratesOf(before, [fn("a", [15, 20], 3), fn("b", [4]), fn("c", [7])], 500);
  assert.deepEqual(
    rates.map(({ address, perSecond, count, newErrors }) => [address, perSecond, count, newErrors]),
    [
      ["a", 10, 35, 2],
      ["b", 0, 4, 0],
      ["c", 0, 7, 0],
    ],
  );
  const order = (name: "rate" | "errors" | "address") => sorted(rates.toReversed(), name).map(({ address }) => address);
  assert.deepEqual(
    [order("rate"), order("errors"), order("address")],
    Array.from({ length: 3 }, () => ["a", "b", "c"]),
  );
});

test("a frame fits its screen, however small, and scrolls no further than its end", () => {
  const rates = ratesOf(
    [],
    Array.from({ length: 30 }, (_, index) => fn(`0000:${index + 10}:00.0`, [1])),
    1000,
  );
  for (const [width, height] of [
    [80, 24],
    [20, 5],
    [7, 3],
    [1, 1],
    [80, 100],
    ...Array.from({ length: 90 }, (_, width) => [width, 10] as const),
  ] as const) {
    for (const from of [0, 10, 10_000]) {
      const options = { width, height, order: "rate", paused: true, vectors: true, from, time: new Date(0) } as const;
      const lines = frameLines(rates, options, styleFor(true, {}));
      assert.ok(lines.length <= height, `${lines.length} lines on ${height}`);
      for (const line of lines) assert.ok(stripVTControlCharacters(line).length <= width);
      if (from === 10_000 && height === 24) assert.match(lines.at(-2) ?? "", /irq 40/, "the last row");
    }
  }
  const text = frameLines(
    rates,
    { width: 100, height: 5, order: "rate", paused: true, vectors: false, from: 0, time: new Date(0) },
    plain,
  );
  assert.match(text[0] ?? "", /30 functions, 0 interrupts\/s, 0 errors {2}PAUSED$/);
});

test("the terminal is taken, drawn on by single writes, and given back once, whoever ends it", () => {
  const input = Object.assign(new PassThrough(), { isTTY: true, raw: [] as boolean[] });
  const setRawMode = (raw: boolean): void => void input.raw.push(raw);
  const output = Object.assign(new PassThrough(), { isTTY: true, columns: 80, rows: 24 });
  const writes: string[] = [];
  output.on("data", (data: Buffer) => writes.push(data.toString()));
  const keys: string[] = [];
  const terminal = new ScreenTerminal(
    Object.assign(input, { setRawMode }),
    output,
    (key) => keys.push(key),
    () => keys.push("resize"),
  );
  terminal.draw(["one", "two"]);
  output.emit("resize");
  for (const text of ["q", "\u001b[A\u001b[Bs", "\u0003", "\u001b[6~", "\u001bOA"])
    input.emit("data", Buffer.from(text));
  assert.deepEqual(keys, ["resize", "q", "up", "down", "s", "ctrl-c", "page-down", "up"]);
  terminal.suspend(() => undefined);
  terminal.draw(["not shown while it is stopped"]);
  process.emit("SIGCONT");
  terminal[Symbol.dispose]();
  terminal[Symbol.dispose]();
  const enter = "\u001b[?1049h\u001b[?25l\u001b[?7l";
  const leave = "\u001b[?7h\u001b[?25h\u001b[?1049l";
  const frame = "\u001b[?2026h\u001b[Hone\u001b[K\r\ntwo\u001b[K\u001b[J\u001b[?2026l";
  assert.deepEqual(writes, [enter, frame, leave, enter, leave]);
  assert.deepEqual(input.raw, [true, false, true, false]);
  assert.equal(process.listeners("exit").length, 0, "nothing of it stays behind");
});

test("without a terminal one sample is printed, as text and as JSON", async () => {
  using machine = new FakeMachine([{ address: "0000:01:00.0", driver: "nvme", attributes: { irq: "16" } }]);
  machine.file("proc/interrupts", "  CPU0\n 16:  42  IO-APIC 16-fasteoi  nvme0q0\n");
  const words = ["top", "--interval", "10", "--root", machine.root];
  const { status, stdout } = await captured(words);
  assert.equal(status, 0);
  assert.match(stdout, /^ADDRESS .*\n0000:01:00\.0 {2}nvme +0 +42 /);
  assert.match((await captured([...words, "--vectors"])).stdout, / irq 16 +nvme0q0 +0 +42$/m);
  const { functions } = JSON.parse((await captured([...words, "--json"])).stdout) as {
    functions: Record<string, unknown>[];
  };
  assert.deepEqual(functions[0]?.["interrupts"], [{ irq: 16, name: "nvme0q0", count: 42, perSecond: 0 }]);
  assert.equal((await captured(["top", "09:00.0", "--root", machine.root])).status, 4);
});
