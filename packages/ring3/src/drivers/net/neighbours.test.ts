import assert from "node:assert/strict";
import test from "node:test";
import { Neighbours, type NeighbourLimits, type WaitingFrame } from "./neighbours.ts";

const [A, B] = [Uint8Array.of(2, 0, 0, 0, 0, 1), Uint8Array.of(2, 0, 0, 0, 0, 2)];
const frame = (place: number): WaitingFrame => ({ place, length: 60, flags: 0, offload: 0 });

function cache(limits: NeighbourLimits = {}) {
  const log: string[] = [];
  const neighbours = new Neighbours(
    {
      ask: (address, mac) => log.push(`ask ${address}${mac === undefined ? "" : ` at ${mac[5]}`}`),
      release: ({ place }, mac) => log.push(`release ${place} to ${mac[5]}`),
      lose: ({ place }) => log.push(`lose ${place}`),
    },
    limits,
  );
  return { neighbours, log, taken: () => log.splice(0) };
}

test("a neighbour is asked for once a second, three times, and then what waits is lost", () => {
  const { neighbours, taken } = cache();
  assert.equal(neighbours.find(1, 0), undefined);
  assert.ok(neighbours.wait(1, frame(10), 0));
  neighbours.find(1, 500);
  neighbours.tick(900);
  assert.deepEqual(taken(), ["ask 1"]);
  neighbours.tick(1000);
  neighbours.tick(2000);
  assert.deepEqual(taken(), ["ask 1", "ask 1"]);
  neighbours.tick(3000);
  assert.deepEqual(taken(), ["lose 10"]);
  assert.equal(neighbours.statistics.unreachable, 1);
});

test("an answer releases what waits in order, and is asked again alone when it is old", () => {
  const { neighbours, taken } = cache({ believedMs: 5000 });
  neighbours.find(1, 0);
  for (const place of [10, 20]) neighbours.wait(1, frame(place), 0);
  assert.ok(neighbours.awaits(1));
  neighbours.heard(1, A, 0, true, 10);
  assert.deepEqual(taken(), ["ask 1", "release 10 to 1", "release 20 to 1"]);
  assert.deepEqual(neighbours.find(1, 4000), A);
  assert.deepEqual(taken(), []);
  assert.deepEqual(neighbours.find(1, 5010), A, "it is believed until it does not answer");
  assert.deepEqual(taken(), ["ask 1 at 1"]);
  for (const nowMs of [6010, 7010, 8010]) {
    neighbours.find(1, nowMs);
    neighbours.tick(nowMs);
  }
  assert.deepEqual(taken(), ["ask 1", "ask 1", "ask 1"], "everybody is asked, and after it was forgotten again");
});

test("lies: what was not asked for makes no entry and does not move who has just answered", () => {
  const { neighbours } = cache({ entries: 3 });
  neighbours.heard(1, B, 0, false, 0);
  assert.deepEqual([...neighbours.known()], []);
  neighbours.heard(1, A, 0, true, 0);
  neighbours.heard(1, B, 0, false, 500);
  assert.deepEqual(neighbours.find(1, 500), A);
  assert.equal(neighbours.statistics.refused, 1);
  neighbours.heard(1, B, 0, false, 1500);
  assert.deepEqual(neighbours.find(1, 1500), B, "a station that moved is believed after a second");
  for (let i = 2; i < 100; i++) neighbours.heard(i, A, 0, true, 2000 + i);
  assert.equal([...neighbours.known()].length, 3);
});

test("packets that wait are bounded", () => {
  const { neighbours, taken } = cache({ waiting: 2 });
  assert.deepEqual(
    [1, 2, 3].map((address) => neighbours.wait(address, frame(address), 0)),
    [true, true, false],
  );
  neighbours.clear();
  assert.deepEqual(taken(), ["lose 1", "lose 2"]);
  assert.ok(!neighbours.busy);
});

test("a permanent neighbour is never asked, moved or forgotten", () => {
  const { neighbours, taken } = cache({ entries: 1 });
  neighbours.add(1, A);
  neighbours.heard(1, B, 0, true, 1_000_000);
  assert.deepEqual([neighbours.find(1, 2_000_000), neighbours.statistics.refused], [A, 1]);
  neighbours.find(2, 2_000_000);
  neighbours.find(3, 2_000_000);
  neighbours.clear();
  neighbours.tick(9_000_000);
  assert.deepEqual(neighbours.find(1, 9_000_000), A);
  assert.deepEqual(taken(), ["ask 2", "ask 3"]);
});

test("whoever resolves hears the answer, that nobody answers, or why nobody will", async () => {
  const { neighbours, taken } = cache();
  const answered = neighbours.resolve(1, 0);
  neighbours.heard(1, A, 0, true, 10);
  assert.deepEqual([await answered, await neighbours.resolve(1, 20)], [A, A]);
  const silent = neighbours.resolve(2, 0);
  for (const nowMs of [1000, 2000, 3000]) neighbours.tick(nowMs);
  assert.equal(await silent, undefined);
  assert.deepEqual(taken(), ["ask 1", "ask 2", "ask 2", "ask 2"]);
  const ended = neighbours.resolve(3, 0);
  neighbours.failAll(new Error("pulled out"));
  await assert.rejects(ended, /pulled out/);
});
