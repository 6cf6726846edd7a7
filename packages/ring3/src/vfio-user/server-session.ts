// One client's connection to a function: receives, answers, and cleans up. Hard about it: the common messages (register
// accesses) take microseconds only if nothing is decoded, allocated or awaited for them; and whatever a client sends or
// leaves unsent, nobody else waits for it.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { ERRNO, type FileDescriptor, UnixSocket, type Watch, watch } from "../linux/index.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import { Connection, type Message, type Reply } from "./connection.ts";
import { closeAll } from "./framing.ts";
import { Command, commandName, HEADER_SIZE, HeaderFlag } from "./messages.ts";
import { attendance } from "./server-attendance.ts";
import { type Answer, ServerCommands } from "./server-commands.ts";
import type { ClientExchange } from "./server-dma.ts";
import { type ExchangeHost, Exchanges } from "./server-exchange.ts";
import type { ConnectingPeer, ServeOptions } from "./server-options.ts";
import type { Occupancy, Occupant } from "./server-occupancy.ts";
import { PollLoop } from "./server-polling.ts";
import { errnoOf, refusal } from "./server-refusal.ts";
import { RegisterAccesses, type RegisterHost } from "./server-registers.ts";
import type { Counters } from "./server-statistics.ts";
import { MessageTrace } from "./server-trace.ts";
import { type Proposal, readProposal, versionReply } from "./server-version.ts";
import { busOf } from "./server-watch.ts";

/** What a session needs of its server. */
export interface SessionHost {
  readonly fn: VirtualFunction;
  readonly options: ServeOptions;
  readonly counters: Counters;
  readonly occupancy: Occupancy;
  /**
   * The client said hello: whether it has the function now. If not it waits, and is told by {@link Session.admit} or
   * {@link Session.turnAway}. Throws where it gets nothing.
   */
  knock(session: Session): boolean;
  /** The session gives the function back, where it has it: whatever it has there is taken away next. */
  leaving(session: Session): void;
  /** The session is over; `reason` says why. Called once, with everything cleaned up. */
  ended(session: Session, reason: string): void;
  /** Something went wrong that is nobody's to answer for. */
  failed(error: unknown): void;
  /** Saves the function's state, where that is wanted. */
  persist(): void;
}

/** What a reply repeats of its command. */
type Request = Pick<Message, "id" | "command" | "flags">;

interface Hello {
  readonly request: Request;
  readonly proposal: Proposal;
}

const MAXIMUM_FDS = 16;
const DEFAULT_TRANSFER_BYTES = 1_048_576;
/** Time for one client before the event loop gets its turn. */
const TURN_MS = 2;
/** How long to look for the next message, once a client was seen to follow up that quickly. */
const LOOK_MS = 0.05;
const QUICK_MS = 0.1;
const WASTED_LOOKS = 3;
/** Times the client's time-out, for the rest of a message whose beginning came and for replies to be read. */
const STUCK_FACTOR = 5;
const MAXIMUM_TEXT_BYTES = 1024;
const NOTHING: Uint8Array = new Uint8Array(0);

export class Session implements ClientExchange, RegisterHost, ExchangeHost, Occupant {
  readonly peer: ConnectingPeer;
  readonly connection: Connection;
  readonly #host: SessionHost;
  readonly #fn: VirtualFunction;
  readonly #counters: Counters;
  readonly #timeoutMs: number;
  readonly #exchanges: Exchanges;
  readonly #poll: PollLoop;
  readonly #registers: RegisterAccesses;
  readonly #trace: MessageTrace | undefined;
  #state: "greeting" | "open" | "closed" = "greeting";
  #commands: ServerCommands | undefined;
  #twin: Connection | undefined;
  #watch: Watch | undefined;
  #watched: "readable" | "writable" | "hang-up" | undefined;
  /** A message in the connection's buffer is being handled. */
  #handling = false;
  #pumping = false;
  /** The answer to a command takes its time. */
  #waiting = false;
  /** The hello of a client that waits for the function. */
  #hello: Hello | undefined;
  #broken: Ring3Error | undefined;
  #reason = "";
  readonly #onEnd: (() => void)[] = [];
  #stuckTimer: NodeJS.Timeout | undefined;
  /** How far sending and receiving were when the timer was set. */
  #stuckAt = 0;
  #lastServedMs = 0;
  #looks = false;
  #wasted = 0;
  maximumTransferBytes: number = DEFAULT_TRANSFER_BYTES;

  /** Takes over a connected socket. */
  constructor(socket: UnixSocket, host: SessionHost) {
    this.peer = { ...socket.peerCredentials(), groups: () => socket.peerGroups() };
    this.#host = host;
    this.#fn = host.fn;
    this.#counters = host.counters;
    this.#timeoutMs = host.options.clientTimeoutMs ?? 2000;
    const { onMessage } = host.options;
    this.#trace = onMessage === undefined ? undefined : new MessageTrace(onMessage);
    this.connection = new Connection(socket.fd, {
      maximumTransferBytes: host.options.maximumTransferBytes ?? DEFAULT_TRANSFER_BYTES,
      maximumFds: MAXIMUM_FDS,
    });
    this.#poll = new PollLoop(
      this.#fn,
      {
        look: () => this.#look(),
        worked: () => host.persist(),
      },
      this.#counters,
    );
    this.#registers = new RegisterAccesses(this.connection, busOf(this.#fn, host.options), this.#counters, this);
    this.#exchanges = new Exchanges(this, {
      timeoutMs: this.#timeoutMs,
      counters: this.#counters,
      trace: this.#trace,
    });
    this.#rewatch("readable");
    attendance.join(this);
  }

  get answers(): boolean {
    return this.#state === "open" && this.#broken === undefined;
  }

  get nested(): boolean {
    return this.#exchanges.nested;
  }

  get closed(): boolean {
    return this.#state === "closed";
  }

  /** Whether the client takes the function's state to another server, or brings it. */
  get moving(): boolean {
    return this.#commands?.moving === true;
  }

  get twin(): Connection | undefined {
    return this.#twin;
  }

  get handling(): boolean {
    return this.#handling;
  }

  get waiting(): boolean {
    return this.#waiting;
  }

  get stopped(): Ring3Error | undefined {
    return this.#broken ?? (this.#state === "open" ? undefined : new Ring3Error("PEER_GONE", "the client is gone"));
  }

  get request(): { readonly view: DataView; readonly bytes: Uint8Array } {
    if (this.#twin?.channel.closed) throw new Ring3Error("PEER_GONE", "the client closed the socket for our commands");
    return (this.#twin ?? this.connection).channel.request;
  }

  /** Whether the peer has hung up, which the event loop may not have told yet. */
  hungUp(): boolean {
    this.#pump();
    return this.#state === "closed";
  }

  /** Whether a client that waits has hung up. */
  get gone(): boolean {
    const count = this.connection.reader.fill();
    return count <= 0 && count !== -ERRNO.EAGAIN[0];
  }

  exchange(command: number, size: number, use: (reply: Reply) => void): void {
    try {
      this.#exchanges.exchange(command, size, use);
    } finally {
      // What came with the reply or before it has left the socket: nothing would tell of it again.
      if (!this.busy && (this.#exchanges.pending || this.connection.reader.partial)) {
        setImmediate(() => this.#pump());
      }
    }
  }

  /** Somebody further out on the stack is at work for this client. */
  get busy(): boolean {
    return this.#pumping || this.#exchanges.active;
  }

  // --- Served while somebody waits for a client --------------------------------------------------------------------

  get attendedFd(): FileDescriptor | undefined {
    const idle = this.#state === "closed" || this.#broken !== undefined || this.#waiting || this.connection.sending;
    // Whether the client before has left is known only once nobody is at work for it any more.
    const early = this.#state === "greeting" && this.#host.occupancy.busy;
    return idle || early ? undefined : this.connection.channel.fd;
  }

  get overdue(): boolean {
    return this.#exchanges.overdue || (!this.busy && this.#exchanges.pending);
  }

  attend(): void {
    if (this.busy) this.#exchanges.attend();
    else this.#pump(true);
  }

  /** Ends the session and cleans up everything that it had. */
  close(reason: string): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#poll[Symbol.dispose]();
    clearTimeout(this.#stuckTimer);
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    attendance.leave(this);
    this.#exchanges[Symbol.dispose]();
    this.#host.leaving(this);
    try {
      this.#commands?.[Symbol.dispose]();
    } catch (error) {
      this.#host.failed(error);
    }
    this.#twin?.[Symbol.dispose]();
    this.connection[Symbol.dispose]();
    this.#host.ended(this, reason);
    for (const tell of this.#onEnd) tell();
  }

  /** Ends the session from outside: at once, or as soon as nobody is at work for it. Resolves when it has ended. */
  end(reason: string): Promise<void> {
    if (this.#state === "closed") return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onEnd.push(resolve);
    if (this.busy) this.breakOff(new Ring3Error("SESSION_ENDED", reason), reason);
    else this.close(reason);
    return promise;
  }

  /** Answers the greeting with an error, and with its sentence where the client takes one. */
  #refuse(message: Request, error: unknown, proposal?: Proposal): void {
    const text = isRing3Error(error) && proposal?.takesRefusalText === true ? sentenceOf(error) : undefined;
    this.#answerError(message, error, text);
    this.close(isRing3Error(error) ? error.message : String(error));
  }

  // --- Receiving --------------------------------------------------------------------------------------------------

  #rewatch(what: "readable" | "writable" | "hang-up"): void {
    if (this.#watched === what || this.#state === "closed") return;
    this.#watch?.[Symbol.dispose]();
    this.#watched = what;
    const act = what === "hang-up" ? () => this.close("the client left") : () => this.#pump();
    this.#watch = watch(this.connection.channel.fd, act, {
      readable: what === "readable",
      writable: what === "writable",
    });
  }

  /** From the polling loop: one look at the socket. */
  #look(): boolean {
    if (this.#state === "open") this.#pump(true);
    return this.#state === "open";
  }

  /** Handles what is there, and with a client that follows up quickly what comes in the next microseconds. */
  #pump(once = false): void {
    if (this.#state === "closed" || this.busy || this.#waiting) return;
    const { pause } = this.#host.occupancy;
    if (pause !== undefined && this.#state === "open") {
      this.#wait();
      void pause.then(() => this.#goOn(() => undefined));
      return;
    }
    this.#pumping = true;
    try {
      this.#receive(once);
    } catch (error) {
      this.breakOff(error);
    } finally {
      this.#pumping = false;
    }
    if (this.#broken !== undefined) this.close(this.#reason);
    else if (this.#stuck || this.#stuckTimer !== undefined) this.#watchStuck();
  }

  /** Half a message came, or a reply is not read. */
  get #stuck(): boolean {
    if (this.#state !== "open" || this.#waiting) return false;
    return this.connection.sending || this.connection.reader.partial;
  }

  /**
   * Bounds how long nothing moves. Descriptors that are held for the rest of a message, or that wait unread behind others,
   * may be what keeps a client that is long gone from looking so: its own end of this connection.
   */
  #watchStuck(): void {
    const { unsent, reader } = this.connection;
    // With a function that is polled this is looked at all the time: the bound stays as long as nothing moves.
    if (this.#stuck && this.#stuckTimer !== undefined && this.#stuckAt === unsent * 2 ** 24 + reader.unread) return;
    clearTimeout(this.#stuckTimer);
    this.#stuckTimer = undefined;
    if (!this.#stuck) return;
    const at = unsent * 2 ** 24 + reader.unread;
    const timeoutMs = STUCK_FACTOR * this.#timeoutMs;
    this.#stuckAt = at;
    this.#stuckTimer = setTimeout(() => {
      this.#stuckTimer = undefined;
      // The event loop may have been late itself.
      this.#pump();
      if (!this.#stuck || this.#stuckAt !== at) return;
      const what = unsent > 0 ? "the client does not read its replies" : "half a message came, and no more";
      this.close(`${what} for ${timeoutMs} ms`);
    }, timeoutMs);
    this.#stuckTimer.unref();
  }

  #receive(once: boolean): void {
    const { connection } = this;
    const { reader } = connection;
    // The rest of a reply may have gone out meanwhile, in front of a command of ours.
    if (connection.sending && !connection.flush()) return;
    this.#rewatch("readable");
    const started = performance.now();
    let servedAt = 0;
    for (;;) {
      while (this.#exchanges.pending || reader.next()) {
        if (this.#exchanges.pending) this.#exchanges.serveDeferred();
        else this.#serve();
        if (this.#state === "closed" || this.#broken !== undefined || this.#waiting) return;
        if (connection.sending) {
          // The client does not read its replies: nothing more is handled for it until it does.
          this.#rewatch("writable");
          return;
        }
        servedAt = performance.now();
        if (servedAt - started > TURN_MS) {
          setImmediate(() => this.#pump());
          return;
        }
      }
      const looking = servedAt !== 0 && !once && this.#mayLook(started, servedAt);
      // The client needs a moment for its next message, and perhaps this processor.
      if (looking) connection.channel.yieldProcessor();
      const count = reader.fill();
      if (count > 0) continue;
      if (count === 0) throw new Ring3Error("PEER_GONE", "the client left");
      if (count !== -ERRNO.EAGAIN[0]) throw new Ring3Error("PEER_GONE", `the connection failed (errno ${-count})`);
      if (looking) {
        const now = performance.now();
        if (now - servedAt < LOOK_MS && now - started < TURN_MS) continue;
        this.#wasted = servedAt - started > QUICK_MS ? 0 : this.#wasted + 1;
        if (this.#wasted >= WASTED_LOOKS) this.#looks = false;
      }
      if (servedAt !== 0) this.#lastServedMs = servedAt;
      return;
    }
  }

  /** Looking pays with a client that was seen to follow up quickly. A function that is polled is looked after by that. */
  #mayLook(started: number, servedAt: number): boolean {
    if (!this.#looks) {
      this.#looks = started - this.#lastServedMs < QUICK_MS && !this.#fn.polled;
      this.#lastServedMs = servedAt;
      this.#wasted = 0;
    }
    return this.#looks;
  }

  #serve(): void {
    const { reader, channel } = this.connection;
    if ((reader.frame & 3) === 0 && this.#state === "open" && this.#trace === undefined) {
      this.#handling = true;
      let done: boolean;
      try {
        done = this.#registers.serve(reader.frame >>> 2);
      } finally {
        this.#handling = false;
      }
      if (done) {
        reader.consume();
        return;
      }
    }
    const message = this.connection.message();
    this.#counters.countReceived(message.command, message.bytes.length);
    this.#handling = true;
    try {
      this.handle(message);
    } finally {
      this.#handling = false;
      if (!channel.closed) reader.consume();
    }
  }

  // --- All messages -----------------------------------------------------------------------------------------------

  handle(message: Message): void {
    this.#trace?.received(message);
    const type = message.flags & HeaderFlag.TYPE_MASK;
    if (type === HeaderFlag.REPLY) {
      // To a command that timed out, or to none.
      closeAll(message.fds);
    } else if (type !== HeaderFlag.COMMAND) {
      closeAll(message.fds);
      throw new Ring3Error("MESSAGE_INVALID", `the client sent a message of type ${type}`);
    } else if (this.#state === "greeting") this.#greet(message);
    else this.#answer(message);
  }

  #answer(message: Message): void {
    let answer: Answer | Promise<Answer>;
    try {
      answer = (this.#commands as ServerCommands).execute(message);
    } catch (error) {
      if (this.#broken === undefined) this.#answerError(message, error);
      return;
    }
    if (answer instanceof Promise) this.#answerLater(message, answer);
    else this.#finish(message, answer);
  }

  /** Nothing else is handled for the client until the answer is there. */
  #answerLater({ id, command, flags }: Message, answer: Promise<Answer>): void {
    const request = { id, command, flags };
    this.#wait();
    answer.then(
      (given) => this.#goOn(() => this.#finish(request, given)),
      (error: unknown) => this.#goOn(() => this.#answerError(request, error)),
    );
  }

  /** Nothing is handled for the client until {@link #goOn}; that it leaves is noticed. */
  #wait(): void {
    this.#waiting = true;
    this.#rewatch("hang-up");
  }

  #goOn(act: () => void): void {
    if (this.#state === "closed") return;
    this.#waiting = false;
    try {
      act();
    } catch (error) {
      this.breakOff(error);
      return;
    }
    if (this.closed) return;
    this.#rewatch(this.connection.sending ? "writable" : "readable");
    this.#pump();
  }

  #finish(message: Request, answer: Answer): void {
    if (this.#state !== "open" || this.#broken !== undefined) return;
    if (answer.changed) this.changed();
    if ((message.flags & HeaderFlag.NO_REPLY) !== 0) return;
    const { payload, fds = [] } = answer;
    if (this.nested) {
      this.connection.replyMeanwhile(message, payload ?? NOTHING, { fds, timeoutMs: this.#timeoutMs });
    } else {
      if (payload !== undefined) this.connection.channel.output.bytes.set(payload, HEADER_SIZE);
      this.connection.reply(message.id, message.command, answer.size, 0, fds);
    }
    this.#counters.bytesSent += HEADER_SIZE + answer.size;
    this.#trace?.sent(message.command, "reply", message.id, HEADER_SIZE + answer.size, answer.fds?.length);
  }

  #answerError(message: Request, error: unknown, text: Uint8Array = NOTHING): void {
    this.#counters.errorReplies++;
    if ((message.flags & HeaderFlag.NO_REPLY) !== 0) return;
    const errno = errnoOf(error);
    if (this.nested) this.connection.replyMeanwhile(message, NOTHING, { errno, timeoutMs: this.#timeoutMs });
    else this.connection.refuse(message.id, message.command, errno, text);
    const size = HEADER_SIZE + text.length;
    this.#counters.bytesSent += size;
    this.#trace?.sent(message.command, "reply", message.id, size, 0, errno);
  }

  #greet(message: Message): void {
    closeAll(message.fds);
    let proposal: Proposal;
    try {
      if (message.command !== Command.VERSION) {
        throw refusal("EINVAL", `${commandName(message.command)} came before VERSION`);
      }
      proposal = readProposal(message.payload);
    } catch (error) {
      this.#refuse(message, error);
      return;
    }
    let admitted: boolean;
    try {
      admitted = this.#host.knock(this);
    } catch (error) {
      this.#refuse(message, error, proposal);
      return;
    }
    if (admitted) {
      this.#open(message, proposal);
      return;
    }
    const { id, command, flags } = message;
    this.#hello = { request: { id, command, flags }, proposal };
    this.#wait();
  }

  /** The client has waited, and has the function now. */
  admit(): void {
    const { request, proposal } = this.#hello as Hello;
    this.#goOn(() => this.#open(request, proposal));
  }

  /** The client has waited, and gets nothing. */
  turnAway(error: unknown): void {
    const { request, proposal } = this.#hello as Hello;
    this.#goOn(() => this.#refuse(request, error, proposal));
  }

  #open(message: Request, proposal: Proposal): void {
    // Whoever was told that it has the function may have taken it away again.
    if (this.#state === "closed") return;
    const { options, occupancy } = this.#host;
    this.#state = "open";
    this.#hello = undefined;
    const ours = options.maximumTransferBytes ?? DEFAULT_TRANSFER_BYTES;
    this.maximumTransferBytes = Math.min(ours, proposal.maximumTransferBytes);
    this.#commands = new ServerCommands({
      fn: this.#fn,
      client: this,
      occupancy: this.#host.occupancy,
      counters: this.#counters,
      options,
      proposal,
      maximumTransferBytes: ours,
      output: this.connection.channel.output.bytes,
      persist: () => this.#host.persist(),
    });
    const twin = proposal.twinSocket && options.twinSocket !== false ? UnixSocket.pair() : undefined;
    try {
      if (twin !== undefined) {
        using own = new DisposableStack();
        own.use(twin[0]);
        this.#twin = new Connection(twin[0].fd, { maximumTransferBytes: ours, maximumFds: 1 });
        own.move();
        // What lies there unread could be the client's own end of the first one, which would never look closed.
        const second = this.#twin;
        watch(second.channel.fd, () => second[Symbol.dispose](), { readable: false });
      }
      const payload = versionReply(proposal, {
        maximumFds: MAXIMUM_FDS,
        maximumTransferBytes: ours,
        twin: twin?.[1].fd,
        postedWrites: options.postedWrites !== false,
        openings: occupancy.shared ? occupancy.count : undefined,
      });
      this.connection.replyWith(message.id, Command.VERSION, payload, twin === undefined ? [] : [twin[1].fd]);
      this.#counters.bytesSent += HEADER_SIZE + payload.length;
      this.#trace?.sent(Command.VERSION, "reply", message.id, HEADER_SIZE + payload.length, twin ? 1 : 0);
    } finally {
      twin?.[1][Symbol.dispose]();
    }
    if (this.#fn.polled) this.#poll.attend();
  }

  /** The client did something that may have changed the function: that is saved before it is answered. */
  changed(): void {
    this.#host.persist();
    if (this.#fn.polled) this.#poll.attend();
  }

  /** The connection is of no use any more: it ends as soon as nobody is inside it. */
  breakOff(error: unknown, reason?: string): void {
    if (this.#broken === undefined) {
      this.#broken = asRing3Error(error);
      this.#reason = reason ?? this.#broken.message;
    }
    if (!this.#pumping) setImmediate(() => this.close(this.#reason));
  }
}

/** What an error says, for the other side. */
function sentenceOf(error: Ring3Error): Uint8Array {
  return new TextEncoder().encode(error.message.slice(error.code.length + 2)).subarray(0, MAXIMUM_TEXT_BYTES);
}

function asRing3Error(error: unknown): Ring3Error {
  if (isRing3Error(error)) return error;
  return new Ring3Error("SERVER_FAILED", error instanceof Error ? error.message : String(error), { cause: error });
}
