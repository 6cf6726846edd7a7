// One booted guest: QEMU as a child that never outlives this process, a control line to the agent inside, and QMP.
// Everything is driven by events: the guest says when it is there, and every wait has a generous bound.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { cacheDirectory, command, guestLane, lock, type Progress } from "./cache.ts";
import { ControlLine, type RunOptions, type RunResult } from "./control.ts";
import type { KernelName } from "./kernels.ts";
import { type MachineFiles, type MachineOptions, machineArguments } from "./machine.ts";
import type { HostRequest } from "./protocol.ts";
import { Qmp, type QmpEvent } from "./qmp.ts";
import { type GuestInit, prepare } from "./setup.ts";
import { stage } from "./stage.ts";
import { debianTool } from "./tools.ts";

export interface GuestOptions {
  readonly kernel?: KernelName;
  readonly machine?: MachineOptions;
  /** PID 1: the rig's script unless told. */
  readonly init?: GuestInit;
  /** Bind the functions as machine.ts says (the default). */
  readonly bind?: boolean;
  /** Wire the console to this process's terminal. */
  readonly interactive?: boolean;
  readonly bootTimeoutMs?: number;
  readonly progress?: Progress;
}

/** How long a guest took, from the start of QEMU. */
export interface BootTimes {
  readonly agentMs: number;
  readonly readyMs: number;
}

/** Emulated machines are slow, and those of continuous integration are slower. */
const BOOT_TIMEOUT_MS = 300_000;
const CONSOLE_TAIL = 40;
/**
 * How long a guest that suspended itself sleeps. Linux reckons sleep by the seconds of the clock chip and evens out what
 * it rounded the last time, so of two seconds it may count a tenth.
 */
const SLEEP_MS = 2500;

/** Boots a guest and waits until its agent is there and its functions are bound. */
export async function bootGuest(options: GuestOptions = {}): Promise<Guest> {
  const progress = options.progress ?? (() => undefined);
  const stack = new AsyncDisposableStack();
  try {
    // One guest at a time: more would share the processors and run into each other's time-outs.
    stack.use(await lock(guestLane(), () => progress("waiting for another guest to end")));
    const guest = await startGuest(options, stack, progress);
    const resources = stack.move();
    guest.onDispose(() => resources.disposeAsync());
    try {
      await guest.booted(options.bind ?? true, options.bootTimeoutMs ?? BOOT_TIMEOUT_MS);
    } catch (error) {
      await guest[Symbol.asyncDispose]();
      throw error;
    }
    return guest;
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

async function startGuest(options: GuestOptions, stack: AsyncDisposableStack, progress: Progress): Promise<Guest> {
  // Whoever makes another kernel's or tree's initramfs removes what was there: not between its name and QEMU's look at it.
  await using _preparing = await lock("preparation");
  const { kernel, initramfs, qemu, disk } = await prepare(options.kernel ?? "debian", progress, options.init);
  const directory = await runDirectory();
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  stage(join(directory, "share"));
  const files: MachineFiles = {
    kernel: kernel.image,
    initramfs,
    share: join(directory, "share"),
    disk,
    control: join(directory, "control"),
    qmp: join(directory, "qmp"),
    console: join(directory, "console"),
    log: join(directory, "log"),
  };
  return await Guest.start(files, qemu, options);
}

/** A new temporary directory for the holder of the lock; what a killed holder left behind goes. */
async function runDirectory(): Promise<string> {
  const record = join(cacheDirectory(), `${guestLane()}.directory`);
  const prefix = join(tmpdir(), "ring3-guest-");
  const former = existsSync(record) ? readFileSync(record, "utf8") : "";
  if (former.startsWith(prefix)) rmSync(former, { recursive: true, force: true });
  const directory = await mkdtemp(prefix);
  writeFileSync(record, directory);
  return directory;
}

export class Guest implements AsyncDisposable {
  readonly #files: MachineFiles;
  readonly #qemu: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #control: ControlLine;
  readonly #qmp: Qmp;
  readonly #events = new Set<(event: QmpEvent) => void>();
  readonly #startedAt = performance.now();
  readonly #killAtExit = (): void => {
    this.#qemu.kill("SIGKILL");
    rmSync(dirname(this.#files.control), { recursive: true, force: true });
  };
  #cleanUp: () => Promise<void> = () => Promise.resolve();
  #times: BootTimes = { agentMs: 0, readyMs: 0 };
  #release = "";
  #traced: readonly string[] = [];
  #tracedFrom = 0;
  #stderr = "";
  #ending = false;

  private constructor(files: MachineFiles, qemu: ChildProcess, control: Socket, qmp: Socket) {
    this.#files = files;
    this.#qemu = qemu;
    this.#exited = once(qemu, "exit");
    this.#control = new ControlLine(control, (request) => this.#serve(request));
    this.#qmp = new Qmp(qmp, (event) => {
      if (event.event === "SUSPEND") this.#wakeLater();
      for (const listener of this.#events) listener(event);
    });
    qemu.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#stderr += text));
    qemu.once("exit", (code, signal) => this.#ended(`QEMU ended with ${signal ?? code}`));
    process.once("exit", this.#killAtExit);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, exitOn);
  }

  /** Starts QEMU, which connects to both sockets before the machine runs, and waits until it has read its files. */
  static async start(files: MachineFiles, qemuRoot: string, options: GuestOptions): Promise<Guest> {
    const interactive = options.interactive ?? false;
    using control = listenOnce(files.control);
    using qmp = listenOnce(files.qmp);
    await Promise.all([control.listening, qmp.listening]);
    const { program, args } = debianTool(qemuRoot, "qemu-system-x86_64");
    const data = ["qemu", "seabios", "ipxe/qemu"].flatMap((name) => ["-L", join(qemuRoot, "usr/share", name)]);
    const machine = machineArguments(files, options.machine ?? {}, interactive);
    // The kernel ends QEMU when this process dies without a chance to.
    const qemu = spawn("setpriv", ["--pdeathsig", "KILL", "--", program, ...args, ...data, ...machine], {
      stdio: interactive ? ["inherit", "inherit", "pipe"] : ["ignore", "ignore", "pipe"],
      env: { ...process.env, QEMU_MODULE_DIR: join(qemuRoot, "usr/lib/x86_64-linux-gnu/qemu") },
    });
    let stderr = "";
    const collect = (text: Buffer): void => void (stderr += text.toString());
    qemu.stderr?.on("data", collect);
    const died = new Promise<never>((_resolve, reject) => {
      qemu.once("error", reject);
      qemu.once("close", (code, signal) => reject(new Error(`QEMU ended with ${signal ?? code}:\n${stderr}`)));
    });
    died.catch(() => undefined);
    const connected = Promise.all([control.connection, qmp.connection]);
    const [controlSocket, qmpSocket] = await Promise.race([connected, died]);
    qemu.stderr?.off("data", collect);
    const guest = new Guest(files, qemu, controlSocket, qmpSocket);
    await guest.#qmp.execute("qmp_capabilities");
    return guest;
  }

  /** Waits for the agent. */
  async booted(bind: boolean, timeoutMs: number): Promise<void> {
    const timer = setTimeout(() => this.#ended(`no agent after ${timeoutMs / 1000} s of booting`), timeoutMs);
    try {
      const hello = await this.#control.hello;
      const agentMs = Math.round(performance.now() - this.#startedAt);
      this.#release = hello.release;
      if (bind) await this.bindStandard();
      this.#times = { agentMs, readyMs: Math.round(performance.now() - this.#startedAt) };
    } finally {
      clearTimeout(timer);
    }
  }

  /** The kernel's release. */
  get release(): string {
    return this.#release;
  }

  get bootTimes(): BootTimes {
    return this.#times;
  }

  /** Runs a program to its end, by default as uid 1000; several may run at once. */
  run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return this.#control.run(argv, options);
  }

  /** Brings every function of the machine to the driver that machine.ts names. */
  async bindStandard(): Promise<void> {
    const problems = await this.#control.bind();
    if (problems.length > 0) throw new Error(`binding failed:\n${problems.join("\n")}\n${this.consoleTail()}`);
  }

  /** Runs one QMP command. */
  qmp(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return this.#qmp.execute(command, args);
  }

  /** Waits for the next QMP event of a name. */
  qmpEvent(name: string, timeoutMs = 60_000): Promise<QmpEvent> {
    return new Promise((resolve, reject) => {
      const listener = (event: QmpEvent): void => {
        if (event.event !== name) return;
        clearTimeout(timer);
        this.#events.delete(listener);
        resolve(event);
      };
      const timer = setTimeout(() => {
        this.#events.delete(listener);
        reject(new Error(`no QMP event ${name} within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#events.add(listener);
    });
  }

  /** Everything the console said. */
  console(): string {
    return existsSync(this.#files.console) ? readFileSync(this.#files.console, "utf8") : "";
  }

  /** The last lines of the console, for messages. */
  consoleTail(): string {
    const lines = this.console().replaceAll("\r", "").trimEnd().split("\n").slice(-CONSOLE_TAIL);
    return `console:\n${lines.map((line) => `  ${line}`).join("\n")}`;
  }

  /** Logs QEMU's trace events, such as `memory_region_ops_write`, until `traceStop`. */
  async traceStart(events: readonly string[]): Promise<void> {
    this.#tracedFrom = this.#log().length;
    this.#traced = events;
    for (const name of events) await this.qmp("trace-event-set-state", { name, enable: true });
  }

  /** Ends all tracing and returns the lines since `traceStart`. */
  async traceStop(): Promise<string> {
    for (const name of this.#traced) await this.qmp("trace-event-set-state", { name, enable: false });
    return this.#log().slice(this.#tracedFrom);
  }

  /** Shows a directory of the host in the guest, read-only, as /share/NAME. */
  async share(name: string, directory: string): Promise<void> {
    const target = join(this.#files.share, name);
    if (existsSync(target)) return;
    // Links take neither time nor room where both are on one file system.
    await command("cp", ["-al", directory, target]).catch(async () => {
      rmSync(target, { recursive: true, force: true });
      await command("cp", ["-a", directory, target]);
    });
  }

  onDispose(cleanUp: () => Promise<void>): void {
    this.#cleanUp = cleanUp;
  }

  /** Ends QEMU and removes what this boot made. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    this.#qemu.kill("SIGKILL");
    if (this.#qemu.exitCode === null && this.#qemu.signalCode === null) await this.#exited;
    process.off("exit", this.#killAtExit);
    await this.#cleanUp();
  }

  /** Resolves when QEMU has ended by itself, for instance after `poweroff`. */
  async ended(): Promise<void> {
    await this.#exited;
  }

  /** Wakes a guest that sleeps. An alarm of its own clock could ring before a busy guest has fallen asleep. */
  #wakeLater(): void {
    setTimeout(() => void this.qmp("system_wakeup").catch(() => undefined), SLEEP_MS).unref();
  }

  #log(): string {
    return existsSync(this.#files.log) ? readFileSync(this.#files.log, "utf8") : "";
  }

  #ended(reason: string): void {
    const error = new Error(`${reason}\n${this.#stderr}${this.consoleTail()}`);
    this.#control.fail(error);
    this.#qmp.fail(error);
  }

  async #serve(request: HostRequest): Promise<unknown> {
    if (request.kind === "qmp") return await this.qmp(request.command, request.args);
    if (request.kind === "trace-start") return await this.traceStart(request.events);
    const lines = (await this.traceStop()).split("\n");
    return lines.filter((line) => line.includes(request.filter)).join("\n");
  }
}

/** A signal that ends this process still lets its exit handlers end QEMU. */
function exitOn(signal: NodeJS.Signals): never {
  process.exit(signal === "SIGINT" ? 130 : 143);
}

/** A socket that takes one connection. */
export function listenOnce(path: string): Disposable & { listening: Promise<unknown>; connection: Promise<Socket> } {
  const server = createServer();
  const connection = new Promise<Socket>((resolve) => server.once("connection", resolve));
  const listening = once(server.listen(path), "listening");
  return { listening, connection, [Symbol.dispose]: () => void server.close() };
}
