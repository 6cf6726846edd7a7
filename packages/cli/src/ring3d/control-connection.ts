// One administrator's connection: a line is a request, and requests are answered one after the other. Hard part: nothing that a
// peer does or leaves out may cost more than its connection. Lines are bounded, a peer that says nothing is hung up on, one that
// does not read its answers is waited for as long as that, and one that does not read its events is dropped.
import type { Socket } from "node:net";
import { messageOf } from "ring3/binary";
import { LineReader } from "ring3/notices";
import { toJson } from "../text.ts";
import {
  type ControlError,
  type ControlRequest,
  MAXIMUM_REQUEST_BYTES,
  parseRequest,
  requestId,
} from "./control-protocol.ts";
import type { EventFacts } from "./event-lines.ts";

/** Bytes of events that a peer may have unread, besides what the kernel keeps for it. */
const MAXIMUM_UNREAD_BYTES = 1_048_576;

/** What a connection asks of who holds it. */
export interface ConnectionHost {
  /** The answer; throws why there is none. */
  answer(request: ControlRequest): Promise<unknown>;
  /** Whether events go to the connection from now on. */
  subscribe(connection: ControlConnection): void;
  ended(connection: ControlConnection): void;
}

export class ControlConnection {
  readonly #stream: Socket;
  readonly #host: ConnectionHost;
  readonly #refusal: ControlError | undefined;
  readonly #reader = new LineReader(MAXIMUM_REQUEST_BYTES);
  readonly #requests: string[] = [];
  #working = false;
  #peerEnded = false;
  #following: ReadonlySet<string> | "all" | undefined;

  /** With `refusal` every request gets that error, and the first is the last. */
  constructor(stream: Socket, host: ConnectionHost, silenceMs: number, refusal?: ControlError) {
    this.#stream = stream;
    this.#host = host;
    this.#refusal = refusal;
    // Peers come and go as they like; that is no error of the service.
    stream.on("error", () => undefined);
    stream.once("close", () => host.ended(this));
    stream.setTimeout(silenceMs, () => {
      // Whoever waits for an answer, or for events, need not say anything; a write that nobody reads is another matter.
      const waits = this.#working || this.#following !== undefined;
      if (!waits || stream.writableNeedDrain) stream.destroy();
    });
    stream.on("data", (chunk: Buffer) => this.#take(chunk));
    stream.once("end", () => {
      this.#peerEnded = true;
      void this.#work();
    });
  }

  close(): void {
    this.#stream.destroy();
  }

  /** Sends an event, as a line that is the same for everybody, where the peer wants those of this function. */
  event(facts: EventFacts, line: string): void {
    if (this.#following === undefined || this.#stream.destroyed) return;
    const fn = facts["function"];
    if (this.#following !== "all" && typeof fn === "string" && !this.#following.has(fn)) return;
    this.#stream.write(line);
    if (this.#stream.writableLength > MAXIMUM_UNREAD_BYTES) this.#stream.destroy();
  }

  #take(chunk: Buffer): void {
    try {
      this.#requests.push(...this.#reader.push(chunk));
    } catch {
      const message = `a request is a line of at most ${MAXIMUM_REQUEST_BYTES} bytes`;
      this.#lastWords({ code: "USAGE", message });
      return;
    }
    // What comes while requests are being answered stays in the kernel's buffer, which is bounded.
    if (this.#requests.length > 0) this.#stream.pause();
    void this.#work();
  }

  async #work(): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    for (;;) {
      const line = this.#requests.shift();
      if (line === undefined || this.#stream.destroyed) break;
      if (this.#refusal !== undefined) {
        this.#lastWords(this.#refusal);
        return;
      }
      await this.#answer(line);
    }
    this.#working = false;
    if (this.#stream.destroyed) return;
    this.#stream.resume();
    // Whoever has gone, and whoever only ended its side, look the same: neither watches events.
    if (this.#peerEnded) this.#stream.end(() => this.#stream.destroy());
  }

  async #answer(line: string): Promise<void> {
    let value: unknown;
    let id: string | number | undefined;
    let answer: object;
    try {
      value = parseJson(line);
      id = requestId(value);
      const request = parseRequest(value);
      const result = await this.#host.answer(request);
      if (request.request === "events") {
        this.#following = request.functions === undefined ? "all" : new Set(request.functions);
        this.#host.subscribe(this);
      }
      answer = { result };
    } catch (error) {
      answer = { error: errorOf(error) };
    }
    await this.#write(`${toJson({ ...(id === undefined ? {} : { id }), ...answer }, 0)}\n`);
  }

  /** Resolves when the peer has room for more, or has gone. */
  async #write(text: string): Promise<void> {
    const stream = this.#stream;
    if (stream.destroyed || stream.write(text)) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const done = (): void => resolve();
    stream.once("drain", done);
    stream.once("close", done);
    await promise;
    stream.off("drain", done);
    stream.off("close", done);
  }

  #lastWords(error: ControlError): void {
    // Whatever else the peer has to say, nobody hears.
    this.#requests.length = 0;
    this.#stream.removeAllListeners("data").resume();
    this.#stream.end(`${toJson({ error }, 0)}\n`, () => this.#stream.destroy());
  }
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw Object.assign(new Error(`a request is a line of JSON: ${(error as Error).message}`), { code: "USAGE" });
  }
}

function errorOf(error: unknown): ControlError {
  const { code } = error as { readonly code?: unknown };
  const message = messageOf(error);
  return { code: typeof code === "string" ? code : "INTERNAL", message };
}
