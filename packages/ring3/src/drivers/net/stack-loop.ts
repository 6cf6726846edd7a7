// The loop of a stack: bursts from its queue to the way in, what time has brought, and waiting for more.
import type { Clock } from "../clock.ts";
import type { NetQueue } from "./device.ts";
import type { IpInput } from "./ip-input.ts";
import { PACKET_WORDS, Packets, PacketWord } from "./packets.ts";
import type { StackDevice } from "./stack-device.ts";
import type { StackLife } from "./stack-life.ts";
import type { TransmitTurns } from "./transmit-turns.ts";

const BURST = 64;

/** What the loop goes between. */
export interface LoopParts {
  readonly device: StackDevice;
  readonly queue: NetQueue;
  readonly input: IpInput;
  readonly turns: TransmitTurns;
  readonly life: StackLife;
  readonly clock: Clock;
  /** Does what time has brought, and returns when there is more to do. */
  readonly due: (nowMs: number) => number;
}

export class StackLoop implements Disposable {
  readonly #parts: LoopParts;
  readonly #packets: Packets;
  #tickMs: number;

  constructor(parts: LoopParts) {
    this.#parts = parts;
    this.#packets = new Packets(parts.queue.pool.arena, BURST);
    this.#tickMs = parts.clock.now();
  }

  /** Handles one burst and what time has brought; returns how many packets there were. Throws the end of the stack. */
  poll(): number {
    const { queue, input, turns, life, clock } = this.#parts;
    const { failure } = life;
    if (failure !== undefined) throw failure;
    const { words } = this.#packets;
    const count = queue.rxBurst(this.#packets, BURST);
    const nowMs = clock.now();
    turns.gather(() => {
      for (let i = 0, at = 0; i < count; i++, at += PACKET_WORDS) {
        const place = words[at + PacketWord.PLACE] as number;
        const kept = input.frame(
          place,
          words[at + PacketWord.LENGTH] as number,
          words[at + PacketWord.FLAGS] as number,
          words[at + PacketWord.OFFLOAD] as number,
          nowMs,
        );
        // A listener may have ended the device.
        if (!kept && !queue.pool.disposed) queue.pool.give(place);
      }
      if (nowMs >= this.#tickMs) this.tick();
    });
    return count;
  }

  /** Does what time has brought now. */
  tick(): void {
    this.#tickMs = this.#parts.due(this.#parts.clock.now());
  }

  /** Does so with the next burst, and at once where nothing comes. */
  tickSoon(): void {
    this.#tickMs = 0;
  }

  /** Goes on until the stack is closed or its device has ended. */
  async run(): Promise<void> {
    const { device, queue, life, clock } = this.#parts;
    const signal = life.closing;
    try {
      while (!signal.aborted) {
        const timeoutMs = Math.max(0, this.#tickMs - clock.now());
        await device.receivable(queue.index, { timeoutMs, signal });
        this.poll();
      }
    } catch (error) {
      if (signal.aborted) return;
      life.fail(device.failure ?? (error instanceof Error ? error : new Error(String(error))));
    }
  }

  [Symbol.dispose](): void {
    this.#packets[Symbol.dispose]();
  }
}
