// What a command works with instead of the process: streams, signal, environment. Tests pass their own.
import type { Readable, Writable } from "node:stream";
import { ExitCode } from "./exit-codes.ts";
import { Progress } from "./progress.ts";
import { type Style, styleFor, toJson } from "./text.ts";

export interface Streams {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean };
}

/** Where the command runs. */
export interface Surroundings extends Streams {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Aborts on Ctrl-C, on SIGTERM and when the reader of stdout has gone. */
  readonly signal: AbortSignal;
}

export interface ContextOptions {
  readonly json: boolean;
  readonly quiet: boolean;
  /** File system of the machine to look at; `/` for this one. */
  readonly root: string;
}

export class Context {
  readonly streams: Streams;
  readonly environment: Surroundings["environment"];
  readonly signal: AbortSignal;
  readonly json: boolean;
  readonly root: string;
  readonly style: Style;
  readonly progress: Progress;
  /** The exit status of a command that did its work but has something to report by it. */
  exitCode: ExitCode = ExitCode.OK;

  constructor(surroundings: Surroundings, { json, quiet, root }: ContextOptions) {
    this.streams = surroundings;
    this.environment = surroundings.environment;
    this.signal = surroundings.signal;
    this.json = json;
    this.root = root;
    this.style = styleFor(surroundings.stdout.isTTY === true, surroundings.environment);
    const stream = surroundings.stderr;
    this.progress = new Progress({ stream, isTerminal: stream.isTTY === true, quiet });
  }

  /** The result: `value` as JSON where that is asked for, else the text that `render` makes. */
  result(value: unknown, render: () => string): void {
    this.progress.clear();
    const text = this.json ? toJson(value) : render();
    if (text !== "") this.streams.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
  }

  /** One of many results: `value` as one line of JSON where that is asked for, else the text that `render` makes. */
  line(value: unknown, render: () => string): void {
    this.progress.clear();
    this.streams.stdout.write(`${this.json ? toJson(value, 0) : render()}\n`);
  }

  /** Raw bytes to stdout; resolves when the stream takes more. */
  async write(bytes: Uint8Array): Promise<void> {
    const { stdout } = this.streams;
    if (stdout.write(bytes) || this.signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const done = (): void => resolve();
    stdout.once("drain", done);
    stdout.once("close", done);
    this.signal.addEventListener("abort", done, { once: true });
    await promise;
    stdout.off("drain", done);
    stdout.off("close", done);
    this.signal.removeEventListener("abort", done);
  }

  /** `promise`, or the signal's reason as soon as it aborts: what waits for a device can always be interrupted. */
  async unlessAborted<T>(promise: Promise<T>): Promise<T> {
    this.signal.throwIfAborted();
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const abort = (): void => reject(this.signal.reason as Error);
    this.signal.addEventListener("abort", abort, { once: true });
    try {
      return await Promise.race([promise, aborted]);
    } finally {
      this.signal.removeEventListener("abort", abort);
    }
  }
}
