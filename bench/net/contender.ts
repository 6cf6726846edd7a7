// Ways to pass packets on a gigabit queue over the memory of a device process: emitted loops and the TypeScript that they are
// tested against.
import { Forwarder } from "../../packages/ring3/src/drivers/net/forwarder.ts";
import { GigabitQueue } from "../../packages/ring3/src/drivers/gigabit/queue.ts";
import { privateBytes, type QueuePlace } from "../../packages/ring3/src/drivers/gigabit/queue-place.ts";
import { PacketPool, POOL_STACK_WORD } from "../../packages/ring3/src/drivers/net/packet-pool.ts";
import { PACKET_WORDS, Packets } from "../../packages/ring3/src/drivers/net/packets.ts";
import type { DeviceWindow } from "../../packages/ring3/src/linux/index.ts";
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";
import { BenchmarkUnavailable } from "../benchmark.ts";
import {
  ASKED_OFFSET,
  BUFFER_BYTES,
  BUFFERS,
  DONE_OFFSET,
  ENTRIES,
  HEADROOM,
  POOL_OFFSET,
  RECEIVE_OFFSET,
  RECEIVE_TAIL,
  REGISTERS_OFFSET,
  TRANSMIT_OFFSET,
  TRANSMIT_TAIL,
} from "./layout.ts";

const WORDS = PACKET_WORDS;
const [ASKED, DONE] = [ASKED_OFFSET / 4, DONE_OFFSET / 4];

/** A queue over the shared memory, which starts anew on a fresh device. */
export interface BenchQueue {
  readonly queue: GigabitQueue;
  readonly reset: () => void;
}

/** One way to pass packets on: receives, touches and sends a burst, and says how many packets it were. */
export interface Contender {
  readonly reset: () => void;
  forward(batch: number): number;
}

/** A queue as a driver makes it. Throws `BenchmarkUnavailable` where loops cannot be emitted. */
export function benchQueue(arena: Arena, window: DeviceWindow, emit: boolean): BenchQueue {
  const state = arena.reserve(privateBytes(ENTRIES), 4096);
  const stack = arena.reserve(4 * (POOL_STACK_WORD + BUFFERS), 64);
  const base = window.arenaOffset;
  const handle = {
    offset: base + POOL_OFFSET,
    stateOffset: stack.offset,
    buffers: BUFFERS,
    bufferBytes: BUFFER_BYTES,
    headroom: HEADROOM,
  };
  const place: QueuePlace = {
    index: 0,
    format: "igb",
    entries: ENTRIES,
    receive: base + RECEIVE_OFFSET,
    transmit: base + TRANSMIT_OFFSET,
    state: state.offset,
    pool: handle,
    poolIova: POOL_OFFSET,
    receiveBytes: BUFFER_BYTES - HEADROOM,
    frameBytes: 1518,
    receiveTail: REGISTERS_OFFSET + RECEIVE_TAIL,
    transmitTail: REGISTERS_OFFSET + TRANSMIT_TAIL,
  };
  const pool = PacketPool.attach(arena, handle);
  const ended = (): Error => new Error("the queue has ended");
  const queue = new GigabitQueue(pool, place, window, { emit, ended });
  if (queue.emitted !== emit)
    throw new BenchmarkUnavailable("this machine has no WebAssembly memory to emit loops for");
  const reset = (): void => {
    state.bytes.fill(0);
    stack.words[0] = BUFFERS;
    for (let i = 0; i < BUFFERS; i++) stack.words[POOL_STACK_WORD + i] = (BUFFERS - 1 - i) * BUFFER_BYTES;
    queue.renew();
  };
  return { queue, reset };
}

/** A queue used as its documentation says; `touch`: what the program's own code for a packet is written in. */
export function contender(
  arena: Arena,
  window: DeviceWindow,
  options: { readonly emit: boolean; readonly touch: "emitted" | "typescript" },
): Contender {
  const { queue, reset } = benchQueue(arena, window, options.emit);
  if (options.touch === "emitted") {
    const forwarder = new Forwarder(queue, queue, 256, (body, { address }) => {
      body.store8(address, body.load8(address).add(1));
    });
    return { reset, forward: (batch) => forwarder.forward(batch) };
  }
  const packets = new Packets(arena, 256);
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

/**
 * `count` turns from turn `first` of a device on: it fills and empties its rings, then the contender forwards what is there. Gives
 * the milliseconds that the contender took.
 */
export function turns(words: Uint32Array, one: Contender, batch: number, first: number, count: number): number {
  const bursts = Math.floor((ENTRIES - 1) / batch);
  let spentMs = 0;
  for (let turn = first + 1; turn <= first + count; turn++) {
    Atomics.store(words, ASKED, turn);
    while (Atomics.load(words, DONE) !== turn);
    const start = performance.now();
    drive(one, batch, bursts);
    spentMs += performance.now() - start;
  }
  return spentMs;
}

/** One loop for all, so that V8 compiles each burst as a function and not as a part of this loop. */
function drive(one: Contender, batch: number, bursts: number): void {
  for (let i = 0; i < bursts; i++) if (one.forward(batch) !== batch) throw new Error("a burst was not full");
}
