// Completion as shells see it: the words for a line, and the scripts in the real shells (those that are installed).
// seconds: 3
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import fc from "fast-check";
import { FakeMachine } from "../../../ring3/src/host/fake-machine.ts";
import { captured } from "../captured-run.ts";
import { machineCandidates } from "../completion/candidates.ts";
import { completeWords } from "../completion/complete-words.ts";
import { SHELL_SCRIPTS } from "../completion/shell-scripts.ts";
import { COMMANDS } from "../run.ts";

const main = join(import.meta.dirname, "../main.mjs");

function machine(): FakeMachine {
  return new FakeMachine([{ address: "0000:01:00.0", driver: "nvme" }, { address: "0000:03:00.0" }]);
}

async function words(fake: FakeMachine, ...line: string[]): Promise<string[]> {
  const found = await completeWords(line, COMMANDS, machineCandidates(fake.root));
  return found.map(({ word }) => word);
}

test("commands, groups, options, their values and arguments", async () => {
  using fake = machine();
  const offered = async (...line: string[]): Promise<string[]> => await words(fake, ...line);
  assert.deepEqual(await offered("l"), ["ls", "lspci"]);
  assert.deepEqual(await offered("-q", "lsp"), ["lspci"]);
  assert.deepEqual(await offered("nvme", "r"), ["read"]);
  assert.deepEqual(await offered("info", "--back"), ["--backend"]);
  assert.deepEqual(await offered("info", "--backend", ""), ["auto", "group", "iommufd"]);
  assert.deepEqual(await offered("info", "--backend=g"), ["--backend=group"]);
  assert.deepEqual(await offered("lspci", "-A", "p"), ["proc"]);
  assert.deepEqual(await offered("ls", "--bound", "--bo"), [], "a flag is offered once");
  assert.deepEqual(await offered("ls", "0"), ["0000:01:00.0", "0000:03:00.0"]);
  assert.deepEqual(await offered("info", "v"), ["vfio-user:"]);
  assert.deepEqual(await offered("ls", "--user", "al"), ["alice"]);
  assert.deepEqual(await offered("completion", ""), ["bash", "zsh", "fish", "words"]);
  assert.deepEqual(await offered("man", "nvme", "b"), ["bench"]);
  assert.deepEqual(await offered("info", "01:00.0", ""), [], "one argument too many");
  assert.deepEqual(await offered("nonsense", ""), []);
  assert.deepEqual(await offered("ls", "--", "--b"), []);
});

test("registers and fields for setpci, places for peek", async () => {
  using fake = machine();
  assert.ok((await words(fake, "setpci", "01:00.0", "CAP_M")).includes("CAP_MSIX"));
  assert.ok((await words(fake, "setpci", "01:00.0", "")).includes("PM."));
  assert.deepEqual(await words(fake, "setpci", "01:00.0", "pm.d"), ["PM.DATA"]);
  assert.ok((await words(fake, "setpci", "01:00.0", "PM.PMCSR.POW")).includes("PM.PMCSR.POWER_STATE"));
  assert.deepEqual(await words(fake, "peek", "01:00.0", "bar"), ["bar0+"], "the BARs that it has");
  assert.ok((await words(fake, "peek", "01:00.0", "config+0x4")).includes("config+0x4.w"));
});

test("paths, also behind vfio-user: and dump:", async (t) => {
  using fake = machine();
  const place = mkdtempSync(join(tmpdir(), "ring3-complete-"));
  t.after(() => rmSync(place, { recursive: true }));
  mkdirSync(join(place, "sockets"));
  writeFileSync(join(place, "socket.sock"), "");
  writeFileSync(join(place, ".hidden"), "");
  assert.deepEqual(await words(fake, "info", `vfio-user:${place}/so`), [
    `vfio-user:${place}/socket.sock`,
    `vfio-user:${place}/sockets/`,
  ]);
  assert.deepEqual(await words(fake, "lspci", `dump:${place}/`), [
    `dump:${place}/socket.sock`,
    `dump:${place}/sockets/`,
  ]);
  assert.deepEqual(await words(fake, "man", "--write", `${place}/s`), [`${place}/sockets/`]);
  assert.deepEqual(await words(fake, "lspci", "-F", `${place}/.h`), [`${place}/.hidden`]);
});

test("whatever stands on the line is no failure", async () => {
  using fake = machine();
  const word = fc.oneof(
    fc.constantFrom(...Object.keys(COMMANDS), "--", "-", "--json", "--backend", "-A", "01:00.0", "read", "PM.", ""),
    fc.string(),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(word, { maxLength: 5 }), async (line) => {
      for (const offered of await words(fake, ...line))
        assert.ok(offered.toLowerCase().startsWith((line.at(-1) ?? "").toLowerCase()));
    }),
    { numRuns: 200 },
  );
});

/** A directory with a `ring3` that looks at the fake machine; it is only asked for `completion words -- ...`. */
function installed(t: TestContext, fake: FakeMachine): string {
  const place = mkdtempSync(join(tmpdir(), "ring3-shell-"));
  t.after(() => rmSync(place, { recursive: true }));
  const program = `shift 3; exec ${process.execPath} ${main} completion words --root ${fake.root} -- "$@"`;
  writeFileSync(join(place, "ring3"), `#!/bin/sh\n${program}\n`, { mode: 0o755 });
  return place;
}

const lacks = (shell: string): string | undefined =>
  spawnSync(shell, ["--version"]).error === undefined ? undefined : `${shell} is not installed`;

/** What bash would put in place of the last word, for a line with the cursor at its end. */
function inBash(place: string, line: string, breaks = " \t\n\"'><=;|&(:"): string[] {
  const script = `
    COMP_WORDBREAKS=$1; COMP_LINE=$2; COMP_POINT=\${#2}
    compopt() { echo "no blank"; }
    eval "$3"; _ring3; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const environment = { ...process.env, PATH: `${place}:${process.env["PATH"] ?? ""}` };
  const words_ = ["-c", script, "bash", breaks, line, SHELL_SCRIPTS["bash"] ?? ""];
  return execFileSync("bash", words_, { encoding: "utf8", env: environment }).trimEnd().split("\n");
}

test("in the real bash: colons, equals signs, an open end", (t) => {
  const lack = lacks("bash");
  if (lack !== undefined) return t.skip(lack);
  using fake = machine();
  const place = installed(t, fake);
  assert.deepEqual(inBash(place, "ring3 lsp"), ["lspci"]);
  assert.deepEqual(inBash(place, "ring3 info 0000:01"), ["01:00.0"], "only what follows the last colon");
  assert.deepEqual(inBash(place, "ring3 info 0000:01", " \t\n"), ["0000:01:00.0"]);
  assert.deepEqual(inBash(place, "ring3 info --backend=g"), ["group"]);
  assert.deepEqual(inBash(place, "ring3 info vfio"), ["no blank", "vfio-user:"]);
  assert.deepEqual(inBash(place, "ring3 ls 0000:01:00.0 "), ["0000:01:00.0", "0000:03:00.0"]);
});

test("in the real zsh and fish", (t) => {
  using fake = machine();
  const place = installed(t, fake);
  const env = { ...process.env, PATH: `${place}:${process.env["PATH"] ?? ""}` };
  let tried = 0;
  if (lacks("fish") === undefined) {
    tried++;
    const script = `${SHELL_SCRIPTS["fish"] ?? ""}\ncomplete -C 'ring3 info 0000:01'; complete -C 'ring3 nvme re'`;
    const home = { ...env, HOME: place, XDG_CONFIG_HOME: place };
    const output = execFileSync("fish", ["--no-config", "-c", script], { encoding: "utf8", env: home });
    assert.deepEqual(output.trim().split("\n"), ["0000:01:00.0\tnvme", "read\tread blocks"]);
  }
  if (lacks("zsh") === undefined) {
    tried++;
    const script = `
      compdef() { :; }; compadd() { while [[ $1 != -a ]]; do shift; done; print -l "\${(P@)2}"; }
      eval "$1"; words=(ring3 info 0000:01); CURRENT=3; _ring3`;
    const output = execFileSync("zsh", ["-f", "-c", script, "zsh", SHELL_SCRIPTS["zsh"] ?? ""], {
      encoding: "utf8",
      env,
    });
    assert.deepEqual(output.trim().split("\n"), ["0000:01:00.0"]);
  }
  if (tried === 0) t.skip("neither zsh nor fish is installed");
});

test("the command prints scripts and words", async () => {
  for (const shell of ["bash", "zsh", "fish"]) {
    const { status, stdout } = await captured(["completion", shell]);
    assert.deepEqual([status, stdout], [0, SHELL_SCRIPTS[shell]]);
  }
  assert.equal((await captured(["completion", "tcsh"])).status, 2);
  const { stdout } = await captured(["completion", "words", "--", "edu", "--comp"]);
  assert.match(stdout, /^--completion\thow to learn/);
});
