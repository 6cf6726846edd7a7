// Who gets a function. Whoever connects is heard first: who says nothing gets nothing and holds up nobody. Who may have the
// function has it at once, waits until it was reset after the client before, or is told who uses it.
import type { Ring3Error } from "../binary/error.ts";
import type { PeerCredentials, UnixSocket } from "../linux/index.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import { Occupancy } from "./server-occupancy.ts";
import type { ServeOptions, ServerEvent } from "./server-options.ts";
import { refusal } from "./server-refusal.ts";
import type { StateSaving } from "./server-saving.ts";
import { Session, type SessionHost } from "./server-session.ts";
import type { Counters } from "./server-statistics.ts";

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
  /** Those that wait for the function, in the order in which they came. */
  readonly #line: Session[] = [];
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
      leaving: () => this.#leaving(),
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

  /** Takes the function from those that have it. Resolves when they are gone. */
  async disconnect(reason: string): Promise<void> {
    await Promise.all(this.#occupants().map((session) => session.end(reason)));
  }

  /** Hangs up on everybody, and lets nobody in any more. */
  close(reason: string): void {
    this.#closed = true;
    for (const session of [...this.#sessions.keys()]) session.close(reason);
  }

  #occupants(): Session[] {
    return [...this.#sessions.keys()].filter(({ open }) => open);
  }

  #knock(session: Session): boolean {
    this.#heard(session);
    this.#authorize(session);
    const objection = this.occupancy.objection(session.peer);
    if (objection !== undefined) throw objection;
    const { settling } = this.#parts.fn;
    if (this.occupancy.count > 0 || (settling === undefined && this.#line.length === 0)) {
      this.#enter(session);
      return true;
    }
    const [first] = this.#line;
    if (first !== undefined) {
      const { pid, uid } = first.peer;
      throw refusal("EBUSY", `the function is being reset, and pid ${pid} (uid ${uid}) waits for it already`);
    }
    this.#line.push(session);
    void settling?.then(() => this.#advance());
    return false;
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

  /** Lets those in that have waited and may have the function now. */
  #advance(): void {
    if (this.#closed) return;
    const session = this.#line.shift();
    if (session === undefined) return;
    try {
      this.#authorize(session);
      this.#enter(session);
    } catch (error) {
      session.turnAway(error as Ring3Error);
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

  #leaving(): void {
    const { fn, options } = this.#parts;
    if (this.occupancy.alone) fn.disconnect({ keepState: options.keepState === true || options.state !== undefined });
  }

  #ended(session: Session, reason: string): void {
    this.#heard(session);
    this.#sessions.delete(session);
    const place = this.#line.indexOf(session);
    if (place >= 0) this.#line.splice(place, 1);
    if (!this.occupancy.leave(session)) {
      this.#refused(session.peer, reason);
      return;
    }
    // From now on nothing happens that the state does not know of.
    this.#parts.saving.trySave();
    this.#parts.emit({ type: "disconnected", pid: session.peer.pid, reason });
  }

  #refused({ pid, uid }: PeerCredentials, reason: string): void {
    this.#parts.counters.refusals++;
    this.#parts.emit({ type: "refused", pid, uid, reason });
  }
}
