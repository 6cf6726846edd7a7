// The parent's side of `served-devices.ts`: starts it, asks how it is, and says why where it ended.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Health } from "./served-devices.ts";

const ANSWER_MS = 20_000;
/** Loading takes a second, on a loaded machine many. */
const START_MS = 90_000;

/** A process that serves all devices. Disposal ends it. */
export class Serving implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #gone = new AbortController();
  #errors = "";

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child;
    this.#folder = folder;
    child.once("exit", () => this.#gone.abort());
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#errors = (this.#errors + text).slice(-8000)));
  }

  static async start(
    options: { readonly clientTimeoutMs?: number; readonly openings?: number } = {},
  ): Promise<Serving> {
    const folder = mkdtempSync(join(tmpdir(), "ring3-hostile-"));
    const child = fork(join(import.meta.dirname, "served-devices.ts"), [JSON.stringify({ folder, ...options })], {
      execArgv: ["--expose-gc"],
      stdio: ["ignore", "inherit", "pipe", "ipc"],
    });
    const serving = new Serving(child, folder);
    try {
      await serving.#message(START_MS);
      return serving;
    } catch (error) {
      await serving[Symbol.asyncDispose]();
      throw error;
    }
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** How it ended, with what it wrote; `undefined` while it lives. */
  get ended(): string | undefined {
    const { exitCode, signalCode } = this.#child;
    if (exitCode === null && signalCode === null) return undefined;
    return `the serving process ended with ${signalCode ?? exitCode}:\n${this.#errors}`;
  }

  socket(name: string): string {
    return join(this.#folder, name);
  }

  /** After a garbage collection; the event loop had its turns. */
  async health(): Promise<Health> {
    this.#child.send("health");
    return (await this.#message()) as Health;
  }

  /** Health once no more than `clients` are connected. */
  async idle(clients = 0): Promise<Health> {
    for (const until = performance.now() + ANSWER_MS; ; ) {
      const health = await this.health();
      if (health.clients === clients) return health;
      if (performance.now() > until) throw new Error(`a client that left is still served: ${JSON.stringify(health)}`);
    }
  }

  async #message(waitMs = ANSWER_MS): Promise<unknown> {
    const late = AbortSignal.any([AbortSignal.timeout(waitMs), this.#gone.signal]);
    const [message] = (await once(this.#child, "message", { signal: late }).catch((error: unknown) => {
      throw new Error(this.ended ?? "the serving process does not answer", { cause: error });
    })) as unknown[];
    return message;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.ended === undefined) {
      const ended = once(this.#child, "exit");
      this.#child.kill("SIGKILL");
      await ended;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
