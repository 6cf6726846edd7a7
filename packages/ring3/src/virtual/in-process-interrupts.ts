// Interrupts of a function in process: counters that the device raises, delivered in a later turn of the event loop as an
// eventfd's are, so that a driver's code never runs inside the device's.
import { Ring3Error } from "../binary/error.ts";
import { CountedInterrupt, type SignalSource, type SignalWatch } from "../pci/counted-interrupt.ts";
import type { Interrupt, Interrupts, LineInterrupt } from "../pci/function.ts";
import type { InterruptSink, VirtualInterrupts } from "./interrupts.ts";
import { inLaterTurn } from "./turns.ts";

/** Counts signals and wakes its watchers one turn later. */
export class SignalCounter implements InterruptSink, SignalSource {
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

  #wake(): void {
    if (this.#watchers.size === 0 || this.#scheduled) return;
    this.#scheduled = true;
    inLaterTurn(() => {
      this.#scheduled = false;
      if (this.#count > 0) for (const wake of Array.from(this.#watchers)) wake();
    });
  }
}

type Kind = "intx" | "msi" | "msix";

export class InProcessInterrupts implements Interrupts {
  readonly available: { readonly intx: number; readonly msi: number; readonly msix: number };
  readonly growable: boolean;
  readonly #device: VirtualInterrupts;
  readonly #onListenerError: (error: unknown) => void;
  readonly #onWatch: (change: 1 | -1) => void;
  #vectors: Map<number, CountedInterrupt> = new Map();
  #active: "none" | Kind = "none";
  #ended: Ring3Error | undefined;

  constructor(device: VirtualInterrupts, onListenerError: (error: unknown) => void, onWatch: (change: 1 | -1) => void) {
    this.#device = device;
    this.available = device.available;
    this.growable = device.available.msix > 0;
    this.#onListenerError = onListenerError;
    this.#onWatch = onWatch;
  }

  get active(): "none" | Kind {
    return this.#active;
  }

  intx(): LineInterrupt {
    this.#checkFree();
    if (this.available.intx === 0) {
      throw new Ring3Error("NOT_SUPPORTED", "the function has no line interrupt; use MSI or MSI-X");
    }
    const counter = new SignalCounter(this.#onWatch);
    const line = new InProcessLine(this.#device, counter, this.#onListenerError);
    this.#vectors.set(0, line);
    this.#active = "intx";
    this.#device.connect("intx", 0, counter);
    return line;
  }

  msi(count = 1): readonly Interrupt[] {
    this.#checkFree();
    if (!(count >= 1 && count <= 32 && Number.isInteger(Math.log2(count)))) {
      throw new Ring3Error("INTERRUPT_INVALID", `MSI takes 1, 2, 4, 8, 16 or 32 vectors, not ${count}`);
    }
    return this.#switchOn("msi", 0, count);
  }

  msix(count = 1): readonly Interrupt[] {
    this.#checkFree();
    return this.#switchOn("msix", 0, checkedCount(count));
  }

  addMsix(first: number, count: number): readonly Interrupt[] {
    this.#checkOpen();
    if (!this.growable) throw new Ring3Error("NOT_SUPPORTED", "the function has no MSI-X");
    if (this.#active !== "msix") {
      throw new Ring3Error("INTERRUPTS_BUSY", `MSI-X is not on (${this.#active} is): call msix first`);
    }
    if (!(Number.isInteger(first) && first >= 0)) throw new Ring3Error("INTERRUPT_INVALID", `not a vector: ${first}`);
    for (let vector = first; vector < first + checkedCount(count); vector++) {
      if (this.#vectors.has(vector)) throw new Ring3Error("INTERRUPTS_BUSY", `MSI-X vector ${vector} is on already`);
    }
    return this.#switchOn("msix", first, count);
  }

  disable(): void {
    this.#checkOpen();
    this.#disable(new Ring3Error("INTERRUPT_CLOSED", "the function's interrupts were switched off"));
  }

  /** Switches off and stays off: whoever waits gets `toWaiters`, later calls `reason`. */
  end(reason: Ring3Error, toWaiters: Ring3Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    this.#disable(toWaiters);
  }

  #switchOn(kind: "msi" | "msix", first: number, count: number): readonly Interrupt[] {
    const available = this.available[kind];
    if (first + count > available) {
      throw new Ring3Error(
        "TOO_MANY_VECTORS",
        `${first + count} ${kind.toUpperCase()} vectors were asked for, ${available} are available`,
      );
    }
    this.#active = kind;
    const made: Interrupt[] = [];
    for (let vector = first; vector < first + count; vector++) {
      const counter = new SignalCounter(this.#onWatch);
      const raise = (): void => this.#device.trigger(kind, vector);
      const interrupt = new CountedInterrupt(vector, counter, raise, this.#onListenerError);
      this.#vectors.set(vector, interrupt);
      made.push(interrupt);
      this.#device.connect(kind, vector, counter);
    }
    return made;
  }

  #disable(reason: Ring3Error): void {
    if (this.#active === "none") return;
    const vectors = this.#vectors;
    this.#device.disconnect(this.#active);
    this.#active = "none";
    this.#vectors = new Map();
    for (const interrupt of vectors.values()) interrupt.close(reason);
  }

  #checkFree(): void {
    this.#checkOpen();
    if (this.#active !== "none") {
      throw new Ring3Error("INTERRUPTS_BUSY", `${this.#active} is on; call disable() before switching on another kind`);
    }
  }

  #checkOpen(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }
}

/** The line: each delivery masks it in the device until somebody unmasks it. */
class InProcessLine extends CountedInterrupt implements LineInterrupt {
  readonly automasked: boolean = true;
  readonly #device: VirtualInterrupts;
  #on = true;

  constructor(device: VirtualInterrupts, counter: SignalCounter, onListenerError: (error: unknown) => void) {
    super(0, counter, () => device.trigger("intx"), onListenerError);
    this.#device = device;
  }

  mask(): void {
    this.#checkOn();
    this.#device.maskLine();
  }

  unmask(): void {
    this.#checkOn();
    this.#device.unmaskLine();
  }

  override close(error: Ring3Error): void {
    this.#on = false;
    super.close(error);
  }

  #checkOn(): void {
    if (!this.#on) throw new Ring3Error("INTERRUPT_CLOSED", "the line interrupt was switched off");
  }
}

function checkedCount(count: number): number {
  if (Number.isInteger(count) && count >= 1) return count;
  throw new Ring3Error("INTERRUPT_INVALID", `not a number of vectors: ${count}`);
}
