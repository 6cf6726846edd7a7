// Ways to pass packets on a queue over the memory of a device process: emitted loops and the TypeScript that they are tested
// against.
import { Forwarder } from "../../packages/ring3/src/drivers/net/forwarder.ts";
import {
  PacketPool,
  type PacketPoolHandle,
  POOL_STACK_WORD,
} from "../../packages/ring3/src/drivers/net/packet-pool.ts";
import { PACKET_WORDS, Packets } from "../../packages/ring3/src/drivers/net/packets.ts";
import type { RingQueue } from "../../packages/ring3/src/drivers/net/ring-queue.ts";
import type { DeviceWindow } from "../../packages/ring3/src/linux/index.ts";
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";
import { BenchmarkUnavailable } from "../benchmark.ts";

const WORDS = PACKET_WORDS;
/** Packets of a burst at most. */
const LARGEST = 256;

/** A queue over the shared memory, which starts anew on a fresh device. */
export interface BenchQueue {
  readonly queue: RingQueue;
  readonly reset: () => void;
}

/** One way to pass packets on: receives, touches and sends a burst, and says how many packets it were. */
export interface Contender {
  reset(): void;
  forward(batch: number): number;
}

/** Where in the shared memory the buffers lie, and how many there are. */
export type BenchPool = Omit<PacketPoolHandle, "stateOffset">;

/**
 * A queue as a driver makes it: `make` gets its pool, and gives it with its private memory and what has to be said before it is
 * filled. Throws `BenchmarkUnavailable` where loops cannot be emitted.
 */
export function overPool(
  arena: Arena,
  window: DeviceWindow,
  { offset, buffers, bufferBytes, headroom }: BenchPool,
  emit: boolean,
  make: (pool: PacketPool) => { readonly queue: RingQueue; readonly state: Uint8Array; readonly start?: () => void },
): BenchQueue {
  const stack = arena.reserve(4 * (POOL_STACK_WORD + buffers), 64);
  const at = window.arenaOffset + offset;
  const pool = PacketPool.attach(arena, { offset: at, stateOffset: stack.offset, buffers, bufferBytes, headroom });
  const { queue, state, start } = make(pool);
  if (queue.emitted !== emit) {
    throw new BenchmarkUnavailable("this machine has no WebAssembly memory to emit loops for");
  }
  const reset = (): void => {
    state.fill(0);
    stack.words[0] = buffers;
    for (let i = 0; i < buffers; i++) stack.words[POOL_STACK_WORD + i] = (buffers - 1 - i) * bufferBytes;
    start?.();
    queue.renew();
  };
  return { queue, reset };
}

/** A queue used as its documentation says; `touch`: what the program's own code for a packet is written in. */
export function contender({ queue, reset }: BenchQueue, touch: "emitted" | "typescript"): Contender {
  if (touch === "emitted") {
    const forwarder = new Forwarder(queue, queue, LARGEST, (body, { address }) => {
      body.store8(address, body.load8(address).add(1));
    });
    return { reset, forward: (batch) => forwarder.forward(batch) };
  }
  const packets = new Packets(queue.pool.arena, LARGEST);
  const { words } = packets;
  const { bytes } = queue.pool;
  return {
    reset,
    forward(batch: number): number {
      const count = queue.rxBurst(packets, batch);
      for (let i = 0, at = 0; i < count; i++, at += WORDS) {
        const first = words[at] as number;
        bytes[first] = (bytes[first] as number) + 1;
      }
      return queue.txBurst(packets, count);
    },
  };
}
