// One client's connection to a function: what is done with its messages, and the end that cleans up. Hard about it: the
// common messages (register accesses) take microseconds only if nothing is decoded, allocated or awaited for them; and
// whatever a client sends or leaves unsent, nobody else waits for it.
import { isRing3Error, messageOf, Ring3Error } from "../binary/error.ts";
import type { FileDescriptor, UnixSocket } from "../linux/index.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import { Connection, type Message, type Reply } from "./connection.ts";
import { closeAll } from "./framing.ts";
import { HeaderFlag } from "./messages.ts";
import { attendance } from "./server-attendance.ts";
import { type Answer, ServerCommands } from "./server-commands.ts";
import type { ClientExchange } from "./server-dma.ts";
import { type ExchangeHost, Exchanges } from "./server-exchange.ts";
import { type Hello, MAXIMUM_FDS, readHello, refusalText, welcome } from "./server-greeting.ts";
import type { ConnectingPeer, ServeOptions } from "./server-options.ts";
import type { Occupancy, Occupant } from "./server-occupancy.ts";
import { PollLoop } from "./server-polling.ts";
import { Reception, type ReceptionHost } from "./server-reception.ts";
import { RegisterAccesses, type RegisterHost } from "./server-registers.ts";
import { Replies, type Request } from "./server-replies.ts";
import type { Counters } from "./server-statistics.ts";
import { MessageTrace } from "./server-trace.ts";
import type { Proposal } from "./server-version.ts";
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

const DEFAULT_TRANSFER_BYTES = 1_048_576;

export class Session implements ClientExchange, RegisterHost, ExchangeHost, ReceptionHost, Occupant {
  readonly peer: ConnectingPeer;
  readonly connection: Connection;
  readonly #host: SessionHost;
  readonly #fn: VirtualFunction;
  readonly #counters: Counters;
  readonly #exchanges: Exchanges;
  readonly #reception: Reception;
  readonly #replies: Replies;
  readonly #poll: PollLoop;
  readonly #registers: RegisterAccesses;
  readonly #trace: MessageTrace | undefined;
  #state: "greeting" | "open" | "closed" = "greeting";
  #commands: ServerCommands | undefined;
  #twin: Connection | undefined;
  /** A message in the connection's buffer is being handled. */
  #handling = false;
  /** The hello of a client that waits for the function. */
  #hello: Hello | undefined;
  #broken: Ring3Error | undefined;
  #reason = "";
  readonly #onEnd: (() => void)[] = [];
  maximumTransferBytes: number = DEFAULT_TRANSFER_BYTES;

  /** Takes over a connected socket. */
  constructor(socket: UnixSocket, host: SessionHost) {
    this.peer = { ...socket.peerCredentials(), groups: () => socket.peerGroups() };
    this.#host = host;
    this.#fn = host.fn;
    this.#counters = host.counters;
    const { onMessage, clientTimeoutMs: timeoutMs = 2000 } = host.options;
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
    const parts = { timeoutMs, counters: this.#counters, trace: this.#trace };
    this.#exchanges = new Exchanges(this, parts);
    this.#replies = new Replies(this.connection, parts);
    this.#reception = new Reception(this, this.#exchanges, timeoutMs);
    this.#reception.begin();
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

  get admitted(): boolean {
    return this.#state === "open";
  }

  get broken(): boolean {
    return this.#broken !== undefined;
  }

  get waiting(): boolean {
    return this.#reception.waiting;
  }

  get eager(): boolean {
    return !this.#fn.polled;
  }

  get pause(): Promise<void> | undefined {
    return this.#host.occupancy.pause;
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
    this.#reception.pump();
    return this.#state === "closed";
  }

  /** Whether a client that waits has hung up. */
  get gone(): boolean {
    return this.connection.hungUp();
  }

  exchange(command: number, size: number, use: (reply: Reply) => void): void {
    try {
      this.#exchanges.exchange(command, size, use);
    } finally {
      // What came with the reply or before it has left the socket: nothing would tell of it again.
      if (!this.busy && (this.#exchanges.pending || this.connection.reader.partial)) {
        setImmediate(() => this.#reception.pump());
      }
    }
  }

  /** Somebody further out on the stack is at work for this client. */
  get busy(): boolean {
    return this.#reception.active || this.#exchanges.active;
  }

  // --- Served while somebody waits for a client --------------------------------------------------------------------

  get attendedFd(): FileDescriptor | undefined {
    const idle = this.#state === "closed" || this.#broken !== undefined || this.waiting || this.connection.sending;
    // Whether the client before has left is known only once nobody is at work for it any more.
    const early = this.#state === "greeting" && this.#host.occupancy.busy;
    return idle || early ? undefined : this.connection.channel.fd;
  }

  get overdue(): boolean {
    return this.#exchanges.overdue || (!this.busy && this.#exchanges.pending);
  }

  attend(): void {
    if (this.busy) this.#exchanges.attend();
    else this.#reception.pump(true);
  }

  /** Ends the session and cleans up everything that it had. */
  close(reason: string): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#poll[Symbol.dispose]();
    this.#reception[Symbol.dispose]();
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

  // --- Messages ---------------------------------------------------------------------------------------------------

  /** From the polling loop: one look at the socket. */
  #look(): boolean {
    if (this.#state === "open") this.#reception.pump(true);
    return this.#state === "open";
  }

  serve(): void {
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
      if (this.#broken === undefined) this.#replies.refuse(message, error, this.nested);
      return;
    }
    if (answer instanceof Promise) this.#answerLater(message, answer);
    else this.#finish(message, answer);
  }

  /** Nothing else is handled for the client until the answer is there. */
  #answerLater({ id, command, flags }: Message, answer: Promise<Answer>): void {
    const request = { id, command, flags };
    this.#reception.wait();
    answer.then(
      (given) => this.#reception.goOn(() => this.#finish(request, given)),
      (error: unknown) => this.#reception.goOn(() => this.#replies.refuse(request, error, this.nested)),
    );
  }

  #finish(message: Request, answer: Answer): void {
    if (this.#state !== "open" || this.#broken !== undefined) return;
    if (answer.changed) this.changed();
    this.#replies.answer(message, answer, this.nested);
  }

  // --- The greeting -----------------------------------------------------------------------------------------------

  #greet(message: Message): void {
    const { id, command, flags } = message;
    const request = { id, command, flags };
    let proposal: Proposal | undefined;
    let admitted: boolean;
    try {
      proposal = readHello(message);
      admitted = this.#host.knock(this);
    } catch (error) {
      this.#refuse(request, error, proposal);
      return;
    }
    this.#hello = { request, proposal };
    if (admitted) this.#open(this.#hello);
    else this.#reception.wait();
  }

  /** The client has waited, and has the function now. */
  admit(): void {
    const hello = this.#hello as Hello;
    this.#reception.goOn(() => this.#open(hello));
  }

  /** The client has waited, and gets nothing. */
  turnAway(error: unknown): void {
    const { request, proposal } = this.#hello as Hello;
    this.#reception.goOn(() => this.#refuse(request, error, proposal));
  }

  /** Answers the greeting with an error, and ends. */
  #refuse(request: Request, error: unknown, proposal: Proposal | undefined): void {
    this.#replies.refuse(request, error, this.nested, refusalText(error, proposal));
    this.close(isRing3Error(error) ? error.message : String(error));
  }

  #open(hello: Hello): void {
    // Whoever was told that it has the function may have taken it away again.
    if (this.#state === "closed") return;
    const { options, occupancy } = this.#host;
    this.#state = "open";
    this.#hello = undefined;
    const { proposal } = hello;
    const ours = options.maximumTransferBytes ?? DEFAULT_TRANSFER_BYTES;
    this.maximumTransferBytes = Math.min(ours, proposal.maximumTransferBytes);
    this.#commands = new ServerCommands({
      fn: this.#fn,
      client: this,
      occupancy,
      counters: this.#counters,
      options,
      proposal,
      maximumTransferBytes: ours,
      output: this.connection.channel.output.bytes,
      persist: () => this.#host.persist(),
    });
    this.#twin = welcome(hello, this.#replies, options, occupancy, ours);
    if (this.#fn.polled) this.#poll.attend();
  }

  /** The client did something that may have changed the function: that is saved before it is answered. */
  changed(): void {
    this.#host.persist();
    if (this.#fn.polled) this.#poll.attend();
  }

  endBroken(): void {
    this.close(this.#reason);
  }

  /** The connection is of no use any more: it ends as soon as nobody is inside it. */
  breakOff(error: unknown, reason?: string): void {
    if (this.#broken === undefined) {
      this.#broken = asRing3Error(error);
      this.#reason = reason ?? this.#broken.message;
    }
    if (!this.#reception.active) setImmediate(() => this.close(this.#reason));
  }
}

function asRing3Error(error: unknown): Ring3Error {
  if (isRing3Error(error)) return error;
  return new Ring3Error("SERVER_FAILED", messageOf(error), { cause: error });
}
