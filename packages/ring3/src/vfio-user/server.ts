// Serves a virtual function at a UNIX socket, to one client or to several of one user at a time: listens, tells what happens, and
// takes the function back when that is wanted.
import { messageOf } from "../binary/error.ts";
import {
  type ListeningPlace,
  listenAt,
  type PeerCredentials,
  type UnixSocket,
  type Watch,
  watch,
} from "../linux/index.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import { Admission } from "./server-admission.ts";
import { type Attended, attendance } from "./server-attendance.ts";
import type { ServeOptions, ServerEvent, ServerStatistics } from "./server-options.ts";
import { StateSaving } from "./server-saving.ts";
import { Counters } from "./server-statistics.ts";

/** A pause where no connection can be taken: the process has no descriptors left. */
const ACCEPT_PAUSE_MS = 100;

/** A function at its socket. Disposal disconnects the clients and removes the socket; the function is its owner's. */
export class FunctionServer implements AsyncDisposable {
  readonly path: string;
  readonly fn: VirtualFunction;
  readonly #onEvent: ServeOptions["onEvent"];
  readonly #socket: ListeningPlace;
  readonly #counters = new Counters();
  readonly #saving: StateSaving;
  readonly #admission: Admission;
  readonly #listeners = new Set<(event: ServerEvent) => void>();
  readonly #attended: Attended;
  #watch: Watch | undefined;
  #pause: NodeJS.Timeout | undefined;
  #closed = false;

  /** Use {@link serve}. */
  constructor(fn: VirtualFunction, path: string, options: ServeOptions) {
    checkOptions(options);
    this.fn = fn;
    this.path = path;
    this.#onEvent = options.onEvent;
    const failed = (error: unknown): void => this.#failed(error);
    this.#saving = new StateSaving(fn, options.state, this.#counters, failed);
    try {
      this.#saving.restore();
      // A place where nothing can be saved is an error now, and not when a client is there.
      this.#saving.save();
      this.#socket = listenAt(path, options);
    } catch (error) {
      this.#saving[Symbol.dispose]();
      throw error;
    }
    this.#admission = new Admission({
      fn,
      options,
      counters: this.#counters,
      saving: this.#saving,
      emit: (event) => this.#emit(event),
      failed,
    });
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

  /** Who uses the function now: with several clients, whoever has it longest. */
  get client(): PeerCredentials | undefined {
    return this.clients[0];
  }

  /** Everybody who uses the function now, in the order in which they came. */
  get clients(): readonly PeerCredentials[] {
    return this.#admission.occupancy.occupants.map(({ peer: { pid, uid, gid } }) => ({ pid, uid, gid }));
  }

  /** Counters since the start, and how many there are now. */
  get statistics(): ServerStatistics {
    return this.#counters.snapshot(this.fn.memory, this.#admission);
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
   * Takes the function from its clients, as if they had left, and goes on listening: each event `disconnected` says `reason`.
   * Resolves once the function can be used again; at once where nobody uses it.
   */
  async disconnect(reason: string): Promise<void> {
    await this.#admission.disconnect(reason);
    await this.fn.settling;
  }

  /** Disconnects the clients, removes the socket, and saves the state where that is wanted. */
  close(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#closed = true;
    clearTimeout(this.#pause);
    attendance.leave(this.#attended);
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    this.#socket[Symbol.dispose]();
    this.#admission.close("the server was closed");
    this.#saving.trySave();
    this.#saving[Symbol.dispose]();
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
        this.#failed(error);
        this.#watch?.[Symbol.dispose]();
        this.#watch = undefined;
        this.#pause = setTimeout(() => this.#listen(), ACCEPT_PAUSE_MS);
        return;
      }
      if (socket === undefined) return;
      this.#admission.hear(socket);
    }
  }

  #failed(error: unknown): void {
    this.#emit({ type: "error", description: messageOf(error) });
  }

  #emit(event: ServerEvent): void {
    for (const listener of [this.#onEvent, ...this.#listeners]) {
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
 * Serves `fn` at the UNIX socket `path`, to one client at a time unless the options say otherwise, until the server is closed. Throws `SOCKET_IN_USE` where
 * another server listens there, `SOCKET_PATH_TAKEN` where something else is, `LISTEN_FD_INVALID` for a descriptor that does not
 * listen, `STATE_MISMATCH` or `STATE_INVALID` for a saved state that is not this function's, and `STATE_NOT_SAVED` where there is
 * no room for it.
 *
 * @example
 * import { EduDevice } from "ring3/devices/edu";
 * import { serve } from "ring3/vfio-user";
 * await using server = await serve(new EduDevice(), "/run/user/1000/edu.sock");
 */
export function serve(fn: VirtualFunction, path: string, options: ServeOptions = {}): Promise<FunctionServer> {
  return new Promise((resolve) => resolve(new FunctionServer(fn, path, options)));
}

function checkOptions({ openings = 1, queue = 0, queueMs = 0 }: ServeOptions): void {
  const wrong = (name: string, what: string, value: number): RangeError =>
    new RangeError(`${name} says ${what}, not ${value}`);
  if (!(Number.isSafeInteger(openings) && openings >= 1)) {
    throw wrong("openings", "how many clients there may be at a time, from 1 on", openings);
  }
  if (!(Number.isSafeInteger(queue) && queue >= 0)) throw wrong("queue", "how many clients may wait", queue);
  if (!(queueMs >= 0 && queueMs < 2 ** 31))
    throw wrong("queueMs", "for how many milliseconds a client may wait", queueMs);
}
