// One client's messages as they come: the event loop's watch, the turn that one client gets, and the moment's look for what
// follows. Hard about it: a client that follows up within microseconds must not wait for the event loop, one that does not
// must cost nothing, and one that stops in the middle must not keep what others need.
import { Ring3Error } from "../binary/error.ts";
import { ERRNO, type Watch, watch } from "../linux/index.ts";
import type { Connection } from "./connection.ts";
import type { Exchanges } from "./server-exchange.ts";

/** What receiving needs of its session. */
export interface ReceptionHost {
  readonly connection: Connection;
  /** Whether the client has the function. */
  readonly admitted: boolean;
  readonly closed: boolean;
  /** Whether the connection is of no use any more, and ends as soon as nobody is inside it. */
  readonly broken: boolean;
  /** Whether looking for the next message may pay: a function that is polled is looked after by that. */
  readonly eager: boolean;
  /** While it is there, nothing is handled for a client that has the function. */
  readonly pause: Promise<void> | undefined;
  /** Handles the message that was received. */
  serve(): void;
  breakOff(error: unknown): void;
  /** Nobody is inside the session any more: ends it where it is broken. */
  endBroken(): void;
  close(reason: string): void;
}

/** Time for one client before the event loop gets its turn. */
const TURN_MS = 2;
/** How long to look for the next message, once a client was seen to follow up that quickly. */
const LOOK_MS = 0.05;
const QUICK_MS = 0.1;
const WASTED_LOOKS = 3;
/** Times the client's time-out, for the rest of a message whose beginning came and for replies to be read. */
const STUCK_FACTOR = 5;

export class Reception implements Disposable {
  readonly #host: ReceptionHost;
  readonly #exchanges: Exchanges;
  readonly #stuckMs: number;
  #watch: Watch | undefined;
  #watched: "readable" | "writable" | "hang-up" | undefined;
  #active = false;
  /** An answer takes its time. */
  #waiting = false;
  #stuckTimer: NodeJS.Timeout | undefined;
  /** How far sending and receiving were when the timer was set. */
  #stuckAt = 0;
  #lastServedMs = 0;
  #looks = false;
  #wasted = 0;

  constructor(host: ReceptionHost, exchanges: Exchanges, timeoutMs: number) {
    this.#host = host;
    this.#exchanges = exchanges;
    this.#stuckMs = STUCK_FACTOR * timeoutMs;
  }

  /** Whether messages are being received, further out on the stack. */
  get active(): boolean {
    return this.#active;
  }

  /** Whether nothing is handled until an answer is there. */
  get waiting(): boolean {
    return this.#waiting;
  }

  /** Begins to receive. */
  begin(): void {
    this.#await("readable");
  }

  /** Handles nothing until {@link goOn}; that the client leaves is noticed. */
  wait(): void {
    this.#waiting = true;
    this.#await("hang-up");
  }

  /** Does what was waited for, and receives again. */
  goOn(act: () => void): void {
    const host = this.#host;
    if (host.closed) return;
    this.#waiting = false;
    try {
      act();
    } catch (error) {
      host.breakOff(error);
      return;
    }
    if (host.closed) return;
    this.#await(host.connection.sending ? "writable" : "readable");
    this.pump();
  }

  /** Handles what is there, and with a client that follows up quickly what comes in the next microseconds. */
  pump(once = false): void {
    const host = this.#host;
    if (host.closed || this.#active || this.#exchanges.active || this.#waiting) return;
    const { pause } = host;
    if (pause !== undefined && host.admitted) {
      this.wait();
      void pause.then(() => this.goOn(() => undefined));
      return;
    }
    this.#active = true;
    try {
      this.#receive(once);
    } catch (error) {
      host.breakOff(error);
    } finally {
      this.#active = false;
    }
    if (host.broken) host.endBroken();
    else if (this.#stuck || this.#stuckTimer !== undefined) this.#watchStuck();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#stuckTimer);
    this.#stuckTimer = undefined;
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
  }

  /** What the event loop waits for. */
  #await(what: "readable" | "writable" | "hang-up"): void {
    const host = this.#host;
    if (this.#watched === what || host.closed) return;
    this.#watch?.[Symbol.dispose]();
    this.#watched = what;
    const act = what === "hang-up" ? () => host.close("the client left") : () => this.pump();
    this.#watch = watch(host.connection.channel.fd, act, {
      readable: what === "readable",
      writable: what === "writable",
    });
  }

  #receive(once: boolean): void {
    const host = this.#host;
    const exchanges = this.#exchanges;
    const { connection } = host;
    const { reader } = connection;
    // The rest of a reply may have gone out meanwhile, in front of a command of ours.
    if (connection.sending && !connection.flush()) return;
    this.#await("readable");
    const started = performance.now();
    let servedAt = 0;
    for (;;) {
      while (exchanges.pending || reader.next()) {
        if (exchanges.pending) exchanges.serveDeferred();
        else host.serve();
        if (host.closed || host.broken || this.#waiting) return;
        if (connection.sending) {
          // The client does not read its replies: nothing more is handled for it until it does.
          this.#await("writable");
          return;
        }
        servedAt = performance.now();
        if (servedAt - started > TURN_MS) {
          setImmediate(() => this.pump());
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

  /** Looking pays with a client that was seen to follow up quickly. */
  #mayLook(started: number, servedAt: number): boolean {
    if (!this.#looks) {
      this.#looks = started - this.#lastServedMs < QUICK_MS && this.#host.eager;
      this.#lastServedMs = servedAt;
      this.#wasted = 0;
    }
    return this.#looks;
  }

  /** Half a message came, or a reply is not read. */
  get #stuck(): boolean {
    const { admitted, connection } = this.#host;
    return admitted && !this.#waiting && (connection.sending || connection.reader.partial);
  }

  /**
   * Bounds how long nothing moves. Descriptors that are held for the rest of a message, or that wait unread behind others,
   * may be what keeps a client that is long gone from looking so: its own end of this connection.
   */
  #watchStuck(): void {
    const { unsent, reader } = this.#host.connection;
    // With a function that is polled this is looked at all the time: the bound stays as long as nothing moves.
    if (this.#stuck && this.#stuckTimer !== undefined && this.#stuckAt === unsent * 2 ** 24 + reader.unread) return;
    clearTimeout(this.#stuckTimer);
    this.#stuckTimer = undefined;
    if (!this.#stuck) return;
    const at = unsent * 2 ** 24 + reader.unread;
    this.#stuckAt = at;
    this.#stuckTimer = setTimeout(() => {
      this.#stuckTimer = undefined;
      // The event loop may have been late itself.
      this.pump();
      if (!this.#stuck || this.#stuckAt !== at) return;
      const what = unsent > 0 ? "the client does not read its replies" : "half a message came, and no more";
      this.#host.close(`${what} for ${this.#stuckMs} ms`);
    }, this.#stuckMs);
    this.#stuckTimer.unref();
  }
}
