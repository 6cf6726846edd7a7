// seconds: 4
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { promisify } from "node:util";
import { bind } from "../../ring3/src/host/binding.ts";
import { FakeMachine } from "../../ring3/src/host/fake-machine.ts";
import { captured } from "./captured-run.ts";
import type { Command, CommandTable } from "./command.ts";
import { Interruption } from "./interruption.ts";
import { COMMANDS, version } from "./run.ts";

const NVME = { address: "0000:01:00.0", group: 11, driver: "nvme" };
const GPU = { address: "0000:03:00.0", group: 14, driver: "nouveau", classCode: 0x030000 };
const AUDIO = { address: "0000:03:00.1", group: 14, driver: "snd_hda_intel", classCode: 0x040300 };
const NIC = { address: "0000:05:00.0", group: 20, driver: "igb", classCode: 0x020000, totalVfs: 7 };
const main = join(import.meta.dirname, "main.ts");

async function everyCommand(table: CommandTable, path: string[] = []): Promise<{ path: string[]; command: Command }[]> {
  const found: { path: string[]; command: Command }[] = [];
  for (const [name, load] of Object.entries(table)) {
    const entry = await load();
    if (entry.kind === "command") found.push({ path: [...path, name], command: entry });
    else found.push(...(await everyCommand(entry.commands, [...path, name])));
  }
  return found;
}

test("every command explains itself with examples that its own parser takes", async () => {
  const { parseCommand } = await import("./parse.ts");
  const commands = await everyCommand(COMMANDS);
  assert.ok(commands.length >= 24, `${commands.length} commands`);
  for (const { path, command } of commands) {
    const { status, stdout, stderr } = await captured([...path, "--help"]);
    assert.deepEqual([status, stderr], [0, ""]);
    assert.match(stdout, new RegExp(`^Usage: ring3 ${path.join(" ")}`));
    for (const option of Object.keys(command.options)) assert.match(stdout, new RegExp(`--${option}\\b`));
    assert.ok(command.examples.length > 0, path.join(" "));
    for (const { command: line } of command.examples) {
      assert.ok(stdout.includes(line));
      const words =
        line
          .split(" | ")
          .find((part) => /ring3d?\b/.test(part))
          ?.replace(/^sudo /, "")
          // The service has a name of its own.
          .replace(/^ring3d/, "ring3 daemon")
          .split(" && ")[0]
          ?.split(" ") ?? [];
      assert.deepEqual(words.slice(0, path.length + 1), ["ring3", ...path]);
      assert.doesNotThrow(() => parseCommand(command, words.slice(path.length + 1)), line);
    }
  }
});

test("a group's words that are no command explain themselves too", async () => {
  const { parseCommand } = await import("./parse.ts");
  const group = await COMMANDS["serve"]?.();
  assert.ok(group?.kind === "group" && group.otherwise !== undefined);
  const { otherwise } = group;
  const declared = await otherwise.load();
  const { stdout } = await captured(["serve", "./my-device.ts", "--help"]);
  for (const { command: line } of declared.examples) {
    assert.ok(stdout.includes(line));
    const [program, name, word = "", ...rest] = line.split(" ");
    assert.deepEqual([program, name, otherwise.accepts(word)], ["ring3", "serve", true]);
    assert.doesNotThrow(() => parseCommand(declared, [word, ...rest]), line);
  }
});

test("help lists every command and the exit status; without a command it goes to stderr", async () => {
  const { status, stdout } = await captured(["--help"]);
  assert.equal(status, 0);
  for (const name of Object.keys(COMMANDS)) assert.match(stdout, new RegExp(`^  ${name} `, "m"));
  assert.match(stdout, /Exit status:\n {2}0 /);
  const bare = await captured([]);
  assert.deepEqual([bare.status, bare.stdout, bare.stderr], [2, "", stdout]);
  assert.match((await captured(["nvme", "--help"])).stdout, /^Usage: ring3 nvme COMMAND[\s\S]*bench/);
});

test("exit statuses and messages of what goes wrong", async () => {
  using machine = new FakeMachine([NVME, GPU, AUDIO]);
  const cases: [status: number, message: RegExp, ...words: string[]][] = [
    [2, /no command "lss"; did you mean ring3 ls\?/, "lss"],
    [2, /ring3 nvme has no command "toString"/, "nvme", "toString"],
    [2, /unknown option --jsn/, "ls", "--jsn"],
    [2, /ADDRESS_INVALID/, "info", "nonsense"],
    [2, /--bound stands before the command/, "--bound", "ls"],
    [2, /--root/, "bind", "01:00.0", "--root", machine.root],
    [2, /say --yes/, "nvme", "write", "01:00.0"],
    [2, /say --yes/, "nvme", "bench", "01:00.0", "--write"],
    [2, /not both/, "nvme", "bench", "01:00.0", "--polled", "--interrupts"],
    [2, /--backend group is for functions of the kernel/, "edu", "vfio-user:/x.sock", "--backend", "group"],
    [2, /a socket has to be opened/, "info", "vfio-user:/x.sock", "--closed"],
    [2, /no disk to serve: give --file/, "serve", "nvme", "--socket", "/x.sock"],
    [2, /--block-size is 512 or 4096, not 8/, "serve", "nvme", "--memory", "1M", "--block-size", "8", "--socket", "/x"],
    [4, /ENOENT.*truncate -s 1G/, "serve", "nvme", "--file", "/nowhere/disk.img", "--socket", "/x.sock"],
    [4, /FUNCTION_NOT_FOUND.*ring3 ls/, "info", "09:00.0", "--root", machine.root],
    [4, /USER_UNKNOWN/, "ls", "--user", "mallory", "--root", machine.root],
    [
      5,
      /GROUP_NOT_VIABLE.*0000:03:00\.1 is bound to snd_hda_intel.*--group/,
      "bind",
      "-n",
      "03:00.0",
      "--root",
      machine.root,
    ],
    [5, /NOT_BOUND/, "unbind", "-n", "01:00.0", "--root", machine.root],
  ];
  for (const [status, message, ...words] of cases) {
    const result = await captured(words);
    assert.equal(result.status, status, `${words.join(" ")}: ${result.stderr}`);
    assert.equal(result.stdout, "");
    assert.match(result.stderr, message);
    assert.doesNotMatch(result.stderr, /\n\s+at /, "no stack");
    const asJson = await captured([...words, "--json"]);
    const { error } = JSON.parse(asJson.stderr) as { error: { code: string; message: string; exitCode: number } };
    assert.deepEqual([asJson.status, error.exitCode, asJson.stdout], [status, status, ""]);
    assert.match(error.message, message);
  }
});

test("ls shows group, driver and who may open, as text and as JSON", async () => {
  using machine = new FakeMachine([NVME, GPU, AUDIO, NIC]);
  const me = { name: undefined, uid: process.geteuid?.() ?? 0, gids: [0] };
  await bind({ addresses: [NVME.address], user: me }, machine.host());
  const { stdout } = await captured(["ls", "--root", machine.root]);
  const line = (address: string): string => stdout.split("\n").find((text) => text.startsWith(address)) ?? "";
  assert.match(line("ADDRESS"), /^ADDRESS\s+ID\s+FUNCTION\s+DRIVER\s+GROUP\s+WHO MAY OPEN IT$/);
  assert.match(line(GPU.address), /1b36:0010 .*nouveau\s+14\s+-$/);
  assert.match(line(NVME.address), /vfio-pci\s+11\s+\S/);
  const { functions } = JSON.parse((await captured(["ls", "--json", "--root", machine.root])).stdout) as {
    functions: Record<string, unknown>[];
  };
  assert.equal(functions.length, 4);
  const nvme = functions.find(({ address }) => address === NVME.address);
  assert.deepEqual(nvme?.["group"], { id: 11, type: "DMA-FQ", viable: true, members: [NVME.address] });
  assert.equal(nvme["bound"], true);
  assert.equal((nvme["access"] as { open: boolean }).open, true);
  const gpu = functions.find(({ address }) => address === GPU.address);
  assert.deepEqual([gpu?.["driverOverride"], gpu?.["bound"]], [null, false]);
  assert.match(String((gpu?.["access"] as { reason: string } | undefined)?.reason), /sudo ring3 bind/);
  const only = await captured(["ls", "--bound", "--root", machine.root]);
  assert.equal(only.stdout.trim().split("\n").length, 2);
  assert.equal(
    (await captured(["ls", "--bound", "03:00.0", "--root", machine.root])).stdout,
    "no PCI function here matches\n",
  );
});

test("ls tells a stranger whose function it is", async (t) => {
  if (process.geteuid?.() !== 0) return t.skip("needs root to change owners");
  using machine = new FakeMachine([NVME]);
  await bind({ addresses: [NVME.address], user: { name: "alice", uid: 1000, gids: [1000] } }, machine.host());
  const seen = async (user: string) =>
    (await captured(["ls", "-u", user, "--root", machine.root])).stdout
      .trim()
      .split(/\s{2,}/)
      .at(-1);
  assert.equal(await seen("alice"), "alice");
  assert.equal(await seen("4242"), "alice (not 4242)");
});

test("bind --dry-run prints the steps as shell commands and changes nothing", async () => {
  using machine = new FakeMachine([NVME, NIC], { vfio: false });
  const before = machine.state();
  const words = ["bind", "01:00.0", "--user", "alice", "--dry-run", "--root", machine.root];
  const { status, stdout } = await captured(words);
  assert.equal(status, 0);
  assert.match(
    stdout,
    /^modprobe vfio-pci .*\n.*\necho 0000:01:00\.0 > .*drivers\/nvme\/unbind .*\necho vfio-pci > .*driver_override/,
  );
  assert.match(stdout, /chown 1000 .*dev\/vfio\/11/);
  const { steps } = JSON.parse((await captured([...words, "--json"])).stdout) as { steps: { text: string }[] };
  assert.ok(steps.some(({ text }) => text.includes("give the nodes of 0000:01:00.0")));
  const vfs = await captured(["bind", "05:00.0", "--vfs", "2", "-n", "--root", machine.root]);
  assert.match(vfs.stdout, /echo 2 > .*sriov_numvfs.*\n# then bind the 2 virtual functions/);
  assert.deepEqual(machine.state(), before);
});

test("under sudo the nodes are for whoever called it", async () => {
  using machine = new FakeMachine([NVME]);
  const words = ["bind", "01:00.0", "-n", "--root", machine.root];
  const { stdout } = await captured(words, { environment: { SUDO_UID: "1000" } });
  assert.match(stdout, /to alice/);
  assert.doesNotMatch((await captured(words)).stdout, /chown/);
});

test("info of what cannot be opened gives the facts, the reason and every key", async () => {
  using machine = new FakeMachine([{ ...NVME, attributes: { current_link_speed: "8.0 GT/s PCIe" } }]);
  const { status, stdout } = await captured(["info", "01:00.0", "--root", machine.root]);
  assert.equal(status, 0);
  assert.match(stdout, /0000:01:00\.0 .*\[1b36:0010\]\n/);
  assert.match(stdout, /BAR 0 +memory64, 16 KiB/);
  assert.match(stdout, /link +8\.0 GT\/s PCIe x\?/);
  const value = JSON.parse((await captured(["info", "01:00.0", "--json", "--root", machine.root])).stdout) as Record<
    string,
    unknown
  >;
  const keys = [
    "address",
    "opened",
    "reason",
    "host",
    "identity",
    "bars",
    "romBytes",
    "interrupts",
    "dma",
    "resetMethods",
    "power",
    "capabilities",
  ];
  assert.deepEqual(Object.keys(value), keys);
  assert.equal(value["opened"], false);
});

test("-v shows the steps, and of an error its call, errno and causes, before and behind the command", async () => {
  using machine = new FakeMachine([NVME]);
  for (const words of [
    ["-v", "ls", "--root", machine.root],
    ["ls", "-v", "--root", machine.root],
  ]) {
    const { status, stdout, stderr } = await captured(words);
    assert.deepEqual([status, stdout.includes(NVME.address)], [0, true]);
    assert.match(stderr, /^ring3 ls: done after \d+\.\d ms\n$/);
  }
  const failing = ["dump", "dump:/nowhere/at-all"];
  const failed = await captured([...failing, "-v"]);
  assert.equal(failed.status, 4);
  assert.match(failed.stderr, /^ {2}errno: ENOENT\n {2}exit status: 4$/m);
  const { error } = JSON.parse((await captured([...failing, "-v", "-q", "--json"])).stderr) as { error: object };
  assert.deepEqual(Object.keys(error), ["code", "message", "errno", "call", "exitCode", "causes"]);
  assert.doesNotMatch((await captured(failing)).stderr, /errno:/);
});

test("NO_COLOR and pipes get plain text, terminals colours", async () => {
  using machine = new FakeMachine([NVME]);
  const words = ["ls", "--root", machine.root];
  const escape = "\u001b[";
  assert.ok((await captured(words, { terminal: true })).stdout.includes(escape));
  assert.ok(!(await captured(words, { terminal: true, environment: { NO_COLOR: "1" } })).stdout.includes(escape));
  assert.ok(!(await captured(words)).stdout.includes(escape));
  assert.ok((await captured(["lss"], { terminal: true })).stderr.includes(escape));
});

test("only three files know how a terminal is told anything, and those ask whether it is one", () => {
  const files = globSync("**/*.ts", { cwd: import.meta.dirname }).filter((file) => !file.endsWith(".test.ts"));
  const knowing = files.filter((file) =>
    /\\u001b|\\x1b|\\033|styleText/.test(readFileSync(join(import.meta.dirname, file), "utf8")),
  );
  assert.deepEqual(knowing.sort(), ["progress.ts", "text.ts", "top/terminal.ts"]);
});

test("an interruption has its own exit status and message", async () => {
  const controller = new AbortController();
  controller.abort(new Interruption("stopped by SIGINT", 130));
  const { status, stderr } = await captured(["edu", "01:00.0"], { signal: controller.signal });
  assert.deepEqual([status, stderr], [130, "ring3: stopped by SIGINT\n"]);
});

test("as a process: version, JSON of this machine, a failing command", async () => {
  const execute = promisify(execFile);
  const { stdout } = await execute(process.execPath, [main, "--version"]);
  assert.equal(stdout, `${version()}\n`);
  assert.match(version(), /^\d+\.\d+\.\d+/);
  const listed = await execute(process.execPath, [main, "ls", "--json"]);
  assert.ok(Array.isArray((JSON.parse(listed.stdout) as { functions: unknown[] }).functions));
  const failure = (await execute(process.execPath, [main, "info", "ff:1f.7"]).catch((error: unknown) => error)) as {
    code: number;
  };
  assert.equal(failure.code, 4);
});

test("as a process: a reader that leaves early is no failure", async () => {
  const child = spawn(process.execPath, [main, "--help"], { stdio: ["ignore", "pipe", "pipe"] });
  child.stdout.destroy();
  let stderr = "";
  child.stderr.on("data", (text: Buffer) => {
    stderr += text.toString();
  });
  const [code] = (await once(child, "close")) as [number];
  assert.deepEqual([code, stderr], [0, ""]);
});

test("--version and ls load neither the FFI nor the drivers", async () => {
  const program = `
    process.argv = ["node", "ring3", ...process.env.WORDS.split(" ")];
    await (await import(${JSON.stringify(main)})).ended;
    const { readFileSync } = await import("node:fs");
    process.stderr.write(/koffi.*\\.node/.test(readFileSync("/proc/self/maps", "utf8")) ? "koffi" : "clean");`;
  for (const words of ["--version", "ls", "--help"]) {
    const { stderr } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
      env: { ...process.env, WORDS: words },
    });
    assert.equal(stderr, "clean", words);
  }
});

test("the manifest's version is the one that is printed", () => {
  const manifest = JSON.parse(readFileSync(join(import.meta.dirname, "../package.json"), "utf8")) as {
    version: string;
  };
  assert.equal(version(), manifest.version);
});
