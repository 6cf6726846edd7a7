// Commands to the client whose reply is awaited, and what is served until it comes. Who waits for its answer may be who has to
// give the reply: QEMU's processor holds a lock while it reads a register, which QEMU's main loop needs to read memory for us.
// Hard about it: waits lie inside each other on the stack, so a reply may come while somebody further in waits.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import type { Connection, Message, Reply } from "./connection.ts";
import { closeAll } from "./framing.ts";
import { HEADER_SIZE, HeaderFlag } from "./messages.ts";
import { type Attended, attendance } from "./server-attendance.ts";
import { Patience } from "./server-patience.ts";
import type { Counters } from "./server-statistics.ts";
import type { MessageTrace } from "./server-trace.ts";

/** Commands that may wait while a reply is awaited. */
const MAXIMUM_DEFERRED_BYTES = 2 ** 24;
const MAXIMUM_DEFERRED_FDS = 256;
/** Commands of one client served inside each other: processors of a machine, each with a register access. */
const MAXIMUM_DEPTH = 16;

/** What exchanges need of their session. */
export interface ExchangeHost extends Attended {
  readonly connection: Connection;
  /** The socket for our commands, where the client wanted one of its own for them. */
  readonly twin: Connection | undefined;
  /** Whether a message is being handled where it lies in the connection's buffer. */
  readonly handling: boolean;
  /** The answer to a command takes its time: nothing else is handled until it is there. */
  readonly waiting: boolean;
  /** Why nothing can be sent any more. */
  readonly stopped: Ring3Error | undefined;
  /** Handles a command that came while a reply was awaited. */
  handle(message: Message): void;
  breakOff(error: unknown): void;
}

export interface ExchangeOptions {
  readonly timeoutMs: number;
  readonly counters: Counters;
  readonly trace: MessageTrace | undefined;
}

/** One client's exchanges. Disposal lets go of the commands that wait. */
export class Exchanges implements Disposable {
  readonly #host: ExchangeHost;
  readonly #options: ExchangeOptions;
  readonly #patience: Patience;
  readonly #deferred: Message[] = [];
  #deferredBytes = 0;
  #deferredFds = 0;
  /** Replies that are awaited, one inside the other. */
  #active = 0;
  /** Commands being served while a reply is awaited, one inside the other. */
  #depth = 0;
  /** The message that is being handled lies where nothing overwrites it. */
  #held = false;

  constructor(host: ExchangeHost, options: ExchangeOptions) {
    this.#host = host;
    this.#options = options;
    this.#patience = new Patience(options.timeoutMs, performance.now());
  }

  /** Whether a reply is awaited. */
  get active(): boolean {
    return this.#active > 0;
  }

  /** Whether a command is being served while a reply is awaited. */
  get nested(): boolean {
    return this.#depth > 0;
  }

  /** Whether commands wait that came while a reply was awaited. */
  get pending(): boolean {
    return this.#deferred.length > 0;
  }

  /** Whether a message is here already, not counting one that is being handled. */
  get overdue(): boolean {
    const { reader } = this.#host.connection;
    return this.#mustHold ? reader.follows : reader.ready;
  }

  /**
   * Sends a command whose payload lies in the request area already, and gives its reply to `use`. Throws where the client
   * fails, which ends the session.
   */
  exchange(command: number, size: number, use: (reply: Reply) => void): void {
    const { stopped, twin, connection } = this.#host;
    if (stopped !== undefined) throw stopped;
    const { counters, trace } = this.#options;
    const lane = twin ?? connection;
    const release = lane === connection ? this.#hold() : undefined;
    this.#active++;
    try {
      const timeoutMs = this.#patience.at(performance.now());
      if (timeoutMs === 0) throw new Ring3Error("PEER_SILENT", "the client takes too long, again and again, to answer");
      const id = lane.command(command, size, { timeoutMs });
      counters.countSent(command, HEADER_SIZE + size);
      trace?.sent(command, "command", id, HEADER_SIZE + size);
      lane.awaitReply(id, command, timeoutMs, {
        command: (message) => {
          const from = performance.now();
          this.#meanwhile(message, lane);
          this.#patience.excuse(from, performance.now());
        },
        pause: (leftMs) => this.#pause(lane, leftMs),
        reply: (reply) => {
          this.#patience.spent(performance.now());
          counters.bytesReceived += reply.size;
          use(reply);
        },
      });
    } catch (error) {
      if (isRing3Error(error) && (error.code.startsWith("PEER_") || error.code === "MESSAGE_INVALID")) {
        this.#host.breakOff(error);
      }
      throw error;
    } finally {
      this.#active--;
      release?.();
    }
  }

  /**
   * Serves what came for a session that is somewhere further out on the stack: in the middle of a command, or waiting for a
   * reply, while another session waits.
   */
  attend(): void {
    const release = this.#hold();
    try {
      this.#host.connection.receiveMeanwhile((message) => this.#meanwhile(message, this.#host.connection));
    } catch (error) {
      this.#host.breakOff(error);
    } finally {
      release?.();
    }
  }

  /** Handles the oldest command that waits. */
  serveDeferred(): void {
    const message = this.#deferred.shift() as Message;
    this.#deferredBytes -= message.bytes.length;
    this.#deferredFds -= message.fds.length;
    this.#options.counters.countReceived(message.command, message.bytes.length);
    this.#host.handle(message);
  }

  [Symbol.dispose](): void {
    for (const { fds } of this.#deferred.splice(0)) closeAll(fds);
  }

  /** A command that is served meanwhile is a copy: only the outermost one lies in the buffer. */
  get #mustHold(): boolean {
    return this.#host.handling && this.#depth === 0 && !this.#held;
  }

  #hold(): (() => void) | undefined {
    if (!this.#mustHold) return undefined;
    const release = this.#host.connection.reader.hold();
    this.#held = true;
    return () => {
      this.#held = false;
      release();
    };
  }

  /** Nothing came for a while: sleeps until something does, or serves somebody else. */
  #pause(lane: Connection, leftMs: number): number {
    const host = this.#host;
    const servedMs = attendance.wait(lane.channel.fd, leftMs, lane === host.connection ? host : undefined);
    // The client may have answered long ago.
    const now = performance.now();
    if (servedMs > 0) this.#patience.excuse(now - servedMs, now);
    if (host.stopped !== undefined) throw host.stopped;
    return servedMs;
  }

  /** A command that came while a reply is awaited: served behind what came before it. What wants no answer has time. */
  #meanwhile(message: Message, lane: Connection): void {
    this.#defer(message, lane);
    if ((message.flags & HeaderFlag.NO_REPLY) !== 0 || this.#depth >= MAXIMUM_DEPTH) return;
    attendance.inside(() => {
      this.#depth++;
      try {
        while (this.#deferred.length > 0 && !this.#host.waiting) {
          this.serveDeferred();
          if (this.#host.stopped !== undefined) throw this.#host.stopped;
        }
      } finally {
        this.#depth--;
      }
    });
  }

  #defer(message: Message, lane: Connection): void {
    this.#deferredBytes += message.bytes.length;
    this.#deferredFds += message.fds.length;
    const tooMuch = this.#deferredBytes > MAXIMUM_DEFERRED_BYTES || this.#deferredFds > MAXIMUM_DEFERRED_FDS;
    if (lane !== this.#host.connection || tooMuch) {
      closeAll(message.fds);
      throw new Ring3Error(
        "PEER_MISBEHAVES",
        tooMuch
          ? "the client sends commands and does not answer the server's"
          : "the client sent a command on the socket for the server's commands",
      );
    }
    this.#deferred.push(message);
  }
}
