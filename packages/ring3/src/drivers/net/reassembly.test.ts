import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { Ipv4Header } from "./ipv4.ts";
import { Reassembler } from "./reassembly.ts";

function piece(
  identification: number,
  fragmentOffset: number,
  payloadBytes: number,
  moreFragments: boolean,
): Ipv4Header {
  return Object.assign(new Ipv4Header(), {
    identification,
    fragmentOffset,
    payloadBytes,
    moreFragments,
    protocol: 17,
    source: 1,
    destination: 2,
  });
}

const ANY = new Uint8Array(65_536).map((_, i) => (i * 7 + (i >>> 8)) & 0xff);

test("fragments in any order, cut anywhere and some sent twice, give the datagram once", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 30 }),
      fc.integer({ min: 1, max: 20 }),
      fc.infiniteStream(fc.nat()),
      (units, last, order) => {
        const pieces: Ipv4Header[] = [];
        let at = 0;
        for (const unit of units) {
          pieces.push(piece(5, at, unit * 8, true));
          at += unit * 8;
        }
        pieces.push(piece(5, at, last, false));
        const total = at + last;
        const twice = pieces.slice(0, -1).filter((_, i) => i % 3 === 0);
        const sequence = [...pieces, ...twice]
          .map((header) => ({ header, key: order.next().value as number }))
          .sort((a, b) => a.key - b.key)
          .map(({ header }) => header);
        const reassembler = new Reassembler();
        const given = sequence
          .map((header) => reassembler.add(header, ANY, header.fragmentOffset, 0))
          .filter((whole) => whole !== undefined);
        assert.equal(given.length, 1);
        assert.deepEqual(given[0], ANY.subarray(0, total));
        assert.equal(reassembler.statistics.overlapping, 0);
      },
    ),
    { numRuns: 200 },
  );
});

test("pieces that overlap or contradict each other end the datagram, for all its pieces", () => {
  const cases: [string, Ipv4Header[]][] = [
    ["teardrop: the second lies in the first", [piece(1, 0, 64, true), piece(1, 24, 8, false)]],
    ["the second begins in the first", [piece(1, 0, 64, true), piece(1, 56, 64, true)]],
    ["the second reaches over the first", [piece(1, 64, 64, true), piece(1, 0, 200, true)]],
    ["two ends", [piece(1, 64, 8, false), piece(1, 128, 8, false)]],
    ["something behind the end", [piece(1, 64, 8, false), piece(1, 72, 8, true)]],
    ["an end before what is there", [piece(1, 64, 64, true), piece(1, 32, 8, false)]],
    ["the same piece as the last one and as one of many", [piece(1, 64, 64, true), piece(1, 64, 64, false)]],
  ];
  for (const [name, pieces] of cases) {
    const reassembler = new Reassembler();
    for (const header of pieces) assert.equal(reassembler.add(header, ANY, 0, 0), undefined, name);
    assert.equal(reassembler.statistics.overlapping, 1, name);
    // What would have completed it comes too late.
    for (const header of [piece(1, 0, 64, true), piece(1, 64, 8, false)])
      assert.equal(reassembler.add(header, ANY, 0, 0), undefined, name);
    assert.equal(reassembler.statistics.datagrams, 0, name);
  }
});

test("memory and time are bounded", () => {
  const reassembler = new Reassembler({ datagrams: 4, pieces: 3, timeoutMs: 100 });
  for (let i = 0; i < 10; i++) reassembler.add(piece(i, 0, 8, true), ANY, 0, i);
  assert.equal(reassembler.pending, 4);
  assert.equal(reassembler.statistics.evicted, 6);
  for (let i = 1; i < 4; i++) reassembler.add(piece(9, 16 * i, 8, true), ANY, 0, 10);
  assert.equal(reassembler.statistics.evicted, 7, "a fourth piece where three are allowed");
  reassembler.expire(109);
  assert.equal(reassembler.pending, 0);
  assert.equal(reassembler.statistics.timedOut, 3);
});
