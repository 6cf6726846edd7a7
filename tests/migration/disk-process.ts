// A process with `disk-server.ts`, from its parent's side.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { DiskOrder } from "./disk-server.ts";

const program = new URL("disk-server.ts", import.meta.url).pathname;

export class DiskProcess implements AsyncDisposable {
  /** What it said besides that it serves: faults and errors. */
  readonly complaints: string[] = [];
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #said: (() => void) | undefined;
  #serving = false;
  #queues: { readonly iova: number; readonly size: number }[] | undefined;

  /** Starts the process; it serves nothing until it is told to. */
  constructor() {
    const env = { ...process.env, NODE_COMPILE_CACHE: join(tmpdir(), "node-compile-cache") };
    this.#child = spawn(process.execPath, [program], { stdio: ["pipe", "pipe", "inherit"], env });
    this.#ended = once(this.#child, "exit");
    const { stdin, stdout } = this.#child;
    if (stdin === null || stdout === null) throw new Error("the child has no pipes");
    // A child that died takes no orders.
    stdin.on("error", () => undefined);
    createInterface(stdout).on("line", (line) => {
      if (line === "serving") this.#serving = true;
      else if (line.startsWith("queues ")) this.#queues = JSON.parse(line.slice(7)) as { iova: number; size: number }[];
      else if (line !== "waiting") this.complaints.push(line);
      this.#said?.();
    });
  }

  /** Resolves when the disk is served. */
  async serve(order: DiskOrder): Promise<void> {
    this.#child.stdin?.write(`${JSON.stringify(order)}\n`);
    await this.#until(() => this.#serving);
  }

  /** Where the device has its completion queues. */
  async completionQueues(): Promise<readonly { readonly iova: number; readonly size: number }[]> {
    this.#queues = undefined;
    this.#child.stdin?.write("queues\n");
    await this.#until(() => this.#queues !== undefined);
    return this.#queues ?? [];
  }

  async #until(done: () => boolean): Promise<void> {
    let over = false;
    void this.#ended.then(() => {
      over = true;
      this.#said?.();
    });
    while (!done()) {
      if (over) throw new Error(`the server ended before it answered: ${this.complaints.join("; ")}`);
      await new Promise<void>((resolve) => (this.#said = resolve));
    }
  }

  /** Resolves when the process has ended, by whatever. */
  get ended(): Promise<unknown> {
    return this.#ended;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
