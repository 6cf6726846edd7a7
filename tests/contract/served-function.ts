// A virtual function served by a child process on a socket of its own: a client and its server cannot share a thread,
// since registers block until the server answered.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export interface ServedDevice {
  /** The module that exports the device: `new URL("../fakes/sample-device.ts", import.meta.url)`. */
  readonly module: URL;
  /** An expression that makes the device; the module's exports are in `device`: `new device.SampleDevice()`. */
  readonly create: string;
  /** Options of `serve`, as JSON takes them. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Where to serve; by default a new socket in a new folder. */
  readonly path?: string;
  /** Code that runs once it is served; `fn`, `server` and `device` are there. */
  readonly afterwards?: string;
}

const serverModule = new URL("../../packages/ring3/src/vfio-user/server.ts", import.meta.url);

/** A served function and its process. Disposal kills that process and removes the socket's folder. */
export class ServedFunction implements AsyncDisposable {
  readonly path: string;
  readonly #process: ChildProcess;
  readonly #folder: string | undefined;
  readonly #lines: AsyncIterator<string>;

  private constructor(device: ServedDevice) {
    this.#folder = device.path === undefined ? mkdtempSync(join(tmpdir(), "ring3-served-")) : undefined;
    this.path = device.path ?? join(this.#folder ?? "", "fn.sock");
    const source = [
      `import { serve } from ${JSON.stringify(serverModule.href)};`,
      `import * as device from ${JSON.stringify(device.module.href)};`,
      `const fn = ${device.create};`,
      `const server = await serve(fn, ${JSON.stringify(this.path)}, ${JSON.stringify(device.options ?? {})});`,
      // A parent that is gone, however it ended, takes its servers along.
      `process.stdin.on("end", () => process.exit(0)).resume();`,
      device.afterwards ?? "",
      `console.log("ready");`,
    ].join("\n");
    this.#process = spawn(process.execPath, ["--input-type=module", "-e", source], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    if (this.#process.stdout === null) throw new Error("the child has no output");
    this.#lines = createInterface(this.#process.stdout)[Symbol.asyncIterator]();
  }

  /** Resolves when the function is served. */
  static async start(device: ServedDevice): Promise<ServedFunction> {
    const served = new ServedFunction(device);
    try {
      const line = await served.line();
      if (line !== "ready") throw new Error(`the child said ${line}`);
      return served;
    } catch (error) {
      await served[Symbol.asyncDispose]();
      throw error;
    }
  }

  get pid(): number {
    return this.#process.pid ?? -1;
  }

  /** The next line that `afterwards` writes. */
  async line(): Promise<string> {
    const next = await this.#lines.next();
    if (next.done === true) throw new Error("the serving process ended");
    return next.value;
  }

  /** Ends the process at once and leaves the socket where it is. */
  async kill(signal: "SIGKILL" | "SIGTERM" | "SIGSTOP" | "SIGCONT" = "SIGKILL"): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    if (signal === "SIGSTOP" || signal === "SIGCONT") {
      this.#process.kill(signal);
      return;
    }
    const ended = once(this.#process, "exit");
    this.#process.kill(signal);
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }
}
