// A user's end of ring3d's users' socket (docs/ring3d-notices.md): what may I use, tell me what is about to happen to it, and
// give me the kernel's own descriptors of it.
import { Ring3Error } from "./binary/error.ts";
import { type FileDescriptor, UnixSocket, type Watch, watch } from "./linux/index.ts";
import {
  isNoticeMessage,
  LineReader,
  MESSAGE_BYTES,
  type Notice,
  type NoticeAnswer,
  type NoticeKind,
  parseMessage,
  type UserRequest,
} from "./mediation/notices/index.ts";

export const USERS_SOCKET = "/run/ring3/users.sock";
const EAGAIN = 11;
const CHUNK_BYTES = 65_536;

export interface ServiceUserOptions {
  /** Gets the notices that {@link ServiceUser.register} asks for. What it throws is an uncaught exception. */
  readonly onNotice?: (notice: Notice) => void;
  /** How long the service may take to answer; 30,000 ms by default. */
  readonly timeoutMs?: number;
  /** Whether the connection keeps the process alive; yes by default. */
  readonly keepsAlive?: boolean;
}

/** A function that this user may use. */
export interface ServiceFunction {
  readonly name: string;
  readonly address: string;
  /** Where it is served: `open("vfio-user:" + socket)`. */
  readonly socket: string;
  readonly state: string;
  /** Whether `open("ring3d:" + name)` gives this user the kernel's own descriptors. */
  readonly handOver: boolean;
}

/** What the service says when it hands a function over. The descriptors are the caller's. */
export interface HandedOver {
  readonly address: string;
  readonly backend: "group" | "iommufd";
  /** Container, group and device, or iommufd and device. */
  readonly descriptors: readonly FileDescriptor[];
}

interface Waiting {
  readonly resolve: (answer: { result: Readonly<Record<string, unknown>>; fds: FileDescriptor[] }) => void;
  readonly reject: (error: Ring3Error) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

type WithoutId<T> = T extends unknown ? Omit<T, "id"> : never;

/**
 * A connection to ring3d. Functions that were opened over it are given back when it ends. Methods reject with the code that
 * the service gives, with `SERVICE_CLOSED` once the connection has ended, and with `SERVICE_SILENT` where no answer comes.
 *
 * @example
 * import { ServiceUser } from "ring3/ring3d";
 * using user = new ServiceUser("/run/ring3/users.sock", {
 *   onNotice: ({ notice, kind }) => void (kind === "suspend" && user.reply(notice, "consent")),
 * });
 * await user.register("disk", ["suspend", "power-resume"]);
 */
export class ServiceUser implements Disposable {
  readonly #socket: UnixSocket;
  readonly #onNotice: (notice: Notice) => void;
  readonly #timeoutMs: number;
  readonly #lines = new LineReader(MESSAGE_BYTES);
  readonly #buffer = new Uint8Array(CHUNK_BYTES);
  readonly #waiting: Map<number, Waiting> = new Map();
  readonly #fds: FileDescriptor[] = [];
  readonly #watch: Watch;
  readonly #end = new AbortController();
  #requests = 0;

  /** Connects to the users' socket at `path`. Throws `SYSTEM_CALL` where nobody serves there. */
  constructor(path: string = USERS_SOCKET, options: ServiceUserOptions = {}) {
    this.#onNotice = options.onNotice ?? (() => undefined);
    this.#timeoutMs = options.timeoutMs ?? 30_000;
    this.#socket = UnixSocket.connect(path);
    this.#watch = watch(this.#socket.fd, () => this.#read(), { keepsAlive: options.keepsAlive ?? true });
  }

  /** Aborts when the connection has ended, whoever ended it. */
  get ended(): AbortSignal {
    return this.#end.signal;
  }

  /** The functions that this user may use. */
  async functions(): Promise<readonly ServiceFunction[]> {
    const { result } = await this.#ask({ request: "functions" });
    const functions = result["functions"];
    if (!Array.isArray(functions) || !functions.every(isServiceFunction)) throw nonsense("functions");
    return functions;
  }

  /**
   * Wants these notices of a function, in place of those before; with `pid` on behalf of another process of this user.
   */
  async register(fn: string, notices: readonly NoticeKind[], pid?: number): Promise<void> {
    await this.#ask({ request: "register", function: fn, notices, ...(pid === undefined ? {} : { pid }) });
  }

  /** Answers a notice by its number. Rejects with `NOTICE_ENDED` where it came too late. */
  async reply(notice: number, answer: NoticeAnswer, reason?: string): Promise<void> {
    await this.#ask({ request: "reply", notice, answer, ...(reason === undefined ? {} : { reason }) });
  }

  /** Asks for the kernel's own descriptors of a function: it is this process's until the connection ends. */
  async open(fn: string): Promise<HandedOver> {
    const { result, fds } = await this.#ask({ request: "open", function: fn });
    const { address, backend, descriptors } = result;
    const expected = backend === "group" ? 3 : backend === "iommufd" ? 2 : -1;
    if (typeof address === "string" && descriptors === expected && fds.length === expected) {
      return { address, backend: backend as "group" | "iommufd", descriptors: fds };
    }
    for (const fd of fds) fd.close();
    throw nonsense("open");
  }

  [Symbol.dispose](): void {
    this.#close(new Ring3Error("SERVICE_CLOSED", "the connection to ring3d was closed"));
  }

  #ask(request: WithoutId<UserRequest>): ReturnType<typeof promiseOfAnswer>["promise"] {
    const { promise, resolve, reject } = promiseOfAnswer();
    if (this.ended.aborted) {
      reject(this.ended.reason as Ring3Error);
      return promise;
    }
    const id = ++this.#requests;
    const timer = setTimeout(() => {
      const error = new Ring3Error("SERVICE_SILENT", `ring3d did not answer within ${this.#timeoutMs} ms`);
      this.#close(error);
    }, this.#timeoutMs);
    this.#waiting.set(id, { resolve, reject, timer });
    // A request is shorter than the socket's buffer, and the service reads while it lives.
    const bytes = new TextEncoder().encode(`${JSON.stringify({ id, ...request })}\n`);
    const size = this.#socket.send([bytes]);
    if (size !== bytes.length)
      this.#close(new Ring3Error("SERVICE_CLOSED", "ring3d does not read its users' requests"));
    return promise;
  }

  #read(): void {
    const { size, fds, fdsLost } = this.#socket.receive(this.#buffer);
    this.#fds.push(...fds);
    if (size === -EAGAIN) return;
    if (size <= 0 || fdsLost) {
      this.#close(new Ring3Error("SERVICE_CLOSED", "ring3d has ended the connection; its log says why"));
      return;
    }
    try {
      for (const line of this.#lines.push(this.#buffer.subarray(0, size))) this.#hear(line);
    } catch (error) {
      if (!(error instanceof Ring3Error)) throw error;
      this.#close(error);
    }
  }

  #hear(line: string): void {
    const message = parseMessage(line);
    if (isNoticeMessage(message)) {
      if (!this.ended.aborted) this.#onNotice(message);
      return;
    }
    const waiting = message.id === null ? undefined : this.#waiting.get(message.id);
    if ("error" in message) {
      const error = new Ring3Error(message.error.code, message.error.message);
      // What concerns no request is said before hanging up.
      if (waiting === undefined) return this.#close(error);
      this.#settle(message.id ?? -1)?.reject(error);
      return;
    }
    // Descriptors come with the first byte of the line that they belong to.
    const count = message.result["descriptors"];
    const fds = typeof count === "number" ? this.#fds.splice(0, count) : [];
    if (waiting === undefined) for (const fd of fds) fd.close();
    this.#settle(message.id)?.resolve({ result: message.result, fds });
  }

  #settle(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return undefined;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    return waiting;
  }

  #close(error: Ring3Error): void {
    if (this.ended.aborted) return;
    this.#watch[Symbol.dispose]();
    this.#socket[Symbol.dispose]();
    for (const fd of this.#fds.splice(0)) fd.close();
    for (const id of Array.from(this.#waiting.keys())) this.#settle(id)?.reject(error);
    this.#end.abort(error);
  }
}

function promiseOfAnswer() {
  return Promise.withResolvers<{ result: Readonly<Record<string, unknown>>; fds: FileDescriptor[] }>();
}

function isServiceFunction(value: unknown): value is ServiceFunction {
  if (typeof value !== "object" || value === null) return false;
  const { name, address, socket, state, handOver } = value as Readonly<Record<string, unknown>>;
  return [name, address, socket, state].every((text) => typeof text === "string") && typeof handOver === "boolean";
}

function nonsense(request: string): Ring3Error {
  return new Ring3Error("MESSAGE_INVALID", `ring3d's answer to "${request}" is none; is it a newer version?`);
}
