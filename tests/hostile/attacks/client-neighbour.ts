// The other user, in the attacker's process: a client that has its memory mapped, an interrupt connected and something in its
// device, and looks after all of them.
import assert from "node:assert/strict";
import {
  createMemoryFile,
  EventFd,
  type FileDescriptor,
  MappedMemory,
} from "../../../packages/ring3/src/linux/index.ts";
import { FakeClient } from "../../../packages/ring3/src/vfio-user/fake-client.ts";
import { Command, Irq } from "../../../packages/ring3/src/vfio-user/messages.ts";
import type { Neighbour } from "./attack.ts";
import { MARK, TARGET_IDS } from "./target-device.ts";
import { configRead, irqs, map, PATIENCE_MS, peek, poke, SIGNALS } from "./wire.ts";

const SIZE = 0x4000;
const MINE = 0x600d;

export class ClientNeighbour implements Neighbour, Disposable {
  readonly name: string;
  readonly path: string;
  readonly iova = 0x40_0000;
  readonly size: number = SIZE;
  readonly content = 0x5a5a_5a5a;
  readonly #client: FakeClient;
  readonly #memory: MappedMemory;
  readonly #signal: EventFd;
  readonly #file: FileDescriptor;

  private constructor(name: string, path: string, client: FakeClient, stack: DisposableStack) {
    this.name = name;
    this.path = path;
    this.#client = client;
    this.#signal = stack.use(new EventFd());
    this.#file = stack.use(createMemoryFile(SIZE));
    this.#memory = stack.use(MappedMemory.file(this.#file, 0, SIZE));
    this.#memory.bytes.fill(this.content & 0xff);
  }

  /** Opens the target at `path`. */
  static async open(name: string, path: string): Promise<ClientNeighbour> {
    using stack = new DisposableStack();
    const client = stack.use(await FakeClient.open(path, { max_msg_fds: 16 }, PATIENCE_MS));
    const neighbour = new ClientNeighbour(name, path, client, stack);
    await neighbour.#begin();
    stack.move();
    return neighbour;
  }

  async check(): Promise<void> {
    assert.ok(
      this.#memory.bytes.every((byte) => byte === (this.content & 0xff)),
      "the neighbour's memory was changed",
    );
    const { vendorId, deviceId } = TARGET_IDS;
    assert.equal(await configRead(this.#client, 0), deviceId * 2 ** 16 + vendorId, "the neighbour is not served");
    assert.equal(await peek(this.#client, MARK), MINE, "the neighbour's function was reset");
  }

  strayInterrupts(): Promise<number> {
    return Promise.resolve(this.#signal.read());
  }

  async #begin(): Promise<void> {
    const client = this.#client;
    assert.equal(await client.errno(Command.DMA_MAP, map(this.iova, SIZE), { fds: [this.#file] }), 0);
    const fds = [this.#signal.fd];
    assert.equal(await client.errno(Command.DEVICE_SET_IRQS, irqs(Irq.MSIX, 0, 1, SIGNALS), { fds }), 0);
    await poke(client, MARK, MINE);
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
    this.#file.close();
    this.#signal[Symbol.dispose]();
  }
}
