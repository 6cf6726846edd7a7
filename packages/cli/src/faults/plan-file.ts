// A fault plan as a YAML file.
import { readFile } from "node:fs/promises";
import { type FaultPlan, faultPlanProblems } from "ring3/faults";
import { checkedYaml } from "../yaml-file.ts";

/** Reads and checks the plan at `path`. */
export async function readFaultPlan(path: string): Promise<FaultPlan> {
  return parseFaultPlan(await readFile(path, "utf8"), path);
}

/** `name` is how messages call the file. Throws `UsageError` with everything that is wrong, by line and column. */
export function parseFaultPlan(text: string, name: string): FaultPlan {
  return checkedYaml(text, name, "fault plan", faultPlanProblems) as FaultPlan;
}
