// Where a server listens: a socket that it makes at its path, or one that somebody else made and goes on holding.
import { Ring3Error } from "../binary/error.ts";
import { ServerSocket, UnixListener } from "../linux/index.ts";
import type { ServeOptions } from "./server-options.ts";

const DEFAULT_MODE = 0o600;

/** What a server listens at. Disposal ends that. */
export interface ListeningPlace extends Disposable {
  readonly listener: UnixListener;
}

/**
 * Listens at `path`, or by the descriptor that listens there already. Throws `SOCKET_IN_USE` where a server listens at `path`,
 * `SOCKET_PATH_TAKEN` where it is no socket, `LISTEN_FD_INVALID` and `OPTION_CONFLICT`.
 */
export function listenAt(path: string, options: Pick<ServeOptions, "mode" | "owner" | "listenFd">): ListeningPlace {
  const { mode, owner, listenFd } = options;
  if (listenFd === undefined) return new ServerSocket(path, { mode: mode ?? DEFAULT_MODE, owner });
  if (mode !== undefined || owner !== undefined) {
    throw new Ring3Error(
      "OPTION_CONFLICT",
      `descriptor ${listenFd} brings its socket's mode and owner: set them where it is made (SocketMode=, SocketUser=)`,
    );
  }
  const listener = UnixListener.inherited(listenFd);
  return { listener, [Symbol.dispose]: () => listener[Symbol.dispose]() };
}
