// A connection to a message bus over its UNIX socket, as small as talking to logind takes. It is not done by a package or a
// program because a lock of logind's is a descriptor: Node's sockets take none, and programs that listen need root for it.
import { messageOf } from "ring3/binary";
import { type FileDescriptor, UnixSocket, type Watch, watch } from "ring3/linux";
import { decodeMessage, type DbusMessage, encodeMessage, messageSize } from "./message.ts";
import type { DbusValue } from "./values.ts";

const BUS = { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };
const EAGAIN = 11;
const CHUNK_BYTES = 65_536;
/** As long as other clients wait. */
const REPLY_MS = 25_000;

/** The bus, or who was called on it, said no; or the connection has ended. */
class DbusError extends Error {
  override readonly name = "DbusError";
  /** As `org.freedesktop.DBus.Error.AccessDenied`. */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

export interface DbusCall {
  readonly destination: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  /** Types of the arguments, a letter each. */
  readonly signature?: string;
  readonly body?: readonly DbusValue[];
}

interface DbusAnswer {
  readonly body: readonly DbusValue[];
  /** The caller's now. */
  readonly fds: readonly FileDescriptor[];
}

interface Waiting {
  readonly resolve: (answer: DbusAnswer) => void;
  readonly reject: (error: DbusError) => void;
  readonly timer: NodeJS.Timeout;
}

/** Gets what nobody waits for: signals that were asked for, and calls. */
export type DbusListener = (message: DbusMessage) => void;

export class DbusConnection implements Disposable {
  readonly #socket: UnixSocket;
  readonly #listener: DbusListener;
  readonly #watch: Watch;
  readonly #end = new AbortController();
  readonly #waiting: Map<number, Waiting> = new Map();
  readonly #greeting: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly #fds: FileDescriptor[] = [];
  #received = new Uint8Array(0);
  /** Lines of the greeting that are still to come; messages after that. */
  #greetings = 2;
  #serial = 0;

  private constructor(path: string, listener: DbusListener) {
    this.#listener = listener;
    this.#socket = UnixSocket.connect(path);
    this.#watch = watch(this.#socket.fd, () => this.#read(), { keepsAlive: false });
    // The bus knows who we are from the kernel; the words have to be said all the same.
    const uid = Buffer.from(String(process.geteuid?.() ?? 0)).toString("hex");
    this.#write(new TextEncoder().encode(`\0AUTH EXTERNAL ${uid}\r\nNEGOTIATE_UNIX_FD\r\n`));
  }

  /** Connects to the bus at the socket `path`. Rejects with {@link DbusError}, or `SYSTEM_CALL` where no bus is there. */
  static async connect(path: string, listener: DbusListener): Promise<DbusConnection> {
    const connection = new DbusConnection(path, listener);
    const timer = setTimeout(() => connection.#close("the bus does not answer"), REPLY_MS);
    try {
      await connection.#greeting.promise;
      await connection.call({ ...BUS, member: "Hello" });
    } finally {
      clearTimeout(timer);
    }
    return connection;
  }

  /** Aborts when the connection has ended, whoever ended it. */
  get ended(): AbortSignal {
    return this.#end.signal;
  }

  /** Wants the signals that the rule names, as `type='signal',member='PrepareForSleep'`. */
  async addMatch(rule: string): Promise<void> {
    await this.call({ ...BUS, member: "AddMatch", signature: "s", body: [rule] });
  }

  /** Calls a method and gives what it returns. Rejects with {@link DbusError}. */
  call(call: DbusCall): Promise<DbusAnswer> {
    const { promise, resolve, reject } = Promise.withResolvers<DbusAnswer>();
    if (this.ended.aborted) {
      reject(this.ended.reason as DbusError);
      return promise;
    }
    const serial = this.send({ body: [], ...call, type: "call" });
    const late = (): void => {
      this.#waiting.delete(serial);
      reject(
        new DbusError("org.freedesktop.DBus.Error.NoReply", `${call.member} of ${call.destination} gave no answer`),
      );
    };
    this.#waiting.set(serial, { resolve, reject, timer: setTimeout(late, REPLY_MS) });
    return promise;
  }

  /** Sends a message, with descriptors that stay the caller's, and gives its serial. */
  send(message: Omit<DbusMessage, "serial">, fds: readonly FileDescriptor[] = []): number {
    const serial = ++this.#serial;
    this.#write(encodeMessage({ ...message, serial, ...(fds.length > 0 ? { unixFds: fds.length } : {}) }), fds);
    return serial;
  }

  [Symbol.dispose](): void {
    this.#close("the connection to the bus was closed");
  }

  #write(bytes: Uint8Array, fds: readonly FileDescriptor[] = []): void {
    if (this.ended.aborted) return;
    // What is said here is a fraction of the socket's buffer; a bus that reads none of it is none.
    if (this.#socket.send([bytes], fds) !== bytes.length) this.#close("the bus does not read");
  }

  #read(): void {
    const buffer = new Uint8Array(CHUNK_BYTES);
    const { size, fds, fdsLost } = this.#socket.receive(buffer);
    this.#fds.push(...fds);
    if (size === -EAGAIN) return;
    if (size <= 0 || fdsLost) return this.#close("the bus has ended the connection");
    const received = new Uint8Array(this.#received.length + size);
    received.set(this.#received);
    received.set(buffer.subarray(0, size), this.#received.length);
    this.#received = received;
    try {
      while (!this.ended.aborted && this.#takeOne());
    } catch (error) {
      // What is broken in one message leaves none to be read after it.
      this.#close(`the bus is not understood: ${messageOf(error)}`);
    }
  }

  #takeOne(): boolean {
    if (this.#greetings > 0) return this.#takeGreeting();
    const size = messageSize(this.#received);
    if (size === undefined || size > this.#received.length) return false;
    const message = decodeMessage(this.#received.subarray(0, size));
    this.#received = this.#received.subarray(size);
    this.#hear(message, this.#fds.splice(0, message.unixFds ?? 0));
    return true;
  }

  #takeGreeting(): boolean {
    const end = this.#received.indexOf(0x0a);
    if (end === -1) {
      if (this.#received.length > 1024) throw new DbusError("org.freedesktop.DBus.Error.AuthFailed", "no greeting");
      return false;
    }
    const line = new TextDecoder().decode(this.#received.subarray(0, end)).trim();
    this.#received = this.#received.subarray(end + 1);
    const expected = this.#greetings === 2 ? /^OK / : /^AGREE_UNIX_FD$/;
    if (!expected.test(line)) throw new DbusError("org.freedesktop.DBus.Error.AuthFailed", `it says ${line}`);
    if (--this.#greetings > 0) return true;
    this.#write(new TextEncoder().encode("BEGIN\r\n"));
    this.#greeting.resolve();
    return true;
  }

  #hear(message: DbusMessage, fds: readonly FileDescriptor[]): void {
    const waiting = this.#waiting.get(message.replySerial ?? -1);
    if (message.type === "call" || message.type === "signal" || waiting === undefined) {
      for (const fd of fds) fd.close();
      // What a listener throws is no fault of the bus.
      if (message.type === "call" || message.type === "signal") queueMicrotask(() => this.#listener(message));
      return;
    }
    this.#waiting.delete(message.replySerial ?? -1);
    clearTimeout(waiting.timer);
    if (message.type === "return") return waiting.resolve({ body: message.body, fds });
    for (const fd of fds) fd.close();
    waiting.reject(new DbusError(message.errorName ?? "", String(message.body[0] ?? message.errorName)));
  }

  #close(reason: string): void {
    if (this.ended.aborted) return;
    this.#watch[Symbol.dispose]();
    this.#socket[Symbol.dispose]();
    for (const fd of this.#fds.splice(0)) fd.close();
    const error = new DbusError("org.freedesktop.DBus.Error.Disconnected", reason);
    this.#end.abort(error);
    this.#greeting.reject(error);
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#waiting.clear();
  }
}
