// The prompt on a served device, as a process, since it puts names among the globals; and its parts.
// seconds: 8
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { inspect } from "node:util";
import { PassThrough } from "node:stream";
import type { PciFunction } from "ring3";
import { ConfigSpace } from "ring3/pci";
import { msi, pm, VirtualConfig, vendorSpecific } from "ring3/virtual";
import { fieldsFor } from "../repl/complete-fields.ts";
import { Context } from "../context.ts";
import { prompt } from "../repl/prompt.ts";
import { namedRegisters } from "../repl/register-names.ts";

const main = join(import.meta.dirname, "../main.mjs");

function counted(): { config: ConfigSpace; accesses: string[] } {
  const content = Uint8Array.of(1, 2);
  const model = new VirtualConfig({
    vendorId: 0x1234,
    deviceId: 0x0add,
    classCode: 0xff0000,
    capabilities: [pm(), msi({ vectors: 1 }), vendorSpecific({ content }), vendorSpecific({ content })],
  });
  const bytes = new Uint8Array(model.size);
  model.readInto(0, bytes);
  const view = new DataView(bytes.buffer);
  const accesses: string[] = [];
  const config = new ConfigSpace({
    size: bytes.length,
    read(offset, width) {
      accesses.push(`read ${width}`);
      return width === 4
        ? view.getUint32(offset, true)
        : width === 2
          ? view.getUint16(offset, true)
          : view.getUint8(offset);
    },
    write(offset, width, value) {
      accesses.push(`write ${width}`);
      if (width === 2) view.setUint16(offset, value, true);
      else view.setUint32(offset, value, true);
    },
  });
  return { config, accesses };
}

test("registers by name: nothing is touched but by read and write, one access each", async () => {
  const { config, accesses } = counted();
  const names = await namedRegisters(config);
  assert.deepEqual(Object.keys(names), ["header", "PM", "MSI", "VNDR", "VNDR2"]);
  accesses.length = 0;
  const { PMCSR } = names["PM"] ?? {};
  assert.ok(PMCSR !== undefined);
  assert.match(inspect(PMCSR), /^PM\.PMCSR at 0x[0-9a-f]+, 2 bytes: POWER_STATE RW \[1:0\], NO_SOFT_RESET RO \[3\]/);
  assert.deepEqual(accesses, []);
  PMCSR.write({ POWER_STATE: 3 });
  assert.deepEqual([PMCSR.read()["POWER_STATE"], accesses], [3, ["read 2", "write 2", "read 2"]]);
  names["header"]?.["COMMAND"]?.writeRaw(6);
  assert.equal(names["header"]?.["COMMAND"]?.readRaw(), 6);
  assert.throws(() => PMCSR.write({ NO_SUCH: 1 }), RangeError);
});

test("fields are completed where they are written", async () => {
  const names: Record<string, unknown> = { ...(await namedRegisters(counted().config)) };
  assert.deepEqual(fieldsFor("PM.PMCSR.write({ POW", names), [["POWER_STATE: "], "POW"]);
  assert.deepEqual(fieldsFor("x = PM.PMCSR.write({ POWER_STATE: 0, pme_e", names), [["PME_ENABLE: "], "pme_e"]);
  assert.deepEqual(fieldsFor("header.COMMAND.write({", names)?.[0].includes("BUS_MASTER: "), true);
  for (const line of [
    "PM.PMCSR.",
    "PM.NONE.write({ A",
    "nope.PMCSR.write({ A",
    "PM.PMCSR.read(",
    "constructor.name.write({",
  ]) {
    assert.equal(fieldsFor(line, names), undefined, line);
  }
});

test("the prompt: unfinished lines with types, errors in our words, the list of names", async () => {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const surroundings = { stdin, stdout, stderr, environment: {}, signal: new AbortController().signal };
  const context = new Context(surroundings, { json: false, quiet: false, root: "/" });
  const identity = { address: "vfio-user:/a.sock", backend: "vfio-user" };
  const fn = { identity, gone: new AbortController().signal } as PciFunction;
  const ended = prompt(
    { fn, names: { answer: 42 }, help: [["answer", "what was asked for"]], history: false },
    context,
  );
  const lines = [
    "answer + 1",
    "function twice(a: number): number {",
    "return a * 2; }",
    "twice(answer)",
    "const later: number = await Promise.resolve(7); later",
    "throw new Ring3Error()",
    "setImmediate(() => { throw new RangeError('late') }); await new Promise((go) => setTimeout(go, 1))",
    ".names",
    ".exit",
  ];
  let [shown, asked] = ["", 0];
  stdout.setEncoding("utf8").on("data", (data: string) => {
    shown += data;
    // A line is typed when there is a prompt for it.
    const prompts = shown.match(/ring3> |\| /g)?.length ?? 0;
    if (asked >= prompts || asked >= lines.length) return;
    const line = lines[asked++];
    setImmediate(() => stdin.write(`${line}\n`));
  });
  await ended;
  shown = shown.replaceAll(/ring3> |\| /g, "");
  assert.equal(
    shown,
    [
      "vfio-user:/a.sock through vfio-user; .names lists what is here",
      "43",
      "84",
      "7",
      "ring3: ReferenceError: Ring3Error is not defined",
      "ring3: RangeError: late",
      "  answer  what was asked for",
      "",
    ].join("\n"),
  );
  assert.ok(!("answer" in globalThis), "the globals are as they were");
});

/** A served edu; resolves with its address. */
async function servedEdu(t: TestContext): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "ring3-repl-"));
  const socket = join(directory, "edu.sock");
  const child = spawn(process.execPath, [main, "serve", "edu", "--socket", socket], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(async () => {
    child.kill("SIGTERM");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    rmSync(directory, { recursive: true });
  });
  await once(child.stdout, "data");
  return `vfio-user:${socket}`;
}

async function ring3(
  words: readonly string[],
  input = "",
): Promise<{ status: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [main, ...words], { stdio: ["pipe", "pipe", "pipe"] });
  const texts = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => (texts[name] += text));
  }
  child.stdin.end(input);
  const [status] = (await once(child, "close")) as [number];
  return { status, ...texts };
}

test("code on a served device: TypeScript, await, registers, our errors", { timeout: 120_000 }, async (t) => {
  const address = await servedEdu(t);
  const run = async (...code: string[]) => await ring3(["repl", address, ...code.flatMap((text) => ["--eval", text])]);
  const first = await run(
    "const x: number = await Promise.resolve(bar0.read32(0)); hex(x)",
    "header.COMMAND.read().MEMORY",
  );
  assert.deepEqual(first, { status: 0, stdout: "0x10000ed\n1\n", stderr: "" });
  assert.equal((await run("{ a: 1, b: 2 }")).stdout, "{ a: 1, b: 2 }\n");
  const driven =
    "const { EduDriver }: any = await load('edu'); const d = await EduDriver.start(fn); await d.factorial(5)";
  assert.equal((await run(driven)).stdout, "120\n");
  const wrong = await run("bar0.read32(3)");
  assert.deepEqual([wrong.status, wrong.stdout], [1, ""]);
  assert.match(wrong.stderr, /^ring3: REGISTER_RANGE: [^\n]+\n$/);
  assert.match((await run("nope")).stderr, /^ring3: nope is not defined\n$/);
  assert.match((await run("if (true) {")).stderr, /^ring3: .*\n$/);
  const late = await run("setImmediate(() => { throw new Error('late') }); await new Promise(() => {})");
  assert.deepEqual([late.status, late.stderr], [1, "ring3: late\n"]);
  const { values } = JSON.parse((await ring3(["repl", address, "--json", "-e", "[1n, new Uint8Array(2)]"])).stdout) as {
    values: unknown[];
  };
  assert.deepEqual(values, [[1, "0000"]]);
  const script = "interface A { x: number }\nconst a: A = { x: 3 };\na.x + bar0.read32(0x100000 - 4) * 0";
  assert.deepEqual(await ring3(["repl", address], script), { status: 0, stdout: "3\n", stderr: "" });
  // Whoever comes next finds the device free.
  assert.deepEqual(await run("fn.identity.backend"), { status: 0, stdout: "vfio-user\n", stderr: "" });
});
