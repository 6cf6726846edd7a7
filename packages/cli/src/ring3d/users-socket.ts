// The users' socket of ring3d: anybody may connect, and the kernel says who it is. What a user can take up is bounded, for
// each uid and for all, and whoever is connected for nothing is hung up on.
import { Ring3Error } from "ring3";
import { type ListeningPlace, listenAt, type UnixSocket } from "ring3/linux";
import { acceptSockets } from "./peer-listener.ts";
import type { UserFacing, UserPeer } from "./service-interface.ts";
import { UserConnection } from "./user-connection.ts";

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
  readonly #accepting: Disposable;

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
    this.#accepting = acceptSockets(this.#socket.listener, (socket, peer) => this.#take(socket, peer));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#look);
    this.#accepting[Symbol.dispose]();
    this.#socket[Symbol.dispose]();
    this.#reloads[Symbol.dispose]();
    for (const connection of Array.from(this.#connections)) connection.end();
  }

  #take(socket: UnixSocket, peer: UserPeer): void {
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
