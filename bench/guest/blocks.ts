// Which blocks are read, and what must be in them.
import type { Namespace } from "ring3/nvme";
import { type Load, READ_BYTES } from "./plan.ts";

const PAGE_WORDS = READ_BYTES / 4;

/** Gives the first block of each read, in the order in which they are made. */
export function blockChooser(namespace: Namespace, { pattern }: Load): () => number {
  const blocks = READ_BYTES / namespace.blockSize;
  const places = Math.floor(Number(namespace.blocks) / blocks);
  let state = 0x2545_f491;
  let place = -1;
  if (pattern === "sequential") return () => (place = place + 1 === places ? 0 : place + 1) * blocks;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) % places) * blocks;
  };
}

/** Checks what a read of the bytes from `byte` on put into page `slot`: the rig's disks count up in words. */
export function checkContents(words: Uint32Array, slot: number, byte: number): void {
  const first = slot * PAGE_WORDS;
  const found = [words[first], words[first + PAGE_WORDS - 1]];
  if (found[0] !== byte / 4 || found[1] !== byte / 4 + PAGE_WORDS - 1) {
    throw new Error(`a read of the bytes from ${byte} on brought the words ${found.join(" to ")}`);
  }
}
