// The host's end of the control line: jobs by number, and the questions that tests in the guest ask.
import type { Socket } from "node:net";
import { messageOf } from "ring3/binary";
import { type HostRequest, LineReader, pieces, type ToGuest, type ToHost } from "./protocol.ts";

export interface RunOptions {
  /** 1000 unless told. */
  readonly uid?: number;
  /** The same as `uid` unless told. */
  readonly gid?: number;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** What the program reads from standard input. */
  readonly input?: string;
  /** After this the program and its children are killed; 120 s unless told. */
  readonly timeoutMs?: number;
  /** Called with output as it comes. */
  readonly onOutput?: (text: string, stream: "stdout" | "stderr") => void;
}

export interface RunResult {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Whether it was killed because its time was over. */
  readonly timedOut: boolean;
}

type Hello = Extract<ToHost, { op: "hello" }>;

interface Job {
  stdout: string;
  stderr: string;
  timedOut: boolean;
  readonly timer: NodeJS.Timeout;
  readonly onOutput: RunOptions["onOutput"];
  readonly resolve: (result: RunResult) => void;
  readonly reject: (error: Error) => void;
}

const RUN_TIMEOUT_MS = 120_000;

export class ControlLine {
  readonly #socket: Socket;
  readonly #serve: (request: HostRequest) => Promise<unknown>;
  readonly #jobs = new Map<number, Job>();
  readonly #binds = new Map<
    number,
    { resolve: (problems: readonly string[]) => void; reject: (error: Error) => void }
  >();
  readonly #hello = Promise.withResolvers<Hello>();
  /** Lines to send; those that continue wait for `more`. */
  readonly #queue: string[] = [];
  #waitingForMore = false;
  #lastId = 0;
  #failure: Error | undefined;

  constructor(socket: Socket, serve: (request: HostRequest) => Promise<unknown>) {
    this.#socket = socket;
    this.#serve = serve;
    this.#hello.promise.catch(() => undefined);
    const lines = new LineReader();
    socket.setEncoding("utf8");
    // It breaks when QEMU ends, and the end of QEMU is reported with more to go by.
    socket.on("error", () => undefined);
    socket.on("data", (text: string) => lines.push(text, (line) => this.#line(line)));
  }

  /** Resolves when the agent says that it is there. */
  get hello(): Promise<Hello> {
    return this.#hello.promise;
  }

  run(argv: readonly string[], options: RunOptions): Promise<RunResult> {
    const { uid = 1000, gid = uid, cwd = "/", env = {}, input = "", timeoutMs = RUN_TIMEOUT_MS, onOutput } = options;
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) return reject(this.#failure);
      const id = ++this.#lastId;
      const timer = setTimeout(() => {
        job.timedOut = true;
        this.#send({ op: "kill", id, signal: "SIGKILL" });
      }, timeoutMs);
      const job: Job = { stdout: "", stderr: "", timedOut: false, timer, onOutput, resolve, reject };
      this.#jobs.set(id, job);
      this.#send({ op: "run", id, argv, uid, gid, cwd, env, input });
    });
  }

  /** Asks for the standard bindings; returns what could not be done. */
  bind(): Promise<readonly string[]> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) return reject(this.#failure);
      const id = ++this.#lastId;
      this.#binds.set(id, { resolve, reject });
      this.#send({ op: "bind", id });
    });
  }

  /** Ends everything that waits, now and later. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#hello.reject(error);
    for (const job of this.#jobs.values()) {
      clearTimeout(job.timer);
      job.reject(error);
    }
    for (const { reject } of this.#binds.values()) reject(error);
    this.#jobs.clear();
    this.#binds.clear();
  }

  #send(message: ToGuest): void {
    this.#queue.push(...pieces(message));
    this.#flush();
  }

  #flush(): void {
    while (!this.#waitingForMore) {
      const line = this.#queue.shift();
      if (line === undefined) return;
      this.#waitingForMore = line.startsWith("+");
      this.#socket.write(line);
    }
  }

  #line(line: string): void {
    let message: ToHost;
    try {
      message = JSON.parse(line) as ToHost;
    } catch {
      return this.fail(new Error(`the control line carried no JSON: ${line.slice(0, 200)}`));
    }
    this.#receive(message);
  }

  #receive(message: ToHost): void {
    switch (message.op) {
      case "hello":
        return this.#hello.resolve(message);
      case "more":
        this.#waitingForMore = false;
        return this.#flush();
      case "bound":
        this.#binds.get(message.id)?.resolve(message.problems);
        this.#binds.delete(message.id);
        return;
      case "ask":
        return this.#answer(message.id, message.what);
      default:
        return this.#job(message);
    }
  }

  #job(message: Extract<ToHost, { op: "output" | "exit" | "failed" }>): void {
    const job = this.#jobs.get(message.id);
    if (job === undefined) return;
    if (message.op === "output") {
      job[message.stream] += message.text;
      job.onOutput?.(message.text, message.stream);
      return;
    }
    this.#jobs.delete(message.id);
    clearTimeout(job.timer);
    if (message.op === "failed") return job.reject(new Error(message.message));
    const { code, signal } = message;
    job.resolve({ code, signal, stdout: job.stdout, stderr: job.stderr, timedOut: job.timedOut });
  }

  #answer(id: number, what: HostRequest): void {
    this.#serve(what).then(
      (value) => this.#send({ op: "answer", id, value }),
      (error: unknown) => this.#send({ op: "answer", id, error: messageOf(error) }),
    );
  }
}
