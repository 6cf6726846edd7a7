// Recording, looking, converting, replaying and breaking by command, against servers in processes of their own.
// seconds: 7
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import test, { type TestContext } from "node:test";
import { captured } from "./captured-run.ts";

const main = join(import.meta.dirname, "main.ts");

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "ring3-tracing-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** `ring3 WORDS` as a process, once its first line is there. */
async function started(t: TestContext, ...words: string[]) {
  const child = spawn(process.execPath, [main, ...words], { stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => child.kill("SIGKILL"));
  const exited = once(child, "exit") as Promise<[number | null]>;
  const errors = text(child.stderr);
  const early = exited.then(async ([code]) =>
    assert.fail(`ring3 ${words.join(" ")} ended with ${code}: ${await errors}`),
  );
  await Promise.race([once(child.stdout, "data"), early]);
  early.catch(() => undefined);
  child.stdout.resume();
  const ended = async (): Promise<{ status: number | null; stderr: string }> => {
    const [status] = await exited;
    return { status, stderr: await errors };
  };
  return { child, ended };
}

test("a disk: recorded on both sides, looked at, and replayed", { timeout: 120_000 }, async (t) => {
  const directory = place(t);
  const at = (name: string): string => join(directory, name);
  const trace = at("driver.jsonl");
  const disk = await started(
    t,
    "serve",
    "nvme",
    "--memory",
    "1M",
    "--serial",
    "TRACED",
    "--socket",
    at("s"),
    "--trace",
    at("device.jsonl"),
  );
  const recorded = await captured(["nvme", "identify", `vfio-user:${at("s")}`, "--trace", trace, "--trace-memory"]);
  assert.equal(recorded.status, 0, recorded.stderr);
  disk.child.kill("SIGTERM");
  await disk.ended();

  const csts = await captured(["trace", "view", trace, "--register", "CSTS", "--reads", "--no-time"]);
  assert.match(csts.stdout, /^read {2}bar0 CSTS = 0x00000000\nread {2}bar0 CSTS = 0x00000001 \{RDY 0x1\}\n/);
  const device = await captured(["trace", "view", at("device.jsonl"), "--type", "open,close"]);
  assert.match(device.stdout, /open .*seen from the device {2}\(vfio-user client, pid \d+ uid \d+\)\n.*close/);
  const doorbells = await captured(["trace", "view", trace, "--json", "--range", "0x1000-0x1fff"]);
  writeFileSync(at("doorbells.jsonl"), doorbells.stdout);
  const { stdout } = await captured(["trace", "stat", at("doorbells.jsonl"), "--json"]);
  const statistics = JSON.parse(stdout) as {
    types: Record<string, number>;
    registers: { register: string; writes: number }[];
  };
  assert.deepEqual(Object.keys(statistics.types), ["bar", "open"]);
  assert.deepEqual(
    statistics.registers.map(({ register }) => register),
    ["SQ0TDBL", "CQ0HDBL"],
  );
  const table = await captured(["trace", "stat", trace]);
  assert.match(
    table.stdout,
    /area +offset +register +reads +writes[^]*bar0 +0x1c +CSTS +\d+ +0[^]*msix 0[^]*mappings, at most/,
  );
  const capture = await captured(["trace", "convert", trace, "-w", at("capture.pcapng"), "--type", "bar"]);
  assert.match(capture.stdout, /^\d+ events in /);
  assert.equal(readFileSync(at("capture.pcapng")).readUInt32LE(0), 0x0a0d0d0a);

  const replay = await started(t, "replay", trace, "--socket", at("r"), "--once");
  const again = await captured(["nvme", "identify", `vfio-user:${at("r")}`]);
  assert.equal(again.status, 0, again.stderr);
  assert.equal(again.stdout.replaceAll(at("r"), at("s")), recorded.stdout);
  assert.equal((await replay.ended()).status, 0);

  const other = await started(t, "replay", trace, "--socket", at("r"), "--once");
  const departed = await captured(["nvme", "smart", `vfio-user:${at("r")}`]);
  assert.notEqual(departed.status, 0);
  const { status, stderr } = await other.ended();
  assert.equal(status, 1);
  assert.match(
    `${stderr}${departed.stderr}`,
    /at access \d+ of the recording the driver departs: expected was .*; what came was /,
  );
});

test("faults from a plan", { timeout: 60_000 }, async (t) => {
  const directory = place(t);
  const at = (name: string): string => join(directory, name);
  writeFileSync(at("plan.yaml"), "faults:\n  - { kind: bad-completion, field: status, queue: 0, at: 2 }\n");
  const disk = await started(t, "serve", "nvme", "--memory", "1M", "--socket", at("s"));
  const broken = await captured(["nvme", "identify", `vfio-user:${at("s")}`, "--faults", at("plan.yaml")]);
  assert.equal(broken.status, 1);
  assert.match(broken.stderr, /NVME_STATUS: .*INTERNAL_ERROR/);
  writeFileSync(at("plan.yaml"), "faults:\n  - { kind: all-ones, where: { register: CTSS } }\n");
  const unknown = await captured(["nvme", "identify", `vfio-user:${at("s")}`, "--faults", at("plan.yaml")]);
  assert.match(unknown.stderr, /FAULT_PLAN: there is no bar register "CTSS"/);
  disk.child.kill("SIGTERM");
  assert.equal((await disk.ended()).status, 0);
});

test("mistakes are told", async (t) => {
  const directory = place(t);
  const bad = join(directory, "bad.jsonl");
  writeFileSync(bad, "hello\n");
  const of = async (...words: string[]): Promise<string> => (await captured(words)).stderr;
  assert.match(await of("trace", "view", bad), /TRACE_INVALID: this is no trace of ring3/);
  assert.match(await of("trace", "stat", join(directory, "none")), /ENOENT/);
  assert.match(await of("trace", "convert", bad), /--write is missing/);
  assert.match(await of("trace", "view", bad, "--type", "bars"), /no event has the type "bars"/);
  assert.match(await of("trace", "view", bad, "--range", "9-1"), /--range takes FROM-TO/);
  assert.match(await of("replay", bad), /--socket is missing/);
  assert.match(await of("peek", "vfio-user:/none", "bar0", "--trace-memory"), /add --trace FILE/);
});

test("faults before a served device happen to its clients", { timeout: 60_000 }, async (t) => {
  const directory = place(t);
  const at = (name: string): string => join(directory, name);
  const plan = [
    "faults:",
    "  - { kind: late-interrupt, at: 3, delayMs: 5 }",
    "  - { kind: spurious-interrupt, where: { register: SQ0TDBL }, at: 3 }",
    "  - { kind: stuck-bits, where: { register: CSTS }, set: 2, at: 20, times: 0 }",
  ];
  writeFileSync(at("plan.yaml"), `${plan.join("\n")}\n`);
  const disk = await started(
    t,
    "serve",
    "nvme",
    "--memory",
    "1M",
    "--socket",
    at("s"),
    "--faults",
    at("plan.yaml"),
    "--log",
    at("log"),
  );
  const survived = await captured(["nvme", "identify", `vfio-user:${at("s")}`]);
  assert.equal(survived.status, 0, survived.stderr);
  const struck = (): string[] => {
    const lines = readFileSync(at("log"), "utf8")
      .split("\n")
      .filter((line) => line !== "");
    const events = lines.map((line) => JSON.parse(line) as { event: string; kind?: string });
    return events.filter(({ event }) => event === "injected").map(({ kind = "" }) => kind);
  };
  for (const kind of ["late-interrupt", "spurious-interrupt"]) assert.ok(struck().includes(kind), struck().join());
  // CSTS.CFS for good, from the twentieth look at CSTS on.
  for (let attempt = 0; attempt < 10 && !struck().includes("stuck-bits"); attempt++) {
    await captured(["nvme", "identify", `vfio-user:${at("s")}`]);
  }
  const failed = await captured(["nvme", "identify", `vfio-user:${at("s")}`]);
  assert.match(failed.stderr, /NVME_FATAL/);
  disk.child.kill("SIGTERM");
  assert.equal((await disk.ended()).status, 0);
  writeFileSync(at("plan.yaml"), "faults:\n  - { kind: dma-corruption }\n");
  const refused = await captured(["serve", "nvme", "--memory", "1M", "--socket", at("s"), "--faults", at("plan.yaml")]);
  assert.match(refused.stderr, /FAULT_PLAN: dma-corruption is for the driver's side/);
});
