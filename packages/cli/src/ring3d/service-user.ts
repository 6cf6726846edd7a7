// For tests: users of served functions, each a process of its own, as a vfio-user client and its server cannot share a thread.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

const PROGRAM = `
import { connect } from "ring3/vfio-user";
try {
  // A busy machine must not decide what happens first.
  const fn = await connect(process.env.SOCKET, { timeoutMs: 600_000, waitMs: 600_000, removalGraceMs: 600_000 });
  fn.events.on("removal-requested", () => console.log("wanted back"));
  fn.gone.addEventListener("abort", () => { console.log("gone: " + fn.gone.reason.message); process.exit(0); });
  console.log("has it");
  process.stdin.on("data", (text) => {
    if (text.includes("read")) console.log("read " + fn.config.read32(0).toString(16));
    else void fn[Symbol.asyncDispose]().then(() => process.exit(0));
  });
} catch (error) {
  console.log("refused: " + error.message);
}
`;

/** A process that tries to open the function at a socket. Disposal kills it. */
export class ServiceUser implements Disposable {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #wanted: (() => void) | undefined;

  constructor(socket: string) {
    this.#child = spawn(process.execPath, ["--input-type=module", "-e", PROGRAM], {
      cwd: import.meta.dirname,
      env: { ...process.env, SOCKET: socket },
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.#lines.push(...text.split("\n").filter((line) => line !== ""));
      this.#wanted?.();
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** The next thing that it says. */
  async says(): Promise<string> {
    for (;;) {
      const line = this.#lines.shift();
      if (line !== undefined) return line;
      if (this.#child.exitCode !== null) throw new Error(`the user ended with ${this.#child.exitCode}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wanted = resolve;
      this.#child.once("close", resolve);
      await promise;
    }
  }

  read(): void {
    this.#child.stdin?.write("read\n");
  }

  /** Closes the function and ends. */
  async leave(): Promise<void> {
    const closed = once(this.#child, "close");
    this.#child.stdin?.write("leave\n");
    await closed;
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
  }
}
