// An owned file descriptor: closed once, and never used after that, when its number may be somebody else's file.
import { Ring3Error } from "../binary/error.ts";
import * as native from "./native.ts";

const O_CLOEXEC = 0o2000000;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const F_DUPFD_CLOEXEC = 1030;

/** What `FileDescriptor.open` takes; `O_CLOEXEC` is always added. */
export const OPEN = {
  READ: 0,
  WRITE: 1,
  READ_WRITE: 2,
  CREATE: 0o100,
  EXCLUSIVE: 0o200,
  TRUNCATE: 0o1000,
  NONBLOCK: 0o4000,
  SYNC: 0o4010000,
} as const;

/** A file descriptor that somebody owns. Disposal closes it. */
export class FileDescriptor implements Disposable {
  readonly #number: number;
  readonly #dependents = new Set<Disposable>();
  #open = true;

  /** Takes over `number`, an open descriptor. */
  constructor(number: number) {
    if (!(Number.isInteger(number) && number >= 0)) throw new RangeError(`not a file descriptor: ${number}`);
    this.#number = number;
  }

  /** Opens `path`. `fix` is added to the message where it fails. */
  static open(path: string, flags: number = OPEN.READ_WRITE, mode = 0o600, fix?: string): FileDescriptor {
    if (path.includes("\0")) throw new Ring3Error("PATH_INVALID", "a path cannot contain a NUL");
    return new FileDescriptor(native.systemCall(`open ${path}`, () => native.open(path, flags | O_CLOEXEC, mode), fix));
  }

  /** Takes over `number`, which this process was started with, and keeps it from the programs that it starts. */
  static inherited(number: number): FileDescriptor {
    native.systemCall(`fcntl F_SETFD ${number}`, () => native.fcntl(number, F_SETFD, FD_CLOEXEC));
    return new FileDescriptor(number);
  }

  /** The two ends of a pipe: what is written to `write` comes out of `read`. Neither blocks. */
  static pipe(): { readonly read: FileDescriptor; readonly write: FileDescriptor } {
    const ends = new Int32Array(2);
    native.systemCall("pipe2", () => native.pipe2(new Uint8Array(ends.buffer), O_CLOEXEC | OPEN.NONBLOCK));
    return { read: new FileDescriptor(ends[0] ?? -1), write: new FileDescriptor(ends[1] ?? -1) };
  }

  /** The number, for calls. Throws `FD_CLOSED`. */
  get number(): number {
    if (!this.#open) throw new Ring3Error("FD_CLOSED", "this file descriptor was closed; open the object again");
    return this.#number;
  }

  get closed(): boolean {
    return !this.#open;
  }

  /** A second descriptor of the same open file. */
  duplicate(): FileDescriptor {
    return new FileDescriptor(
      native.systemCall("fcntl F_DUPFD_CLOEXEC", () => native.fcntl(this.number, F_DUPFD_CLOEXEC, 0)),
    );
  }

  /** Has `dependent` (a window, a watch) disposed before the descriptor closes. Returns how to take that back. */
  closesAfter(dependent: Disposable): () => void {
    this.#dependents.add(dependent);
    return () => void this.#dependents.delete(dependent);
  }

  /** Gives the descriptor up without closing it: whoever takes the number closes it. Throws `FD_CLOSED`. */
  release(): number {
    const { number } = this;
    for (const dependent of [...this.#dependents]) dependent[Symbol.dispose]();
    this.#open = false;
    return number;
  }

  /** Closes it; a second call does nothing. */
  close(): void {
    if (!this.#open) return;
    for (const dependent of [...this.#dependents]) dependent[Symbol.dispose]();
    this.#open = false;
    // Linux releases the number even where close reports an error, so there is nothing to repeat.
    native.close(this.#number);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
