// A fault plan as a YAML file: what is wrong with it is said with line and column, all of it at once.
import { readFile } from "node:fs/promises";
import { type FaultPlan, faultPlanProblems } from "ring3/faults";
import { isNode, LineCounter, parseDocument } from "yaml";
import { UsageError } from "../usage-error.ts";

/** Reads and checks the plan at `path`. */
export async function readFaultPlan(path: string): Promise<FaultPlan> {
  return parseFaultPlan(await readFile(path, "utf8"), path);
}

/** `name` is how messages call the file. */
export function parseFaultPlan(text: string, name: string): FaultPlan {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${name}:${line}:${col}`;
  };
  const problems = [...document.errors, ...document.warnings].map(({ pos, message }) => `${at(pos[0])}: ${message}`);
  if (problems.length === 0) {
    const value: unknown = document.toJS({ maxAliasCount: 100 });
    for (const { path, message } of faultPlanProblems(value)) problems.push(`${at(offsetOf(path))}: ${message}`);
    if (problems.length === 0) return value as FaultPlan;
  }
  throw new UsageError(`this is no fault plan:\n  ${problems.join("\n  ")}`);

  /** Where the value at a path begins, or the nearest thing around it that is there. */
  function offsetOf(path: readonly (string | number)[]): number {
    for (let length = path.length; length >= 0; length--) {
      const node: unknown = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
      if (isNode(node) && node.range !== undefined && node.range !== null) return node.range[0];
    }
    return 0;
  }
}
