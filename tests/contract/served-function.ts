// A virtual function served by a child process on a socket of its own: a client and its server cannot share a thread,
// since registers block until the server answered. One child serves for all tests of a file, except for those that stop
// or kill their server.
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
  /** Code that runs once it is served; `fn`, `server`, `device` and `say(text)` are there. */
  readonly afterwards?: string;
  /** Whether the process is for this function alone, so that it can be stopped and killed. */
  readonly own?: boolean;
}

const serverModule = new URL("../../packages/ring3/src/vfio-user/server.ts", import.meta.url);

/** What the child runs: each line of its input is a function to serve, to close, or to tell something. */
const program = `
import { createInterface } from "node:readline";
import { serve } from ${JSON.stringify(serverModule.href)};
const AsyncFunction = (async () => {}).constructor;
const served = new Map();
const answer = (id, text) => console.log(JSON.stringify({ id, text }));
async function start({ id, module, create, path, options, afterwards }) {
  const device = await import(module);
  const fn = await new AsyncFunction("device", "return " + create)(device);
  const server = await serve(fn, path, options);
  const told = [];
  served.set(id, { server, told });
  await new AsyncFunction("device", "fn", "server", "say", "onTold", afterwards)(
    device, fn, server, (text) => answer(id, text), (listener) => told.push(listener));
  answer(id, "ready");
}
// A parent that is gone, however it ended, takes its servers along.
const lines = createInterface(process.stdin).on("close", () => process.exit(0));
for await (const line of lines) {
  const order = JSON.parse(line);
  if (order.module !== undefined) start(order).catch((error) => answer(order.id, "failed: " + (error?.stack ?? error)));
  else if (order.tell !== undefined) for (const listener of served.get(order.id)?.told ?? []) listener(order.tell);
  else {
    await served.get(order.id)?.server.close();
    served.delete(order.id);
    answer(order.id, "closed");
  }
}
`;

interface Answers {
  readonly lines: string[];
  readonly waiting: ((line: string) => void)[];
}

class ServingProcess {
  readonly child: ChildProcess;
  readonly #answers: Map<number, Answers> = new Map();
  #nextId = 1;

  constructor() {
    this.child = spawn(process.execPath, ["--input-type=module", "-e", program], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const { stdin, stdout } = this.child;
    if (stdin === null || stdout === null) throw new Error("the child has no pipes");
    // A child that died takes no orders; whoever waits for an answer is told by the test's own time-out or by `kill`.
    stdin.on("error", () => undefined);
    createInterface(stdout).on("line", (line) => {
      const { id, text } = JSON.parse(line) as { id: number; text: string };
      const { lines, waiting } = this.#of(id);
      const first = waiting.shift();
      if (first === undefined) lines.push(text);
      else first(text);
    });
    this.release();
  }

  /** Does not keep the test's process alive. */
  release(): void {
    this.child.unref();
    for (const pipe of [this.child.stdin, this.child.stdout]) (pipe as unknown as { unref(): void }).unref();
  }

  hold(): void {
    this.child.ref();
    (this.child.stdout as unknown as { ref(): void }).ref();
  }

  newId(): number {
    return this.#nextId++;
  }

  order(what: Readonly<Record<string, unknown>>): void {
    this.child.stdin?.write(`${JSON.stringify(what)}\n`);
  }

  async answer(id: number): Promise<string> {
    const { lines, waiting } = this.#of(id);
    const line = lines.shift();
    if (line !== undefined) return line;
    this.hold();
    try {
      return await new Promise((resolve) => waiting.push(resolve));
    } finally {
      this.release();
    }
  }

  #of(id: number): Answers {
    let answers = this.#answers.get(id);
    if (answers === undefined) this.#answers.set(id, (answers = { lines: [], waiting: [] }));
    return answers;
  }
}

let shared: ServingProcess | undefined;

/** A served function. Disposal ends its server, and the process where that is its own. */
export class ServedFunction implements AsyncDisposable {
  readonly path: string;
  readonly #process: ServingProcess;
  readonly #own: boolean;
  readonly #id: number;
  readonly #folder: string | undefined;
  #closed = false;

  private constructor({ module, create, options = {}, path, afterwards = "", own = false }: ServedDevice) {
    this.#folder = path === undefined ? mkdtempSync(join(tmpdir(), "ring3-served-")) : undefined;
    this.path = path ?? join(this.#folder ?? "", "fn.sock");
    this.#own = own;
    this.#process = own ? new ServingProcess() : (shared ??= new ServingProcess());
    this.#id = this.#process.newId();
    this.#process.order({ id: this.#id, module: module.href, create, path: this.path, options, afterwards });
  }

  /** Resolves when the function is served. */
  static async start(device: ServedDevice): Promise<ServedFunction> {
    const served = new ServedFunction(device);
    const line = await served.line();
    if (line === "ready") return served;
    await served[Symbol.asyncDispose]();
    throw new Error(`the child says ${line}`);
  }

  get pid(): number {
    return this.#process.child.pid ?? -1;
  }

  /** The next line that `afterwards` says. */
  line(): Promise<string> {
    return this.#process.answer(this.#id);
  }

  /** Gives text to what `afterwards` passed to `onTold`. */
  tell(text: string): void {
    this.#process.order({ id: this.#id, tell: text });
  }

  /** Stops, continues or ends the process, which must be its own. The socket stays where it is. */
  async kill(signal: "SIGKILL" | "SIGTERM" | "SIGSTOP" | "SIGCONT" = "SIGKILL"): Promise<void> {
    if (!this.#own) throw new Error("this function's process serves others too: ask for one of its own");
    const { child } = this.#process;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = signal === "SIGSTOP" || signal === "SIGCONT" ? undefined : once(child, "exit");
    child.ref();
    child.kill(signal);
    await ended;
    child.unref();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#own) await this.kill();
    else {
      this.#process.order({ id: this.#id });
      await this.line();
    }
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }
}
