// The socket in the file system: made with its permissions from the first moment on, taken over from a server that died,
// never from one that lives, and removed at the end if it is still ours.
import { chmodSync, chownSync, fchmodSync, lstatSync, renameSync, type Stats, unlinkSync } from "node:fs";
import { Ring3Error } from "../binary/error.ts";
import { probeListener, UnixListener } from "./sockets.ts";

export interface ServerSocketOptions {
  /** Permissions of the path; connecting needs the right to write. 0o600 by default. */
  readonly mode?: number | undefined;
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
}

/** What a server listens at. Disposal ends that. */
export interface ListeningPlace extends Disposable {
  readonly listener: UnixListener;
}

/**
 * Listens at `path`, or by the descriptor of that number, which somebody else made, as a service manager does, and goes on
 * holding. Throws `SOCKET_IN_USE` where a server listens at `path`, `SOCKET_PATH_TAKEN` where it is no socket,
 * `LISTEN_FD_INVALID` and `OPTION_CONFLICT`.
 */
export function listenAt(
  path: string,
  { listenFd, ...options }: ServerSocketOptions & { readonly listenFd?: number | undefined } = {},
): ListeningPlace {
  if (listenFd === undefined) return new ServerSocket(path, options);
  if (options.mode !== undefined || options.owner !== undefined) {
    throw new Ring3Error(
      "OPTION_CONFLICT",
      `descriptor ${listenFd} brings its socket's mode and owner: set them where it is made (SocketMode=, SocketUser=)`,
    );
  }
  const listener = UnixListener.inherited(listenFd);
  return { listener, [Symbol.dispose]: () => listener[Symbol.dispose]() };
}

/** A listening socket at a path. Disposal closes it and removes the path, unless somebody else's socket is there by now. */
class ServerSocket implements ListeningPlace {
  readonly path: string;
  readonly listener: UnixListener;
  readonly #made: Stats;

  /** Throws `SOCKET_IN_USE` where a server listens at `path`, `SOCKET_PATH_TAKEN` where it is no socket. */
  constructor(path: string, { mode = 0o600, owner }: ServerSocketOptions = {}) {
    this.path = path;
    removeStale(path);
    // A new socket's permissions are those of its descriptor, less the umask: nobody else gets in before they are set.
    this.listener = UnixListener.listen(path, { before: (fd) => fchmodSync(fd.number, mode & 0o700), backlog: 16 });
    try {
      this.#made = lstatSync(path);
      if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
      // Where nothing is to be changed, a service needs no right (CAP_FOWNER) over what it has just given away.
      if ((this.#made.mode & 0o777) !== mode) chmodSync(path, mode);
    } catch (error) {
      this.listener[Symbol.dispose]();
      unlinkSync(path);
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.listener[Symbol.dispose]();
    const now = look(this.path);
    if (now !== undefined && now.ino === this.#made.ino && now.dev === this.#made.dev) unlinkSync(this.path);
  }
}

function removeStale(path: string): void {
  const found = look(path);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new Ring3Error("SOCKET_PATH_TAKEN", `${path} is there and no socket: choose another path, or remove it`);
  }
  if (!isDead(path, found)) throw inUse(path);
  // Two servers may find the same dead socket: whoever moves it away looks again at what it moved.
  const aside = `${path.slice(0, 90)}.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  const moved = look(aside);
  if (moved !== undefined && !isDead(aside, moved)) {
    renameSync(aside, path);
    throw inUse(path);
  }
  unlinkSync(aside);
}

/**
 * Whether nobody listens at `path`, where a socket is. A service that may give sockets away and nothing else (CAP_CHOWN without
 * CAP_DAC_OVERRIDE) cannot connect to one that it gave away before it died: it takes it back to ask.
 */
function isDead(path: string, { uid, gid }: Stats): boolean {
  const found = probeListener(path);
  if (found !== "closed") return found !== "live";
  try {
    chownSync(path, process.geteuid?.() ?? uid, gid);
  } catch {
    return false;
  }
  if (probeListener(path) === "dead") return true;
  chownSync(path, uid, gid);
  return false;
}

function look(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function inUse(path: string): Ring3Error {
  return new Ring3Error("SOCKET_IN_USE", `another server listens at ${path}: end it, or choose another path`, {
    errno: "EADDRINUSE",
  });
}
