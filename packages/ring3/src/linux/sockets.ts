// UNIX sockets that carry file descriptors (SCM_RIGHTS). The message headers are built once per socket; a message costs
// one system call. Descriptors that a peer sends are owned from the moment they arrive, wanted or not.
import { Ring3Error } from "../binary/error.ts";
import { ERRNO, systemCallError } from "./errno.ts";
import { FileDescriptor, OPEN } from "./file-descriptor.ts";
import * as native from "./native.ts";
import { MAXIMUM_FDS, MessageHeader } from "./socket-message.ts";

const AF_UNIX = 1;
const SOCK = { stream: 1, datagram: 2, seqpacket: 5, CLOEXEC: 0o2000000 } as const;
const SOL_SOCKET = 1;
const SO_TYPE = 3;
const SO_PEERCRED = 17;
const SO_ACCEPTCONN = 30;
const SO_DOMAIN = 39;
const SO_PEERGROUPS = 59;
/** NGROUPS_MAX: no process has more. */
const MAXIMUM_GROUPS = 65_536;
const MSG = { DONTWAIT: 0x40, NOSIGNAL: 0x4000, CMSG_CLOEXEC: 0x4000_0000 } as const;
const PATH_BYTES = 108;
const F_SETFD = 2;
const F_SETFL = 4;
const FD_CLOEXEC = 1;

export type SocketKind = "stream" | "datagram" | "seqpacket";

/** Who is at the other end, as the kernel says. */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** What `receive` got. */
export interface Received {
  /** Bytes that came; 0 where the peer has closed; minus the errno otherwise (`EAGAIN`: nothing there). */
  readonly size: number;
  readonly fds: readonly FileDescriptor[];
  /** Whether the peer sent more descriptors than there was room for; the kernel has closed those. */
  readonly fdsLost: boolean;
}

const NO_FDS: readonly FileDescriptor[] = [];

/** A connected socket. Disposal closes it. */
export class UnixSocket implements Disposable {
  readonly fd: FileDescriptor;
  readonly #out = new MessageHeader(MAXIMUM_FDS);
  readonly #in: MessageHeader;

  /** Takes over a connected socket. `maximumFds` bounds the descriptors received in one message. */
  constructor(fd: FileDescriptor, { maximumFds = 16 }: { readonly maximumFds?: number } = {}) {
    this.fd = fd;
    this.#in = new MessageHeader(Math.min(maximumFds, MAXIMUM_FDS));
  }

  /** Two sockets, connected to each other. */
  static pair(kind: SocketKind = "stream"): [UnixSocket, UnixSocket] {
    const fds = new Int32Array(2);
    const bytes = new Uint8Array(fds.buffer);
    native.systemCall("socketpair", () => native.socketpair(AF_UNIX, SOCK[kind] | SOCK.CLOEXEC, 0, bytes));
    return [new UnixSocket(new FileDescriptor(fds[0] ?? -1)), new UnixSocket(new FileDescriptor(fds[1] ?? -1))];
  }

  /** Connects to the socket at `path`. For datagrams `@NAME` is an abstract name, as systemd writes it. */
  static connect(path: string, kind: SocketKind = "stream"): UnixSocket {
    const fd = newSocket(kind);
    try {
      const address = kind === "datagram" && path.startsWith("@") ? abstractAddress(path) : socketAddress(path);
      native.systemCall(
        `connect ${path}`,
        () => native.connect(fd.number, address, address.length),
        "is it being served there?",
      );
      return new UnixSocket(fd);
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /**
   * Sends the bytes of `parts` (at most 16) one behind the other, and `fds` with the first of them. Returns how many
   * bytes went, which may be fewer, or minus the errno. With `wait` it blocks while the peer's buffer is full.
   */
  send(parts: readonly Uint8Array[], fds: readonly FileDescriptor[] = NO_FDS, wait = false): number {
    const number = this.fd.number;
    const header = this.#out.point(parts);
    this.#out.putFds(fds);
    return native.attemptCall(() => native.sendmsg(number, header, MSG.NOSIGNAL | (wait ? 0 : MSG.DONTWAIT)));
  }

  /** Receives at most `into.length` bytes and the descriptors that came with them. With `wait` it blocks until some come. */
  receive(into: Uint8Array, wait = false): Received {
    const number = this.fd.number;
    const header = this.#in.point([into]);
    this.#in.clearFds();
    const flags = MSG.CMSG_CLOEXEC | (wait ? 0 : MSG.DONTWAIT);
    const size = native.attemptCall(() => native.recvmsg(number, header, flags));
    if (size < 0) return { size, fds: NO_FDS, fdsLost: false };
    return { size, fds: this.#in.takeFds(), fdsLost: this.#in.controlTruncated };
  }

  /** Who the peer was when it connected. */
  peerCredentials(): PeerCredentials {
    const value = new Uint32Array(3);
    const length = new Uint32Array([12]);
    const number = this.fd.number;
    native.systemCall("getsockopt SO_PEERCRED", () =>
      native.getsockopt(number, SOL_SOCKET, SO_PEERCRED, new Uint8Array(value.buffer), new Uint8Array(length.buffer)),
    );
    return { pid: value[0] ?? 0, uid: value[1] ?? 0, gid: value[2] ?? 0 };
  }

  /** The additional groups of the peer when it connected; `undefined` where the kernel does not tell (before Linux 4.13). */
  peerGroups(): readonly number[] | undefined {
    const number = this.fd.number;
    const length = new Uint32Array(1);
    for (let room = 32; room <= MAXIMUM_GROUPS; ) {
      const groups = new Uint32Array(room);
      length[0] = groups.byteLength;
      const result = native.attemptCall(() =>
        native.getsockopt(
          number,
          SOL_SOCKET,
          SO_PEERGROUPS,
          new Uint8Array(groups.buffer),
          new Uint8Array(length.buffer),
        ),
      );
      const needed = (length[0] ?? 0) / 4;
      if (result === 0) return Array.from(groups.subarray(0, needed));
      // Too little room: the kernel has put down how much is needed.
      if (result !== -ERRNO.ERANGE[0] || needed <= room) return undefined;
      room = needed;
    }
    return undefined;
  }

  /** Ends both directions; the peer reads the end, and so does whoever waits here. */
  shutdown(): void {
    const number = this.fd.number;
    native.attemptCall(() => native.shutdown(number, 2));
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }
}

export interface ListenOptions {
  readonly kind?: SocketKind;
  readonly backlog?: number;
  /** Called with the socket before it has its path: permissions set on it are the path's, less the umask. */
  readonly before?: (fd: FileDescriptor) => void;
}

/** A socket that takes connections. Nothing here blocks; watch `fd`. Disposal closes it and leaves the path. */
export class UnixListener implements Disposable {
  readonly fd: FileDescriptor;

  /** Takes over a socket that listens. */
  constructor(fd: FileDescriptor) {
    native.systemCall("fcntl F_SETFL", () => native.fcntl(fd.number, F_SETFL, OPEN.NONBLOCK));
    this.fd = fd;
  }

  /**
   * Takes over descriptor `number`, which listens already: a socket that systemd passes is 3 or one behind it. Throws
   * `LISTEN_FD_INVALID` for what is no listening UNIX stream socket, and leaves that as it is.
   */
  static inherited(number: number): UnixListener {
    const invalid = (what: string): Ring3Error =>
      new Ring3Error(
        "LISTEN_FD_INVALID",
        `descriptor ${number} ${what}; pass a UNIX stream socket that listens, as systemd does for a .socket unit with ListenStream=PATH`,
        { errno: "EINVAL" },
      );
    if (!Number.isInteger(number) || number < 0 || number >= 2 ** 31) throw invalid("is no number of a descriptor");
    const domain = socketOption(number, SO_DOMAIN);
    if (domain === -ERRNO.EBADF[0]) throw invalid("is not open");
    if (domain < 0) throw invalid("is no socket");
    if (domain !== AF_UNIX) throw invalid("is a socket of another family than UNIX");
    if (socketOption(number, SO_TYPE) !== SOCK.stream) throw invalid("is no stream socket");
    if (socketOption(number, SO_ACCEPTCONN) !== 1) throw invalid("is a socket that does not listen");
    const listener = new UnixListener(new FileDescriptor(number));
    // Whoever passed it left it open for programs that are started from here.
    native.systemCall("fcntl F_SETFD", () => native.fcntl(number, F_SETFD, FD_CLOEXEC));
    return listener;
  }

  /** Listens at `path`, which must not exist. */
  static listen(path: string, { kind = "stream", backlog = 8, before }: ListenOptions = {}): UnixListener {
    const fd = newSocket(kind);
    try {
      before?.(fd);
      const address = socketAddress(path);
      native.systemCall(
        `bind ${path}`,
        () => native.bind(fd.number, address, address.length),
        "remove a socket that is left over",
      );
      native.systemCall("listen", () => native.listen(fd.number, backlog));
      return new UnixListener(fd);
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /** The next connection, or `undefined` where nobody waits. */
  accept(): UnixSocket | undefined {
    const number = this.fd.number;
    const result = native.attemptCall(() => native.accept(number, null, null, SOCK.CLOEXEC));
    if (result === -ERRNO.EAGAIN[0] || result === -ERRNO.ECONNABORTED[0]) return undefined;
    if (result < 0) throw systemCallError("accept", -result);
    return new UnixSocket(new FileDescriptor(result));
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }
}

/**
 * Whether somebody listens at `path`: `dead` where a socket is left over, `closed` where its permissions keep us from asking,
 * `none` where nothing is there. Never waits.
 */
export function probeListener(path: string): "live" | "dead" | "closed" | "none" {
  const fd = new FileDescriptor(
    native.systemCall("socket", () => native.socket(AF_UNIX, SOCK.stream | SOCK.CLOEXEC | OPEN.NONBLOCK, 0)),
  );
  try {
    const address = socketAddress(path);
    const result = native.attemptCall(() => native.connect(fd.number, address, address.length));
    if (result === -ERRNO.ENOENT[0]) return "none";
    if (result === -ERRNO.EACCES[0]) return "closed";
    // A full queue (EAGAIN) or another kind of socket: somebody is there.
    return result === -ERRNO.ECONNREFUSED[0] ? "dead" : "live";
  } finally {
    fd.close();
  }
}

/** An option that is a number, or minus the errno. */
/** Where the socket of descriptor `number` listens in the file system; `undefined` for what is no such socket. */
export function boundPath(number: number): string | undefined {
  const address = new Uint8Array(2 + PATH_BYTES + 1);
  const length = new Uint32Array([address.length]);
  const result = native.attemptCall(() => native.getsockname(number, address, new Uint8Array(length.buffer)));
  if (result < 0 || new Uint16Array(address.buffer, 0, 1)[0] !== AF_UNIX) return undefined;
  const bytes = address.subarray(2, Math.min(length[0] ?? 0, address.length));
  const end = bytes.indexOf(0);
  const path = new TextDecoder().decode(bytes.subarray(0, end < 0 ? bytes.length : end));
  return path === "" ? undefined : path;
}

function socketOption(number: number, option: number): number {
  const value = new Int32Array(1);
  const length = new Uint8Array(Uint32Array.of(value.byteLength).buffer);
  const result = native.attemptCall(() =>
    native.getsockopt(number, SOL_SOCKET, option, new Uint8Array(value.buffer), length),
  );
  return result < 0 ? result : (value[0] ?? 0);
}

function newSocket(kind: SocketKind): FileDescriptor {
  return new FileDescriptor(native.systemCall("socket", () => native.socket(AF_UNIX, SOCK[kind] | SOCK.CLOEXEC, 0)));
}

/** struct sockaddr_un. */
function socketAddress(path: string): Uint8Array {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length === 0 || bytes.length >= PATH_BYTES || bytes.includes(0)) {
    throw new Ring3Error("PATH_INVALID", `a socket's path has 1 to ${PATH_BYTES - 1} bytes and no NUL: ${path}`);
  }
  const address = new Uint8Array(2 + bytes.length + 1);
  address[0] = AF_UNIX;
  address.set(bytes, 2);
  return address;
}

/** A NUL stands in front of an abstract name, and it ends with the address, unix(7). */
function abstractAddress(name: string): Uint8Array {
  const address = socketAddress(name).slice(0, -1);
  address[2] = 0;
  return address;
}
