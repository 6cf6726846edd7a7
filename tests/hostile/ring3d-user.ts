// A user of a function that ring3d serves, again and again: each time it must find the function as new, leaves its mark in it,
// and lets go without putting it right. It says `fresh`, `stale`, `leaked`, or the code of the error, a line each; an error
// without a code ends it. Words: what the function is (`edu`, or `disk` with the counting contents), and its socket.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { NvmeDriver } from "../../packages/ring3/src/drivers/nvme/index.ts";
import { isRing3Error } from "../../packages/ring3/src/index.ts";
import type { PciFunction } from "../../packages/ring3/src/pci/function.ts";
import { Header } from "../../packages/ring3/src/pci/header.ts";
import { Nvme } from "../../packages/ring3/src/specs/nvme/registers.ts";
import { connect } from "../../packages/ring3/src/vfio-user/index.ts";
import { counting } from "../guest/machine.ts";

/** The DMA engine's source address, which nothing but a reset clears. */
const SOURCE = 0x80;
const FACTORIAL = 0x08;
const BLOCK_BYTES = 512;
/** A guest without KVM is slow, and the function may be being reset. */
const PATIENT = { timeoutMs: 60_000 };

/** Uses the function, and tells whether it was as new. */
const uses: Readonly<Record<string, (fn: PciFunction) => Promise<boolean>>> = {
  edu: async (fn) => {
    const bar = fn.bar(0);
    const fresh = bar.read64(SOURCE) === 0n;
    bar.write64(SOURCE, 0x1234_5678n);
    for (let i = 0; i < 50; i++) {
      bar.write32(FACTORIAL, 5);
      await new Promise((resolve) => setImmediate(resolve));
    }
    return fresh;
  },
  disk: async (fn) => {
    const enabled = fn.bar(0).read32(Nvme.CC) & 1;
    const { BUS_MASTER } = fn.config.read(Header.COMMAND);
    // Not disposed: the controller runs on, and may write its queues, until somebody resets it.
    const nvme = await NvmeDriver.start(fn, { completion: "interrupt" });
    for (const first of [8, 777]) {
      const read = await nvme.namespace(1).read(first, 8);
      assert.deepEqual(Buffer.from(read), Buffer.from(counting(first * BLOCK_BYTES, 8 * BLOCK_BYTES)));
    }
    return enabled === 0 && BUS_MASTER === 0;
  },
};

async function use(kind: string, path: string): Promise<string> {
  await using fn = await connect(path, PATIENT);
  return (await uses[kind]?.(fn)) === true ? "fresh" : "stale";
}

async function main(kind: string, path: string): Promise<never> {
  let most: number | undefined;
  for (;;) {
    try {
      console.log(await use(kind, path));
      const descriptors = readdirSync("/proc/self/fd").length;
      most ??= descriptors;
      if (descriptors > most) console.log("leaked");
    } catch (error) {
      if (!isRing3Error(error)) throw error;
      console.log(error.code);
      // Nobody serves: looking again at once would only fill the log, and keep the next service from the processor.
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

const [, , kind = "", path] = process.argv;
if (path !== undefined) await main(kind, path);
