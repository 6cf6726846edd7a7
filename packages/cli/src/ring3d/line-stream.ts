// JSON lines over a UNIX socket that carries descriptors, which Node's own sockets cannot. Nothing here waits for the peer:
// what it does not read is kept within a bound, and beyond that it is hung up on.
import { type FileDescriptor, type UnixSocket, type Watch, watch } from "ring3/linux";
import { LineReader } from "ring3/notices";

const EAGAIN = 11;
/** Bytes that are read in one turn of the event loop, so that others get theirs. */
const TURN_BYTES = 4096;

interface LineStreamOptions {
  /** Longest line that is taken, in bytes. */
  readonly lineBytes: number;
  /** Bytes that may wait for the peer to read them. */
  readonly unsentBytes: number;
  readonly onLine: (line: string) => void;
  /** A line was too long: nothing that comes after it is heard. */
  readonly onFailure: (error: unknown) => void;
  /** The stream has ended, by the peer or by `end`. */
  readonly onEnd: () => void;
}

interface Outgoing {
  bytes: Uint8Array;
  fds: readonly FileDescriptor[];
}

/** Takes over a connected socket. */
export class LineStream {
  readonly #socket: UnixSocket;
  readonly #options: LineStreamOptions;
  readonly #lines: LineReader;
  readonly #buffer = new Uint8Array(TURN_BYTES);
  readonly #outgoing: Outgoing[] = [];
  #unsent = 0;
  #watch: Watch | undefined;
  #watched = "";
  #ending = false;
  #ended = false;

  constructor(socket: UnixSocket, options: LineStreamOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#lines = new LineReader(options.lineBytes);
    this.#look();
  }

  /** Whether the end of a line is outstanding. */
  get unfinished(): boolean {
    return this.#lines.unfinished > 0;
  }

  /** Whether the peer has something to read that it has not read. */
  get unread(): boolean {
    return this.#unsent > 0;
  }

  /** Sends an object as a line; `fds` go with it and are closed here once they have gone, or cannot go any more. */
  send(message: object, fds: readonly FileDescriptor[] = []): void {
    const bytes = new TextEncoder().encode(`${JSON.stringify(message)}\n`);
    if (this.#ended || this.#ending) return closeAll(fds);
    this.#outgoing.push({ bytes, fds });
    this.#unsent += bytes.length;
    if (this.#unsent > this.#options.unsentBytes) this.end();
    else this.#write();
  }

  /** Ends it once what was sent has gone, and hears nothing any more. */
  endAfterSending(): void {
    this.#ending = true;
    if (this.#outgoing.length === 0) this.end();
    else this.#look();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#watch?.[Symbol.dispose]();
    for (const { fds } of this.#outgoing) closeAll(fds);
    this.#outgoing.length = 0;
    this.#socket[Symbol.dispose]();
    this.#options.onEnd();
  }

  #look(): void {
    const interests = { readable: !this.#ending, writable: this.#outgoing.length > 0 };
    const wanted = JSON.stringify(interests);
    if (this.#ended || this.#watched === wanted) return;
    this.#watched = wanted;
    this.#watch?.[Symbol.dispose]();
    this.#watch = watch(
      this.#socket.fd,
      (ready) => {
        if (ready.writable) this.#write();
        if (ready.readable || ready.disconnected) this.#read();
      },
      interests,
    );
  }

  #read(): void {
    if (this.#ended) return;
    const { size, fds } = this.#socket.receive(this.#buffer);
    // Nobody has descriptors to give to the service.
    closeAll(fds);
    if (size === -EAGAIN) return;
    if (size < 0) return this.end();
    // Who has nothing more to say may still want to hear what it asked for.
    if (size === 0) return this.#ending ? this.end() : this.endAfterSending();
    if (this.#ending) return;
    try {
      for (const line of this.#lines.push(this.#buffer.subarray(0, size))) {
        if (this.#ended || this.#ending) return;
        this.#options.onLine(line);
      }
    } catch (error) {
      this.#options.onFailure(error);
    }
  }

  #write(): void {
    for (;;) {
      const [first] = this.#outgoing;
      if (first === undefined || this.#ended) break;
      const size = this.#socket.send([first.bytes], first.fds);
      if (size === -EAGAIN) break;
      if (size < 0) return this.end();
      closeAll(first.fds);
      first.fds = [];
      this.#unsent -= size;
      first.bytes = first.bytes.subarray(size);
      if (first.bytes.length === 0) this.#outgoing.shift();
    }
    if (this.#outgoing.length === 0 && this.#ending) this.end();
    else this.#look();
  }
}

function closeAll(fds: readonly FileDescriptor[]): void {
  for (const fd of fds) fd.close();
}
