// A client for tests that knows bytes only: it sends what it is told, true or not, and waits for what comes.
import assert from "node:assert/strict";
import { type FileDescriptor, UnixSocket } from "../linux/index.ts";
import { Command, HEADER_SIZE, Header, HeaderFlag } from "./messages.ts";

export interface FakeMessage {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly errno: number;
  readonly payload: Uint8Array;
  readonly fds: readonly FileDescriptor[];
}

export interface SendOptions {
  readonly id?: number;
  readonly flags?: number;
  readonly fds?: readonly FileDescriptor[];
  /** The size that the header claims. */
  readonly size?: number;
}

const TIMEOUT_MS = 5000;

/** 20 bytes without JSON, as SPDK's client greets. */
export const BARE_VERSION: Uint8Array = Uint8Array.of(0, 0, 0, 0);

export class FakeClient implements Disposable {
  readonly socket: UnixSocket;
  readonly #into: Uint8Array = new Uint8Array(2 ** 16);
  #bytes: Uint8Array = new Uint8Array(0);
  #fds: FileDescriptor[] = [];
  readonly #timeoutMs: number;
  #ended = false;

  /** Waits for an answer for `timeoutMs` at most. */
  constructor(socket: UnixSocket, timeoutMs: number = TIMEOUT_MS) {
    this.socket = socket;
    this.#timeoutMs = timeoutMs;
  }

  static connect(path: string, timeoutMs?: number): FakeClient {
    return new FakeClient(UnixSocket.connect(path), timeoutMs);
  }

  /** Connects and says hello; `capabilities` becomes the JSON. */
  static async open(path: string, capabilities?: object, timeoutMs?: number): Promise<FakeClient> {
    const client = FakeClient.connect(path, timeoutMs);
    try {
      const reply = await client.request(Command.VERSION, versionPayload(capabilities));
      assert.equal(reply.errno, 0, "VERSION was refused");
      for (const fd of reply.fds) fd.close();
      return client;
    } catch (error) {
      client[Symbol.dispose]();
      throw error;
    }
  }

  /** Sends bytes as they are, in one call. */
  raw(bytes: Uint8Array, fds: readonly FileDescriptor[] = []): void {
    assert.equal(this.socket.send([bytes], fds), bytes.length);
  }

  send(command: number, payload: Uint8Array = new Uint8Array(0), options: SendOptions = {}): void {
    this.raw(message(command, payload, options), options.fds);
  }

  async request(command: number, payload?: Uint8Array, options: SendOptions = {}): Promise<FakeMessage> {
    this.send(command, payload, options);
    const reply = await this.next();
    assert.equal(reply.flags & HeaderFlag.TYPE_MASK, HeaderFlag.REPLY);
    assert.equal(reply.command, command);
    assert.equal(reply.id, options.id ?? 1);
    return reply;
  }

  /** Sends a request and gives the errno of its reply, which must be a bare header. */
  async errno(command: number, payload?: Uint8Array, options: SendOptions = {}): Promise<number> {
    const reply = await this.request(command, payload, options);
    if (reply.errno !== 0) {
      assert.equal(reply.payload.length, 0);
      assert.equal(reply.flags, HeaderFlag.REPLY | HeaderFlag.ERROR);
    }
    for (const fd of reply.fds) fd.close();
    return reply.errno;
  }

  /** The next message, whatever it is. Rejects where the server hangs up or says nothing. */
  async next(): Promise<FakeMessage> {
    for (const until = performance.now() + this.#timeoutMs; ; await turn()) {
      this.#receive();
      const found = this.#take();
      if (found !== undefined) return found;
      assert.ok(!this.#ended, "the server hung up");
      assert.ok(performance.now() < until, "the server says nothing");
    }
  }

  /** Resolves when the server has hung up; rejects where it says something instead. */
  async hangUp(): Promise<void> {
    for (const until = performance.now() + this.#timeoutMs; !this.#ended; await turn()) {
      this.#receive();
      assert.equal(this.#bytes.length, 0, "the server says something");
      assert.ok(performance.now() < until, "the server does not hang up");
    }
  }

  /** Whether nothing came so far. */
  get silent(): boolean {
    this.#receive();
    return this.#bytes.length === 0;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.splice(0)) fd.close();
    this.socket[Symbol.dispose]();
  }

  #receive(): void {
    if (this.#ended) return;
    const into = this.#into;
    const { size, fds } = this.socket.receive(into);
    this.#fds.push(...fds);
    if (size > 0) {
      const all = new Uint8Array(this.#bytes.length + size);
      all.set(this.#bytes);
      all.set(into.subarray(0, size), this.#bytes.length);
      this.#bytes = all;
    } else if (size === 0 || size === -104) this.#ended = true;
  }

  #take(): FakeMessage | undefined {
    if (this.#bytes.length < HEADER_SIZE) return undefined;
    const header = Header.from(this.#bytes);
    if (this.#bytes.length < header.size) return undefined;
    const payload = this.#bytes.slice(HEADER_SIZE, header.size);
    this.#bytes = this.#bytes.subarray(header.size);
    return {
      id: header.message_id,
      command: header.command,
      flags: header.flags,
      errno: (header.flags & HeaderFlag.ERROR) === 0 ? 0 : header.error,
      payload,
      fds: this.#fds.splice(0),
    };
  }
}

export function message(command: number, payload: Uint8Array, options: SendOptions = {}): Uint8Array {
  const { id = 1, flags = 0, size = HEADER_SIZE + payload.length } = options;
  const bytes = new Uint8Array(HEADER_SIZE + payload.length);
  bytes.set(Header.bytes({ message_id: id, command, size, flags, error: 0 }));
  bytes.set(payload, HEADER_SIZE);
  return bytes;
}

export function versionPayload(capabilities?: object, minor = 0): Uint8Array {
  if (capabilities === undefined) return BARE_VERSION;
  const text = new TextEncoder().encode(`${JSON.stringify({ capabilities })}\0`);
  return Uint8Array.of(0, 0, minor, 0, ...text);
}

/** One turn of the event loop, polling included. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Waits for `condition`, turn by turn. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  for (const end = performance.now() + TIMEOUT_MS; !condition(); await turn()) {
    assert.ok(performance.now() < end, `never: ${what}`);
  }
}
