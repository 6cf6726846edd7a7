// Opening a function for a command. The library, and with it the native calls, is loaded here and not before.
import type { OpenOptions, PciFunction } from "ring3";
import type { Context } from "./context.ts";
import { UsageError } from "./usage-error.ts";

/** Options of every command that opens a function. */
export const BACKEND_OPTIONS = {
  backend: {
    kind: "choice",
    choices: ["auto", "group", "iommufd"],
    initial: "auto",
    description: "which of the kernel's interfaces to use, where ADDRESS is a PCI address",
  },
} as const;

/** Whether `address` names a function that is served at a socket, on this machine or another one's. */
export function isSocketAddress(address: string): boolean {
  return address.startsWith("vfio-user:");
}

/**
 * Opens `address`; whoever calls disposes it. An interruption in the meantime lets the opening end, closes what it gave,
 * and then throws.
 */
export async function openFunction(address: string, backend: string, context: Context): Promise<PciFunction> {
  if (isSocketAddress(address) && backend !== "auto") {
    throw new UsageError(`--backend ${backend} is for functions of the kernel; ${address} is a socket`);
  }
  if (context.root !== "/" && !isSocketAddress(address))
    throw new UsageError("--root shows files of another machine, whose functions cannot be opened");
  context.signal.throwIfAborted();
  const { open } = await import("ring3");
  const fn = await open(address, { backend: backend as NonNullable<OpenOptions["backend"]> });
  if (context.signal.aborted) {
    await fn[Symbol.asyncDispose]();
    context.signal.throwIfAborted();
  }
  return fn;
}
