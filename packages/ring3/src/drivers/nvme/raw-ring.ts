// An I/O queue pair of its own for whoever wants the low-level face: no promises, no time-outs, no repetition. A controller
// reset ends it: from then on it is full and gives nothing.
import type { Ring3Error } from "../../binary/error.ts";
import type { DmaBuffer } from "../../pci/function.ts";
import { completionDoorbell, Nvme, submissionDoorbell } from "../../specs/nvme/registers.ts";
import type { Engine } from "./engine.ts";
import { type QueueLayout, ringOf } from "./queue-memory.ts";
import type { Ring } from "./ring.ts";

export interface RawRingOptions {
  /** Entries of each queue; 128 by default. */
  readonly entries?: number;
  /** Bytes of memory behind the queue for the caller's use, for example a burst's tables; 0 by default. */
  readonly payloadBytes?: number;
}

export class RawRing implements AsyncDisposable {
  readonly ring: Ring;
  readonly layout: QueueLayout;
  /** The queue pair's whole memory; {@link layout} says what lies where. */
  readonly buffer: DmaBuffer;
  /** Places of the two doorbells in the arena, where they are mapped. */
  readonly doorbells: { readonly submission: number; readonly completion: number } | undefined;
  readonly #engine: Engine;
  #closed = false;
  #lost = false;

  /** Made by `NvmeDriver.openRing`. */
  constructor(engine: Engine, buffer: DmaBuffer, layout: QueueLayout) {
    this.#engine = engine;
    this.buffer = buffer;
    this.layout = layout;
    this.ring = ringOf(layout, buffer.words, engine.doorbells, Nvme.DOORBELLS);
    const base = engine.doorbells.arenaOffset;
    if (base !== undefined) {
      const { queueId, doorbellStride } = layout;
      this.doorbells = {
        submission: base + submissionDoorbell(queueId, doorbellStride) - Nvme.DOORBELLS,
        completion: base + completionDoorbell(queueId, doorbellStride) - Nvme.DOORBELLS,
      };
    }
  }

  /** For the engine: the controller has no such queue any more. */
  lose(problem: string): void {
    this.#lost = true;
    this.ring.close(problem);
  }

  /** Deletes the queues and frees their memory. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.ring.close("the ring was closed");
    await this.#engine.removeUser(this.layout.queueId, () => !this.#lost);
    this.#engine.freeMemory(this.buffer);
  }
}

/** Creates the queue pair on the controller. */
export async function openRing(engine: Engine, options: RawRingOptions): Promise<RawRing> {
  const memory = engine.queueMemory(options.entries ?? 128, options.payloadBytes ?? 0);
  const raw = new RawRing(engine, memory.buffer, memory.layout);
  const user = {
    queueId: memory.layout.queueId,
    freeze: () => raw.lose("the controller was reset, which ends a raw ring: open another"),
    prepare: () => {},
    restore: () => Promise.resolve(),
    fail: (error: Ring3Error) => raw.lose(error.message),
  };
  await engine.addUser(user, memory);
  return raw;
}
