// What happens to a virtual function, for whoever serves it: told at once and in order, since a server has to suspend its
// mappings before the access that comes next.
import type { BarIndex, DmaPermission } from "../pci/function.ts";
import type { ResetKind } from "./config.ts";

export type VirtualPowerState = "D0" | "D1" | "D2" | "D3hot";

/** Memory of the client as the device sees it. */
export interface MappedRange {
  readonly iova: number;
  readonly size: number;
  readonly permission: DmaPermission;
}

export interface VirtualFunctionEventMap {
  /** A client came or went, by its name. */
  readonly connected: { readonly host: string };
  readonly disconnected: { readonly host: string };
  /** The function was reset; `byUser` where its user asked for it. */
  readonly reset: { readonly kind: ResetKind; readonly byUser: boolean };
  readonly power: { readonly state: VirtualPowerState };
  /** Which address spaces are answered now: COMMAND and the power state decide. */
  readonly decoding: { readonly memory: boolean; readonly io: boolean };
  /** A resizable BAR has another size, and its memory may lie elsewhere. */
  readonly resized: { readonly bar: BarIndex; readonly size: number };
  /** The client lets the device reach a range of its memory, or takes it back. */
  readonly mapped: MappedRange;
  readonly unmapped: MappedRange;
  /** The model failed, or tried a DMA access that it may not make. */
  readonly fault: { readonly description: string };
  /** An uncorrected error was reported to the platform. */
  readonly error: { readonly description: string };
  /** Whoever serves the function wants it back. */
  readonly "removal-requested": { readonly description: string };
  /** The function is gone. */
  readonly removed: { readonly reason: string };
}

type Listener = (event: never) => void;

export class VirtualFunctionEvents {
  readonly #onListenerError: (error: unknown) => void;
  #listeners: Map<keyof VirtualFunctionEventMap, Set<{ readonly call: Listener }>> | undefined;

  /** `onListenerError` gets what a listener throws; a listener of `fault` that throws is an uncaught exception. */
  constructor(onListenerError: (error: unknown) => void) {
    this.#onListenerError = onListenerError;
  }

  /** Calls `listener` at each event until disposed. */
  on<K extends keyof VirtualFunctionEventMap>(
    type: K,
    listener: (event: VirtualFunctionEventMap[K]) => void,
  ): Disposable {
    this.#listeners ??= new Map();
    let entries = this.#listeners.get(type);
    if (entries === undefined) this.#listeners.set(type, (entries = new Set()));
    const entry = { call: listener as Listener };
    entries.add(entry);
    return { [Symbol.dispose]: () => void entries.delete(entry) };
  }

  /** For the function: tells all listeners, whatever one of them throws. */
  emit<K extends keyof VirtualFunctionEventMap>(type: K, event: VirtualFunctionEventMap[K]): void {
    const entries = this.#listeners?.get(type);
    if (entries === undefined) return;
    for (const entry of Array.from(entries)) {
      try {
        entry.call(event as never);
      } catch (error) {
        if (type !== "fault") this.#onListenerError(error);
        else {
          queueMicrotask(() => {
            throw error;
          });
        }
      }
    }
  }
}
