// Touching a mapped BAR while memory decoding is off or the function sleeps kills the process with SIGBUS. So the gate
// knows what stands in the way, and suspends every window before that begins.
import { Ring3Error } from "../binary/error.ts";
import type { OwnedWindow } from "../memory/window.ts";

export type Obstacle =
  | "memory decoding is off"
  | "the function sleeps"
  | "a reset is under way"
  | "low power is on"
  | "the connection is being made again";

export class WindowGate {
  readonly #windows: Set<OwnedWindow> = new Set();
  readonly #obstacles: Set<Obstacle> = new Set();
  #closed: Ring3Error | undefined;

  /** Suspends every window. Call it before the cause begins. */
  block(obstacle: Obstacle): void {
    this.#obstacles.add(obstacle);
    for (const window of this.#windows) window.suspend();
  }

  /** Takes an obstacle away; windows come back with the last one. Call it after the device answers again. */
  unblock(obstacle: Obstacle): void {
    if (!this.#obstacles.delete(obstacle) || this.#obstacles.size > 0 || this.#closed !== undefined) return;
    for (const window of this.#windows) window.resume();
  }

  blockedBy(obstacle: Obstacle): boolean {
    return this.#obstacles.has(obstacle);
  }

  /** Throws `REGION_DISABLED` where something stands in the way, or why the function is gone. */
  check(): void {
    if (this.#closed !== undefined) throw this.#closed;
    for (const obstacle of this.#obstacles) {
      throw new Ring3Error("REGION_DISABLED", `the BARs do not answer now: ${obstacle}; switch it back first`);
    }
  }

  /** Follows a window until it is revoked. */
  add(window: OwnedWindow): void {
    for (const known of this.#windows) if (known.state === "revoked") this.#windows.delete(known);
    this.#windows.add(window);
  }

  /** Revokes every window, for good. */
  close(reason: Ring3Error): void {
    if (this.#closed !== undefined) return;
    this.#closed = reason;
    for (const window of this.#windows) window.revoke();
    this.#windows.clear();
  }
}
