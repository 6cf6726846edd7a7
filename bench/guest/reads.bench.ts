// Runs inside the guest as an ordinary user: measures reads of 4 KiB through ring3's public driver interface, case by case.
// The process warms up first, because a driver lives long and V8 compiles late; while it does so, each read is checked to
// have brought the block's own contents.
import { open } from "ring3";
import { NvmeDriver } from "ring3/nvme";
import type { Measured, ReadFigure, ReadPlan, Ring3Case } from "./plan.ts";
import { promiseReader } from "./promise-reads.ts";
import { ringReader } from "./ring-reads.ts";

const WARM_UP_DEPTH = 32;

const plan = JSON.parse(process.argv[2] ?? "") as ReadPlan;
for (const entry of plan.cases) {
  if (entry.depth === WARM_UP_DEPTH) await measure(entry, plan.warmUpMs, true);
}
for (const entry of plan.cases) {
  const figure: ReadFigure = { name: entry.name, ...(await measure(entry, plan.measureMs, false)) };
  console.log(JSON.stringify(figure));
}

async function measure(entry: Ring3Case, measureMs: number, check: boolean): Promise<Measured> {
  const { face } = entry;
  const completion = face === "ring" ? "polled" : face;
  await using fn = await open(plan.address);
  await using nvme = await NvmeDriver.start(fn, { completion, queueDepth: plan.queueEntries });
  const namespace = nvme.namespace(plan.namespaceId);
  await using reader =
    face === "ring"
      ? await ringReader(nvme, namespace, entry, plan.queueEntries)
      : promiseReader(nvme, namespace, entry);
  const during = (spanMs: number): (() => boolean) => {
    const end = performance.now() + spanMs;
    return () => performance.now() >= end;
  };
  await reader.run(during(plan.warmUpMs), true);
  return await reader.run(during(measureMs), check);
}
