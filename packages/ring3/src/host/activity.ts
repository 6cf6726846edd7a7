// What functions did so far: interrupts, from /proc/interrupts by the numbers that sysfs gives each function, and errors.
// A line interrupt may be shared, and then counts for each that has it.
import { join } from "node:path";
import { ERROR_SEVERITIES, type ErrorSeverity, readErrorCounters } from "./error-counters.ts";
import { type FunctionState, readFunctionState } from "./function-state.ts";
import { functionDirectory, type HostPaths, thisMachine } from "./paths.ts";
import { listNames, readLinkName, readNumber, readText } from "./sysfs.ts";

/** One interrupt of a function: its number, how the kernel calls who handles it, and how often it came. */
export interface InterruptCount {
  readonly irq: number;
  readonly name: string;
  readonly count: number;
}

export interface FunctionActivity extends FunctionState {
  readonly address: string;
  readonly driver: string | undefined;
  /** Ascending; empty while nobody has switched interrupts on. */
  readonly interrupts: readonly InterruptCount[];
  /** Messages of each severity; `undefined` where the kernel keeps no counters. */
  readonly errors: Readonly<Record<ErrorSeverity, number>> | undefined;
}

/**
 * What functions did since boot, by address; of `addresses` only, where they are given. One that vanishes is left out.
 *
 * @example
 * import { readActivity } from "ring3/host";
 * for (const { address, interrupts } of readActivity()) {
 *   console.log(address, interrupts.reduce((sum, { count }) => sum + count, 0));
 * }
 */
export function readActivity(paths: HostPaths = thisMachine, addresses?: readonly string[]): FunctionActivity[] {
  const counts = parseInterrupts(readText(join(paths.procRoot, "interrupts")) ?? "");
  const names = addresses ?? listNames(join(paths.sysfsRoot, "bus/pci/devices"));
  return names.flatMap((address) => {
    const directory = functionDirectory(paths, address);
    if (readText(join(directory, "vendor")) === undefined) return [];
    const irqs = interruptNumbers(directory);
    return [
      {
        address,
        driver: readLinkName(join(directory, "driver")),
        interrupts: irqs.flatMap((irq) => counts.get(irq) ?? []),
        errors: errorTotals(directory),
        ...readFunctionState(directory),
      },
    ];
  });
}

/** Lines `NUMBER: COUNT... KIND NAME`, a count for each processor that the first line names. Others, as NMI, are left out. */
export function parseInterrupts(text: string): ReadonlyMap<number, InterruptCount> {
  const [heading = "", ...lines] = text.split("\n");
  const processors = heading.trim().split(/\s+/).length;
  const counts = new Map<number, InterruptCount>();
  for (const line of lines) {
    const [label = "", ...words] = line.trim().split(/\s+/);
    const irq = /^(\d+):$/.exec(label)?.[1];
    if (irq === undefined) continue;
    const perProcessor = words.slice(0, processors).map(Number);
    if (perProcessor.some((count) => !Number.isSafeInteger(count))) continue;
    // The interrupt's controller, its number there and how it triggers stand before the name.
    const name = words
      .slice(processors)
      .join(" ")
      .replace(/^.*?(?:\d+-)?(?:edge|level|fasteoi)\s+/i, "");
    counts.set(Number(irq), { irq: Number(irq), name, count: perProcessor.reduce((sum, count) => sum + count, 0) });
  }
  return counts;
}

/** Of its messages, else of its line. */
function interruptNumbers(directory: string): number[] {
  const messages = listNames(join(directory, "msi_irqs")).filter((name) => /^\d+$/.test(name));
  if (messages.length > 0) return messages.map(Number).sort((a, b) => a - b);
  const line = readNumber(join(directory, "irq"));
  return line === undefined || line === 0 ? [] : [line];
}

function errorTotals(directory: string): FunctionActivity["errors"] {
  const found = ERROR_SEVERITIES.map((severity) => [severity, readErrorCounters(directory, severity)?.total] as const);
  if (found.every(([, total]) => total === undefined)) return undefined;
  return Object.fromEntries(found.map(([severity, total]) => [severity, total ?? 0])) as FunctionActivity["errors"];
}
