// What the driver process is asked for, what it answers, and what lies on the disk that is read.

import type { ArenaRange } from "ring3/memory";

/** How reads are posted and reaped: by the ring in TypeScript, or by the emitted burst. */
export type Face = "ring" | "burst";

/** One measurement: reads of 4 KiB at random places, so many in flight. */
export interface NvmeOrder {
  readonly face: Face;
  readonly depth: number;
  readonly measureMs: number;
  /** Looks at the contents of every read. */
  readonly check: boolean;
}

export interface NvmeFigure {
  readonly operations: number;
  readonly seconds: number;
}

export const READ_BYTES = 4096;
export const BLOCK_BYTES = 4096;
export const DISK_BYTES: number = 2 ** 28;

/** Has each 32-bit word of the disk say where it lies. */
export function countingDisk(range: ArenaRange): ArenaRange {
  const { words } = range;
  for (let i = 0; i < words.length; i++) words[i] = i;
  return range;
}

/** Checks the page at word `at` against the disk's bytes from `byte` on. */
export function checkPage(words: Uint32Array, at: number, byte: number): void {
  for (let i = 0; i < READ_BYTES / 4; i++) {
    if (words[at + i] === byte / 4 + i) continue;
    throw new Error(`a read of the bytes from ${byte} on brought the word ${words[at + i]} at ${4 * i}`);
  }
}

/** Gives block numbers at random (xorshift), the same in every process. */
export function randomBlocks(): () => number {
  let state = 0x2545_f491;
  const blocks = DISK_BYTES / BLOCK_BYTES;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % blocks;
  };
}
