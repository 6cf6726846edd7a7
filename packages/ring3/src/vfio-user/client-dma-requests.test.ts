// Whatever a server asks of memory, it gets what is mapped and nothing else: compared with a model that looks byte by byte.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createArena } from "../linux/arena-memory.ts";
import type { DmaPermission } from "../pci/function.ts";
import { DmaRequests, ReachableTable } from "./client-dma-requests.ts";
import type { Lane } from "./client-lane.ts";
import { Command, HEADER_SIZE } from "./messages.ts";

const PAGE = 4096;
const MOST = 3 * PAGE;
const arena = createArena({ initialBytes: 2 ** 20 });
const memory = arena.reserve(8 * PAGE);

/** A lane that holds one command. */
function laneWith(command: number, iova: bigint, count: bigint, data: Uint8Array): Lane {
  const bytes = new Uint8Array(HEADER_SIZE + 16 + data.length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(HEADER_SIZE, iova, true);
  view.setBigUint64(HEADER_SIZE + 8, count, true);
  bytes.set(data, HEADER_SIZE + 16);
  const replyBytes = new Uint8Array(HEADER_SIZE + 16 + MOST);
  const payloadSize = bytes.length - HEADER_SIZE;
  return { command, view, bytes, payload: HEADER_SIZE, payloadSize, replyBytes } as unknown as Lane;
}

test("requests reach exactly what is mapped with permission", () => {
  const permission = fc.constantFrom<DmaPermission>("read", "write", "read-write");
  const layout = fc.uniqueArray(fc.record({ page: fc.nat({ max: 11 }), permission }), {
    selector: ({ page }) => page,
    maxLength: 8,
  });
  const request = fc.record({
    writes: fc.boolean(),
    at: fc.nat({ max: 12 * PAGE }),
    count: fc.integer({ min: 0, max: MOST + 10 }),
    missing: fc.constantFrom(0, 0, 0, 1),
    seed: fc.nat({ max: 255 }),
  });
  fc.assert(
    fc.property(layout, fc.array(request, { maxLength: 20 }), (pages, requests) => {
      const table = new ReachableTable();
      const base = 2 ** 40;
      const model = new Map<number, { permission: DmaPermission; arenaOffset: number }>();
      for (const [i, { page, permission: allowed }] of pages.entries()) {
        const arenaOffset = memory.offset + i * PAGE;
        table.add({ iova: base + page * PAGE, size: PAGE, arenaOffset, permission: allowed });
        model.set(page, { permission: allowed, arenaOffset });
      }
      const server = new DmaRequests(arena, table, () => true, MOST);
      for (const { writes, at, count, missing, seed } of requests) {
        const before = memory.bytes.slice();
        const data = writes ? new Uint8Array(Math.max(0, count - missing)).fill(seed) : new Uint8Array(0);
        const lane = laneWith(writes ? Command.DMA_WRITE : Command.DMA_READ, BigInt(base + at), BigInt(count), data);
        const result = server.serve(lane);
        const allowed = (byte: number): boolean => {
          const found = model.get(Math.floor(byte / PAGE));
          return found !== undefined && found.permission !== (writes ? "read" : "write");
        };
        const whole = !writes || missing === 0 || count === 0;
        const possible =
          count > 0 && count <= MOST && whole && Array.from({ length: count }, (_, i) => at + i).every(allowed);
        assert.equal(result >= 0, possible, `${writes ? "write" : "read"} of ${count} at ${at} gave ${result}`);
        if (!possible) assert.deepEqual(memory.bytes, before, "a refused request changes nothing");
        else if (!writes) assert.equal(result, 16 + count);
        for (let i = 0; possible && i < count; i += 511) {
          const place = (model.get(Math.floor((at + i) / PAGE))?.arenaOffset ?? 0) + ((at + i) % PAGE) - memory.offset;
          assert.equal(
            writes ? memory.bytes[place] : lane.replyBytes[HEADER_SIZE + 16 + i],
            writes ? seed : before[place],
          );
        }
      }
    }),
    { numRuns: 150 },
  );
});

test("addresses beyond numbers, other commands, short requests and an idle bus master are refused", () => {
  const table = new ReachableTable();
  table.add({ iova: 0, size: PAGE, arenaOffset: memory.offset, permission: "read-write" });
  let master = true;
  const server = new DmaRequests(arena, table, () => master, MOST);
  const none = new Uint8Array(0);
  assert.equal(server.serve(laneWith(Command.DMA_READ, 2n ** 64n - 8n, 16n, none)), -14);
  assert.equal(server.serve(laneWith(Command.DMA_READ, 0n, 2n ** 63n, none)), -22);
  assert.equal(server.serve(laneWith(Command.REGION_READ, 0n, 4n, none)), -95);
  assert.equal(server.serve(Object.assign(laneWith(Command.DMA_READ, 0n, 4n, none), { payloadSize: 12 })), -22);
  assert.equal(server.serve(laneWith(Command.DMA_READ, 0n, 4n, none)), 20);
  master = false;
  assert.equal(server.serve(laneWith(Command.DMA_READ, 0n, 4n, none)), -19);
  assert.equal(server.refused, 5);
});
