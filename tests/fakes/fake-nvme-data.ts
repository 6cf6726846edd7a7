// How the fake controller finds a command's data: NVMe base 2.0, sections 4.1.1 (PRP) and 4.1.2 (SGL).
import { Cdw0, CommandWord } from "../../packages/ring3/src/specs/nvme/commands.ts";
import type { FakeFunction } from "./fake-function.ts";

const PAGE = 4096;

/** Resolves a data pointer: what the controller would access, in order; `undefined` where a list cannot be read. */
export function dataSegments(
  fn: FakeFunction,
  words: Uint32Array,
  total: number,
): { iova: number; size: number }[] | undefined {
  const pair = (at: number, from: Uint32Array = words): number =>
    (from[at] as number) + (from[at + 1] as number) * 2 ** 32;
  if (Cdw0.PSDT.get(words[0] as number) !== 0) {
    let descriptors = words.subarray(CommandWord.PRP1_LOW, CommandWord.PRP1_LOW + 4);
    if ((descriptors[3] as number) >>> 24 === 0x30) {
      const list = fn.dma.read(pair(0, descriptors), descriptors[2] as number);
      if (list === undefined) return undefined;
      descriptors = new Uint32Array(list.buffer);
    }
    return Array.from({ length: descriptors.length / 4 }, (_, i) => ({
      iova: pair(4 * i, descriptors),
      size: descriptors[4 * i + 2] as number,
    }));
  }
  const first = pair(CommandWord.PRP1_LOW);
  const segments = [{ iova: first, size: Math.min(total, PAGE - (first % PAGE)) }];
  let left = total - (segments[0]?.size ?? 0);
  if (left === 0) return segments;
  let list = pair(CommandWord.PRP2_LOW);
  if (left <= PAGE) return [...segments, { iova: list, size: left }];
  while (left > 0) {
    const room = (PAGE - (list % PAGE)) / 8;
    const pages = Math.ceil(left / PAGE);
    const bytes = fn.dma.read(list, Math.min(room, pages) * 8);
    if (bytes === undefined) return undefined;
    const entries = new Uint32Array(bytes.buffer);
    const chained = pages > room;
    const count = chained ? room - 1 : pages;
    for (let i = 0; i < count; i++) {
      const size = Math.min(left, PAGE);
      if (pair(2 * i, entries) % PAGE !== 0) return undefined;
      segments.push({ iova: pair(2 * i, entries), size });
      left -= size;
    }
    if (chained) list = pair(2 * (room - 1), entries);
  }
  return segments;
}
