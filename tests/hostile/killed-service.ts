// What the users of a service that is killed may be told, and a program whose lines a test waits for.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** What a user may be told while services come and go, besides that its function is `fresh`. */
const CLEAR_ERRORS: ReadonlySet<string> = new Set([
  "CONNECTION_LOST",
  "FUNCTION_REMOVED",
  "PEER_GONE",
  "SERVER_REFUSED",
  "SERVER_TIMEOUT",
  "SYSTEM_CALL",
]);

/** What users (`ring3d-user.ts`) said and should not have. */
export function unclear(users: readonly Program[]): string[] {
  const said = new Set(users.flatMap(({ all }) => all));
  return [...said].filter((word) => word !== "fresh" && !CLEAR_ERRORS.has(word));
}

export interface Program {
  readonly child: ChildProcess;
  /** Its exit status, or signal. */
  readonly ended: Promise<number | string>;
  /** The first line that matches, of all or from a number on. */
  line(pattern: RegExp, from?: number): Promise<string>;
  /** Everything that it has said. */
  readonly all: readonly string[];
}

/** Starts Node with these words. */
export function program(words: readonly string[]): Program {
  const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-20_000);
  });
  const lines: string[] = [];
  const wakes = new Set<() => void>();
  const wake = (): void => {
    for (const each of wakes) each();
    wakes.clear();
  };
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    wake();
  });
  const ended = once(child, "close").then(([code, signal]) => (code ?? signal) as number | string);
  let over = false;
  void ended.then(() => {
    over = true;
    wake();
  });
  const line = async (pattern: RegExp, from = 0): Promise<string> => {
    for (;;) {
      const found = lines.slice(from).find((text) => pattern.test(text));
      if (found !== undefined) return found;
      if (over) throw new Error(`it ended without ${String(pattern)}: ${stderr}`);
      await new Promise<void>((resolve) => wakes.add(resolve));
    }
  };
  return { child, ended, line, all: lines };
}
