// How a controller is stopped: what is in flight may finish, the controller shuts down, and bus mastering ends, so that
// whoever is told the end may use its memory again. Hard about it: the function may be gone at any step.
import { isRing3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import { type Clock, sleep } from "../clock.ts";
import type { Controller } from "./controller.ts";

/** Waits while `busy`, up to `limitMs`, and not for a function that is gone. */
export async function drain(clock: Clock, fn: PciFunction, limitMs: number, busy: () => boolean): Promise<void> {
  const deadline = clock.now() + limitMs;
  while (busy() && clock.now() < deadline && !fn.gone.aborted) await sleep(clock, 1);
}

/** Shuts the controller down in order where it still works, and disables it. Never rejects. */
export async function stopController(fn: PciFunction, controller: Controller, timeoutMs: number): Promise<void> {
  if (fn.gone.aborted) return;
  try {
    if (controller.health() === "ready") await controller.shutDown(timeoutMs);
    await controller.disable();
  } catch {
    // Without bus mastering the controller reaches no memory, whatever it does.
  }
}

export function stopBusMaster(fn: PciFunction): void {
  try {
    if (!fn.gone.aborted) fn.busMaster = false;
  } catch (error) {
    if (!isRing3Error(error)) throw error;
  }
}
