// Power and link of a function, as anybody may read them. The kernel wakes a sleeping function to read its link, so the link
// is read in D0 only.
import { join } from "node:path";
import { readNumber, readText } from "./sysfs.ts";

/** Speed in the kernel's words, `8.0 GT/s PCIe`, and lanes. */
export interface LinkState {
  readonly speed: string | undefined;
  readonly width: number | undefined;
}

export interface FunctionState {
  /** `D0`, `D3hot`, ...; `undefined` where the kernel does not say. */
  readonly power: string | undefined;
  /** `undefined` while the function sleeps, and where it has no link. */
  readonly link: LinkState | undefined;
}

export function readFunctionState(directory: string): FunctionState {
  const power = readText(join(directory, "power_state"));
  const speed = isAwake(power) ? readText(join(directory, "current_link_speed")) : undefined;
  if (speed === undefined) return { power, link: undefined };
  return { power, link: { speed, width: readNumber(join(directory, "current_link_width")) } };
}

/** Whether looking at its registers does not wake it. */
export function isAwake(power: string | undefined): boolean {
  return power === undefined || power === "D0" || power === "unknown";
}
