// What a burst of commands is: requests, results and state as words of the arena, and where everything lies.
import type { Arena } from "../../memory/arena.ts";
import type { Registers } from "../../memory/registers.ts";
import { CommandWord } from "../../specs/nvme/commands.ts";

/**
 * Words of a request. COMMAND is dword 0 of the command: opcode, and the identifier in the upper half, which is also the
 * slot of its data. CDW12 holds the number of blocks less one, and flags.
 */
export const RequestWord = { COMMAND: 0, CDW12: 1, LBA_LOW: 2, LBA_HIGH: 3 } as const;
export const REQUEST_WORDS = 4;
/** A result: dword 3 of the completion (command identifier, phase, status) and dword 0. */
export const ResultWord = { STATUS: 0, DW0: 1 } as const;
export const RESULT_WORDS = 2;
/**
 * State words; all zero but PHASE (0x10000) for a new queue. PROBLEM: 1 bad head, 2 bad queue id. ERRORS: the status
 * fields of the last reap's completions, joined with OR, so 0 where all succeeded. POSTED: what the last submit posted.
 * TOLD: the completion queue's head that the controller knows.
 */
export const BurstState = {
  TAIL: 0,
  SQ_HEAD: 1,
  CQ_HEAD: 2,
  PHASE: 3,
  PROBLEM: 4,
  ERRORS: 5,
  POSTED: 6,
  TOLD: 7,
} as const;

/** Device addresses of slots: `iova + slot * step`. */
export interface SlotAddresses {
  readonly iova: number;
  readonly step: number;
}

/** Where everything lies (arena offsets in bytes, multiples of 64), and what all commands have in common. */
export interface BurstPlace {
  readonly queueId: number;
  readonly entries: number;
  readonly submission: number;
  readonly completion: number;
  /** 8 words. */
  readonly state: number;
  readonly requests: number;
  readonly results: number;
  readonly nsid: number;
  /** PRP1 of each slot: where its data starts. */
  readonly prp1: SlotAddresses;
  /** PRP2 of each slot, its second page or its list; 0 by default, for data within one page. */
  readonly prp2?: SlotAddresses;
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
   * Takes up to `max` completions into the results, tells the controller of all taken so far if `acknowledge` is 1, and
   * returns how many. Looks up to `looks` times (at least once) at entries that have not come, all in all, before it
   * returns fewer.
   */
  reap(max: number, acknowledge: number, looks: number): number;
  /**
   * Tells the controller of the completions taken before, then submits, then reaps without telling; returns how many it
   * took, and the state says how many were posted. One call costs as much as some commands do, and two doorbells rung one
   * after the other hardly more than one.
   */
  exchange(count: number, max: number, looks: number): number;
}

const PHASE = 0x10000;
const ENTRY_WORDS = 16;

/** Sets the state of a new, empty queue pair, and in each entry what all commands have in common. */
export function resetBurst(arena: Arena, place: BurstPlace): void {
  arena.words(place.state, 8).fill(0)[BurstState.PHASE] = PHASE;
  const submission = arena.words(place.submission, place.entries * ENTRY_WORDS).fill(0);
  for (let i = CommandWord.NSID; i < submission.length; i += ENTRY_WORDS) submission[i] = place.nsid;
}
