// Who gets a function. Whoever connects is heard first: who says nothing gets nothing and holds up nobody. Who may have the
// function has it at once, waits for it, or is told who uses it. Hard about it: a function that nobody has is not always to be
// had, as it is reset after each user, which takes its time.
import type { Ring3Error } from "../binary/error.ts";
import type { PeerCredentials, UnixSocket } from "../linux/index.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import { Occupancy } from "./server-occupancy.ts";
import type { ServeOptions, ServerEvent } from "./server-options.ts";
import { refusal } from "./server-refusal.ts";
import type { StateSaving } from "./server-saving.ts";
import { Session, type SessionHost } from "./server-session.ts";
import type { Counters } from "./server-statistics.ts";
import { WaitingLine } from "./server-waiting-line.ts";

/** Clients that may be connected and have said nothing. */
const MAXIMUM_SILENT = 16;
/** Time to say hello. */
const GREETING_MS = 5000;

export interface AdmissionParts {
  readonly fn: VirtualFunction;
  readonly options: ServeOptions;
  readonly counters: Counters;
  readonly saving: StateSaving;
  emit(event: ServerEvent): void;
  failed(error: unknown): void;
}

export class Admission {
  readonly occupancy: Occupancy;
  readonly #parts: AdmissionParts;
  readonly #host: SessionHost;
  /** All that are connected; the timer is running for those that have said nothing. */
  readonly #sessions = new Map<Session, NodeJS.Timeout | undefined>();
  #silent = 0;
  readonly #line = new WaitingLine();
  #closed = false;

  constructor(parts: AdmissionParts) {
    const { fn, options, counters, saving } = parts;
    this.#parts = parts;
    this.occupancy = new Occupancy(fn, options.openings ?? 1);
    this.#host = {
      fn,
      options,
      counters,
      occupancy: this.occupancy,
      knock: (session) => this.#knock(session),
      leaving: (session) => this.#leaving(session),
      ended: (session, reason) => this.#ended(session, reason),
      failed: (error) => parts.failed(error),
      persist: () => saving.trySave(),
    };
  }

  /** A connection becomes a session that may say hello; too many at a time are hung up on. */
  hear(socket: UnixSocket): void {
    try {
      if (this.#silent >= MAXIMUM_SILENT) {
        const peer = socket.peerCredentials();
        socket[Symbol.dispose]();
        this.#refused(peer, "too many clients are connected and say nothing");
        return;
      }
      const session = new Session(socket, this.#host);
      const timer = setTimeout(() => session.close("it said nothing"), GREETING_MS);
      timer.unref();
      this.#sessions.set(session, timer);
      this.#silent++;
    } catch (error) {
      socket[Symbol.dispose]();
      this.#parts.failed(error);
    }
  }

  /** How many wait for the function. */
  get waiting(): number {
    return this.#line.length;
  }

  /** Takes the function from those that have it. Resolves when they are gone. */
  async disconnect(reason: string): Promise<void> {
    await Promise.all(this.occupancy.occupants.map((occupant) => occupant.end(reason)));
  }

  /** Hangs up on everybody, and lets nobody in any more. */
  close(reason: string): void {
    this.#closed = true;
    for (const session of [...this.#sessions.keys()]) session.close(reason);
  }

  #knock(session: Session): boolean {
    this.#heard(session);
    this.#authorize(session);
    const obstacle = this.#obstacle(session);
    if (obstacle === undefined) {
      this.#enter(session);
      return true;
    }
    const { queue = 0, queueMs } = this.#parts.options;
    // For a reset alone one may always wait.
    const room = this.occupancy.count === 0 ? Math.max(queue, 1) : queue;
    const ahead = this.#line.length;
    if (ahead >= room) throw obstacle;
    this.#line.add(session, queueMs, () => this.#late(session));
    const { pid, uid } = session.peer;
    this.#parts.emit({ type: "waiting", pid, uid, ahead });
    this.#advanceSoon();
    return false;
  }

  /** Why a client that comes now cannot have the function at once. */
  #obstacle({ peer }: Session): Ring3Error | undefined {
    const objection = this.occupancy.objection(peer);
    // Those of the user that has it need not wait behind those who want it next.
    if (objection !== undefined || this.occupancy.count > 0) return objection;
    const [first] = this.#line.sessions;
    if (first !== undefined) {
      const { pid, uid } = first.peer;
      return refusal("EBUSY", `the function is being given to pid ${pid} (uid ${uid}), who has waited for it`);
    }
    if (this.#parts.fn.settling === undefined) return undefined;
    return refusal("EBUSY", "the function is being reset after its last client");
  }

  /** It has waited as long as it may. */
  #late(session: Session): void {
    const { queueMs } = this.#parts.options;
    const why = this.occupancy.use ?? "the function is not ready after its last client";
    this.#line.remove(session);
    session.turnAway(refusal("EBUSY", `${why}, and that did not change within ${queueMs} ms`));
  }

  /** It said something, and need not hurry any more. */
  #heard(session: Session): void {
    const timer = this.#sessions.get(session);
    if (timer === undefined) return;
    clearTimeout(timer);
    this.#sessions.set(session, undefined);
    this.#silent--;
  }

  #authorize({ peer }: Session): void {
    const { allowUids, admit } = this.#parts.options;
    if (allowUids !== undefined && !allowUids.includes(peer.uid)) {
      throw refusal(
        "EACCES",
        `uid ${peer.uid} is not among those that may connect; whoever serves the function can let it in`,
      );
    }
    admit?.(peer);
  }

  /** Somebody left, or came to wait. Not at once: somebody on the stack may be at work for a client. */
  #advanceSoon(): void {
    if (this.#line.length > 0) setImmediate(() => this.#advance());
  }

  /** Lets those in that have waited and may have the function now, first those who came first. */
  #advance(): void {
    const { occupancy } = this;
    for (const session of this.#line.sessions) {
      if (this.#closed) return;
      const objection = occupancy.objection(session.peer);
      // What is nobody's may still be being reset, since a moment ago even.
      const { settling } = this.#parts.fn;
      if (occupancy.count === 0 && settling !== undefined) {
        void settling.then(() => this.#advance());
        return;
      }
      if (objection === undefined && this.#line.remove(session)) this.#letIn(session);
    }
  }

  /** Its turn has come; it may be gone, or not be welcome any more. */
  #letIn(session: Session): void {
    if (session.gone) {
      session.close("the client left");
      return;
    }
    try {
      this.#authorize(session);
      this.#enter(session);
    } catch (error) {
      session.turnAway(error);
      return;
    }
    session.admit();
  }

  /** The first one connects the function; others join it. */
  #enter(session: Session): void {
    const { fn, counters, saving } = this.#parts;
    const { pid, uid, gid } = session.peer;
    if (fn.removed !== undefined) throw fn.removed;
    if (this.occupancy.count === 0) {
      fn.connect({
        name: `vfio-user client, pid ${pid} uid ${uid}`,
        fault: (description) => {
          counters.faults++;
          this.#parts.emit({ type: "fault", description });
        },
      });
      try {
        // A state that does not know of a client must not be what is left of one: who cannot be noted down is not let in.
        saving.save();
      } catch (error) {
        fn.disconnect({ keepState: true });
        throw error;
      }
    }
    this.occupancy.enter(session);
    counters.connections++;
    this.#parts.emit({ type: "connected", pid, uid, gid });
  }

  /** The function is given back with the last one. */
  #leaving(session: Session): void {
    const { fn, options } = this.#parts;
    if (!this.occupancy.has(session) || !this.occupancy.alone) return;
    fn.disconnect({ keepState: options.keepState === true || options.state !== undefined });
  }

  #ended(session: Session, reason: string): void {
    this.#heard(session);
    this.#sessions.delete(session);
    this.#line.remove(session);
    if (!this.occupancy.leave(session)) {
      this.#refused(session.peer, reason);
      return;
    }
    this.#advanceSoon();
    // From now on nothing happens that the state does not know of.
    this.#parts.saving.trySave();
    this.#parts.emit({ type: "disconnected", pid: session.peer.pid, reason });
  }

  #refused({ pid, uid }: PeerCredentials, reason: string): void {
    this.#parts.counters.refusals++;
    this.#parts.emit({ type: "refused", pid, uid, reason });
  }
}
