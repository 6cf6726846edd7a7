// UNIX sockets that carry file descriptors (SCM_RIGHTS). The message headers are built once per socket; a message costs
// one system call. Descriptors that a peer sends are owned from the moment they arrive, wanted or not.
import { Ring3Error } from "../binary/error.ts";
import { ERRNO, systemCallError } from "./errno.ts";
import { FileDescriptor, OPEN } from "./file-descriptor.ts";
import * as native from "./native.ts";

const AF_UNIX = 1;
const SOCK = { stream: 1, datagram: 2, seqpacket: 5, CLOEXEC: 0o2000000 } as const;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SO_PEERGROUPS = 59;
const SCM_RIGHTS = 1;
const MSG = { CTRUNC: 0x08, DONTWAIT: 0x40, NOSIGNAL: 0x4000, CMSG_CLOEXEC: 0x4000_0000 } as const;
/** The kernel takes no more descriptors in one message. */
const MAXIMUM_FDS = 253;
const PATH_BYTES = 108;
const F_SETFL = 4;

// struct msghdr and struct cmsghdr of 64-bit Linux, little endian; what the C libraries call padding is zero.
const HEADER = { SIZE: 56, VECTOR: 16, VECTOR_COUNT: 24, CONTROL: 32, CONTROL_SIZE: 40, FLAGS: 48 } as const;
const CONTROL = { LEVEL: 8, TYPE: 12, DATA: 16 } as const;
const MAXIMUM_PARTS = 16;

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

  /** The supplementary groups that the peer had when it connected. */
  peerGroups(): readonly number[] {
    const number = this.fd.number;
    const length = new Uint32Array(1);
    for (let room = 64; ; room = (length[0] ?? 0) / 4) {
      const groups = new Uint32Array(room);
      length[0] = groups.byteLength;
      const result = native.reportedCall("getsockopt SO_PEERGROUPS", () =>
        native.getsockopt(
          number,
          SOL_SOCKET,
          SO_PEERGROUPS,
          new Uint8Array(groups.buffer),
          new Uint8Array(length.buffer),
        ),
      );
      if (result === 0) return [...groups.subarray(0, (length[0] ?? 0) / 4)];
      if (result !== -ERRNO.ERANGE[0]) throw systemCallError("getsockopt SO_PEERGROUPS", -result);
    }
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

/** A msghdr with its vector and control buffer, at fixed places. */
class MessageHeader {
  readonly #header = new Uint8Array(HEADER.SIZE);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #vector = new BigUint64Array(2 * MAXIMUM_PARTS);
  readonly #control: Uint8Array;
  readonly #controlView: DataView;
  readonly #controlAddress: bigint;
  #lastPart: Uint8Array | undefined;
  #lastAddress = 0n;

  constructor(maximumFds: number) {
    this.#control = new Uint8Array(CONTROL.DATA + Math.ceil((4 * maximumFds) / 8) * 8);
    this.#controlView = new DataView(this.#control.buffer);
    this.#controlAddress = BigInt(native.addressOfView(this.#control));
    const vector = BigInt(native.addressOfView(new Uint8Array(this.#vector.buffer)));
    this.#headerView.setBigUint64(HEADER.VECTOR, vector, true);
  }

  /** Points the header to `parts` and returns it. */
  point(parts: readonly Uint8Array[]): Uint8Array {
    if (parts.length > MAXIMUM_PARTS) throw new RangeError(`at most ${MAXIMUM_PARTS} parts a message`);
    for (const [i, part] of parts.entries()) {
      // Receive buffers are the same again and again; an address is looked up once for them.
      if (part !== this.#lastPart || part.length === 0) {
        this.#lastPart = part;
        this.#lastAddress = BigInt(native.addressOfView(part));
      }
      this.#vector[2 * i] = this.#lastAddress;
      this.#vector[2 * i + 1] = BigInt(part.length);
    }
    this.#headerView.setUint32(HEADER.VECTOR_COUNT, parts.length, true);
    return this.#header;
  }

  putFds(fds: readonly FileDescriptor[]): void {
    if (fds.length > MAXIMUM_FDS) throw new RangeError(`at most ${MAXIMUM_FDS} file descriptors a message`);
    const size = fds.length === 0 ? 0 : CONTROL.DATA + 4 * fds.length;
    this.#setControl(size === 0 ? 0 : Math.ceil(size / 8) * 8);
    if (size === 0) return;
    this.#controlView.setBigUint64(0, BigInt(size), true);
    this.#controlView.setInt32(CONTROL.LEVEL, SOL_SOCKET, true);
    this.#controlView.setInt32(CONTROL.TYPE, SCM_RIGHTS, true);
    for (const [i, fd] of fds.entries()) this.#controlView.setInt32(CONTROL.DATA + 4 * i, fd.number, true);
  }

  clearFds(): void {
    this.#setControl(this.#control.length);
    this.#headerView.setUint32(HEADER.FLAGS, 0, true);
  }

  get controlTruncated(): boolean {
    return (this.#headerView.getUint32(HEADER.FLAGS, true) & MSG.CTRUNC) !== 0;
  }

  /** The descriptors that the kernel put into the control buffer. */
  takeFds(): readonly FileDescriptor[] {
    const end = this.#headerView.getUint32(HEADER.CONTROL_SIZE, true);
    if (end < CONTROL.DATA) return NO_FDS;
    const fds: FileDescriptor[] = [];
    for (let at = 0; at + CONTROL.DATA <= end; ) {
      const size = this.#controlView.getUint32(at, true);
      if (size < CONTROL.DATA || at + size > end) break;
      const level = this.#controlView.getInt32(at + CONTROL.LEVEL, true);
      if (level === SOL_SOCKET && this.#controlView.getInt32(at + CONTROL.TYPE, true) === SCM_RIGHTS) {
        for (let fd = at + CONTROL.DATA; fd + 4 <= at + size; fd += 4) {
          fds.push(new FileDescriptor(this.#controlView.getInt32(fd, true)));
        }
      }
      at += Math.ceil(size / 8) * 8;
    }
    return fds;
  }

  #setControl(size: number): void {
    this.#headerView.setBigUint64(HEADER.CONTROL, size === 0 ? 0n : this.#controlAddress, true);
    this.#headerView.setUint32(HEADER.CONTROL_SIZE, size, true);
  }
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
