// eventfd: a counter in the kernel that interrupts are delivered to.
import { FileDescriptor, OPEN } from "./file-descriptor.ts";
import * as native from "./native.ts";
import { type Watch, watch } from "./poller.ts";

const EFD_CLOEXEC = 0o2000000;

/** A counter with a descriptor. Nothing here blocks. */
export class EventFd implements Disposable {
  readonly fd: FileDescriptor;
  readonly #count: BigUint64Array<ArrayBuffer> = new BigUint64Array(1);
  readonly #bytes: Uint8Array = new Uint8Array(this.#count.buffer);

  /** A new eventfd, or one that a peer sent, which is taken over. */
  constructor(fd?: FileDescriptor) {
    this.fd =
      fd ?? new FileDescriptor(native.systemCall("eventfd", () => native.eventfd(0, EFD_CLOEXEC | OPEN.NONBLOCK)));
  }

  /** How often it was signalled since the last call; 0 where it was not. */
  read(): number {
    const number = this.fd.number;
    return native.attemptCall(() => native.read(number, this.#bytes, 8)) === 8 ? Number(this.#count[0]) : 0;
  }

  /** Signals it `count` times. A counter that is full stays full: nobody has looked for 2^64 signals. */
  write(count = 1): void {
    const number = this.fd.number;
    this.#count[0] = BigInt(count);
    native.attemptCall(() => native.write(number, this.#bytes, 8));
  }

  /** Calls `callback` with the count at each wake-up, on the event loop. */
  watch(callback: (count: number) => void, options: { readonly keepsAlive?: boolean } = {}): Watch {
    return watch(
      this.fd,
      () => {
        const count = this.read();
        if (count > 0) callback(count);
      },
      options,
    );
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }
}
