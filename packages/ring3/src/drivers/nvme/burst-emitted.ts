// The burst loops as WebAssembly; burst.ts has their reference, burst-place.ts says what the words mean. Hard about it is the
// cache: every entry lies in a line that the device has just had. A line that will be written soon is fetched while there is
// nothing to do but wait; head and phase of a completion come with one load, since the line may leave between two; and what
// JavaScript has just stored is loaded with the same width, because a wider load waits until the stores are through.
import type { Arena } from "../../memory/arena.ts";
import { type Body, emit, emitted } from "../../memory/emitter.ts";
import type { Local } from "../../memory/emitter-value.ts";
import { CommandWord, CompletionWord } from "../../specs/nvme/commands.ts";
import {
  type Burst,
  type BurstPlace,
  BurstState,
  REQUEST_WORDS,
  RESULT_WORDS,
  RequestWord,
  ResultWord,
  type SlotAddresses,
} from "./burst-place.ts";

const PHASE = 0x10000;
type Words<Name extends string> = { readonly [K in Name]: Local<"i32"> };

const QUEUE = { tail: "i32", sqHead: "i32", head: "i32" } as const;
const POSTING = { next: "i32", posted: "i32", to: "i32", request: "i32", command: "i32" } as const;
const TAKING = {
  phase: "i32",
  taken: "i32",
  at: "i32",
  status: "i32",
  reported: "i32",
  known: "i32",
  consumed: "i32",
  result: "i32",
  problem: "i32",
  errors: "i32",
  ahead: "i32",
} as const;
/** The upper half of a completion, as one load gives it. */
const ENTRY = { half: "i64" } as const;

/** The loops over `place`; the doorbells are arena offsets. */
export function emittedBurst(
  arena: Arena,
  place: BurstPlace,
  tailDoorbell: number,
  headDoorbell: number,
): Pick<Burst, "submit" | "reap" | "exchange"> {
  return emit(arena, {
    submit: emitted(["count"], { ...QUEUE, ...POSTING }, (body, locals) => {
      load(body, place, locals);
      post(body, place, locals);
      body.if(locals.posted.ne(0), () => body.store32(tailDoorbell, locals.tail));
      return locals.posted;
    }),
    reap: emitted(["max", "acknowledge", "looks"], { ...QUEUE, ...TAKING, ...ENTRY }, (body, locals) => {
      load(body, place, locals);
      take(body, place, locals);
      body.if(locals.acknowledge.ne(0), () => tell(body, place, headDoorbell, locals));
      return locals.taken;
    }),
    exchange: emitted(["count", "max", "looks"], { ...QUEUE, ...POSTING, ...TAKING, ...ENTRY }, (body, locals) => {
      load(body, place, locals);
      post(body, place, locals);
      tell(body, place, headDoorbell, locals);
      body.if(locals.posted.ne(0), () => body.store32(tailDoorbell, locals.tail));
      take(body, place, locals);
      return locals.taken;
    }),
  });
}

const word = (index: number): number => 4 * index;

function load(body: Body, { state }: BurstPlace, { tail, sqHead, head }: Words<keyof typeof QUEUE>): void {
  body.set(tail, body.load32(state + word(BurstState.TAIL)));
  body.set(sqHead, body.load32(state + word(BurstState.SQ_HEAD)));
  body.set(head, body.load32(state + word(BurstState.CQ_HEAD)));
}

function tell(body: Body, { state }: BurstPlace, doorbell: number, { head }: Words<"head">): void {
  body.if(head.ne(body.load32(state + word(BurstState.TOLD))), () => {
    body.store32(state + word(BurstState.TOLD), head);
    body.store32(doorbell, head);
  });
}

function post(body: Body, place: BurstPlace, locals: Words<keyof typeof QUEUE | keyof typeof POSTING | "count">): void {
  const { tail, sqHead, next, posted, to, request, command, count } = locals;
  const pointer = ({ iova, step }: SlotAddresses, offset: number): void =>
    body.store64(to, command.shr(16).wide().mul(step).add(iova), offset);
  body.set(request, place.requests);
  body.loop((loop) => {
    body.leave(loop, posted.ge(count));
    body.set(next, tail.add(1));
    body.if(next.eq(place.entries), () => body.set(next, 0));
    body.leave(loop, next.eq(sqHead));
    body.set(command, body.load32(request, word(RequestWord.COMMAND)));
    body.set(to, tail.shl(6).add(place.submission));
    body.store32(to, command);
    pointer(place.prp1, word(CommandWord.PRP1_LOW));
    if (place.prp2 !== undefined) pointer(place.prp2, word(CommandWord.PRP2_LOW));
    body.store32(to, body.load32(request, word(RequestWord.LBA_LOW)), word(CommandWord.CDW10));
    body.store32(to, body.load32(request, word(RequestWord.LBA_HIGH)), word(CommandWord.CDW11));
    body.store32(to, body.load32(request, word(RequestWord.CDW12)), word(CommandWord.CDW12));
    body.set(tail, next);
    body.set(request, request.add(word(REQUEST_WORDS)));
    body.set(posted, posted.add(1));
  });
  body.store32(place.state + word(BurstState.TAIL), tail);
  body.store32(place.state + word(BurstState.POSTED), posted);
}

function take(
  body: Body,
  place: BurstPlace,
  locals: Words<keyof typeof QUEUE | keyof typeof TAKING | "max" | "looks"> & { readonly half: Local<"i64"> },
): void {
  const { tail, sqHead, head, phase, taken, at, status, reported, known, consumed, result, problem, errors } = locals;
  const { max, looks, ahead, half } = locals;
  const { entries, queueId, state } = place;
  body.set(phase, body.load32(state + word(BurstState.PHASE)));
  body.set(problem, body.load32(state + word(BurstState.PROBLEM)));
  body.if(problem.ne(0), () => body.set(max, 0));
  body.set(result, place.results);
  body.set(ahead, tail);
  // Commands that the controller knows of and has not yet reported as fetched.
  body.set(known, tail.sub(sqHead));
  body.if(tail.lt(sqHead), () => body.set(known, known.add(entries)));
  body.loop((loop) => {
    body.leave(loop, taken.ge(max));
    body.set(at, head.shl(4).add(place.completion));
    // The words with the phase and the head at once; the rest of the entry after them.
    body.set(half, body.load64(at, word(CompletionWord.SQ)));
    body.set(status, half.shr(32).low());
    body.if(status.and(PHASE).ne(phase), () => {
      body.set(looks, looks.sub(1));
      // Signed "looks > 0", so that 0 and 1 both look once.
      body.leave(loop, looks.sub(1).ge(0x7fff_ffff));
      body.again(loop);
    });
    // The head where the queue's identifier is right, and more than any head where it is not.
    body.set(reported, half.low().xor(queueId << 16));
    body.set(consumed, reported.sub(sqHead));
    body.if(reported.lt(sqHead), () => body.set(consumed, consumed.add(entries)));
    body.if(reported.ge(entries).or(consumed.gt(known)), () => {
      body.set(problem, 1);
      body.if(reported.gt(0xffff), () => body.set(problem, 2));
      body.leave(loop);
    });
    body.set(sqHead, reported);
    body.set(known, known.sub(consumed));
    body.set(errors, errors.or(status.shr(17)));
    body.store32(result, status, word(ResultWord.STATUS));
    body.store32(result, body.load32(at, word(CompletionWord.DW0)), word(ResultWord.DW0));
    body.set(result, result.add(word(RESULT_WORDS)));
    // An entry beyond the tail that the controller is done with gets a word that it has: its line is here when it is posted.
    body.if(known.add(taken).lt(entries - 1), () => {
      body.store32(ahead.shl(6).add(place.submission), place.nsid, word(CommandWord.NSID));
      body.set(ahead, ahead.add(1));
      body.if(ahead.eq(entries), () => body.set(ahead, 0));
    });
    body.set(taken, taken.add(1));
    body.set(head, head.add(1));
    body.if(head.eq(entries), () => {
      body.set(head, 0);
      body.set(phase, phase.xor(PHASE));
    });
  });
  body.store32(state + word(BurstState.SQ_HEAD), sqHead);
  body.store32(state + word(BurstState.CQ_HEAD), head);
  body.store32(state + word(BurstState.PHASE), phase);
  body.store32(state + word(BurstState.PROBLEM), problem);
  body.store32(state + word(BurstState.ERRORS), errors);
}
