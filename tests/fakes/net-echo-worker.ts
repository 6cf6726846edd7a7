// A worker that sends everything back that its queue receives, to where it came from, until it is told to stop.
import assert from "node:assert/strict";
import { parentPort, workerData } from "node:worker_threads";
import type { NetQueueHandle } from "../../packages/ring3/src/drivers/net/device.ts";
import { attachNetQueue } from "../../packages/ring3/src/drivers/net/open.ts";
import { PACKET_WORDS, Packets, PacketWord } from "../../packages/ring3/src/drivers/net/packets.ts";

const { handle, stop } = workerData as { handle: NetQueueHandle; stop: Int32Array };
using queue = await attachNetQueue(handle);
using packets = new Packets(queue.pool.arena, 8);
let ended: unknown;
parentPort?.postMessage("running");
try {
  while (Atomics.load(stop, 0) === 0) {
    const count = queue.rxBurst(packets);
    for (let i = 0; i < count; i++) {
      const place = packets.words[i * PACKET_WORDS + PacketWord.PLACE] as number;
      const [to, from] = [0, 6].map((at) => queue.pool.bytes.slice(place + at, place + at + 6)) as [
        Uint8Array,
        Uint8Array,
      ];
      queue.pool.bytes.set(from, place);
      queue.pool.bytes.set(to, place + 6);
    }
    const sent = queue.txBurst(packets, count);
    queue.pool.giveAll(packets, count - sent, sent);
  }
  while (queue.txPending() > 0);
} catch (error) {
  ended = (error as { code?: string }).code;
}
assert.ok(queue.pool.free <= queue.pool.buffers);
parentPort?.postMessage({ free: queue.pool.free, buffers: queue.pool.buffers, ended, ...queue.statistics() });
