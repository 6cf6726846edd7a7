// Resetting a function through sysfs, as root does it while a kernel driver or none has the function. Whoever has it open
// through VFIO resets it there. What the machine uses is refused: a reset is the device's loss of memory.
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import type { Host } from "./binding-steps.ts";
import { describeHolders, findHolders } from "./holders.ts";
import { usesOf } from "./in-use.ts";
import { readFunction } from "./inventory.ts";
import { deviceNode, groupNode } from "./nodes.ts";
import { functionDirectory } from "./paths.ts";

export interface ResetRequest {
  readonly address: string;
  /** One of the function's `reset_method`; the first that works by default. */
  readonly method?: string | undefined;
  /** Reset even what the machine uses or a process has open. */
  readonly force?: boolean;
}

export interface ResetPlan {
  readonly address: string;
  /** The methods in the order in which the kernel tries them. */
  readonly methods: readonly string[];
  /** Shell commands that do the same. */
  readonly commands: readonly string[];
}

/**
 * What a reset will do. Throws `RESET_UNAVAILABLE` (no method, or not that one), `FUNCTION_IN_USE`, `FUNCTION_HELD`.
 */
export function planReset({ address, method, force = false }: ResetRequest, host: Host): ResetPlan {
  const fn = readFunction(address, host.paths);
  const { resetMethods } = fn;
  if (resetMethods.length === 0) {
    throw new Ring3Error(
      "RESET_UNAVAILABLE",
      `the kernel knows no way to reset ${fn.address}: it has no FLR, and its bus has other functions. ` +
        "Removing and rescanning it, or a power cycle, is what is left",
    );
  }
  if (method !== undefined && !resetMethods.includes(method)) {
    const known = resetMethods.join(", ");
    throw new Ring3Error(
      "RESET_UNAVAILABLE",
      `${fn.address} cannot be reset by "${method}"; the kernel offers ${known}`,
    );
  }
  if (!force) refuseUsed(fn.address, "a reset", host);
  const directory = functionDirectory(host.paths, fn.address);
  const choose = [`echo ${method} > ${join(directory, "reset_method")}`];
  const again = [`echo "${resetMethods.join(" ")}" > ${join(directory, "reset_method")}`];
  const reset = `echo 1 > ${join(directory, "reset")}`;
  const methods = method === undefined ? resetMethods : [method];
  return { address: fn.address, methods, commands: method === undefined ? [reset] : [...choose, reset, ...again] };
}

/** Throws `FUNCTION_IN_USE` or `FUNCTION_HELD` where `what` (such as `a reset`) would take a function from somebody. */
export function refuseUsed(address: string, what: string, host: Host): void {
  const uses = usesOf(address, host.paths, host.operations);
  if (uses.length > 0) {
    throw new Ring3Error(
      "FUNCTION_IN_USE",
      `the machine uses ${address}: ${uses.join("; ")}. ${what} would take that away; stop using it first, or say --force`,
    );
  }
  const { holders } = holdersOf(address, host);
  if (holders.length > 0) {
    throw new Ring3Error(
      "FUNCTION_HELD",
      `${address} is held by ${describeHolders(holders)}, whose driver ${what} would confuse; end it first, or say --force`,
    );
  }
}

/** The processes that have the function, or its group, open. */
export function holdersOf(address: string, { paths }: Pick<Host, "paths">): ReturnType<typeof findHolders> {
  const fn = readFunction(address, paths);
  const nodes = [
    fn.iommuGroup === undefined ? undefined : groupNode(fn.iommuGroup, paths),
    fn.vfioDevice === undefined ? undefined : deviceNode(fn.vfioDevice, paths),
  ];
  const names = nodes.filter((node) => node !== undefined).map(({ path }) => path);
  return findHolders(names, [fn.address], paths);
}

/**
 * Resets by writing to sysfs, which takes root. Resolves with the method: the one that was asked for, or the first of the
 * kernel's. Throws what {@link planReset} throws, and `NOT_ROOT`, and `HOST_CALL_FAILED` where the function did not come back.
 */
export async function resetFunction(request: ResetRequest, host: Host): Promise<string> {
  const { address, methods } = planReset(request, host);
  if (!host.operations.privileged) {
    throw new Ring3Error(
      "NOT_ROOT",
      `resetting ${address} through sysfs takes root: sudo ring3 reset ${address}; the owner of a VFIO function needs none`,
    );
  }
  const directory = functionDirectory(host.paths, address);
  const { resetMethods } = readFunction(address, host.paths);
  const chosen = request.method;
  if (chosen !== undefined) await host.operations.write(join(directory, "reset_method"), `${chosen}\n`);
  try {
    await host.operations.write(join(directory, "reset"), "1\n");
  } finally {
    if (chosen !== undefined)
      await host.operations.write(join(directory, "reset_method"), `${resetMethods.join(" ")}\n`);
  }
  return methods[0] ?? "unknown";
}
