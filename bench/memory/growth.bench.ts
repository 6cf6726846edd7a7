// Runs inside the guest with --expose-gc: makes so many reads and says at each quarter what memory is left after a full
// collection. During the last quarter the collections that come by themselves are counted.
import { GCProfiler } from "node:v8";
import { open } from "ring3";
import { NvmeDriver } from "ring3/nvme";
import { type Face, type Load } from "../guest/plan.ts";
import { promiseReader } from "../guest/promise-reads.ts";
import { ringReader } from "../guest/ring-reads.ts";
import type { Growth, Mark } from "./plan.ts";
import { resident } from "./resident.ts";

const QUARTERS = 4;
const DEPTH = 32;
const ENTRIES = 128;
const WARM_UP = 20_000;

const [address, face, total] = process.argv.slice(2) as [string, Face, string];
const collect = globalThis.gc;
if (collect === undefined) throw new Error("run it with node --expose-gc");
const operationsBetween = Number(total) / QUARTERS;

await using fn = await open(address);
await using nvme = await NvmeDriver.start(fn, { completion: face === "ring" ? "polled" : face });
const namespace = nvme.namespace(1);
const load: Load = { pattern: "random", depth: DEPTH };
await using reader =
  face === "ring" ? await ringReader(nvme, namespace, load, ENTRIES) : promiseReader(nvme, namespace, load);

await reader.run((operations) => operations >= WARM_UP, true);
let operations = 0;
let collections = 0;
const marks: Mark[] = [mark()];
for (let quarter = 0; quarter < QUARTERS; quarter++) {
  // Performance entries come by the event loop, which a ring's loop never lets run.
  const profiler = new GCProfiler();
  profiler.start();
  operations += (await reader.run((done) => done >= operationsBetween)).operations;
  collections = profiler.stop().statistics.length;
  marks.push(mark());
}
const growth: Growth = { marks, collections, operationsBetween };
console.log(JSON.stringify(growth));

function mark(): Mark {
  collect?.();
  collect?.();
  const { heapUsed, external } = process.memoryUsage();
  return { operations, heap: heapUsed, external, resident: resident() };
}
