// From a command line to an exit status: finds the command, parses, runs it, and turns every error into one message.
import { readFileSync } from "node:fs";
import type { Command, CommandGroup, CommandTable, Otherwise } from "./command.ts";
import { Context, type Surroundings } from "./context.ts";
import { nearest, parseCommand } from "./parse.ts";
import { styleFor } from "./text.ts";
import { UsageError } from "./usage-error.ts";

/** The commands of `ring3`. Nothing but the chosen one is loaded. */
export const COMMANDS: CommandTable = {
  ls: async () => (await import("./commands/ls.ts")).ls,
  info: async () => (await import("./commands/info.ts")).info,
  bind: async () => (await import("./commands/bind.ts")).bind,
  unbind: async () => (await import("./commands/unbind.ts")).unbind,
  permit: async () => (await import("./commands/permit.ts")).permit,
  vfs: async () => (await import("./commands/vfs.ts")).vfs,
  doctor: async () => (await import("./commands/doctor.ts")).doctor,
  nvme: async () => (await import("./commands/nvme.ts")).nvme,
  edu: async () => (await import("./commands/edu.ts")).edu,
  serve: async () => (await import("./commands/serve.ts")).serve,
  daemon: async () => (await import("./commands/daemon.ts")).daemon,
  ctl: async () => (await import("./commands/ctl.ts")).ctl,
  dump: async () => (await import("./commands/dump.ts")).dump,
  "sysfs-tree": async () => (await import("./commands/sysfs-tree.ts")).sysfsTree,
  lspci: async () => (await import("./commands/lspci.ts")).lspciCommand,
  setpci: async () => (await import("./commands/setpci.ts")).setpci,
  groups: async () => (await import("./commands/groups.ts")).groups,
  who: async () => (await import("./commands/who.ts")).who,
  reset: async () => (await import("./commands/reset.ts")).reset,
  peek: async () => (await import("./commands/peek.ts")).peek,
  repl: async () => (await import("./commands/repl.ts")).repl,
  top: async () => (await import("./commands/top.ts")).top,
  watch: async () => (await import("./commands/watch.ts")).watch,
  poke: async () => (await import("./commands/peek.ts")).poke,
  completion: async () => (await import("./commands/completion.ts")).completion,
  man: async () => (await import("./commands/man.ts")).man,
  replay: async () => (await import("./commands/replay.ts")).replay,
  trace: async () => (await import("./commands/trace.ts")).trace,
  net: async () => (await import("./commands/net.ts")).net,
  ping: async () => (await import("./commands/ping.ts")).ping,
  "udp-echo": async () => (await import("./commands/udp-echo.ts")).udpEcho,
  capture: async () => (await import("./commands/capture.ts")).capture,
  forward: async () => (await import("./commands/forward.ts")).forward,
  generate: async () => (await import("./commands/generate.ts")).generate,
  "echo-stress": async () => (await import("./commands/echo-stress.ts")).echoStress,
  new: async () => (await import("./commands/new.ts")).newGroup,
};

export const SUMMARY = "PCI functions in the hands of ordinary users: list, hand over, drive and serve them.";

/** Runs `words` (without `node` and the script) and returns the exit status; never throws. */
export async function run(words: readonly string[], surroundings: Surroundings): Promise<number> {
  const json = words.includes("--json");
  try {
    return await dispatch(words, surroundings);
  } catch (error) {
    const { reportError } = await import("./report-error.ts");
    return reportError(error, surroundings, { json, verbose: words.some(isVerbose) });
  }
}

/** Whether a word asks for details, alone or among other letters. */
function isVerbose(word: string): boolean {
  return word === "--verbose" || /^-[a-z]*v[a-z]*$/.test(word);
}

async function dispatch(words: readonly string[], surroundings: Surroundings): Promise<number> {
  const [first] = words;
  if (first === "--version" || first === "-V") {
    surroundings.stdout.write(`${version()}\n`);
    return 0;
  }
  let path = "ring3";
  let table: CommandTable = COMMANDS;
  let summary = SUMMARY;
  let otherwise: Otherwise | undefined;
  let rest = words;
  for (;;) {
    const at = rest.findIndex((word) => !word.startsWith("-"));
    const name = rest[at];
    if (at > 0 && !rest.slice(0, at).every((word) => LEADING.has(word))) {
      throw new UsageError(`${rest[0]} stands before the command: write options behind it, as in ring3 ls --json`);
    }
    if (name === undefined) {
      const { tableHelp } = await import("./help.ts");
      const asked = rest.some((word) => word === "--help" || word === "-h");
      const stream = asked ? surroundings.stdout : surroundings.stderr;
      stream.write(
        await tableHelp(path, summary, table, otherwise, styleFor(stream.isTTY === true, surroundings.environment)),
      );
      return asked ? 0 : 2;
    }
    if (otherwise?.accepts(name) === true && !Object.hasOwn(table, name)) {
      return await runCommand(path, await otherwise.load(), rest, surroundings);
    }
    const found = await find(path, table, name, otherwise);
    rest = [...rest.slice(0, at), ...rest.slice(at + 1)];
    path += ` ${name}`;
    if (found.kind === "command") return await runCommand(path, found, rest, surroundings);
    const { groupSummary } = await import("./help.ts");
    table = found.commands;
    otherwise = found.otherwise;
    summary = groupSummary(found);
  }
}

/** Options that may stand before the command, since they take no value. */
const LEADING: ReadonlySet<string> = new Set(["--json", "--quiet", "-q", "--verbose", "-v", "--help", "-h"]);

async function find(
  path: string,
  table: CommandTable,
  name: string,
  otherwise: Otherwise | undefined,
): Promise<Command | CommandGroup> {
  const load = Object.hasOwn(table, name) ? table[name] : undefined;
  if (load !== undefined) return await load();
  const near = nearest(name, Object.keys(table));
  const known = [...Object.keys(table), ...(otherwise === undefined ? [] : [otherwise.name])];
  const meant = near === undefined ? `it knows ${known.join(", ")}` : `did you mean ${path} ${near}?`;
  throw new UsageError(`${path} has no command "${name}"; ${meant}`);
}

async function runCommand(
  path: string,
  command: Command,
  words: readonly string[],
  surroundings: Surroundings,
): Promise<number> {
  const { input, global } = parseCommand(command, words);
  const root = global.root ?? "/";
  const context = new Context(surroundings, { ...global, root });
  if (global.help) {
    const { commandHelp } = await import("./help.ts");
    surroundings.stdout.write(commandHelp(path, command, context.style));
    return 0;
  }
  // lspci and setpci have a -v of their own.
  const traced = global.verbose && !Object.hasOwn(command.options, "verbose");
  using _trace = traced ? await (await import("./trace-calls.ts")).traceCalls(path, context) : undefined;
  try {
    await command.run(input, context);
    return context.exitCode;
  } finally {
    context.progress.clear();
  }
}

/** The version of this package, whose manifest lies beside the emitted files or above the sources. */
export function version(): string {
  for (const place of ["./package.json", "../package.json"]) {
    try {
      const manifest = JSON.parse(readFileSync(new URL(place, import.meta.url), "utf8")) as { version: string };
      return manifest.version;
    } catch {
      // The other place.
    }
  }
  return "unknown";
}
