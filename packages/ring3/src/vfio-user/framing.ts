// Cuts the byte stream of a socket into messages. Hard about it: a read may hold several messages, or half of one, and the
// descriptors that came with it belong to the last message that starts in it, since the kernel ends a read behind the
// bytes that carried them.
import { Ring3Error } from "../binary/error.ts";
import type { ChannelArea, FileDescriptor, SocketChannel } from "../linux/index.ts";
import { HEADER_SIZE, HeaderOffset } from "./messages.ts";

/** Room that a reader needs in its channel for messages of at most `maximumSize` bytes: two of them, and a little. */
export function inputBytesFor(maximumSize: number): number {
  return 2 * maximumSize + 8192;
}

/** Left at the end, so that what was read can move up to an aligned place. */
const SLACK_BYTES = 8;
const NO_FDS: readonly FileDescriptor[] = [];

/**
 * Reads messages from a channel. `next` moves to a message that is whole, whose place is then `frame` and `size`; `consume`
 * lets go of it. Between the two, `hold` keeps it in place while further messages are read and consumed behind it.
 */
export class FrameReader {
  /** Where the current message lies in the channel's input area, and its bytes, header included. */
  frame = 0;
  size = 0;
  readonly #channel: SocketChannel;
  readonly #input: ChannelArea;
  readonly #maximumSize: number;
  /** Unread bytes are those from `#start` to `#end`; nothing below `#base` may be overwritten. */
  #base = 0;
  #start = 0;
  #end = 0;
  /** Descriptors by the place of the message that they came with. */
  #fds: { at: number; fds: readonly FileDescriptor[] }[] = [];

  constructor(channel: SocketChannel, maximumSize: number) {
    this.#channel = channel;
    this.#input = channel.input;
    this.#maximumSize = maximumSize;
    if (channel.input.size < inputBytesFor(maximumSize)) throw new RangeError("the channel's input area is too small");
  }

  /** Bytes that came and were not consumed. */
  get unread(): number {
    return this.#end - this.#start;
  }

  /** Whether bytes of a message that is not whole yet are here. */
  get partial(): boolean {
    return this.#end > this.#start;
  }

  /** Whether there is a whole message to look at. Throws `MESSAGE_INVALID` where the stream cannot be understood. */
  next(): boolean {
    const left = this.#end - this.#start;
    if (left < HEADER_SIZE) return false;
    const size = this.#input.view.getUint32(this.#start + HeaderOffset.SIZE, true);
    if (size < HEADER_SIZE || size > this.#maximumSize) {
      throw new Ring3Error(
        "MESSAGE_INVALID",
        `the peer announced a message of ${size} bytes; ${HEADER_SIZE} to ${this.#maximumSize} are possible here`,
      );
    }
    if (left < size) return false;
    this.frame = this.#start;
    this.size = size;
    return true;
  }

  /** Whether `next` has something to say: a whole message is there, or what nobody can understand. */
  get ready(): boolean {
    return this.#readyAt(this.#start);
  }

  /** The same of what lies behind the current message, which was not consumed. */
  get follows(): boolean {
    // Once the current message was held, what follows may lie elsewhere.
    return this.#readyAt(this.#start === this.frame ? this.frame + this.size : this.#start);
  }

  /** Receives once: how many bytes came, 0 where the peer has closed, minus the errno otherwise. */
  fill(): number {
    if (this.#start === this.#end) {
      this.#start = this.#base;
      this.#end = this.#base;
    } else if (this.#start > this.#base && this.#input.size - this.#end < this.#maximumSize) this.#compact();
    const at = this.#end;
    const count = this.#channel.receive(at, this.#input.size - SLACK_BYTES - at);
    if (count <= 0) return count;
    this.#end = at + count;
    if (this.#channel.hasFds) this.#assign(at, this.#channel.takeFds());
    return count;
  }

  /** The descriptors of the current message: the caller's from now on. */
  takeFds(): readonly FileDescriptor[] {
    if (this.#fds.length === 0) return NO_FDS;
    const index = this.#fds.findIndex(({ at }) => at === this.frame);
    return index < 0 ? NO_FDS : (this.#fds.splice(index, 1)[0]?.fds ?? NO_FDS);
  }

  /** Lets go of the current message, unless `hold` did; descriptors that nobody took are closed. */
  consume(): void {
    if (this.#fds.length > 0) closeAll(this.takeFds());
    if (this.#start === this.frame) this.#start += this.size;
  }

  /** Keeps the current message where it is, consumed but not overwritten, until the given function is called. */
  hold(): () => void {
    const { frame, size } = this;
    const base = this.#base;
    if (this.#fds.length > 0) closeAll(this.takeFds());
    if (this.#start === frame) this.#start = frame + size;
    this.#base = Math.max(base, Math.ceil((frame + size) / 8) * 8);
    // Unread bytes move behind the held message with the next compaction; they may begin below the rounded base now.
    if (this.#start < this.#base) this.#compact();
    return () => {
      this.#base = base;
      this.frame = frame;
      this.size = size;
    };
  }

  /** Closes what came and was not taken. */
  close(): void {
    for (const { fds } of this.#fds.splice(0)) closeAll(fds);
  }

  #readyAt(at: number): boolean {
    const left = this.#end - at;
    if (left < HEADER_SIZE) return false;
    const size = this.#input.view.getUint32(at + HeaderOffset.SIZE, true);
    return size < HEADER_SIZE || size > this.#maximumSize || left >= size;
  }

  #compact(): void {
    const moved = this.#base - this.#start;
    this.#input.bytes.copyWithin(this.#base, this.#start, this.#end);
    for (const entry of this.#fds) entry.at += moved;
    this.#start += moved;
    this.#end += moved;
  }

  #assign(from: number, fds: readonly FileDescriptor[]): void {
    let last = -1;
    for (let at = this.#start; at < this.#end; ) {
      if (at >= from) last = at;
      if (this.#end - at < HeaderOffset.SIZE + 4) break;
      const size = this.#input.view.getUint32(at + HeaderOffset.SIZE, true);
      if (size < HEADER_SIZE) break;
      at += size;
    }
    if (last < 0) closeAll(fds);
    else this.#fds.push({ at: last, fds });
  }
}

export function closeAll(fds: readonly FileDescriptor[]): void {
  for (const fd of fds) fd.close();
}
