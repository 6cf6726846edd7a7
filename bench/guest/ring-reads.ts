// Reads through the ring face: post, ring, reap, and nothing allocated for an operation.
import { IoOpcode, type Namespace, type NvmeDriver, REAPED_WORDS, ReapedWord } from "ring3/nvme";
import { blockChooser, checkContents } from "./blocks.ts";
import { type Load, type Measured, READ_BYTES, type Reader } from "./plan.ts";

/** Rounds through the loop between two questions whether it is over; a round without completions costs little. */
const ROUNDS_PER_LOOK = 64;
const HIGH = 2 ** 32;

export async function ringReader(nvme: NvmeDriver, namespace: Namespace, load: Load, entries: number): Promise<Reader> {
  const { depth } = load;
  const raw = await nvme.openRing({ entries });
  const memory = nvme.allocate(depth * READ_BYTES);
  const { ring } = raw;
  const { words } = memory;
  const next = blockChooser(namespace, load);
  const blocks = READ_BYTES / namespace.blockSize;
  const reaped = new Uint32Array(depth * REAPED_WORDS);
  const bytes = new Float64Array(depth);

  const post = (slot: number): void => {
    const block = next();
    const iova = memory.iova + slot * READ_BYTES;
    bytes[slot] = block * namespace.blockSize;
    const command = IoOpcode.READ | (slot << 16);
    ring.post(command, namespace.id, iova, iova / HIGH, 0, 0, block, block / HIGH, blocks - 1, 0);
  };
  /** Takes what has completed and, where `again`, posts as much; returns how many. */
  const turn = (again: boolean, check: boolean): number => {
    const count = ring.reap(reaped, depth);
    for (let i = 0; i < count; i++) {
      const status = reaped[i * REAPED_WORDS + ReapedWord.STATUS] as number;
      if (status >>> 17 !== 0) throw new Error(`a read ended with status ${(status >>> 17).toString(16)}`);
      const slot = status & 0xffff;
      if (check) checkContents(words, slot, bytes[slot] as number);
      if (again) post(slot);
    }
    if (count > 0) {
      ring.ringSubmissions();
      // Nobody waits for an interrupt here: the controller need not know of each entry that is free.
      if (ring.unreported >= ring.entries / 4) ring.ringCompletions();
    } else if (ring.problem !== undefined) {
      throw new Error(ring.problem);
    }
    return count;
  };
  return {
    run(over, check = false): Promise<Measured> {
      for (let slot = 0; slot < depth; slot++) post(slot);
      ring.ring();
      const start = performance.now();
      let operations = 0;
      while (!over(operations)) {
        for (let i = 0; i < ROUNDS_PER_LOOK; i++) operations += turn(true, check);
      }
      const seconds = (performance.now() - start) / 1000;
      for (let left = depth; left > 0; ) left -= turn(false, check);
      return Promise.resolve({ operations, seconds });
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await raw[Symbol.asyncDispose]();
      memory[Symbol.dispose]();
    },
  };
}
