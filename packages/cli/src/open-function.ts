// Opening a function for a command, with a trace and faults before it where that is asked for. The library, and with it the
// native calls, is loaded here and not before.
import type { OpenOptions, PciFunction } from "ring3";
import type { FaultPlan } from "ring3/faults";
import type { TraceSink } from "ring3/trace";
import type { Context } from "./context.ts";
import { UsageError } from "./usage-error.ts";

/** Options of every command that opens a function and drives it. */
export const OPEN_OPTIONS = {
  backend: {
    kind: "choice",
    choices: ["auto", "group", "iommufd"],
    initial: "auto",
    description: "which of the kernel's interfaces to use, where ADDRESS is a PCI address",
  },
  trace: {
    kind: "text",
    value: "FILE",
    description: "record every access, interrupt and mapping in FILE (see ring3 trace)",
  },
  "trace-memory": {
    kind: "flag",
    description: "record what driver and device write to DMA memory as well, for ring3 replay",
  },
  faults: { kind: "text", value: "PLAN", description: "let happen what the YAML file PLAN says (docs/faults.md)" },
} as const;

/** The options as the parser gives them. */
export interface Opening {
  readonly backend: string;
  readonly trace?: string | undefined;
  readonly "trace-memory"?: boolean;
  readonly faults?: string | undefined;
}

/** Whether `address` names a function that a process gives at a socket, on this machine or another one's. */
export function isSocketAddress(address: string): boolean {
  return /^(vfio-user|ring3d):/.test(address);
}

/**
 * Opens `address`; whoever calls disposes it. An interruption in the meantime lets the opening end, closes what it gave,
 * and then throws.
 */
export async function openFunction(address: string, options: Opening, context: Context): Promise<PciFunction> {
  const { backend } = options;
  if (isSocketAddress(address) && backend !== "auto") {
    throw new UsageError(`--backend ${backend} is for functions of the kernel; ${address} is another process's`);
  }
  if (context.root !== "/" && !isSocketAddress(address))
    throw new UsageError("--root shows files of another machine, whose functions cannot be opened");
  if (options["trace-memory"] === true && options.trace === undefined)
    throw new UsageError("--trace-memory says what goes into a trace: add --trace FILE");
  const plan = options.faults === undefined ? undefined : await readPlan(options.faults);
  context.signal.throwIfAborted();
  const { open } = await import("ring3");
  const fn = await open(address, { backend: backend as NonNullable<OpenOptions["backend"]> });
  try {
    context.signal.throwIfAborted();
    const broken = plan === undefined ? fn : await faulted(fn, plan, context);
    return options.trace === undefined ? broken : await watched(broken, fn, options.trace, options);
  } catch (error) {
    await fn[Symbol.asyncDispose]();
    throw error;
  }
}

async function readPlan(path: string): Promise<FaultPlan> {
  const { readFaultPlan } = await import("./faults/plan-file.ts");
  return await readFaultPlan(path);
}

async function faulted(fn: PciFunction, plan: FaultPlan, context: Context): Promise<PciFunction> {
  const { faulty } = await import("ring3/faults");
  const { knownCompletions, knownRegisters } = await import("ring3/registers");
  return faulty(fn, plan, {
    registers: knownRegisters(fn),
    completions: knownCompletions(fn),
    onInjected: ({ kind, description }) => void context.streams.stderr.write(`fault ${kind}: ${description}\n`),
  });
}

/** `inner` is the function itself: what is looked up to name its registers is no part of the trace. */
async function watched(fn: PciFunction, inner: PciFunction, path: string, options: Opening): Promise<PciFunction> {
  const { openTraceFile } = await import("./trace/trace-file.ts");
  const { traced } = await import("ring3/trace");
  const { knownRegisters } = await import("ring3/registers");
  const registers = knownRegisters(inner);
  const memory = options["trace-memory"] === true;
  const file = openTraceFile(path);
  const sink: TraceSink = {
    write(event) {
      file.write(event);
      if (event.type === "close") file[Symbol.dispose]();
    },
  };
  return traced(fn, sink, { registers, memory });
}
