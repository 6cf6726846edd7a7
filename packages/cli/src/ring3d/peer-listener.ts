// Connections of local processes, each with who it is as the kernel says, as sockets that carry descriptors or as Node's streams.
// Node has streams for UNIX sockets and not their credentials, so they are accepted by the library and become streams then.
import { Socket } from "node:net";
import { type PeerCredentials, type UnixListener, type UnixSocket, type Watch, watch } from "ring3/linux";
import type { UserPeer } from "./service-interface.ts";

/** Who connected, with all its groups. */
export interface Peer extends PeerCredentials {
  readonly gids: readonly number[];
}

export type OnPeer = (stream: Socket, peer: Peer) => void;

/** A pause where no connection can be taken: the process has no descriptors left. */
const ACCEPT_PAUSE_MS = 100;
/** Connections in one turn of the event loop: somebody who does nothing but connect does not stop the rest. */
const ACCEPTS_A_TURN = 16;

/**
 * Calls `onPeer` with each connection to `listener`, which stays its owner's. The streams are half-open: their writing side
 * stays when the peer has ended its own. Disposal takes no further ones.
 */
export function acceptPeers(listener: UnixListener, onPeer: OnPeer): Disposable {
  return acceptSockets(listener, (socket, peer) => {
    onPeer(streamOf(socket), { ...peer, gids: [...new Set([peer.gid, ...peer.groups])] });
  });
}

/** Calls `onSocket`, which takes each socket over, with connections and who they are; where it throws the socket is closed. */
export function acceptSockets(
  listener: UnixListener,
  onSocket: (socket: UnixSocket, peer: UserPeer) => void,
): Disposable {
  let watching: Watch | undefined;
  let pause: NodeJS.Timeout | undefined;
  let closed = false;
  const rest = (): void => {
    // Looking again at once would only fail again.
    watching?.[Symbol.dispose]();
    watching = undefined;
    pause = setTimeout(listen, ACCEPT_PAUSE_MS);
  };
  const accept = (): void => {
    for (let count = 0; count < ACCEPTS_A_TURN && !closed; count++) {
      let socket: UnixSocket | undefined;
      try {
        socket = listener.accept();
        if (socket === undefined) return;
        onSocket(socket, { ...socket.peerCredentials(), groups: socket.peerGroups() ?? [] });
      } catch {
        socket?.[Symbol.dispose]();
        rest();
        return;
      }
    }
  };
  function listen(): void {
    watching = watch(listener.fd, accept);
  }
  listen();
  return {
    [Symbol.dispose]: () => {
      closed = true;
      clearTimeout(pause);
      watching?.[Symbol.dispose]();
    },
  };
}

function streamOf(socket: UnixSocket): Socket {
  // What the stream cannot take stays the socket's, to be closed.
  const stream = new Socket({ fd: socket.fd.number, readable: true, writable: true, allowHalfOpen: true });
  socket.fd.release();
  return stream;
}
