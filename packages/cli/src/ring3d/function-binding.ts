// Whose a function is: taken from its driver for the service, and given back to it.
import { setTimeout } from "node:timers/promises";
import type { FunctionSettings } from "./configuration.ts";
import type { Hardware, ManagedOptions } from "./function-needs.ts";

const HELD_PAUSE_MS = 200;

export class FunctionBinding {
  readonly #hardware: Hardware;
  readonly #emit: ManagedOptions["emit"];

  constructor({ hardware, emit }: ManagedOptions) {
    this.#hardware = hardware;
    this.#emit = emit;
  }

  async take({ address, bind }: FunctionSettings): Promise<void> {
    if (bind && (await this.#hardware.take(address))) this.#emit({ type: "bound", address });
  }

  /** Tries for `forMs` where somebody holds it still. */
  async giveBack({ address, bind }: FunctionSettings, forMs: number): Promise<void> {
    if (!bind) return;
    // Whoever had the kernel's descriptors was told to close them, and nothing tells when that is done.
    const until = Date.now() + forMs;
    for (;;) {
      try {
        if (await this.#hardware.giveBack(address)) this.#emit({ type: "given-back", address });
        return;
      } catch (error) {
        if ((error as { code?: unknown }).code !== "FUNCTION_HELD" || Date.now() >= until) throw error;
        await setTimeout(HELD_PAUSE_MS);
      }
    }
  }
}
