// Descriptors of every kind that a client could think of. Those that wear out (files that shrink) are made anew.
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMemoryFile, EventFd, FileDescriptor, OPEN, UnixSocket } from "../../packages/ring3/src/linux/index.ts";
import * as native from "../../packages/ring3/src/linux/native.ts";
import type { DescriptorKind } from "./sequence.ts";

const F_ADD_SEALS = 1033;
const F_SETFL = 4;
const SEAL_SEAL = 1;
const O_PATH = 0o10000000;
const MIB = 2 ** 20;
const RAM_BYTES = 1024 * MIB;
const SMALL_BYTES = 4 * MIB;

export class DescriptorSupply implements Disposable {
  readonly #guarded: FileDescriptor;
  readonly #fillRam: (ram: FileDescriptor) => void;
  readonly #folder: string = mkdtempSync(join(tmpdir(), "ring3-hostile-files-"));
  readonly #made = new Map<DescriptorKind, FileDescriptor>();
  readonly #others: FileDescriptor[] = [];

  /** `fillRam` puts something into the large file when it is made. */
  constructor(guarded: FileDescriptor, fillRam: (ram: FileDescriptor) => void = () => undefined) {
    this.#guarded = guarded;
    this.#fillRam = fillRam;
  }

  /** The descriptor stays the supply's. `own` is the connection that it will be sent over. */
  take(kind: DescriptorKind, own: FileDescriptor): FileDescriptor {
    if (kind === "guarded") return this.#guarded;
    if (kind === "own-socket") return own;
    let fd = this.#made.get(kind);
    if (fd === undefined) this.#made.set(kind, (fd = this.#make(kind)));
    return fd;
  }

  /** Shrinks the files that can be; the next that are taken are new. */
  truncate(): void {
    for (const kind of ["unsealed", "unsealable", "file", "sealed"] as const) {
      const fd = this.#made.get(kind);
      if (fd === undefined) continue;
      try {
        ftruncateSync(fd.number, 100);
      } catch {
        // Sealed, by us or by the server.
      }
      fd.close();
      this.#made.delete(kind);
    }
  }

  [Symbol.dispose](): void {
    for (const fd of this.#made.values()) fd.close();
    for (const fd of this.#others) fd.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #make(kind: DescriptorKind): FileDescriptor {
    switch (kind) {
      case "ram":
        return this.#ram();
      case "unsealed":
        return createMemoryFile(SMALL_BYTES, { name: "hostile-unsealed", sealed: false });
      case "unsealable": {
        const fd = createMemoryFile(SMALL_BYTES, { name: "hostile-unsealable", sealed: false });
        native.attemptCall(() => native.fcntl(fd.number, F_ADD_SEALS, SEAL_SEAL));
        return fd;
      }
      case "read-only":
        return this.#reopened(OPEN.READ);
      case "write-only":
        return this.#reopened(OPEN.WRITE);
      case "path-only":
        return FileDescriptor.open(this.#folder, O_PATH);
      case "file": {
        const path = join(this.#folder, "file");
        writeFileSync(path, new Uint8Array(SMALL_BYTES));
        return FileDescriptor.open(path);
      }
      case "null":
        return FileDescriptor.open("/dev/null");
      case "pipe-read":
      case "pipe-write": {
        const { read, write } = FileDescriptor.pipe();
        const [fd, other] = kind === "pipe-read" ? [read, write] : [write, read];
        this.#others.push(other);
        return fd;
      }
      case "socket": {
        const [socket, other] = UnixSocket.pair();
        this.#others.push(other.fd);
        return socket.fd;
      }
      case "event":
        return new EventFd().fd;
      case "blocking-event": {
        const { fd } = new EventFd();
        native.attemptCall(() => native.fcntl(fd.number, F_SETFL, 0));
        return fd;
      }
      case "full-event": {
        const { fd } = new EventFd();
        const full = new Uint8Array(BigUint64Array.of(2n ** 64n - 2n).buffer);
        native.attemptCall(() => native.write(fd.number, full, 8));
        native.attemptCall(() => native.fcntl(fd.number, F_SETFL, 0));
        return fd;
      }
      case "directory":
        return FileDescriptor.open(this.#folder, OPEN.READ);
      case "epoll":
        return new FileDescriptor(native.epollCreate(0));
      case "proc":
        return FileDescriptor.open("/proc/self/environ", OPEN.READ);
      default:
        return createMemoryFile(SMALL_BYTES, { name: "hostile-sealed" });
    }
  }

  #ram(): FileDescriptor {
    const fd = createMemoryFile(RAM_BYTES, { name: "hostile-ram" });
    this.#fillRam(fd);
    return fd;
  }

  #reopened(flags: number): FileDescriptor {
    const fd = createMemoryFile(SMALL_BYTES, { name: "hostile-limited" });
    const number = openSync(`/proc/self/fd/${fd.number}`, flags);
    fd.close();
    const again = new FileDescriptor(number).duplicate();
    closeSync(number);
    return again;
  }
}
