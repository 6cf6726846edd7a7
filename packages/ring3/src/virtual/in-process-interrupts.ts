// Interrupts of a function in process: counters that the device raises, delivered in a later turn of the event loop as an
// eventfd's are, so that a driver's code never runs inside the device's.
import type { SignalSource, SignalWatch } from "../pci/counted-interrupt.ts";
import { SwitchedInterrupts } from "../pci/switched-interrupts.ts";
import type { InterruptSink, VirtualInterrupts } from "./interrupts.ts";
import { inLaterTurn } from "./turns.ts";

/** Counts signals and wakes its watchers one turn later. */
export class SignalCounter implements InterruptSink, SignalSource, Disposable {
  readonly #onWatch: (change: 1 | -1) => void;
  readonly #watchers: Set<() => void> = new Set();
  #count = 0;
  #scheduled = false;

  /** `onWatch` hears of watches that begin or cease to keep the program alive. */
  constructor(onWatch: (change: 1 | -1) => void = () => undefined) {
    this.#onWatch = onWatch;
  }

  signal(): void {
    this.#count++;
    this.#wake();
  }

  take(): number {
    const count = this.#count;
    this.#count = 0;
    return count;
  }

  watch(wake: () => void): SignalWatch {
    const own = (): void => wake();
    this.#watchers.add(own);
    if (this.#count > 0) this.#wake();
    let counted = false;
    const count = (on: boolean): void => {
      if (on === counted) return;
      counted = on;
      this.#onWatch(on ? 1 : -1);
    };
    count(true);
    return {
      ref: () => count(true),
      unref: () => count(false),
      [Symbol.dispose]: () => {
        count(false);
        this.#watchers.delete(own);
      },
    };
  }

  [Symbol.dispose](): void {
    this.#watchers.clear();
  }

  #wake(): void {
    if (this.#watchers.size === 0 || this.#scheduled) return;
    this.#scheduled = true;
    inLaterTurn(() => {
      this.#scheduled = false;
      if (this.#count > 0) for (const wake of Array.from(this.#watchers)) wake();
    });
  }
}

/** The interrupts of `device` for its driver. */
export function inProcessInterrupts(
  device: VirtualInterrupts,
  onListenerError: (error: unknown) => void,
  onWatch: (change: 1 | -1) => void,
): SwitchedInterrupts<SignalCounter> {
  return new SwitchedInterrupts<SignalCounter>(
    {
      counts: device.available,
      growable: device.available.msix > 0,
      automasked: true,
      checkRoom: () => undefined,
      open: () => new SignalCounter(onWatch),
      source: (counter) => counter,
      wake: (counter) => counter.signal(),
      connect(kind, first, counters) {
        device.connectAll(kind, first, counters);
        return 0;
      },
      disconnect: (kind) => device.disconnect(kind),
      act(kind, vector, action) {
        if (action === "raise") device.trigger(kind, vector);
        else if (action === "mask") device.maskLine();
        else device.unmaskLine();
      },
    },
    onListenerError,
  );
}
