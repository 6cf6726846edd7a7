// The users' socket of ring3d: anybody may connect, and the kernel says who it is. What a user can take up is bounded, for
// each uid and for all, and whoever is connected for nothing is hung up on.
import { Ring3Error } from "ring3";
import { type ListeningPlace, listenAt, type UnixSocket, type Watch, watch } from "ring3/linux";
import type { UserFacing } from "./service-interface.ts";
import { UserConnection } from "./user-connection.ts";

/** A pause where no connection can be taken: the process has no descriptors left. */
const ACCEPT_PAUSE_MS = 100;
/** Connections that are taken in one turn of the event loop. */
const ACCEPTS_A_TURN = 16;

export interface UsersSocketOptions {
  /** Number of a descriptor that listens at the path already, as systemd passes one. */
  readonly listenFd?: number | undefined;
  /** Connections of one uid; 16 by default. */
  readonly connectionsPerUser?: number;
  /** Connections of all; 256 by default. */
  readonly connections?: number;
  /** How long one may be connected that neither wants notices nor has a function; 30 s by default. */
  readonly silenceMs?: number;
}

/** Serves users at `path` until disposed, which ends all connections. Throws `SOCKET_IN_USE` or `SOCKET_PATH_TAKEN`. */
export function serveUsers(path: string, service: UserFacing, options: UsersSocketOptions = {}): Disposable {
  return new UsersSocket(path, service, options);
}

class UsersSocket implements Disposable {
  readonly #service: UserFacing;
  readonly #socket: ListeningPlace;
  readonly #connectionsPerUser: number;
  readonly #maximum: number;
  readonly #silenceMs: number;
  readonly #connections: Set<UserConnection> = new Set();
  readonly #reloads: Disposable;
  readonly #look: NodeJS.Timeout;
  #watch: Watch | undefined;
  #pause: NodeJS.Timeout | undefined;

  constructor(path: string, service: UserFacing, options: UsersSocketOptions) {
    this.#service = service;
    this.#connectionsPerUser = options.connectionsPerUser ?? 16;
    this.#maximum = options.connections ?? 256;
    this.#silenceMs = options.silenceMs ?? 30_000;
    const { listenFd } = options;
    this.#socket = listenAt(path, listenFd === undefined ? { mode: 0o666 } : { listenFd });
    this.#reloads = service.on((event) => {
      if (event.type === "reloaded") for (const connection of Array.from(this.#connections)) connection.recheck();
    });
    this.#look = setInterval(() => this.#hangUpOnIdle(), this.#silenceMs / 4);
    this.#look.unref();
    this.#listen();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#look);
    clearTimeout(this.#pause);
    this.#watch?.[Symbol.dispose]();
    this.#socket[Symbol.dispose]();
    this.#reloads[Symbol.dispose]();
    for (const connection of Array.from(this.#connections)) connection.end();
  }

  #listen(): void {
    this.#watch = watch(this.#socket.listener.fd, () => this.#accept());
  }

  #accept(): void {
    for (let count = 0; count < ACCEPTS_A_TURN; count++) {
      let socket: UnixSocket | undefined;
      try {
        socket = this.#socket.listener.accept();
        if (socket === undefined) return;
        this.#take(socket);
      } catch {
        // No descriptors, no memory: looking again at once would fail again.
        socket?.[Symbol.dispose]();
        this.#watch?.[Symbol.dispose]();
        this.#pause = setTimeout(() => this.#listen(), ACCEPT_PAUSE_MS);
        return;
      }
    }
  }

  #take(socket: UnixSocket): void {
    const peer = { ...socket.peerCredentials(), groups: socket.peerGroups() ?? [] };
    const ofUser = Array.from(this.#connections).filter((other) => other.peer.uid === peer.uid).length;
    const connection = new UserConnection(socket, peer, this.#service, (ended) => this.#connections.delete(ended));
    if (ofUser < this.#connectionsPerUser && this.#connections.size < this.#maximum) {
      this.#connections.add(connection);
      return;
    }
    const whose =
      ofUser < this.#connectionsPerUser ? `${this.#connections.size} users are` : `uid ${peer.uid} is ${ofUser} times`;
    connection.refuse(new Ring3Error("TOO_MANY_CONNECTIONS", `${whose} connected already; end a connection`));
    connection.end();
  }

  #hangUpOnIdle(): void {
    for (const connection of Array.from(this.#connections)) {
      const { idleSince } = connection;
      if (idleSince === undefined || performance.now() - idleSince < this.#silenceMs) continue;
      connection.refuse(new Ring3Error("SILENT", "this connection wants nothing; register for notices to keep it"));
      connection.end();
    }
  }
}
