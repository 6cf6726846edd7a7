// Submit and reap as loops over whole bursts: emitted WebAssembly where the arena and the doorbells allow it, and the same
// in TypeScript. For commands that differ only in slot, blocks and place: each slot has a template with its command
// identifier, data pointer and namespace; a request names slot, dword 12 and first block. Hard about it: state lives in
// arena words, so that the two are interchangeable and tested against each other.
import type { Arena } from "../../memory/arena.ts";
import { type Body, emit, emitted } from "../../memory/emitter.ts";
import type { Registers } from "../../memory/registers.ts";

/** Words of a template: a whole command, of which dwords 10 to 15 come from the request. */
export const TEMPLATE_WORDS = 16;
/** A request: slot, dword 12, first block. */
export const RequestWord = { SLOT: 0, CDW12: 1, LBA_LOW: 2, LBA_HIGH: 3 } as const;
export const REQUEST_WORDS = 4;
/** A result: dword 3 of the completion (command identifier, phase, status) and dword 0. */
export const ResultWord = { STATUS: 0, DW0: 1 } as const;
export const RESULT_WORDS = 2;
/**
 * State words; all zero but PHASE (0x10000) for a new queue. PROBLEM: 1 bad head, 2 bad queue id. ERRORS: the status
 * fields of the last reap's completions, joined with OR, so 0 where all succeeded.
 */
export const BurstState = { TAIL: 0, SQ_HEAD: 1, CQ_HEAD: 2, PHASE: 3, PROBLEM: 4, ERRORS: 5 } as const;

/** Where everything lies: arena offsets in bytes, multiples of 64. */
export interface BurstPlace {
  readonly queueId: number;
  readonly entries: number;
  readonly submission: number;
  readonly completion: number;
  /** 8 words. */
  readonly state: number;
  readonly templates: number;
  readonly requests: number;
  readonly results: number;
}

/** Where the two doorbells are: in a block of registers, and in the arena where that is mapped. */
export interface BurstDoorbells {
  readonly registers: Registers;
  readonly submissionOffset: number;
  readonly completionOffset: number;
}

export interface Burst {
  /** Whether the loops are emitted. */
  readonly emitted: boolean;
  /** Posts the first `count` requests, or as many as fit, rings once, and returns how many. */
  submit(count: number): number;
  /**
   * Takes up to `max` completions into the results, tells the controller if `acknowledge` is 1, and returns how many.
   * Looks up to `looks` times (at least once) at entries that have not come, all in all, before it returns fewer.
   */
  reap(max: number, acknowledge: number, looks: number): number;
}

const PHASE = 0x10000;

/** Sets the state of a new, empty queue pair. */
export function resetBurst(arena: Arena, place: BurstPlace): void {
  arena.words(place.state, 8).fill(0)[BurstState.PHASE] = PHASE;
}

/** The loops, emitted where that is possible. */
export function createBurst(arena: Arena, place: BurstPlace, doorbells: BurstDoorbells): Burst {
  const base = doorbells.registers.arenaOffset;
  if (arena.memory === undefined || base === undefined) return referenceBurst(arena, place, doorbells);
  return emittedBurst(arena, place, base + doorbells.submissionOffset, base + doorbells.completionOffset);
}

/** The loops in TypeScript. */
export function referenceBurst(arena: Arena, place: BurstPlace, doorbells: BurstDoorbells): Burst {
  const { entries, queueId } = place;
  const submission = arena.words(place.submission, entries * 16);
  const completion = arena.words(place.completion, entries * 4);
  const state = arena.words(place.state, 8);
  const templates = arena.words(place.templates, entries * TEMPLATE_WORDS);
  const requests = arena.words(place.requests, entries * REQUEST_WORDS);
  const results = arena.words(place.results, entries * RESULT_WORDS);
  const { registers, submissionOffset, completionOffset } = doorbells;
  return {
    emitted: false,
    submit(count) {
      let tail = state[BurstState.TAIL] as number;
      const head = state[BurstState.SQ_HEAD] as number;
      let posted = 0;
      for (; posted < count; posted++) {
        const next = tail + 1 === entries ? 0 : tail + 1;
        if (next === head) break;
        const request = posted * REQUEST_WORDS;
        const from = (requests[request] as number) * TEMPLATE_WORDS;
        const to = tail * 16;
        for (let i = 0; i < 10; i++) submission[to + i] = templates[from + i] as number;
        submission[to + 10] = requests[request + RequestWord.LBA_LOW] as number;
        submission[to + 11] = requests[request + RequestWord.LBA_HIGH] as number;
        submission[to + 12] = requests[request + RequestWord.CDW12] as number;
        for (let i = 13; i < 16; i++) submission[to + i] = 0;
        tail = next;
      }
      state[BurstState.TAIL] = tail;
      if (posted > 0) registers.write32(submissionOffset, tail);
      return posted;
    },
    reap(max, acknowledge, looks) {
      if (state[BurstState.PROBLEM] !== 0) {
        state[BurstState.ERRORS] = 0;
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
        const status = Atomics.load(completion, at + 3);
        if ((status & PHASE) !== phase) {
          if (!(--left > 0)) break;
          continue;
        }
        const word = completion[at + 2] as number;
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
        results[count * RESULT_WORDS] = status;
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
      if (count > 0 && acknowledge !== 0) registers.write32(completionOffset, head);
      return count;
    },
  };
}

function emittedBurst(arena: Arena, place: BurstPlace, tailDoorbell: number, headDoorbell: number): Burst {
  const { entries, queueId, state } = place;
  const word = (index: number): number => state + 4 * index;
  const { submit, reap } = emit(arena, {
    submit: emitted(
      ["count"],
      { tail: "i32", head: "i32", next: "i32", posted: "i32", from: "i32", to: "i32", request: "i32" },
      (body: Body, { count, tail, head, next, posted, from, to, request }) => {
        body.set(tail, body.load32(word(BurstState.TAIL)));
        body.set(head, body.load32(word(BurstState.SQ_HEAD)));
        body.set(request, place.requests);
        body.loop((loop) => {
          body.leave(loop, posted.ge(count));
          body.set(next, tail.add(1));
          body.if(next.eq(entries), () => body.set(next, 0));
          body.leave(loop, next.eq(head));
          body.set(from, body.load32(request).shl(6).add(place.templates));
          body.set(to, tail.shl(6).add(place.submission));
          for (let i = 0; i < 40; i += 8) body.store64(to, body.load64(from, i), i);
          body.store64(to, body.load64(request, 4 * RequestWord.LBA_LOW), 40);
          body.store64(to, body.load32(request, 4 * RequestWord.CDW12).wide(), 48);
          body.store64(to, 0, 56);
          body.set(tail, next);
          body.set(request, request.add(4 * REQUEST_WORDS));
          body.set(posted, posted.add(1));
        });
        body.store32(word(BurstState.TAIL), tail);
        body.if(posted.ne(0), () => body.store32(tailDoorbell, tail));
        return posted;
      },
    ),
    reap: emitted(
      ["max", "acknowledge", "looks"],
      {
        tail: "i32",
        sqHead: "i32",
        head: "i32",
        phase: "i32",
        count: "i32",
        at: "i32",
        status: "i32",
        reported: "i32",
        known: "i32",
        consumed: "i32",
        result: "i32",
        problem: "i32",
        errors: "i32",
      },
      (body: Body, { max, acknowledge, looks, ...own }) => {
        const { tail, sqHead, head, phase, count, at, status, reported, known, consumed, result, problem, errors } =
          own;
        body.set(tail, body.load32(word(BurstState.TAIL)));
        body.set(sqHead, body.load32(word(BurstState.SQ_HEAD)));
        body.set(head, body.load32(word(BurstState.CQ_HEAD)));
        body.set(phase, body.load32(word(BurstState.PHASE)));
        body.set(problem, body.load32(word(BurstState.PROBLEM)));
        body.set(result, place.results);
        body.loop((loop) => {
          body.leave(loop, problem.ne(0));
          body.leave(loop, count.ge(max));
          body.set(at, head.shl(4).add(place.completion));
          // The word with the phase first, once; the rest of the entry after it.
          body.set(status, body.load32(at, 12));
          body.if(status.and(PHASE).ne(phase), () => {
            body.set(looks, looks.sub(1));
            // Signed "looks > 0", so that 0 and 1 both look once.
            body.leave(loop, looks.sub(1).ge(0x7fff_ffff));
            body.again(loop);
          });
          body.set(reported, body.load32(at, 8));
          body.if(reported.shr(16).ne(queueId), () => body.set(problem, 2));
          body.leave(loop, problem.ne(0));
          body.set(reported, reported.and(0xffff));
          body.set(known, tail.sub(sqHead));
          body.if(tail.lt(sqHead), () => body.set(known, known.add(entries)));
          body.set(consumed, reported.sub(sqHead));
          body.if(reported.lt(sqHead), () => body.set(consumed, consumed.add(entries)));
          body.if(reported.ge(entries).or(consumed.gt(known)), () => body.set(problem, 1));
          body.leave(loop, problem.ne(0));
          body.set(sqHead, reported);
          body.set(errors, errors.or(status.shr(17)));
          body.store32(result, status);
          body.store32(result, body.load32(at), 4);
          body.set(result, result.add(4 * RESULT_WORDS));
          body.set(count, count.add(1));
          body.set(head, head.add(1));
          body.if(head.eq(entries), () => {
            body.set(head, 0);
            body.set(phase, phase.xor(PHASE));
          });
        });
        body.store32(word(BurstState.SQ_HEAD), sqHead);
        body.store32(word(BurstState.CQ_HEAD), head);
        body.store32(word(BurstState.PHASE), phase);
        body.store32(word(BurstState.PROBLEM), problem);
        body.store32(word(BurstState.ERRORS), errors);
        body.if(count.ne(0).and(acknowledge.ne(0)), () => body.store32(headDoorbell, head));
        return count;
      },
    ),
  });
  return { emitted: true, submit, reap };
}
