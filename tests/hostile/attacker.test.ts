// The attacker against itself: what it does to its own requests is not held against the server.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Command, DmaMap, RegionAccess } from "../../packages/ring3/src/vfio-user/messages.ts";
import { frame } from "./arbitraries.ts";
import { Attacker } from "./attacker.ts";
import { Bystander } from "./bystander.ts";
import { DescriptorSupply } from "./descriptor-supply.ts";
import { GuardedMemory } from "./guarded-memory.ts";
import { Random } from "./random.ts";
import type { Sequence } from "./sequence.ts";
import { Serving } from "./serving.ts";

const PATIENCE_MS = 5000;
/** Longer: what is lost is not found by the server. */
const CLIENT_TIMEOUT_MS = 10_000;
const SEQUENCES = 600;
const MARKER_BYTES = 32;
const MEMORY = 0x10_0000;

function write(region: number, offset: number, value: number): Uint8Array {
  const data = new Uint8Array(Uint32Array.of(value).buffer);
  return frame(
    Command.REGION_WRITE,
    Uint8Array.of(...RegionAccess.bytes({ offset: BigInt(offset), region, count: 4 }), ...data),
  );
}

const map = DmaMap.bytes({ argsz: DmaMap.size, flags: 3, offset: 0n, address: BigInt(MEMORY), size: 0x1_0000n });
/**
 * Memory without a file, bus mastering, source, destination and count of edu's DMA, and its start; and what makes all of it
 * some times as long as the request behind it, which may have to complete a lie alone.
 */
const MESSAGES: readonly Uint8Array[] = [
  frame(Command.DMA_MAP, map),
  write(7, 4, 6),
  write(0, 0x80, MEMORY),
  write(0, 0x88, 0x4_0000),
  write(0, 0x90, 16),
  write(0, 0x98, 1),
  frame(Command.DEVICE_GET_INFO, new Uint8Array(12)),
];
const SEQUENCE: Sequence = { manners: "lying", steps: MESSAGES.map((bytes) => ({ bytes, fds: [] })) };

/** Has every answer claim that the next sequence is a part of it. */
class Swallowing extends Random {
  override below(end: number): number {
    const sequenceBytes = Buffer.concat(MESSAGES).length + MARKER_BYTES;
    return end === 8 ? 3 : end === 100 ? sequenceBytes : super.below(end);
  }
}

test("requests that the server takes for the end of a lie are no answers that it owes", async () => {
  await using serving = await Serving.start({ clientTimeoutMs: CLIENT_TIMEOUT_MS });
  const random = new Swallowing(1);
  using memory = new GuardedMemory(random);
  using supply = new DescriptorSupply(memory.fd);
  using bystander = new Bystander(serving.socket("bystander"), PATIENCE_MS);
  const attacker = new Attacker({
    path: serving.socket("edu"),
    random,
    supply,
    bystander,
    patienceMs: PATIENCE_MS,
    scribble: () => undefined,
  });
  attacker.run(Array.from({ length: SEQUENCES }, () => SEQUENCE));
  const { messages, replies } = attacker.counts;
  assert.equal(messages, SEQUENCES * MESSAGES.length, "none was sent twice");
  assert.ok(replies < SEQUENCES * (MESSAGES.length + 1), "some were swallowed");
});
