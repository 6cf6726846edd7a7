// eventfd: a counter in the kernel that interrupts are delivered to.
import { ERRNO } from "./errno.ts";
import { FileDescriptor, OPEN } from "./file-descriptor.ts";
import * as native from "./native.ts";
import { type Watch, watch } from "./poller.ts";

const EFD_CLOEXEC = 0o2000000;
const RWF_NOWAIT = 8;
const NOT_SUPPORTED: number = ERRNO.EOPNOTSUPP[0];

export interface EventFdOptions {
  /**
   * Somebody else has it too, and may take O_NONBLOCK away from it: reads do not wait all the same. To signal such a one
   * there is `eventSignals`.
   */
  readonly foreign?: boolean;
}

/** A counter with a descriptor. Nothing here blocks. */
export class EventFd implements Disposable {
  readonly fd: FileDescriptor;
  readonly #count: BigUint64Array<ArrayBuffer> = new BigUint64Array(1);
  readonly #bytes: Uint8Array = new Uint8Array(this.#count.buffer);
  /** Where a foreign counter is read to, as struct iovec. */
  readonly #vector: Uint8Array | undefined;

  /** A new eventfd, or one that a peer sent, which is taken over. */
  constructor(fd?: FileDescriptor, { foreign = false }: EventFdOptions = {}) {
    this.fd =
      fd ?? new FileDescriptor(native.systemCall("eventfd", () => native.eventfd(0, EFD_CLOEXEC | OPEN.NONBLOCK)));
    if (!foreign) return;
    this.#vector = new Uint8Array(BigUint64Array.of(BigInt(native.addressOfView(this.#bytes)), 8n).buffer);
  }

  /** How often it was signalled since the last call; 0 where it was not. */
  read(): number {
    const number = this.fd.number;
    const vector = this.#vector;
    let result = -NOT_SUPPORTED;
    if (vector !== undefined) result = native.attemptCall(() => native.preadv2(number, vector, 1, -1, RWF_NOWAIT));
    // Its own, or a kernel before 5.8.
    if (result === -NOT_SUPPORTED) result = native.attemptCall(() => native.read(number, this.#bytes, 8));
    return result === 8 ? Number(this.#count[0]) : 0;
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
