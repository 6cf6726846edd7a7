// A client that behaves, at the very function that another one attacks: what it mapped is its own for as long as it is there.
import assert from "node:assert/strict";
import {
  createMemoryFile,
  type FileDescriptor,
  UnixSocket,
  waitReadable,
} from "../../packages/ring3/src/linux/index.ts";
import { Command, DmaMap, DmaUnmap, HEADER_SIZE, Header } from "../../packages/ring3/src/vfio-user/messages.ts";
import { frame } from "./arbitraries.ts";

const PATIENCE_MS = 15_000;
const PAGE = 4096n;
/** Where attackers map nothing on purpose. */
const PLACES: readonly bigint[] = [2n ** 46n, 2n ** 46n + 16n * PAGE];

export class Companion implements Disposable {
  readonly #socket: UnixSocket;
  readonly #into = new Uint8Array(4096);

  constructor(path: string) {
    this.#socket = UnixSocket.connect(path);
    assert.equal(this.#ask(Command.VERSION, new Uint8Array(4)), 0, "it was not let in");
    using memory = createMemoryFile(Number(PAGE));
    for (const address of PLACES) {
      const map = DmaMap.bytes({ argsz: DmaMap.size, flags: 3, address, size: PAGE });
      assert.equal(this.#ask(Command.DMA_MAP, map, [memory]), 0, "its memory was not mapped");
    }
  }

  /** Unmaps what it has mapped: it must be there. */
  leave(): void {
    for (const address of PLACES) {
      const unmap = DmaUnmap.bytes({ argsz: DmaUnmap.size, address, size: PAGE });
      assert.equal(this.#ask(Command.DMA_UNMAP, unmap), 0, "somebody else has unmapped its memory");
    }
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }

  /** The errno of the answer. */
  #ask(command: number, payload: Uint8Array, fds: readonly FileDescriptor[] = []): number {
    this.#socket.send([frame(command, payload)], fds);
    let got = 0;
    while (got < HEADER_SIZE || got < Header.from(this.#into).size) {
      assert.equal(waitReadable([this.#socket.fd], PATIENCE_MS).length, 1, "the server does not answer it");
      const { size } = this.#socket.receive(this.#into.subarray(got));
      assert.ok(size > 0, "the server hung up on it");
      got += size;
    }
    return Header.from(this.#into).error;
  }
}
