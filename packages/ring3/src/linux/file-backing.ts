// A file or block device as the medium of a disk: bytes by offset, flush, discard. What the page cache holds is read at
// once, everything else by Node's threads, so a slow disk never holds up the caller. Hard part: the caller's memory may be
// a guest's, which can be unmapped meanwhile. So a thread only ever sees a buffer of ours, and bytes are copied at the end.
import { fdatasync, fstatSync, read, write } from "node:fs";
import { Ring3Error } from "../binary/error.ts";
import { ERRNO, systemCallError } from "./errno.ts";
import { FileDescriptor, OPEN } from "./file-descriptor.ts";
import { tryIoctl } from "./ioctl.ts";
import * as native from "./native.ts";

const F_OFD_SETLK = 37;
const Lock = { READ: 0, WRITE: 1 } as const;
/** Do it only where it does not have to wait for the medium. */
const RWF_NOWAIT = 8;
const Fallocate = { KEEP_SIZE: 1, PUNCH_HOLE: 2, ZERO_RANGE: 0x10 } as const;
const BLKGETSIZE64 = 0x8008_1272;
/** Holes are punched in pieces, between which other work runs. */
const PIECE_BYTES = 64 * 1024 * 1024;
/** A write of up to this many bytes is tried at once; one that took so long sends others to the threads for a while. */
const WATCHED_BYTES = 256 * 1024;
const SLOW_WRITE_MS = 5;
const THREADS_MS = 1000;

export interface FileBackingOptions {
  /** Only reads; another reader may have the file open at the same time. */
  readonly readOnly?: boolean;
  /** Makes the file, sparse and of this size in bytes, where it does not exist. */
  readonly createBytes?: number;
  /**
   * Others who also say so may have the file open at the same time: the two servers between which a function moves. That
   * only one of them writes is theirs to see to.
   */
  readonly shared?: boolean;
}

/**
 * A disk's medium in a file. Offsets and lengths lie within `sizeBytes`, which is what the file had when it was opened.
 *
 * A write is in the file (in the kernel's page cache) before it resolves, and survives the end of this process; `flush`
 * makes it survive the end of the machine. The file is locked as QEMU locks its images, so that nobody else who asks
 * writes to it.
 */
export class FileBacking implements AsyncDisposable {
  readonly path: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly #fd: FileDescriptor;
  readonly #vector = new BigUint64Array(2);
  readonly #vectorBytes = new Uint8Array(this.#vector.buffer);
  readonly #running = new Set<Promise<unknown>>();
  #readsAtOnce = true;
  #writesAtOnce = true;
  /** Until then writes go by Node's threads. */
  #threadsUntilMs = 0;

  private constructor(path: string, fd: FileDescriptor, sizeBytes: number, readOnly: boolean) {
    this.path = path;
    this.sizeBytes = sizeBytes;
    this.readOnly = readOnly;
    this.#fd = fd;
  }

  /** What {@link fileBacking} does. */
  static open(path: string, options: FileBackingOptions = {}): FileBacking {
    const { readOnly = false, createBytes, shared = false } = options;
    const fd = openOrCreate(path, readOnly, createBytes);
    try {
      lock(fd, path, readOnly || shared ? Lock.READ : Lock.WRITE);
      const sizeBytes = sizeOf(fd, path);
      if (sizeBytes === 0) {
        throw new Ring3Error("FILE_UNUSABLE", `${path} is empty: give it a size (truncate -s 1G ${path})`);
      }
      return new FileBacking(path, fd, sizeBytes, readOnly);
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /**
   * Fills `target` from `offset`; nothing is returned where it was done at once. Else `target` is left alone where
   * `cancellation` says so by then.
   */
  read(offset: number, target: Uint8Array, cancellation?: { readonly aborted: boolean }): Promise<void> | void {
    this.#check(offset, target.length);
    if (this.#readsAtOnce) {
      const done = this.#atOnce(native.preadv2, offset, target);
      if (done === target.length) return undefined;
      if (done === -ERRNO.EOPNOTSUPP[0] || done === -ERRNO.ENOSYS[0]) this.#readsAtOnce = false;
    }
    const own = new Uint8Array(target.length);
    return this.#track(
      this.#transfer(read, own, offset).then(() => {
        if (cancellation?.aborted !== true) target.set(own);
      }),
    );
  }

  /** Writes `source` at `offset`; nothing is returned where it was done at once. */
  write(offset: number, source: Uint8Array): Promise<void> | void {
    this.#check(offset, source.length);
    this.#checkWritable();
    if (this.#writesAtOnce) {
      const done = this.#atOnce(native.pwritev2, offset, source);
      if (done === source.length) return undefined;
      if (done === -ERRNO.EOPNOTSUPP[0] || done === -ERRNO.ENOSYS[0]) this.#writesAtOnce = false;
    }
    if (!this.#writesAtOnce && this.#writeWatched(offset, source)) return undefined;
    return this.#track(this.#transfer(write, source.slice(), offset));
  }

  /** Resolves once everything that was written before is on the medium (fdatasync). */
  async flush(): Promise<void> {
    if (this.readOnly) return;
    const number = this.#fd.number;
    await this.#track(
      new Promise<void>((resolve, reject) => {
        fdatasync(number, (error) => (error === null ? resolve() : reject(failed("fdatasync", this.path, error))));
      }),
    );
  }

  /** Gives the space of a range back, where the file system can; it reads as zeros in any case. */
  async discard(offset: number, size: number): Promise<void> {
    await this.#clear(offset, size, [Fallocate.PUNCH_HOLE]);
  }

  /** Makes a range read as zeros. */
  async zero(offset: number, size: number): Promise<void> {
    await this.#clear(offset, size, [Fallocate.ZERO_RANGE, Fallocate.PUNCH_HOLE]);
  }

  /** Waits for what runs, and closes the file. */
  async [Symbol.asyncDispose](): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
    this.#fd.close();
  }

  #check(offset: number, length: number): void {
    if (Number.isSafeInteger(offset) && offset >= 0 && offset + length <= this.sizeBytes) return;
    throw new Ring3Error("FILE_RANGE", `${length} bytes at ${offset} pass the end of ${this.path} (${this.sizeBytes})`);
  }

  #checkWritable(): void {
    if (this.readOnly) throw new Ring3Error("READ_ONLY", `${this.path} is open for reading only`);
  }

  /** One call that does not wait; the number of bytes or minus the errno. */
  #atOnce(call: typeof native.preadv2, offset: number, bytes: Uint8Array): number {
    const number = this.#fd.number;
    this.#vector[0] = BigInt(native.addressOfView(bytes));
    this.#vector[1] = BigInt(bytes.length);
    return native.attemptCall(() => call(number, this.#vectorBytes, 1, offset, RWF_NOWAIT));
  }

  /**
   * For file systems that cannot say whether a write would wait (ext4): into the page cache that takes microseconds, as a
   * rule. One that took long, because the kernel had to write back first, sends those of the next second to the threads.
   */
  #writeWatched(offset: number, bytes: Uint8Array): boolean {
    const start = performance.now();
    if (bytes.length > WATCHED_BYTES || start < this.#threadsUntilMs) return false;
    const number = this.#fd.number;
    const done = native.attemptCall(() => native.pwrite(number, bytes, bytes.length, offset));
    const end = performance.now();
    if (end - start > SLOW_WRITE_MS) this.#threadsUntilMs = end + THREADS_MS;
    // Whatever else it was (a full disk, a part of it), the threads do it again and say why.
    return done === bytes.length;
  }

  /** The whole of `bytes` by Node's threads, in as many calls as it takes. */
  async #transfer(call: Transfer, bytes: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const at = done;
      const number = this.#fd.number;
      const count = await new Promise<number>((resolve, reject) => {
        call(number, bytes, at, bytes.length - at, offset + at, (error, transferred) => {
          if (error === null) resolve(transferred);
          else reject(failed(call === (read as Transfer) ? "pread" : "pwrite", this.path, error));
        });
      });
      if (count === 0) {
        throw new Ring3Error("FILE_RANGE", `${this.path} ends at byte ${offset + at}: somebody made it shorter`);
      }
      done += count;
    }
  }

  /** Zeros, by the first of `modes` that the file system knows, else by writing them. */
  async #clear(offset: number, size: number, modes: readonly number[]): Promise<void> {
    this.#check(offset, size);
    this.#checkWritable();
    const work = async (): Promise<void> => {
      for (let at = offset; at < offset + size; at += PIECE_BYTES) {
        if (at > offset) await new Promise((resolve) => setImmediate(resolve));
        const length = Math.min(PIECE_BYTES, offset + size - at);
        const result = this.#fallocate(modes, at, length);
        if (result === -ERRNO.EOPNOTSUPP[0]) await this.#writeZeros(at, length);
        else if (result < 0) throw systemCallError(`fallocate ${this.path}`, -result);
      }
    };
    await this.#track(work());
  }

  #fallocate(modes: readonly number[], offset: number, size: number): number {
    const number = this.#fd.number;
    let result = 0;
    for (const mode of modes) {
      const flags = mode | Fallocate.KEEP_SIZE;
      result = native.attemptCall(() => native.fallocate(number, flags, offset, size));
      if (result !== -ERRNO.EOPNOTSUPP[0]) break;
    }
    return result;
  }

  async #writeZeros(offset: number, size: number): Promise<void> {
    const zeros = new Uint8Array(Math.min(size, 1024 * 1024));
    for (let done = 0; done < size; done += zeros.length) {
      await this.#transfer(write, zeros.subarray(0, Math.min(zeros.length, size - done)), offset + done);
    }
  }

  #track<T>(work: Promise<T>): Promise<T> {
    const tracked = work.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
    return tracked;
  }
}

/** `read` and `write` of node:fs, as far as they are the same. */
type Transfer = (
  fd: number,
  bytes: Uint8Array,
  start: number,
  length: number,
  offset: number,
  done: (error: NodeJS.ErrnoException | null, transferred: number) => void,
) => void;

/** Opens a file or block device. Throws `FILE_LOCKED`, `FILE_UNUSABLE`, and `SYSTEM_CALL` with the errno. */
export function fileBacking(path: string, options: FileBackingOptions = {}): FileBacking {
  return FileBacking.open(path, options);
}

function openOrCreate(path: string, readOnly: boolean, createBytes: number | undefined): FileDescriptor {
  const flags = readOnly ? OPEN.READ : OPEN.READ_WRITE;
  if (createBytes !== undefined && !readOnly) {
    if (!(Number.isSafeInteger(createBytes) && createBytes > 0)) {
      throw new Ring3Error("SIZE_INVALID", `${createBytes} is no size for a file`);
    }
    const number = native.attemptCall(() =>
      native.open(path, flags | OPEN.CREATE | OPEN.EXCLUSIVE | CLOSE_ON_EXEC, 0o600),
    );
    if (number >= 0) {
      const fd = new FileDescriptor(number);
      native.systemCall(`ftruncate ${path}`, () => native.ftruncate(number, createBytes));
      return fd;
    }
    if (number !== -ERRNO.EEXIST[0]) throw systemCallError(`open ${path}`, -number);
  }
  const fix = createBytes === undefined ? `make it first: truncate -s 1G ${path}` : undefined;
  const number = native.attemptCall(() => native.open(path, flags | CLOSE_ON_EXEC, 0));
  if (number < 0) throw systemCallError(`open ${path}`, -number, number === -ERRNO.ENOENT[0] ? fix : undefined);
  return new FileDescriptor(number);
}

const CLOSE_ON_EXEC = 0o2000000;

/** struct flock: type, whence, start, length, pid. The lock belongs to the open file and goes with it. */
function lock(fd: FileDescriptor, path: string, kind: number): void {
  const request = new Uint8Array(32);
  new DataView(request.buffer).setInt16(0, kind, true);
  const address = native.addressOfView(request);
  const result = native.attemptCall(() => native.fcntl(fd.number, F_OFD_SETLK, address));
  // A file system without locks (some network ones) is no reason to refuse.
  if (result !== -ERRNO.EAGAIN[0] && result !== -ERRNO.EACCES[0]) return;
  throw new Ring3Error(
    "FILE_LOCKED",
    `${path} is used by another process (ring3 serve, QEMU?): stop it, or give each a file of its own`,
    { errno: "EAGAIN", call: "fcntl F_OFD_SETLK" },
  );
}

function sizeOf(fd: FileDescriptor, path: string): number {
  const stat = fstatSync(fd.number);
  if (stat.isFile()) return stat.size;
  if (stat.isBlockDevice()) {
    const size = new BigUint64Array(1);
    const bytes = new Uint8Array(size.buffer);
    const result = tryIoctl(fd, BLKGETSIZE64, bytes);
    if (result < 0) throw systemCallError(`ioctl BLKGETSIZE64 ${path}`, -result);
    return Number(size[0]);
  }
  throw new Ring3Error("FILE_UNUSABLE", `${path} is neither a file nor a block device`);
}

function failed(call: string, path: string, error: NodeJS.ErrnoException): Ring3Error {
  return systemCallError(`${call} ${path}`, Math.abs(error.errno ?? ERRNO.EIO[0]));
}
