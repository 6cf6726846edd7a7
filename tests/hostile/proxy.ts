// Stands between a vfio-user client and a server, passes everything on, descriptors too, and writes down what the client
// says. A message leaves in as few pieces as it came in, since QEMU gives up on a header in two.
import { constants } from "node:os";
import { UnixListener, UnixSocket, type Watch, watch } from "../../packages/ring3/src/linux/index.ts";
import { kindOf } from "./descriptor-kinds.ts";
import { FrameCutter } from "./frame-cutter.ts";
import type { RecordedFrame } from "./recording.ts";

const { EAGAIN } = constants.errno;
const BUFFER_BYTES = 4 << 20;

/** A proxy for one client after the other. Disposal closes everything. */
export class RecordingProxy implements Disposable {
  /** What the clients said, connection by connection. */
  readonly sessions: RecordedFrame[][] = [];
  readonly #listener: UnixListener;
  readonly #upstream: string;
  readonly #open = new Set<Disposable>();

  constructor(path: string, upstream: string) {
    this.#upstream = upstream;
    this.#listener = UnixListener.listen(path);
    this.#open.add(watch(this.#listener.fd, () => this.#accept()));
  }

  #accept(): void {
    const client = this.#listener.accept();
    if (client === undefined) return;
    const server = UnixSocket.connect(this.#upstream);
    const frames: RecordedFrame[] = [];
    this.sessions.push(frames);
    const cutter = new FrameCutter((bytes, fds) => frames.push({ bytes, fds }));
    const watches: Watch[] = [];
    const end = (): void => {
      for (const each of watches) each[Symbol.dispose]();
      client[Symbol.dispose]();
      server[Symbol.dispose]();
    };
    const pass = (from: UnixSocket, to: UnixSocket, seen?: FrameCutter): Watch => {
      const buffer = new Uint8Array(BUFFER_BYTES);
      return watch(from.fd, () => {
        const { size, fds } = from.receive(buffer);
        if (size === -EAGAIN) return;
        if (size <= 0) {
          end();
          return;
        }
        seen?.add(buffer.subarray(0, size), fds.map(kindOf));
        for (let at = 0; at < size; ) {
          const sent = to.send([buffer.subarray(at, size)], at === 0 ? fds : [], true);
          if (sent <= 0) {
            end();
            break;
          }
          at += sent;
        }
        for (const fd of fds) fd.close();
      });
    };
    watches.push(pass(client, server, cutter), pass(server, client));
    this.#open.add({ [Symbol.dispose]: end });
  }

  [Symbol.dispose](): void {
    for (const each of this.#open) each[Symbol.dispose]();
    this.#listener[Symbol.dispose]();
  }
}
