// The driver of the NVMe benchmark, in a process of its own: takes one order after the other as a line of JSON, and answers
// each with a line.
import { createInterface } from "node:readline";
import { open } from "ring3";
import {
  BurstState,
  createBurst,
  IoOpcode,
  NvmeDriver,
  REAPED_WORDS,
  ReapedWord,
  REQUEST_WORDS,
  RESULT_WORDS,
  RequestWord,
  ResultWord,
  resetBurst,
} from "ring3/nvme";
import { checkPage, type Face, type NvmeFigure, type NvmeOrder, randomBlocks, READ_BYTES } from "./nvme-plan.ts";

const ENTRIES = 256;
const DEPTH_MAX = 128;
const PAGE = 4096;
const HIGH = 2 ** 32;
/** Rounds between two looks at the clock. */
const ROUNDS = 256;
/** How often a burst looks for a completion before it returns. */
const LOOKS = 200;
// Constants of this module, which V8 folds into the code as it does not with imported ones.
const [READ, BYTES] = [IoOpcode.READ, READ_BYTES];
const [REAPED, STATUS] = [REAPED_WORDS, ReapedWord.STATUS];
const [REQUEST, COMMAND, LBA_LOW] = [REQUEST_WORDS, RequestWord.COMMAND, RequestWord.LBA_LOW];
const [RESULT, RESULT_STATUS] = [RESULT_WORDS, ResultWord.STATUS];

/** One way to read: keeps `depth` reads in flight. */
interface Reader {
  /** Posts the first `depth` reads. */
  begin(depth: number): void;
  /** Takes what has come and posts as much where `again`; returns how many came. */
  turn(depth: number, again: boolean, check: boolean): number;
}

const [socket = ""] = process.argv.slice(2);
await using fn = await open(`vfio-user:${socket}`);
await using nvme = await NvmeDriver.start(fn, { ioQueues: 1 });
using data = nvme.allocate(DEPTH_MAX * BYTES);
const tables = 2 * PAGE + ENTRIES * 4 * (REQUEST + RESULT);
await using ringQueue = await nvme.openRing({ entries: ENTRIES });
await using burstQueue = await nvme.openRing({ entries: ENTRIES, payloadBytes: tables });
/** The byte that each slot reads from. */
const places = new Float64Array(DEPTH_MAX);
const readers: Readonly<Record<Face, Reader>> = { ring: ringReader(), burst: burstReader() };
const sized = nvme.namespace(1).blockSize;
if (sized !== BYTES) throw new Error(`blocks of ${BYTES} bytes are expected, not of ${sized}`);
console.log("ready");
for await (const line of createInterface(process.stdin)) {
  const order = JSON.parse(line) as NvmeOrder;
  console.log(JSON.stringify(measure(readers[order.face], order)));
}

function measure(reader: Reader, { depth, measureMs, check }: NvmeOrder): NvmeFigure {
  reader.begin(depth);
  const start = performance.now();
  let operations = 0;
  let now = start;
  while (now - start < measureMs) {
    for (let i = 0; i < ROUNDS; i++) operations += reader.turn(depth, true, check);
    now = performance.now();
  }
  for (let left = depth; left > 0; ) left -= reader.turn(depth, false, check);
  return { operations, seconds: (now - start) / 1000 };
}

/** The ring's low-level face, used as its documentation says. */
function ringReader(): Reader {
  const { ring } = ringQueue;
  const reaped = new Uint32Array(DEPTH_MAX * REAPED);
  const next = randomBlocks();
  const { iova } = data;
  const post = (slot: number): void => {
    const block = next();
    const page = iova + slot * BYTES;
    places[slot] = block * BYTES;
    ring.post(READ | (slot << 16), 1, page, page / HIGH, 0, 0, block, 0, 0, 0);
  };
  return {
    begin(depth): void {
      for (let slot = 0; slot < depth; slot++) post(slot);
      ring.ring();
    },
    turn(depth, again, check): number {
      const count = ring.reap(reaped, depth);
      for (let i = 0; i < count; i++) {
        const status = reaped[i * REAPED + STATUS] as number;
        const slot = done(status, check);
        if (again) post(slot);
      }
      if (count > 0) ring.ring();
      else if (ring.problem !== undefined) throw new Error(ring.problem);
      return count;
    },
  };
}

/** The emitted burst: one call for each turn. */
function burstReader(): Reader {
  const { layout, doorbells } = burstQueue;
  const { arena } = fn.dma;
  if (doorbells === undefined) throw new Error("the server did not let the doorbells be mapped");
  // Nothing here at the doorbells' place in a page: a processor that compares low address bits only would make each load
  // wait for the doorbell's store.
  const state = layout.arenaOffset + layout.payloadOffset + PAGE / 2;
  const place = {
    queueId: layout.queueId,
    entries: layout.entries,
    submission: layout.arenaOffset,
    completion: layout.arenaOffset + layout.completionOffset,
    state,
    requests: state + 64,
    results: state + 64 + ENTRIES * 4 * REQUEST,
    nsid: 1,
    prp1: { iova: data.iova, step: BYTES },
  };
  resetBurst(arena, place);
  const registers = fn.bar(0).map({ offset: 0x1000, size: PAGE });
  const base = registers.arenaOffset ?? 0;
  const burst = createBurst(arena, place, {
    registers,
    submissionOffset: doorbells.submission - base,
    completionOffset: doorbells.completion - base,
  });
  if (!burst.emitted) throw new Error("this machine has no WebAssembly memory to emit loops for");
  const told = arena.words(place.state, 8);
  const requests = arena.words(place.requests, ENTRIES * REQUEST);
  const results = arena.words(place.results, ENTRIES * RESULT);
  const [ERRORS, PROBLEM] = [BurstState.ERRORS, BurstState.PROBLEM];
  const next = randomBlocks();
  let waiting = 0;
  const request = (slot: number): void => {
    const block = next();
    places[slot] = block * BYTES;
    const at = waiting * REQUEST;
    requests[at + COMMAND] = READ | (slot << 16);
    requests[at + LBA_LOW] = block;
    waiting++;
  };
  return {
    begin(depth): void {
      for (let slot = 0; slot < depth; slot++) request(slot);
    },
    turn(depth, again, check): number {
      // Half of them at a time: while we post, the device works on the other half.
      const taken = burst.exchange(waiting, depth === 1 ? 1 : depth >>> 1, LOOKS);
      waiting = 0;
      if ((told[ERRORS] as number) !== 0 || (told[PROBLEM] as number) !== 0) {
        throw new Error(`reads failed (${told[ERRORS]}), or the protocol was broken (${told[PROBLEM]})`);
      }
      for (let i = 0; i < taken; i++) {
        const slot = done(results[i * RESULT + RESULT_STATUS] as number, check);
        if (again) request(slot);
      }
      return taken;
    },
  };
}

/** Looks at one completion and gives its slot. */
function done(status: number, check: boolean): number {
  if (status >>> 17 !== 0) throw new Error(`a read ended with status ${(status >>> 17).toString(16)}`);
  const slot = status & 0xffff;
  if (check) {
    checkPage(data.words, (slot * BYTES) / 4, places[slot] as number);
    data.words.fill(0, (slot * BYTES) / 4, ((slot + 1) * BYTES) / 4);
  }
  return slot;
}
