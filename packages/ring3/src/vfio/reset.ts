// Resets, and the wait until the function answers again: config space reads all ones, or vendor id 0001 where the root
// port reports "request retry", until then (PCIe 6.0, section 2.3.1). Most functions take 100 ms, some seconds.

import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Ring3Error } from "../binary/error.ts";
import { readText } from "../host/sysfs.ts";
import type { ConfigSpace } from "../pci/config-space.ts";
import type { Ending } from "../pci/ending.ts";
import type { ResetMethod } from "../pci/function.ts";

const known: readonly ResetMethod[] = ["flr", "af_flr", "pm", "bus", "device_specific", "acpi", "cxl_bus"];
const retryVendorId = 0x0001;
const pollMs = 10;

/** The methods that the kernel would use, best first. `resettable` is what VFIO says of the function. */
export function readResetMethods(sysfsFolder: string, resettable: boolean): ResetMethod[] {
  if (!resettable) return [];
  const named = (readText(join(sysfsFolder, "reset_method")) ?? "").split(/\s+/).filter((word) => word !== "");
  const methods = named.map((word): ResetMethod => known.find((method) => method === word) ?? "unknown");
  return methods.length === 0 ? ["unknown"] : methods;
}

/** Repeats a reset while error recovery or somebody's access holds the function, for at most `timeoutMs`. */
export async function retryReset(
  attempt: () => "done" | "busy" | "unsupported",
  ending: Ending,
  timeoutMs: number,
): Promise<void> {
  const until = performance.now() + timeoutMs;
  for (;;) {
    const outcome = attempt();
    if (outcome === "done") return;
    if (outcome === "unsupported") {
      throw new Ring3Error(
        "NOT_SUPPORTED",
        "the kernel cannot reset this function now; a hot reset of its slot may be possible",
        {
          call: "ioctl VFIO_DEVICE_RESET",
        },
      );
    }
    if (performance.now() >= until) {
      throw new Ring3Error("RESET_BUSY", `the function stayed busy for ${timeoutMs} ms; is its error recovery stuck?`, {
        errno: "EAGAIN",
        call: "ioctl VFIO_DEVICE_RESET",
      });
    }
    await delay(pollMs);
    ending.check();
  }
}

/** Resolves once config space answers. Throws `RESET_TIMEOUT`, or why the function ended meanwhile. */
export async function untilReady(config: ConfigSpace, ending: Ending, timeoutMs: number): Promise<void> {
  const until = performance.now() + timeoutMs;
  while (!config.isPresent() || config.read16(0) === retryVendorId) {
    if (performance.now() >= until) {
      throw new Ring3Error(
        "RESET_TIMEOUT",
        `the function did not answer within ${timeoutMs} ms of its reset; power-cycle the slot`,
      );
    }
    await delay(pollMs);
    ending.check();
  }
}
