// Submit and reap as loops over whole bursts: emitted WebAssembly where the arena and the doorbells allow it
// (burst-emitted.ts), and the same in TypeScript. For commands of one namespace whose data lies in slots at equal
// distances: a request names command, length and first block. Hard about it: state lives in arena words, so that the two
// are interchangeable and tested against each other.
import type { Arena } from "../../memory/arena.ts";
import { CommandWord, CompletionWord } from "../../specs/nvme/commands.ts";
import { emittedBurst } from "./burst-emitted.ts";
import {
  type Burst,
  type BurstDoorbells,
  type BurstPlace,
  BurstState,
  REQUEST_WORDS,
  RESULT_WORDS,
  RequestWord,
  ResultWord,
  type SlotAddresses,
} from "./burst-place.ts";

const PHASE = 0x10000;
const ENTRY_WORDS = 16;

/** The loops, emitted where that is possible. */
export function createBurst(arena: Arena, place: BurstPlace, doorbells: BurstDoorbells): Burst {
  const base = doorbells.registers.arenaOffset;
  if (arena.memory === undefined || base === undefined) return referenceBurst(arena, place, doorbells);
  const loops = emittedBurst(arena, place, base + doorbells.submissionOffset, base + doorbells.completionOffset);
  return { emitted: true, ...loops };
}

/** The loops in TypeScript. */
export function referenceBurst(arena: Arena, place: BurstPlace, doorbells: BurstDoorbells): Burst {
  const { entries, queueId, prp1, prp2 } = place;
  const submission = arena.words(place.submission, entries * ENTRY_WORDS);
  const completion = arena.words(place.completion, entries * 4);
  const state = arena.words(place.state, 8);
  const requests = arena.words(place.requests, entries * REQUEST_WORDS);
  const results = arena.words(place.results, entries * RESULT_WORDS);
  const { registers, submissionOffset, completionOffset } = doorbells;
  const pointer = (at: number, { iova, step }: SlotAddresses, slot: number): void => {
    const address = iova + slot * step;
    submission[at] = address;
    submission[at + 1] = Math.floor(address / 2 ** 32);
  };
  const submit = (count: number): number => {
    let tail = state[BurstState.TAIL] as number;
    const head = state[BurstState.SQ_HEAD] as number;
    let posted = 0;
    for (; posted < count; posted++) {
      const next = tail + 1 === entries ? 0 : tail + 1;
      if (next === head) break;
      const request = posted * REQUEST_WORDS;
      const command = requests[request + RequestWord.COMMAND] as number;
      const at = tail * ENTRY_WORDS;
      submission[at] = command;
      pointer(at + CommandWord.PRP1_LOW, prp1, command >>> 16);
      if (prp2 !== undefined) pointer(at + CommandWord.PRP2_LOW, prp2, command >>> 16);
      submission[at + CommandWord.CDW10] = requests[request + RequestWord.LBA_LOW] as number;
      submission[at + CommandWord.CDW11] = requests[request + RequestWord.LBA_HIGH] as number;
      submission[at + CommandWord.CDW12] = requests[request + RequestWord.CDW12] as number;
      tail = next;
    }
    state[BurstState.TAIL] = tail;
    state[BurstState.POSTED] = posted;
    if (posted > 0) registers.write32(submissionOffset, tail);
    return posted;
  };
  const tell = (): void => {
    const head = state[BurstState.CQ_HEAD] as number;
    if (head === state[BurstState.TOLD]) return;
    state[BurstState.TOLD] = head;
    registers.write32(completionOffset, head);
  };
  const reap = (max: number, acknowledge: number, looks: number): number => {
    if (state[BurstState.PROBLEM] !== 0) {
      state[BurstState.ERRORS] = 0;
      if (acknowledge !== 0) tell();
      return 0;
    }
    const tail = state[BurstState.TAIL] as number;
    let sqHead = state[BurstState.SQ_HEAD] as number;
    let head = state[BurstState.CQ_HEAD] as number;
    let phase = state[BurstState.PHASE] as number;
    let count = 0;
    let errors = 0;
    let left = looks;
    while (count < max) {
      const at = head * 4;
      const status = Atomics.load(completion, at + CompletionWord.STATUS);
      if ((status & PHASE) !== phase) {
        if (!(--left > 0)) break;
        continue;
      }
      const word = completion[at + CompletionWord.SQ] as number;
      const reported = word & 0xffff;
      if (word >>> 16 !== queueId) {
        state[BurstState.PROBLEM] = 2;
        break;
      }
      const known = tail >= sqHead ? tail - sqHead : tail - sqHead + entries;
      const consumed = reported >= sqHead ? reported - sqHead : reported - sqHead + entries;
      if (reported >= entries || consumed > known) {
        state[BurstState.PROBLEM] = 1;
        break;
      }
      sqHead = reported;
      errors |= status >>> 17;
      results[count * RESULT_WORDS + ResultWord.STATUS] = status;
      results[count * RESULT_WORDS + ResultWord.DW0] = completion[at] as number;
      if (++head === entries) {
        head = 0;
        phase ^= PHASE;
      }
      count++;
    }
    state[BurstState.SQ_HEAD] = sqHead;
    state[BurstState.CQ_HEAD] = head;
    state[BurstState.PHASE] = phase;
    state[BurstState.ERRORS] = errors;
    if (acknowledge !== 0) tell();
    return count;
  };
  const exchange = (count: number, max: number, looks: number): number => {
    tell();
    submit(count);
    return reap(max, 0, looks);
  };
  return { emitted: false, submit, reap, exchange };
}
