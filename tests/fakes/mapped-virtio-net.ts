// A virtio-net in this process whose registers for notifications are memory, as those of a real function are once they are mapped. So
// its queues can be used by workers. Nobody hears of a write to memory: the device looks at all of its queues in every turn.
import { VirtioNet, type VirtioNetOptions } from "../../packages/ring3/src/devices/virtio/index.ts";
import { OwnedWindow } from "../../packages/ring3/src/memory/window.ts";
import type { ByteRange, PciFunction } from "../../packages/ring3/src/pci/function.ts";
import { inProcess } from "../../packages/ring3/src/virtual/index.ts";

const NOTIFY: ByteRange = { offset: 0x3000, size: 0x1000 };
const DEVICE_STATUS = 0x14;

export class MappedVirtioNet implements AsyncDisposable {
  readonly device: VirtioNet;
  readonly fn: PciFunction;
  readonly #queues: number;
  #open = true;
  readonly #release: () => void;

  constructor(options: VirtioNetOptions) {
    this.device = new VirtioNet(options);
    this.fn = inProcess(this.device);
    this.#queues = 2 * (options.queuePairs ?? 1) + 1;
    const { arena } = this.fn.dma;
    const memory = arena.reserve(NOTIFY.size);
    const window = OwnedWindow.over(arena, memory.offset, memory.size);
    const bar = this.fn.bar(0);
    const others = bar.registers.bind(bar);
    Object.defineProperty(bar, "registers", {
      value: (range: ByteRange) =>
        range.offset >= NOTIFY.offset && range.offset + range.size <= NOTIFY.offset + NOTIFY.size
          ? window.slice(range.offset - NOTIFY.offset, range.size)
          : others(range),
    });
    this.#release = () => {
      window.revoke();
      memory[Symbol.dispose]();
    };
    const turn = (): void => {
      if (!this.#open) return;
      this.kick();
      setImmediate(turn);
    };
    setImmediate(turn);
  }

  /** The device looks at its queues. */
  kick(): void {
    if (this.fn.gone.aborted) return;
    for (let queue = 0; queue < this.#queues; queue++) this.fn.bar(0).write16(NOTIFY.offset + 4 * queue, queue);
  }

  /** The device's status register. */
  get status(): number {
    return this.fn.bar(0).read8(DEVICE_STATUS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#open = false;
    await this.fn[Symbol.asyncDispose]();
    this.#release();
  }
}
