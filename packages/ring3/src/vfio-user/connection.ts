// One end of a vfio-user connection, the same for both: messages in and out, replies, and commands whose reply is awaited.
// Everything that is sent passes `#send`, in one system call where the socket takes it, since QEMU gives up on a header
// that comes in two pieces.
import { Ring3Error } from "../binary/error.ts";
import { ERRNO, errnoName, type FileDescriptor, SocketChannel } from "../linux/index.ts";
import { closeAll, FrameReader, inputBytesFor } from "./framing.ts";
import { commandName, HEADER_SIZE, HeaderFlag, HeaderOffset } from "./messages.ts";

/** A whole message. `bytes` starts with the header; it is valid until the message was handled. */
export interface Message {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly error: number;
  readonly bytes: Uint8Array;
  /** What follows the header. */
  readonly payload: Uint8Array;
  /** The receiver's: what it does not keep it closes. */
  readonly fds: readonly FileDescriptor[];
}

/** A reply, where it lies. */
export interface Reply {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** Offset of the header, and bytes of the message. */
  readonly frame: number;
  readonly size: number;
}

/** Who awaits a reply. */
export interface Waiter {
  /** A command that came before, as a copy. */
  command(message: Message): void;
  /** Blocks until something may have come, at most `leftMs`, and returns how much of that was spent on others. */
  pause(leftMs: number): number;
  /** Looks at the reply before anything else is received. */
  reply(reply: Reply): void;
}

interface MeanwhileOptions {
  readonly errno?: number;
  readonly fds?: readonly FileDescriptor[];
  readonly timeoutMs: number;
}

export interface ConnectionOptions {
  /** Bytes of data in one message at most, as announced to the peer. 1 MiB by default. */
  readonly maximumTransferBytes?: number;
  /** Descriptors taken with one message at most. 16 by default. */
  readonly maximumFds?: number;
}

const DEFAULT_TRANSFER_BYTES = 1_048_576;
/** What precedes the data in the longest message. */
const FIXED_BYTES = 4096;
const NO_FDS: readonly FileDescriptor[] = [];
/** How long an exchange looks at the socket before it sleeps. */
const LOOKING_MS = 0.05;

/** A connected peer. Disposal closes the socket and every descriptor that nobody took. */
export class Connection implements Disposable {
  readonly channel: SocketChannel;
  readonly reader: FrameReader;
  readonly maximumSize: number;
  #nextId = 1;
  #pendingFrom = 0;
  #pendingTo = 0;
  /** Replies that somebody waits for, and those of them that came while somebody further in waits for another one. */
  readonly #awaited: Set<number> = new Set();
  readonly #early: Map<number, Uint8Array> = new Map();
  /** Copies of descriptors that wait for the first byte to be sent: they go with it. */
  #pendingFds: readonly FileDescriptor[] = NO_FDS;

  /** Takes over a connected stream socket. */
  constructor(fd: FileDescriptor, options: ConnectionOptions = {}) {
    this.maximumSize = (options.maximumTransferBytes ?? DEFAULT_TRANSFER_BYTES) + FIXED_BYTES;
    this.channel = new SocketChannel(fd, {
      inputBytes: inputBytesFor(this.maximumSize),
      outputBytes: this.maximumSize,
      maximumFds: options.maximumFds ?? 16,
    });
    this.reader = new FrameReader(this.channel, this.maximumSize);
  }

  /** Whether a reply is on its way that the peer does not read: nothing else can be sent before. */
  get sending(): boolean {
    return this.#pendingTo > this.#pendingFrom;
  }

  /** Bytes of a reply that the peer has not read. */
  get unsent(): number {
    return this.#pendingTo - this.#pendingFrom;
  }

  /** The reader's current message, decoded. */
  message(): Message {
    const { frame, size } = this.reader;
    const { view, bytes } = this.channel.input;
    return {
      id: view.getUint16(frame + HeaderOffset.MESSAGE_ID, true),
      command: view.getUint16(frame + HeaderOffset.COMMAND, true),
      flags: view.getUint32(frame + HeaderOffset.FLAGS, true),
      error: view.getUint32(frame + HeaderOffset.ERROR, true),
      bytes: bytes.subarray(frame, frame + size),
      payload: bytes.subarray(frame + HEADER_SIZE, frame + size),
      fds: this.reader.takeFds(),
    };
  }

  /**
   * Answers a command. The payload's `size` bytes lie at 16 of the channel's output area already. With an `errno` the
   * reply is its header alone and bears the Error flag, whatever the size says.
   */
  reply(id: number, command: number, size: number, errno = 0, fds: readonly FileDescriptor[] = NO_FDS): void {
    if (errno === 0) this.#reply(id, command, HEADER_SIZE + size, 0, fds);
    else this.#reply(id, command, HEADER_SIZE, errno, NO_FDS);
  }

  /** Answers with an error, whose payload says why to clients that asked for that: others expect the header alone. */
  refuse(id: number, command: number, errno: number, text: Uint8Array): void {
    this.channel.output.bytes.set(text, HEADER_SIZE);
    this.#reply(id, command, HEADER_SIZE + text.length, errno, NO_FDS);
  }

  /** As `reply`, with the payload given. */
  replyWith(id: number, command: number, payload: Uint8Array, fds: readonly FileDescriptor[] = NO_FDS): void {
    this.channel.output.bytes.set(payload, HEADER_SIZE);
    this.reply(id, command, payload.length, 0, fds);
  }

  /** Sends what could not be sent before. `false` where the peer still does not read. Throws `PEER_GONE`. */
  flush(): boolean {
    while (this.#pendingFrom < this.#pendingTo) {
      const fds = this.#pendingFds;
      const sent = this.channel.sendWithFds(this.#pendingFrom, this.#pendingTo - this.#pendingFrom, fds);
      if (sent === -ERRNO.EAGAIN[0]) return false;
      if (sent < 0) throw gone(-sent);
      if (fds.length > 0) {
        closeAll(fds);
        this.#pendingFds = NO_FDS;
      }
      this.#pendingFrom += sent;
    }
    return true;
  }

  /**
   * Sends a command whose payload of `size` bytes lies at 16 of the channel's request area already, and returns its message
   * id. Waits at most `timeoutMs` for a peer that does not read. Throws `PEER_GONE` or `PEER_SILENT`.
   */
  command(
    command: number,
    size: number,
    options: { readonly noReply?: boolean; readonly fds?: readonly FileDescriptor[]; readonly timeoutMs?: number } = {},
  ): number {
    const { noReply = false, fds = NO_FDS, timeoutMs = 2000 } = options;
    const until = performance.now() + timeoutMs;
    while (!this.flush()) this.#waitWritable(until, command, timeoutMs);
    const id = this.#nextId;
    this.#nextId = (id + 1) & 0xffff;
    const { words } = this.channel.request;
    const total = HEADER_SIZE + size;
    words[0] = (id | (command << 16)) >>> 0;
    words[1] = total;
    words[2] = noReply ? HeaderFlag.COMMAND | HeaderFlag.NO_REPLY : HeaderFlag.COMMAND;
    words[3] = 0;
    for (let at = 0; at < total; ) {
      const sent =
        at === 0 ? this.channel.sendWithFds(0, total, fds, "request") : this.channel.send(at, total - at, "request");
      if (sent === -ERRNO.EAGAIN[0]) this.#waitWritable(until, command, timeoutMs);
      else if (sent < 0) throw gone(-sent);
      else at += sent;
    }
    return id;
  }

  /**
   * Waits at most `timeoutMs` for the reply with `id`. Commands that come before may be served, and so wait for further
   * replies: those come in any order. Whoever waits while a message is being handled holds that (`reader.hold()`) before.
   * Throws `PEER_GONE`, `PEER_SILENT`.
   */
  awaitReply(id: number, command: number, timeoutMs: number, waiter: Waiter): void {
    const started = performance.now();
    // Time spent on others is not the peer's, but nobody is waited for for ever.
    let elsewhereMs = 0;
    // The longest time in which nobody looked: the reply may lie behind what came before it.
    let absentMs = 0;
    let lookedAt = started;
    this.#awaited.add(id);
    try {
      for (;;) {
        const step = this.#step(id, waiter);
        if (step === "done") return;
        const now = performance.now();
        if (step === "command") absentMs = Math.max(absentMs, now - lookedAt);
        lookedAt = now;
        const got = step === "nothing" && this.#fill();
        const waitedMs = now - started;
        const leftMs = timeoutMs + Math.min(elsewhereMs, timeoutMs) - waitedMs;
        // What has just come is looked at in any case; a message that comes byte by byte has its end too.
        const boundMs = got ? 2 * timeoutMs - waitedMs : leftMs;
        const idle = step === "nothing" && !got;
        if (boundMs + (idle ? 0 : absentMs) <= 0) throw silent(command, timeoutMs);
        if (!idle || waitedMs < LOOKING_MS) continue;
        const servedMs = waiter.pause(leftMs);
        elsewhereMs += servedMs;
        absentMs = Math.max(absentMs, servedMs);
        lookedAt = performance.now();
      }
    } finally {
      this.#awaited.delete(id);
      this.#early.delete(id);
    }
  }

  /** Takes what has come, once, while somebody further out is in the middle of a command, or awaits a reply. */
  receiveMeanwhile(command: (message: Message) => void): void {
    while (this.#step(-1, { command }) !== "nothing");
    if (this.#fill()) while (this.#step(-1, { command }) !== "nothing");
  }

  /**
   * Answers a command that was served while a reply is awaited. The output area may hold what another command is about to be
   * answered with: it is kept. Waits at most `timeoutMs` for a peer that does not read.
   */
  replyMeanwhile(
    { id, command }: { readonly id: number; readonly command: number },
    payload: Uint8Array,
    { errno = 0, fds = NO_FDS, timeoutMs }: MeanwhileOptions,
  ): void {
    const { bytes } = this.channel.output;
    const kept = bytes.slice(0, HEADER_SIZE + payload.length);
    const until = performance.now() + timeoutMs;
    try {
      bytes.set(payload, HEADER_SIZE);
      this.reply(id, command, payload.length, errno, fds);
      while (!this.flush()) this.#waitWritable(until, 0, timeoutMs);
    } finally {
      bytes.set(kept);
    }
  }

  /** Receives what is there, and tells whether the peer has hung up. */
  hungUp(): boolean {
    const count = this.reader.fill();
    return count <= 0 && count !== -ERRNO.EAGAIN[0];
  }

  [Symbol.dispose](): void {
    closeAll(this.#pendingFds);
    this.#pendingFds = NO_FDS;
    this.reader.close();
    this.channel[Symbol.dispose]();
  }

  /** Receives once: whether something came. Throws `PEER_GONE`. */
  #fill(): boolean {
    const count = this.reader.fill();
    if (count > 0) return true;
    if (count === -ERRNO.EAGAIN[0]) return false;
    throw gone(-count);
  }

  /** Gives whole messages to whom they belong, until the reply `id` was given away or a command was. */
  #step(id: number, waiter: Partial<Waiter> & Pick<Waiter, "command">): "done" | "command" | "nothing" {
    const { reader } = this;
    const early = this.#early.get(id);
    if (early !== undefined) {
      waiter.reply?.({ view: new DataView(early.buffer), bytes: early, frame: 0, size: early.length });
      return "done";
    }
    if (this.channel.closed) throw gone(0);
    const { view, bytes } = this.channel.input;
    while (reader.next()) {
      const { frame, size } = reader;
      const isReply = (view.getUint32(frame + HeaderOffset.FLAGS, true) & HeaderFlag.TYPE_MASK) === HeaderFlag.REPLY;
      if (!isReply) {
        const message = copied(this.message());
        reader.consume();
        waiter.command(message);
        return "command";
      }
      const given = view.getUint16(frame + HeaderOffset.MESSAGE_ID, true);
      if (given === id) {
        try {
          waiter.reply?.({ view, bytes, frame, size });
        } finally {
          reader.consume();
        }
        return "done";
      }
      if (this.#awaited.has(given)) this.#early.set(given, bytes.slice(frame, frame + size));
      reader.consume();
    }
    return "nothing";
  }

  #waitWritable(until: number, command: number, timeoutMs: number): void {
    const left = until - performance.now();
    if (left <= 0 || !this.channel.wait("writable", left)) throw silent(command, timeoutMs);
  }

  #reply(id: number, command: number, total: number, errno: number, fds: readonly FileDescriptor[]): void {
    const { words } = this.channel.output;
    words[0] = (id | (command << 16)) >>> 0;
    words[1] = total;
    words[2] = errno === 0 ? HeaderFlag.REPLY : HeaderFlag.REPLY | HeaderFlag.ERROR;
    words[3] = errno;
    this.#send(total, fds);
  }

  #send(total: number, fds: readonly FileDescriptor[]): void {
    if (this.sending) throw new Ring3Error("PROTOCOL_STATE", "a reply is still being sent");
    const sent = fds.length === 0 ? this.channel.send(0, total) : this.channel.sendWithFds(0, total, fds);
    if (sent === total) return;
    if (sent < 0 && sent !== -ERRNO.EAGAIN[0]) throw gone(-sent);
    // Waiting here would be everybody's wait; and the caller may close its descriptors before the peer reads.
    if (sent < 0 && fds.length > 0) this.#pendingFds = duplicates(fds);
    this.#pendingFrom = Math.max(sent, 0);
    this.#pendingTo = total;
  }
}

function duplicates(fds: readonly FileDescriptor[]): FileDescriptor[] {
  const made: FileDescriptor[] = [];
  try {
    for (const fd of fds) made.push(fd.duplicate());
    return made;
  } catch (error) {
    closeAll(made);
    throw error;
  }
}

/** A message that outlives the reader's. */
function copied(message: Message): Message {
  const bytes = message.bytes.slice();
  return { ...message, bytes, payload: bytes.subarray(HEADER_SIZE) };
}

function gone(errno: number): Ring3Error {
  const why = errno === 0 ? "it closed the connection" : errnoName(errno);
  return new Ring3Error("PEER_GONE", `the peer is gone: ${why}`, errno === 0 ? {} : { errno: errnoName(errno) });
}

function silent(command: number, timeoutMs: number): Ring3Error {
  const what = `answer ${commandName(command)}`;
  return new Ring3Error("PEER_SILENT", `the peer did not ${what} within ${timeoutMs} ms`, { errno: "ETIMEDOUT" });
}
