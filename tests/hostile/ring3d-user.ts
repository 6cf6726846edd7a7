// A user of a function that ring3d serves, again and again: each time it must find edu as new, and leaves its mark in it. It
// says `fresh`, `stale`, or the code of the error, a line each; an error without a code ends it.
import { isRing3Error } from "../../packages/ring3/src/index.ts";
import { connect } from "../../packages/ring3/src/vfio-user/index.ts";

/** The DMA engine's source address, which nothing but a reset clears. */
const SOURCE = 0x80;
const FACTORIAL = 0x08;

async function use(path: string): Promise<string> {
  await using fn = await connect(path);
  const bar = fn.bar(0);
  const fresh = bar.read64(SOURCE) === 0n;
  bar.write64(SOURCE, 0x1234_5678n);
  for (let i = 0; i < 50; i++) {
    bar.write32(FACTORIAL, 5);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return fresh ? "fresh" : "stale";
}

async function main(path: string): Promise<never> {
  for (;;) {
    try {
      console.log(await use(path));
    } catch (error) {
      if (!isRing3Error(error)) throw error;
      console.log(error.code);
      // Nobody serves: looking again at once would only fill the log.
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

if (process.argv[2] !== undefined) await main(process.argv[2]);
