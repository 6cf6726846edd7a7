// The worker's side of the test that attaches to a function of another thread.
import { parentPort, workerData } from "node:worker_threads";
import { isRing3Error } from "../../packages/ring3/src/binary/error.ts";
import { attachFunction, type VfioFunctionHandle } from "../../packages/ring3/src/vfio/handle.ts";

const { handle, iova } = workerData as { handle: VfioFunctionHandle; iova: number };
const fn = attachFunction(handle);
const registers = fn.registers(0);
const buffer = fn.buffer(iova);
const interrupt = fn.interrupts.get(1);
const codeOf = (error: unknown): string => (isRing3Error(error) ? error.code : String(error));

buffer.words[1] = (buffer.words[0] ?? 0) + 1;
parentPort?.postMessage({ register: registers.read32(8), arenaOffset: registers.arenaOffset });
const count = await interrupt?.next();
parentPort?.postMessage({ count });
const ending = await interrupt?.next().catch(codeOf);
let late = "nothing";
try {
  registers.read32(8);
} catch (error) {
  late = codeOf(error);
}
parentPort?.postMessage({ ending, late });
fn[Symbol.dispose]();
