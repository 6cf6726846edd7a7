// A client that behaves, at another function of the same process: it reads a register now and then, and is answered soon
// whatever others send.
import { type FileDescriptor, UnixSocket, waitReadable } from "../../packages/ring3/src/linux/index.ts";
import { Command } from "../../packages/ring3/src/vfio-user/messages.ts";
import { frame } from "./arbitraries.ts";

const REQUEST = frame(Command.REGION_READ, Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 4, 0, 0, 0), { id: 5 });
const REPLY_BYTES = 36;
/** QEMU's edu. */
const IDS = 0x11e8_1234;
const EVERY_MS = 5;

export class Bystander implements Disposable {
  worstMs = 0;
  answers = 0;
  readonly #socket: UnixSocket;
  readonly #boundMs: number;
  readonly #into = new Uint8Array(4096);
  #got = 0;
  #askedAt = 0;
  #answeredAt = 0;

  constructor(path: string, boundMs: number) {
    this.#boundMs = boundMs;
    this.#socket = UnixSocket.connect(path);
    this.#socket.send([frame(Command.VERSION, new Uint8Array(4))]);
    waitReadable([this.#socket.fd], boundMs);
    this.#socket.receive(this.#into);
  }

  get fd(): FileDescriptor {
    return this.#socket.fd;
  }

  /** Asks where it is time to, and takes the answer. Throws where that is late. */
  look(): void {
    const now = performance.now();
    if (this.#askedAt === 0) {
      if (now - this.#answeredAt < EVERY_MS) return;
      this.#askedAt = now;
      this.#got = 0;
      this.#socket.send([REQUEST]);
      return;
    }
    const { size } = this.#socket.receive(this.#into.subarray(this.#got));
    if (size === 0) throw new Error("the server hung up on a client that behaves");
    if (size > 0) this.#got += size;
    const waitedMs = now - this.#askedAt;
    if (this.#got >= REPLY_BYTES) {
      const value = new DataView(this.#into.buffer).getUint32(32, true);
      if (value !== IDS) throw new Error(`a client that behaves was told 0x${value.toString(16)}`);
      this.answers++;
      this.worstMs = Math.max(this.worstMs, waitedMs);
      this.#answeredAt = now;
      this.#askedAt = 0;
    } else if (waitedMs > this.#boundMs) {
      throw new Error(`a client that behaves has waited for ${Math.round(waitedMs)} ms`);
    }
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }
}
