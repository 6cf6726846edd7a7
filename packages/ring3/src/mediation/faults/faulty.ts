// A function with faults on purpose: what a driver's author cannot make hardware do. Hard about it: each fault must look to
// the driver as hardware's would, and leave the function behind it in a state from which it can be brought back.
import type { CompletionPlaces } from "../../binary/completion-places.ts";
import { Ring3Error } from "../../binary/error.ts";
import type { DeviceRegisters } from "../../binary/register-map.ts";
import type { BarIndex, PciFunction } from "../../pci/function.ts";
import { TappedFunction } from "../tap/function.ts";
import { AccessDecoder } from "../trace/decoder.ts";
import { FaultTap, type Injection } from "./fault-tap.ts";
import { checkFaultPlan, type FaultPlan } from "./plan.ts";

export type { Injection } from "./fault-tap.ts";

export interface FaultyOptions {
  /** Register names of the plan: `nvmeRegisters()`, `knownRegisters(fn)`, or a map of your own. */
  readonly registers?: DeviceRegisters | undefined;
  /** What finds completions, for `bad-completion`: `knownCompletions(fn)`. */
  readonly completions?: CompletionPlaces | undefined;
  /** BARs that stay mapped, to which no fault happens. */
  readonly passthrough?: readonly BarIndex[];
  /** Hears of each fault as it is injected. */
  readonly onInjected?: (injection: Injection) => void;
  /** Calls `callback` once after `delayMs`; a timer that does not keep the program alive by default. */
  readonly after?: (delayMs: number, callback: () => void) => Disposable;
}

/**
 * `fn` with the faults of `plan`. Memory is bounced where the plan has faults of DMA. Disposal closes `fn`. Throws
 * `FAULT_PLAN` for what is no plan, or names what the function has not.
 *
 * @example
 * import { faulty } from "ring3/faults";
 * import { nvmeRegisters } from "ring3/specs/nvme";
 * const plan = { faults: [{ kind: "all-ones", where: { register: "CSTS" }, at: 3 }] } as const;
 * await using broken = faulty(fn, plan, { registers: nvmeRegisters() });
 */
export function faulty(fn: PciFunction, plan: FaultPlan, options: FaultyOptions = {}): PciFunction {
  const checked = checkFaultPlan(plan);
  const bounced = checked.faults.some(({ kind }) => kind === "bad-completion" || kind === "dma-corruption");
  if (options.completions === undefined && checked.faults.some(({ kind }) => kind === "bad-completion")) {
    throw new Ring3Error(
      "FAULT_PLAN",
      "bad-completion is for devices whose completion queues are known: pass `completions` (NVMe: knownCompletions)",
    );
  }
  const decoder = new AccessDecoder(fn.config.readBytes(0, fn.config.size), options.registers);
  const tap = new FaultTap(checked, decoder, options);
  const watched = new TappedFunction(fn, tap, { bounced, passthrough: options.passthrough ?? [] });
  tap.attach({
    get gone() {
      return watched.gone.aborted;
    },
    view: (iova, size) => watched.dma.view(iova, size),
    raise: (vector, count) => watched.interrupts.raise(vector, count),
    tell: (what, description, reset) => watched.tell(what, { description, ...(reset === undefined ? {} : { reset }) }),
    remove: (reason) => watched.remove(reason),
    reset: () => watched.resetBehind(fn.resetMethods.length > 0 ? () => fn.reset() : async () => "unknown"),
  });
  return watched;
}
