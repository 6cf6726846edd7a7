// One socket of a client, as frames: bytes gather in a buffer that is parsed in place, so that the small round trip of a
// register costs one send and one receive. The hard part is a peer that lies: sizes are checked before a byte is awaited,
// and a buffer never grows beyond what was negotiated.
import { Ring3Error } from "../binary/error.ts";
import { ERRNO, errnoName } from "../linux/errno.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { SocketChannel } from "../linux/socket-channel.ts";
import { HEADER_SIZE, HeaderFlag } from "./messages.ts";

const EAGAIN = -ERRNO.EAGAIN[0];
const NO_FDS: readonly FileDescriptor[] = [];
/** Descriptors received in one message; the server is told half of it. */
export const MAXIMUM_FDS = 64;

/** Why a connection cannot go on: the server broke the protocol. */
export function protocolError(what: string): Ring3Error {
  return new Ring3Error("PROTOCOL_ERROR", `the vfio-user server broke the protocol: ${what}`, { errno: "EPROTO" });
}

function connectionLost(call: string, errno?: number): Ring3Error {
  const name = errno === undefined ? undefined : errnoName(errno);
  const what = name === undefined ? "the vfio-user server closed the connection" : `the connection broke off (${name})`;
  return new Ring3Error("CONNECTION_LOST", `${what}; is its process still running?`, {
    call,
    ...(name === undefined ? {} : { errno: name }),
  });
}

/**
 * A socket with its frames. After {@link Lane.next} the fields show the frame and its payload lies in `view` from `payload`
 * on, until the next call of `next` or `fill`.
 */
export class Lane {
  /** Requests are composed here from byte 0 on. */
  readonly out: DataView;
  readonly outBytes: Uint8Array;
  /** Replies to the server's commands are composed here. */
  readonly replies: DataView;
  readonly replyBytes: Uint8Array;
  /** The bytes that came. */
  readonly view: DataView;
  readonly bytes: Uint8Array;
  messageId = 0;
  command = 0;
  flags = 0;
  /** 0, or what a reply's error is. */
  errno = 0;
  payload = 0;
  payloadSize = 0;
  readonly fd: FileDescriptor;
  readonly #channel: SocketChannel;
  readonly #maximumFrame: number;
  readonly #timeoutMs: number;
  #fds: FileDescriptor[] = [];
  #start = 0;
  #end = 0;

  /** Takes over a connected socket; no message is larger than `maximumFrame` bytes in either direction. */
  constructor(fd: FileDescriptor, maximumFrame: number, timeoutMs: number) {
    const inputBytes = 2 * maximumFrame;
    const channel = new SocketChannel(fd, { inputBytes, outputBytes: maximumFrame, maximumFds: MAXIMUM_FDS });
    this.fd = fd;
    this.#channel = channel;
    this.#maximumFrame = maximumFrame;
    this.#timeoutMs = timeoutMs;
    this.out = channel.request.view;
    this.outBytes = channel.request.bytes;
    this.replies = channel.output.view;
    this.replyBytes = channel.output.bytes;
    this.view = channel.input.view;
    this.bytes = channel.input.bytes;
  }

  /** Moves on to the next frame that came whole; `false` where there is none. Throws `PROTOCOL_ERROR`. */
  next(): boolean {
    const there = this.#end - this.#start;
    if (there < HEADER_SIZE) return false;
    const { view } = this;
    const at = this.#start;
    const size = view.getUint32(at + 4, true);
    if (size < HEADER_SIZE || size > this.#maximumFrame) {
      throw protocolError(`a message of ${size} bytes, where ${HEADER_SIZE} to ${this.#maximumFrame} are possible`);
    }
    if (size > there) return false;
    this.messageId = view.getUint16(at, true);
    this.command = view.getUint16(at + 2, true);
    this.flags = view.getUint32(at + 8, true);
    this.errno =
      (this.flags & HeaderFlag.ERROR) === 0 ? 0 : Math.min(view.getUint32(at + 12, true), 4095) || ERRNO.EIO[0];
    this.payload = at + HEADER_SIZE;
    this.payloadSize = size - HEADER_SIZE;
    this.#start = at + size;
    return true;
  }

  /** Receives what is there; `false` where nothing came. Throws `CONNECTION_LOST`. */
  fill(): boolean {
    this.#makeRoom();
    const size = this.#channel.receive(this.#end, this.bytes.length - this.#end);
    if (size > 0) {
      this.#end += size;
      if (this.#channel.hasFds) this.#fds.push(...this.#channel.takeFds());
      return true;
    }
    if (size === EAGAIN) return false;
    throw size === 0 ? connectionLost("recvmsg") : connectionLost("recvmsg", -size);
  }

  /** Blocks until something can be received, at most `timeoutMs`. */
  wait(timeoutMs: number): void {
    this.#channel.wait("readable", Math.max(0, timeoutMs));
  }

  /** The descriptors that came since the last call; they are the caller's. */
  takeFds(): FileDescriptor[] {
    const fds = this.#fds;
    if (fds.length > 0) this.#fds = [];
    return fds;
  }

  /** Sends `size` bytes of `out` (or of `replies`), and `fds` with them, in as few calls as the socket allows. */
  send(size: number, fds: readonly FileDescriptor[] = NO_FDS, area: "request" | "output" = "request"): void {
    this.#sendFrom(0, size, fds, area);
  }

  /** Sends like {@link send} where the socket has room now; `false` where it has none at all. */
  trySend(size: number): boolean {
    const sent = this.#advance(0, this.#channel.send(0, size, "request"));
    if (sent === 0) return false;
    if (sent < size) this.#sendFrom(sent, size, NO_FDS, "request");
    return true;
  }

  close(): void {
    closeAll(this.takeFds());
    this.#channel[Symbol.dispose]();
  }

  #sendFrom(from: number, size: number, fds: readonly FileDescriptor[], area: "request" | "output"): void {
    for (let sent = from; sent < size; ) {
      const result =
        sent === 0 && fds.length > 0
          ? this.#channel.sendWithFds(0, size, fds, area)
          : this.#channel.send(sent, size - sent, area);
      const after = this.#advance(sent, result);
      if (after === sent) this.#awaitRoom();
      sent = after;
    }
  }

  #advance(sent: number, result: number): number {
    if (result >= 0) return sent + result;
    if (result === EAGAIN) return sent;
    throw connectionLost("sendmsg", -result);
  }

  /** The server may be unable to read before somebody reads what it sends: so that is taken in between. */
  #awaitRoom(): void {
    const until = performance.now() + this.#timeoutMs;
    while (!this.#channel.wait("writable", 5)) {
      if (this.#end - this.#start < this.#maximumFrame) this.fill();
      if (performance.now() < until) continue;
      throw new Ring3Error(
        "SERVER_TIMEOUT",
        `the vfio-user server took no data for ${this.#timeoutMs} ms; it is stuck, or its thread is busy`,
        { call: "sendmsg", errno: "ETIMEDOUT" },
      );
    }
  }

  /** Moves what is left to the front where the input would end within the next frame. */
  #makeRoom(): void {
    if (this.#start === this.#end) {
      this.#start = 0;
      this.#end = 0;
    } else if (this.#start + this.#maximumFrame > this.bytes.length || this.#end === this.bytes.length) {
      this.bytes.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
  }
}

export function closeAll(fds: readonly FileDescriptor[]): void {
  for (const fd of fds) fd.close();
}
