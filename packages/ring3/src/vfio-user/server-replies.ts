// What goes back to one client: answers and errors, where the connection can take them, counted and traced.
import type { FileDescriptor } from "../linux/index.ts";
import type { Connection, Message } from "./connection.ts";
import { Command, HEADER_SIZE, HeaderFlag } from "./messages.ts";
import type { Answer } from "./server-commands.ts";
import { errnoOf } from "./server-refusal.ts";
import type { Counters } from "./server-statistics.ts";
import type { MessageTrace } from "./server-trace.ts";

/** What a reply repeats of its command. */
export type Request = Pick<Message, "id" | "command" | "flags">;

export interface ReplyOptions {
  /** How long a client may take to read what precedes a reply that cannot wait. */
  readonly timeoutMs: number;
  readonly counters: Counters;
  readonly trace: MessageTrace | undefined;
}

const NOTHING: Uint8Array = new Uint8Array(0);

export class Replies {
  readonly #connection: Connection;
  readonly #options: ReplyOptions;

  constructor(connection: Connection, options: ReplyOptions) {
    this.#connection = connection;
    this.#options = options;
  }

  /** `nested`: the command was served while a reply of the client's is awaited, and the output area is somebody else's. */
  answer(request: Request, answer: Answer, nested: boolean): void {
    if ((request.flags & HeaderFlag.NO_REPLY) !== 0) return;
    const connection = this.#connection;
    const { timeoutMs, counters, trace } = this.#options;
    const { payload, fds = [] } = answer;
    if (nested) {
      connection.replyMeanwhile(request, payload ?? NOTHING, { fds, timeoutMs });
    } else {
      if (payload !== undefined) connection.channel.output.bytes.set(payload, HEADER_SIZE);
      connection.reply(request.id, request.command, answer.size, 0, fds);
    }
    counters.bytesSent += HEADER_SIZE + answer.size;
    trace?.sent(request.command, "reply", request.id, HEADER_SIZE + answer.size, answer.fds?.length);
  }

  /** Answers with the errno of `error`, and with `text` where the client takes one. */
  refuse(request: Request, error: unknown, nested: boolean, text: Uint8Array = NOTHING): void {
    const { timeoutMs, counters, trace } = this.#options;
    counters.errorReplies++;
    if ((request.flags & HeaderFlag.NO_REPLY) !== 0) return;
    const errno = errnoOf(error);
    if (nested) this.#connection.replyMeanwhile(request, NOTHING, { errno, timeoutMs });
    else this.#connection.refuse(request.id, request.command, errno, text);
    const size = HEADER_SIZE + text.length;
    counters.bytesSent += size;
    trace?.sent(request.command, "reply", request.id, size, 0, errno);
  }

  /** Answers a hello. */
  welcome({ id }: Request, payload: Uint8Array, fds: readonly FileDescriptor[]): void {
    const { counters, trace } = this.#options;
    this.#connection.replyWith(id, Command.VERSION, payload, fds);
    counters.bytesSent += HEADER_SIZE + payload.length;
    trace?.sent(Command.VERSION, "reply", id, HEADER_SIZE + payload.length, fds.length);
  }
}
