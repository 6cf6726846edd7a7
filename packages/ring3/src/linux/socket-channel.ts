// A stream socket with its buffers in one mapping whose addresses are known: a message costs one system call and no
// allocation. Two areas for what is sent, so that a command can go out while a reply is being put together.
import { ERRNO } from "./errno.ts";
import { FileDescriptor } from "./file-descriptor.ts";
import { MappedMemory } from "./mapped-memory.ts";
import { pageSize } from "./memory-map.ts";
import * as native from "./native.ts";

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG = { CTRUNC: 0x08, DONTWAIT: 0x40, NOSIGNAL: 0x4000, CMSG_CLOEXEC: 0x4000_0000 } as const;
const RECEIVE = MSG.DONTWAIT | MSG.CMSG_CLOEXEC;
const SEND = MSG.DONTWAIT | MSG.NOSIGNAL;
const POLL = { IN: 1, OUT: 4 } as const;

// 32-bit words of struct msghdr, iovec and cmsghdr on 64-bit Linux, all in the mapping's first page.
const RECEIVE_HEADER = 0;
const SEND_HEADER = 16;
const RECEIVE_VECTOR = 32;
const SEND_VECTOR = 36;
const POLL_RECORD = 40;
const RECEIVE_CONTROL = 64;
const SEND_CONTROL = 512;
const HEADER = { VECTOR: 4, VECTOR_COUNT: 6, CONTROL: 8, CONTROL_SIZE: 10, FLAGS: 12 } as const;
const CONTROL_HEADER_BYTES = 16;
/** The kernel takes no more descriptors in one message. */
const MAXIMUM_FDS = 253;

/** Bytes of a channel, in the three ways in which they are looked at. */
export interface ChannelArea {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly view: DataView;
  readonly size: number;
}

export interface SocketChannelOptions {
  /** Bytes of the area that is received into. */
  readonly inputBytes: number;
  /** Bytes of each of the two areas that are sent from. */
  readonly outputBytes: number;
  /** Descriptors received in one message at most; the kernel closes what is more. 16 by default. */
  readonly maximumFds?: number;
}

const NO_FDS: readonly FileDescriptor[] = [];

/** A connected stream socket and its buffers. Nothing blocks but `wait`. Disposal closes the socket. */
export class SocketChannel implements Disposable {
  readonly fd: FileDescriptor;
  readonly input: ChannelArea;
  /** For replies. */
  readonly output: ChannelArea;
  /** For commands. */
  readonly request: ChannelArea;
  readonly #memory: MappedMemory;
  readonly #words: Uint32Array;
  readonly #base: number;
  readonly #inputAddress: number;
  readonly #outputAddress: number;
  readonly #requestAddress: number;
  readonly #controlBytes: number;
  readonly #number: number;
  #closed = false;

  /** Takes over a connected socket. */
  constructor(fd: FileDescriptor, { inputBytes, outputBytes, maximumFds = 16 }: SocketChannelOptions) {
    this.fd = fd;
    this.#number = fd.number;
    const inputSize = Math.ceil(inputBytes / pageSize) * pageSize;
    const outputSize = Math.ceil(outputBytes / pageSize) * pageSize;
    this.#memory = MappedMemory.anonymous(pageSize + inputSize + 2 * outputSize);
    const { buffer } = this.#memory.bytes;
    const area = (offset: number, size: number): ChannelArea => ({
      bytes: new Uint8Array(buffer, offset, size),
      words: new Uint32Array(buffer, offset, size / 4),
      view: new DataView(buffer, offset, size),
      size,
    });
    this.input = area(pageSize, inputSize);
    this.output = area(pageSize + inputSize, outputSize);
    this.request = area(pageSize + inputSize + outputSize, outputSize);
    this.#words = new Uint32Array(buffer, 0, pageSize / 4);
    this.#base = native.addressOfView(this.#memory.bytes);
    this.#inputAddress = this.#base + pageSize;
    this.#outputAddress = this.#inputAddress + inputSize;
    this.#requestAddress = this.#outputAddress + outputSize;
    this.#controlBytes = CONTROL_HEADER_BYTES + Math.ceil(Math.min(maximumFds, MAXIMUM_FDS) / 2) * 8;
    this.#putAddress(RECEIVE_HEADER + HEADER.VECTOR, this.#base + 4 * RECEIVE_VECTOR);
    this.#putAddress(RECEIVE_HEADER + HEADER.CONTROL, this.#base + 4 * RECEIVE_CONTROL);
    this.#words[RECEIVE_HEADER + HEADER.VECTOR_COUNT] = 1;
    this.#putAddress(SEND_HEADER + HEADER.VECTOR, this.#base + 4 * SEND_VECTOR);
    this.#putAddress(SEND_HEADER + HEADER.CONTROL, this.#base + 4 * SEND_CONTROL);
    this.#words[SEND_HEADER + HEADER.VECTOR_COUNT] = 1;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Receives into `input` at `at`: how many bytes came, 0 where the peer has closed, or minus the errno (`EAGAIN`). */
  receive(at: number, size: number): number {
    if (this.#closed) return 0;
    const words = this.#words;
    this.#putAddress(RECEIVE_VECTOR, this.#inputAddress + at);
    words[RECEIVE_VECTOR + 2] = size;
    // The kernel overwrites both with what came.
    words[RECEIVE_HEADER + HEADER.CONTROL_SIZE] = this.#controlBytes;
    for (;;) {
      const result = native.recvmsgAt(this.#number, this.#base + 4 * RECEIVE_HEADER, RECEIVE);
      if (result !== -1) return result;
      words[RECEIVE_HEADER + HEADER.CONTROL_SIZE] = 0;
      const errno = native.lastErrno();
      if (errno !== ERRNO.EINTR[0]) return -errno;
    }
  }

  /** Whether descriptors came with the last `receive`: they must be taken then. */
  get hasFds(): boolean {
    return this.#words[RECEIVE_HEADER + HEADER.CONTROL_SIZE] !== 0;
  }

  /** Whether the peer sent more descriptors than there was room for with the last `receive`. */
  get fdsLost(): boolean {
    return ((this.#words[RECEIVE_HEADER + HEADER.FLAGS] ?? 0) & MSG.CTRUNC) !== 0;
  }

  /** The descriptors that came with the last `receive`; they are the caller's now. */
  takeFds(): readonly FileDescriptor[] {
    const words = this.#words;
    const end = words[RECEIVE_HEADER + HEADER.CONTROL_SIZE] ?? 0;
    words[RECEIVE_HEADER + HEADER.CONTROL_SIZE] = 0;
    if (end < CONTROL_HEADER_BYTES) return NO_FDS;
    const fds: FileDescriptor[] = [];
    for (let at = 0; at + CONTROL_HEADER_BYTES <= end; ) {
      const word = RECEIVE_CONTROL + at / 4;
      const size = words[word] ?? 0;
      if (size < CONTROL_HEADER_BYTES || at + size > end) break;
      if (words[word + 2] === SOL_SOCKET && words[word + 3] === SCM_RIGHTS) {
        const count = Math.floor((size - CONTROL_HEADER_BYTES) / 4);
        for (let i = 0; i < count; i++) fds.push(new FileDescriptor(words[word + 4 + i] as number));
      }
      at += Math.ceil(size / 8) * 8;
    }
    return fds;
  }

  /** Sends `size` bytes of `output` (or of `request`) from `at`: how many went, or minus the errno. */
  send(at: number, size: number, area: "output" | "request" = "output"): number {
    if (this.#closed) return -ERRNO.EPIPE[0];
    const address = (area === "output" ? this.#outputAddress : this.#requestAddress) + at;
    for (;;) {
      const result = native.sendAt(this.#number, address, size, SEND);
      if (result !== -1) return result;
      const errno = native.lastErrno();
      if (errno !== ERRNO.EINTR[0]) return -errno;
    }
  }

  /** As `send`, with descriptors, which go with the first byte. They stay the caller's. */
  sendWithFds(at: number, size: number, fds: readonly FileDescriptor[], area: "output" | "request" = "output"): number {
    if (fds.length === 0) return this.send(at, size, area);
    if (this.#closed) return -ERRNO.EPIPE[0];
    if (fds.length > MAXIMUM_FDS) throw new RangeError(`at most ${MAXIMUM_FDS} file descriptors a message`);
    const words = this.#words;
    this.#putAddress(SEND_VECTOR, (area === "output" ? this.#outputAddress : this.#requestAddress) + at);
    words[SEND_VECTOR + 2] = size;
    const controlSize = CONTROL_HEADER_BYTES + 4 * fds.length;
    words[SEND_CONTROL] = controlSize;
    words[SEND_CONTROL + 1] = 0;
    words[SEND_CONTROL + 2] = SOL_SOCKET;
    words[SEND_CONTROL + 3] = SCM_RIGHTS;
    for (const [i, fd] of fds.entries()) words[SEND_CONTROL + 4 + i] = fd.number;
    words[SEND_HEADER + HEADER.CONTROL_SIZE] = Math.ceil(controlSize / 8) * 8;
    return native.attemptCall(() => native.sendmsgAt(this.#number, this.#base + 4 * SEND_HEADER, SEND));
  }

  /**
   * Lets another process of this processor run, if there is one: the kernel likes to wake the peer where the one runs that
   * sent to it, and who only looks again would keep it from answering.
   */
  yieldProcessor(): void {
    native.schedYield();
  }

  /** Blocks until the socket can be read (or written), at most `timeoutMs`. `false` where it could not in time. */
  wait(what: "readable" | "writable", timeoutMs: number): boolean {
    if (this.#closed) return true;
    const words = this.#words;
    const until = performance.now() + timeoutMs;
    for (let left = timeoutMs; ; left = until - performance.now()) {
      words[POLL_RECORD] = this.#number;
      words[POLL_RECORD + 1] = what === "readable" ? POLL.IN : POLL.OUT;
      const result = native.pollAt(this.#base + 4 * POLL_RECORD, 1, Math.max(0, Math.ceil(left)));
      if (result > 0) return true;
      if (result === 0 || left <= 0) return false;
    }
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.fd.close();
    this.#memory[Symbol.dispose]();
  }

  #putAddress(word: number, address: number): void {
    this.#words[word] = address % 2 ** 32;
    this.#words[word + 1] = Math.floor(address / 2 ** 32);
  }
}
