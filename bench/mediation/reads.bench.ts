// Runs inside the guest as an ordinary user: short turns of reads over VFIO and through a mediator in the same process, one
// right after the other, so that whatever else the machine does meets both. Each pair is a line of JSON.
import { open } from "ring3";
import { mediate } from "ring3/mediation";
import { NvmeDriver } from "ring3/nvme";
import { inProcess } from "ring3/virtual";
import type { Face } from "../guest/plan.ts";
import { promiseReader } from "../guest/promise-reads.ts";
import { ringReader } from "../guest/ring-reads.ts";
import { DEPTHS, FACES, type Turn, type TurnPlan } from "./plan.ts";

const QUEUE_ENTRIES = 256;
/** Turns that compile, and are not counted. */
const WARM_UP = 2;

const plan = JSON.parse(process.argv[2] ?? "") as TurnPlan;
for (let turn = -WARM_UP; turn < plan.turns; turn++) {
  for (const face of FACES) {
    const first = turn % 2 === 0;
    const one = await measure(face, first);
    const other = await measure(face, !first);
    const [mediated, direct] = first ? [one, other] : [other, one];
    for (const [index, depth] of DEPTHS.entries()) {
      const line: Turn = { face, depth, direct: direct[index] ?? 0, mediated: mediated[index] ?? 0 };
      if (turn >= 0) console.log(JSON.stringify(line));
    }
  }
}

/** Reads in a second, for each depth. */
async function measure(face: Face, withMediator: boolean): Promise<number[]> {
  await using stack = new AsyncDisposableStack();
  const real = stack.use(await open(plan.address));
  const fn = withMediator
    ? stack.use(inProcess(stack.use(await mediate(real, { trap: plan.way === "trapped" }))))
    : real;
  const completion = face === "ring" ? "polled" : face;
  await using nvme = await NvmeDriver.start(fn, { completion, queueDepth: QUEUE_ENTRIES });
  const namespace = nvme.namespace(plan.namespaceId);
  const figures: number[] = [];
  for (const depth of DEPTHS) {
    const load = { pattern: "random", depth } as const;
    await using reader =
      face === "ring" ? await ringReader(nvme, namespace, load, QUEUE_ENTRIES) : promiseReader(nvme, namespace, load);
    await reader.run(during(plan.turnMs / 4), true);
    const { operations, seconds } = await reader.run(during(plan.turnMs));
    figures.push(operations / seconds);
  }
  return figures;
}

function during(spanMs: number): () => boolean {
  const end = performance.now() + spanMs;
  return () => performance.now() >= end;
}
