// The machine that a command looks at: this one, or the one below --root.
import { type Host, type HostPaths, hostPaths, thisHost } from "ring3/host";
import type { Context } from "./context.ts";

export function machinePaths(context: Context): HostPaths {
  return hostPaths(context.root);
}

/** The machine with what changes it; its steps are shown as they happen. */
export function machine(context: Context): Host {
  const host = thisHost({ signal: context.signal, progress: (text) => context.progress.step(text) });
  return { ...host, paths: machinePaths(context) };
}
