// Serves a virtual function at a UNIX socket, to one client at a time. Clients that connect are heard first: who says
// nothing gets nothing and holds up nobody, and who comes while another uses the function is told so.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { type PeerCredentials, ServerSocket, type UnixSocket, type Watch, watch } from "../linux/index.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import { type Attended, attendance } from "./server-attendance.ts";
import type { ServeOptions, ServerEvent, ServerStatistics, StateStore } from "./server-options.ts";
import { refusal } from "./server-refusal.ts";
import { Session, type SessionHost } from "./server-session.ts";
import { StateFile } from "./server-state.ts";
import { Counters } from "./server-statistics.ts";

/** Clients that may be connected and have not been admitted. */
const MAXIMUM_WAITING = 16;
/** Time to say hello. */
const GREETING_MS = 5000;
/** A pause where no connection can be taken: the process has no descriptors left. */
const ACCEPT_PAUSE_MS = 100;

/** A function at its socket. Disposal disconnects the client and removes the socket; the function is its owner's. */
export class FunctionServer implements AsyncDisposable {
  readonly path: string;
  readonly fn: VirtualFunction;
  readonly #options: ServeOptions;
  readonly #socket: ServerSocket;
  readonly #counters = new Counters();
  readonly #store: StateStore | undefined;
  readonly #ownStore: StateFile | undefined;
  readonly #sessions = new Map<Session, NodeJS.Timeout | undefined>();
  readonly #sessionHost: SessionHost;
  readonly #listeners = new Set<(event: ServerEvent) => void>();
  readonly #attended: Attended;
  #watch: Watch | undefined;
  #pause: NodeJS.Timeout | undefined;
  #current: Session | undefined;
  #closed = false;
  /** The last attempt to save the state failed. */
  #unsaved = false;

  /** Use {@link serve}. */
  constructor(fn: VirtualFunction, path: string, options: ServeOptions) {
    this.fn = fn;
    this.path = path;
    this.#options = options;
    const occupied = (): boolean => this.#current?.busy === true;
    this.#sessionHost = {
      fn,
      options,
      counters: this.#counters,
      get occupied() {
        return occupied();
      },
      admit: (session) => this.#admit(session),
      ended: (session, reason) => this.#ended(session, reason),
      persist: () => this.#persist(),
    };
    this.#ownStore = typeof options.state === "string" ? new StateFile(options.state) : undefined;
    this.#store = typeof options.state === "object" ? options.state : this.#ownStore;
    try {
      const state = this.#store?.load();
      // The process that saved it may have been killed: how far it went on afterwards, nobody knows.
      if (state !== undefined) fn.restore(state, { stale: true });
      // A place where nothing can be saved is an error now, and not when a client is there.
      this.#save();
      this.#socket = new ServerSocket(path, { mode: options.mode ?? 0o600, owner: options.owner });
    } catch (error) {
      this.#ownStore?.[Symbol.dispose]();
      throw error;
    }
    const { listener } = this.#socket;
    const listening = (): boolean => this.#watch !== undefined;
    // Whoever connects to one function may be who has to answer another one.
    this.#attended = {
      get attendedFd() {
        return listening() ? listener.fd : undefined;
      },
      overdue: false,
      attend: () => this.#accept(),
    };
    this.#listen();
    attendance.join(this.#attended);
  }

  /** Who uses the function now. */
  get client(): PeerCredentials | undefined {
    return this.#current?.peer;
  }

  /** Counters since the start. */
  get statistics(): ServerStatistics {
    return this.#counters.snapshot(this.fn.memory);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Calls `listener` with what happens, until disposed. */
  on(listener: (event: ServerEvent) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /**
   * Takes the function from its client, as if that had left, and goes on listening: the event `disconnected` says `reason`.
   * Resolves once the function can be used again; at once where nobody uses it.
   */
  async disconnect(reason: string): Promise<void> {
    await this.#current?.end(reason);
    await this.fn.settling;
  }

  /** Disconnects the client, removes the socket, and saves the state where that is wanted. */
  close(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#closed = true;
    clearTimeout(this.#pause);
    attendance.leave(this.#attended);
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    this.#socket[Symbol.dispose]();
    for (const session of [...this.#sessions.keys()]) session.close("the server was closed");
    this.#persist();
    this.#ownStore?.[Symbol.dispose]();
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #listen(): void {
    this.#watch = watch(this.#socket.listener.fd, () => this.#accept());
  }

  #accept(): void {
    for (;;) {
      let socket: UnixSocket | undefined;
      try {
        socket = this.#socket.listener.accept();
      } catch (error) {
        // Looking again at once would only fail again.
        this.#emit({ type: "error", description: messageOf(error) });
        this.#watch?.[Symbol.dispose]();
        this.#watch = undefined;
        this.#pause = setTimeout(() => this.#listen(), ACCEPT_PAUSE_MS);
        return;
      }
      if (socket === undefined) return;
      this.#hear(socket);
    }
  }

  /** A connection becomes a session that may say hello; too many at a time are hung up on. */
  #hear(socket: UnixSocket): void {
    const waiting = this.#sessions.size - (this.#current === undefined ? 0 : 1);
    try {
      if (waiting >= MAXIMUM_WAITING) {
        const peer = socket.peerCredentials();
        socket[Symbol.dispose]();
        this.#refused(peer, "too many clients are connected and say nothing");
        return;
      }
      const session = new Session(socket, this.#sessionHost);
      const timer = setTimeout(() => session.close("it said nothing"), GREETING_MS);
      timer.unref();
      this.#sessions.set(session, timer);
    } catch (error) {
      socket[Symbol.dispose]();
      this.#emit({ type: "error", description: messageOf(error) });
    }
  }

  #admit(session: Session): void {
    const { peer } = session;
    const { allowUids, admit } = this.#options;
    if (allowUids !== undefined && !allowUids.includes(peer.uid)) {
      throw refusal(
        "EACCES",
        `uid ${peer.uid} is not among those that may connect; whoever serves the function can let it in`,
      );
    }
    admit?.(peer);
    // The present client may be gone already, and the event loop has not told.
    if (this.#current !== undefined && !this.#current.hungUp()) {
      const { pid, uid } = this.#current.peer;
      throw refusal("EBUSY", `the function is in use by pid ${pid} (uid ${uid}); it has one client at a time`);
    }
    this.fn.connect({
      name: `vfio-user client, pid ${peer.pid} uid ${peer.uid}`,
      fault: (description) => {
        this.#counters.faults++;
        this.#emit({ type: "fault", description });
      },
    });
    this.#saveAsConnected();
    this.#current = session;
    clearTimeout(this.#sessions.get(session));
    this.#sessions.set(session, undefined);
    this.#counters.connections++;
    this.#emit({ type: "connected", pid: peer.pid, uid: peer.uid, gid: peer.gid });
  }

  #ended(session: Session, reason: string): void {
    clearTimeout(this.#sessions.get(session));
    this.#sessions.delete(session);
    if (session === this.#current) {
      this.#current = undefined;
      // From now on nothing happens that the state does not know of.
      this.#persist();
      this.#emit({ type: "disconnected", pid: session.peer.pid, reason });
    } else this.#refused(session.peer, reason);
  }

  #refused({ pid, uid }: PeerCredentials, reason: string): void {
    this.#counters.refusals++;
    this.#emit({ type: "refused", pid, uid, reason });
  }

  /** Says so once; what was saved before stays, and the next time it is tried again. */
  #persist(): void {
    if (this.#store === undefined) return;
    try {
      this.#save();
      this.#unsaved = false;
    } catch (error) {
      if (!this.#unsaved) this.#emit({ type: "error", description: messageOf(error) });
      this.#unsaved = true;
    }
  }

  /** A state that does not know of a client must not be what is left of one: who cannot be noted down is not let in. */
  #saveAsConnected(): void {
    try {
      this.#save();
    } catch (error) {
      this.fn.disconnect({ keepState: true });
      throw error;
    }
  }

  #save(): void {
    if (this.#store === undefined) return;
    try {
      this.#store.save(this.fn.save());
      this.#counters.stateSaves++;
    } catch (error) {
      const errno = (isRing3Error(error) && error.errno) || "EIO";
      const sentence = `the function's state was not saved, and the one before stays: ${messageOf(error)}`;
      throw new Ring3Error("STATE_NOT_SAVED", sentence, { errno, cause: error });
    }
  }

  #emit(event: ServerEvent): void {
    for (const listener of [this.#options.onEvent, ...this.#listeners]) {
      try {
        listener?.(event);
      } catch (error) {
        // Whoever listens must not stop the server; the exception is not lost either.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

/**
 * Serves `fn` at the UNIX socket `path`, to one client at a time, until the server is closed. Throws `SOCKET_IN_USE` where
 * another server listens there, `SOCKET_PATH_TAKEN` where something else is, `STATE_MISMATCH` or `STATE_INVALID` for a
 * saved state that is not this function's, and `STATE_NOT_SAVED` where there is no room for it.
 *
 * @example
 * import { EduDevice } from "ring3/devices/edu";
 * import { serve } from "ring3/vfio-user";
 * await using server = await serve(new EduDevice(), "/run/user/1000/edu.sock");
 */
export function serve(fn: VirtualFunction, path: string, options: ServeOptions = {}): Promise<FunctionServer> {
  return new Promise((resolve) => resolve(new FunctionServer(fn, path, options)));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
