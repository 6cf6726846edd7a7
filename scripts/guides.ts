// Runs the guides as their reader would: top to bottom, in an empty directory, with `ring3` on the path. A ```ts block with
// `file=NAME` is that file from there on; a ```sh block marked `run` is typed into one shell, whose background jobs live on (one
// that says much before it is ready is marked `run ready="..."` with what it says then);
// a ```text block behind it is what it has to print, where `...` stands for anything.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

const root = join(import.meta.dirname, "..");
const GUIDE_TIMEOUT_MS = 120_000;

type Step =
  | { readonly kind: "file"; readonly line: number; readonly name: string; readonly text: string }
  | (ShellText & { readonly kind: "shell"; readonly expected: string | undefined });

interface ShellText {
  readonly line: number;
  readonly text: string;
  /** What a job in the background says when it is ready; its first word by default. */
  readonly ready: string | undefined;
}

/** The steps of a guide, in order. */
function guideSteps(markdown: string): Step[] {
  const steps: Step[] = [];
  let open: ShellText | undefined;
  const close = (expected?: string): void => {
    if (open !== undefined) steps.push({ kind: "shell", ...open, expected });
    open = undefined;
  };
  for (const match of markdown.matchAll(/^```(\w+)([^\n]*)\n([\s\S]*?)^```$/gm)) {
    const [, language = "", words = "", text = ""] = match;
    const line = markdown.slice(0, match.index).split("\n").length;
    const name = /(?:^| )file=(\S+)/.exec(words)?.[1];
    if (language === "text" && open !== undefined) close(text);
    else close();
    if (name !== undefined) steps.push({ kind: "file", line, name, text });
    const run = /^ run(?: ready="([^"']*)")?$/.exec(words);
    if (name === undefined && language === "sh" && run !== null) open = { line, text, ready: run[1] };
  }
  close();
  return steps;
}

/** The files that a guide ends up with, to check their types. */
export function guideFiles(markdown: string): ReadonlyMap<string, string> {
  return new Map(guideSteps(markdown).flatMap((step) => (step.kind === "file" ? [[step.name, step.text]] : [])));
}

/** Runs one guide; returns how many steps it had, and throws with the place of the first that fails. */
export function runGuide(file: string): number {
  const steps = guideSteps(readFileSync(join(root, file), "utf8"));
  const directory = mkdtempSync(join(tmpdir(), `ring3-${basename(file, ".md")}-`));
  const outputs = join(directory, ".outputs");
  try {
    mkdirSync(outputs);
    mkdirSync(join(directory, "node_modules"));
    symlinkSync(join(root, "packages/ring3"), join(directory, "node_modules/ring3"));
    const bin = commands(directory);
    const script = ["set -eu", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"];
    for (const [index, step] of steps.entries()) {
      script.push(`echo ${index} > .outputs/step`);
      if (step.kind === "file") {
        writeFileSync(join(outputs, `file-${index}`), step.text);
        script.push(`cp .outputs/file-${index} ${step.name}`);
      } else {
        script.push(`{\n${step.text}} > .outputs/${index} 2>&1`);
        // A job in the background (a server) says when it is ready; so does the reader's terminal.
        if (/&$/m.test(step.text.trimEnd())) {
          const said = `.outputs/${index}`;
          const ready = step.ready === undefined ? `[ -s ${said} ]` : `grep -q '${step.ready}' ${said}`;
          script.push(`until ${ready}; do sleep 0.05; done`);
        }
      }
    }
    const result = spawnSync("bash", ["-c", script.join("\n")], {
      cwd: directory,
      encoding: "utf8",
      timeout: GUIDE_TIMEOUT_MS,
      env: { ...process.env, PATH: `${bin}:${process.env["PATH"] ?? ""}`, NO_COLOR: "1", NODE_TEST_CONTEXT: undefined },
    });
    if (result.status !== 0) {
      const index = Number(readFileSync(join(outputs, "step"), "utf8"));
      const why = result.error === undefined ? `exit status ${result.status}` : result.error.message;
      throw new Error(`${file}:${steps[index]?.line}: ${why}\n${output(outputs, index)}${result.stderr}`);
    }
    for (const [index, step] of steps.entries()) {
      if (step.kind !== "shell" || step.expected === undefined) continue;
      const printed = output(outputs, index);
      if (!expectedPattern(step.expected).test(printed.trim())) {
        throw new Error(`${file}:${step.line} printed\n${printed}\nand the guide says\n${step.expected}`);
      }
    }
    return steps.length;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** `node`, `ring3` and `ring3d` as the reader has them. */
function commands(directory: string): string {
  const bin = join(directory, ".bin");
  mkdirSync(bin);
  symlinkSync(process.execPath, join(bin, "node"));
  const program = `exec "${process.execPath}" "${join(root, "packages/cli/src/main.ts")}"`;
  for (const [name, words] of [
    ["ring3", ""],
    ["ring3d", "daemon"],
  ]) {
    writeFileSync(join(bin, String(name)), `#!/bin/sh\n${program} ${words} "$@"\n`, { mode: 0o755 });
  }
  return bin;
}

function output(outputs: string, index: number): string {
  try {
    return readFileSync(join(outputs, String(index)), "utf8");
  } catch {
    return "";
  }
}

/** The text as a pattern: `...` is anything, and blanks around the whole do not count. */
function expectedPattern(expected: string): RegExp {
  const parts = expected.trim().split("...");
  const escaped = parts.map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${escaped.join("[\\s\\S]*?")}$`);
}
