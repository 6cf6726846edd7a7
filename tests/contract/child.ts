// Another process of the same user, for tests about who holds a function. It runs a few lines of JavaScript that may use
// `openVfio`, and says by lines on its output how far it is.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export class Child implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  /** `script` is the body of a module; `openVfio` is there. `limits` are options of the shell's ulimit. */
  constructor(script: string, limits = "-c 0") {
    const module = new URL("../../packages/ring3/src/vfio/open.ts", import.meta.url).href;
    const source = `import { openVfio } from ${JSON.stringify(module)};\n${script}`;
    const command = `ulimit ${limits} && exec "$0" "$@"`;
    const args = ["-c", command, process.execPath, "--input-type=module", "-e", source];
    this.#process = spawn("sh", args, { stdio: ["pipe", "pipe", "inherit"] });
    if (this.#process.stdout === null) throw new Error("the child has no output");
    this.#lines = createInterface(this.#process.stdout)[Symbol.asyncIterator]();
  }

  get pid(): number {
    return this.#process.pid ?? -1;
  }

  /** The next line of output; rejects when the child ended without one. */
  async line(): Promise<string> {
    const next = await this.#lines.next();
    if (next.done === true) throw new Error("the child ended without another line");
    return next.value;
  }

  /** Ends it at once. */
  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}
