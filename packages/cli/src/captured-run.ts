// Runs a command in this process with captured streams, for tests.
import { PassThrough } from "node:stream";
import { run } from "./run.ts";

export interface Captured {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `ring3 WORDS`; `terminal` pretends that the streams are one. */
export async function captured(
  words: readonly string[],
  options: {
    readonly terminal?: boolean;
    readonly environment?: Readonly<Record<string, string>>;
    readonly signal?: AbortSignal;
    /** Of what is written; `utf8` by default. */
    readonly encoding?: "utf8" | "latin1";
  } = {},
): Promise<Captured> {
  const texts = { stdout: "", stderr: "" };
  const stream = (name: keyof typeof texts): PassThrough & { isTTY: boolean } => {
    const passing = new PassThrough();
    passing.setEncoding(options.encoding ?? "utf8").on("data", (text: string) => {
      texts[name] += text;
    });
    return Object.assign(passing, { isTTY: options.terminal === true });
  };
  const stdin = Object.assign(new PassThrough(), { isTTY: options.terminal === true });
  const streams = { stdin, stdout: stream("stdout"), stderr: stream("stderr") };
  const signal = options.signal ?? new AbortController().signal;
  const status = await run(words, { ...streams, environment: options.environment ?? {}, signal });
  return { status, ...texts };
}
