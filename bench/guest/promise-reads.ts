// Reads through the driver's promises: as many loops of `await readInto` as are to be in flight.
import type { Namespace, NvmeDriver } from "ring3/nvme";
import { blockChooser, checkContents } from "./blocks.ts";
import { type Load, type Measured, READ_BYTES, type Reader } from "./plan.ts";

/** Operations of one loop between two questions whether it is over. */
const PER_LOOK = 8;

export function promiseReader(nvme: NvmeDriver, namespace: Namespace, load: Load): Reader {
  const memory = nvme.allocate(load.depth * READ_BYTES);
  const next = blockChooser(namespace, load);
  const blocks = READ_BYTES / namespace.blockSize;
  return {
    async run(over, check = false): Promise<Measured> {
      const start = performance.now();
      let operations = 0;
      const loop = async (slot: number): Promise<void> => {
        while (!over(operations)) {
          for (let i = 0; i < PER_LOOK; i++) {
            const block = next();
            await namespace.readInto(memory, block, blocks, slot * READ_BYTES);
            operations++;
            if (check) checkContents(memory.words, slot, block * namespace.blockSize);
          }
        }
      };
      await Promise.all(Array.from({ length: load.depth }, (_, slot) => loop(slot)));
      return { operations, seconds: (performance.now() - start) / 1000 };
    },
    [Symbol.asyncDispose](): Promise<void> {
      memory[Symbol.dispose]();
      return Promise.resolve();
    },
  };
}
