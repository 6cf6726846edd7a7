// Interrupts with a tap before them. A signal of the function is looked at when the driver looks (poll) or when it comes
// (while the driver waits), so that whoever does not wait costs nothing; signals that a tap adds wake whoever waits.
import { isRing3Error } from "../../binary/error.ts";
import type { SignalSource, SignalWatch } from "../../pci/counted-interrupt.ts";
import type { Interrupt, Interrupts, LineInterrupt } from "../../pci/function.ts";
import { type InterruptKind, SwitchedInterrupts } from "../../pci/switched-interrupts.ts";

/** Says how many of `count` signals the driver is to see now. */
type Passing = (kind: InterruptKind, vector: number, count: number) => number;

class TappedWire implements SignalSource, Disposable {
  readonly #wakes: Set<() => void> = new Set();
  #inner: Interrupt | undefined;
  #pass: (count: number) => number = (count) => count;
  #count = 0;
  #listening: Disposable | undefined;

  connect(inner: Interrupt, pass: (count: number) => number): void {
    this.#inner = inner;
    this.#pass = pass;
  }

  /** Signals that did not come from the function. */
  add(count: number): void {
    this.#count += count;
    if (this.#count > 0) for (const wake of Array.from(this.#wakes)) wake();
  }

  take(): number {
    const came = this.#came();
    const count = this.#count + (came > 0 ? this.#pass(came) : 0);
    this.#count = 0;
    return count;
  }

  /** What the function has; nothing where it is closed, which its end tells. */
  #came(): number {
    try {
      return this.#inner?.poll() ?? 0;
    } catch (error) {
      if (!isRing3Error(error)) throw error;
      return 0;
    }
  }

  watch(wake: () => void): SignalWatch {
    this.#wakes.add(wake);
    this.#listen(true);
    if (this.#count > 0) queueMicrotask(() => this.add(0));
    return {
      ref: () => this.#listen(true),
      unref: () => this.#listen(false),
      [Symbol.dispose]: () => {
        this.#wakes.delete(wake);
        this.#listen(false);
      },
    };
  }

  [Symbol.dispose](): void {
    this.#wakes.clear();
    this.#listen(false);
  }

  /** A listener keeps the program alive, so there is one only while somebody waits. */
  #listen(on: boolean): void {
    if (!on) {
      this.#listening?.[Symbol.dispose]();
      this.#listening = undefined;
    } else {
      this.#listening ??= this.#inner?.listen((count) => this.add(this.#pass(count)));
    }
  }
}

/** The interrupts of a function behind a tap. */
export class TappedInterrupts extends SwitchedInterrupts<TappedWire> {
  readonly #wires: Map<number, TappedWire>;

  constructor(
    inner: Interrupts,
    pass: Passing,
    switched: (kind: InterruptKind, first: number, count: number) => void,
    onListenerError: (error: unknown) => void,
  ) {
    const wires: Map<number, TappedWire> = new Map();
    const vectors: Map<number, Interrupt> = new Map();
    const line = (): LineInterrupt => vectors.get(0) as LineInterrupt;
    super(
      {
        counts: inner.available,
        growable: inner.growable,
        automasked: true,
        checkRoom: () => undefined,
        open: () => new TappedWire(),
        source: (wire) => wire,
        wake: (wire) => wire.add(1),
        connect(kind, first, added) {
          const count = added.length;
          let opened: readonly Interrupt[];
          if (kind === "intx") opened = [inner.intx()];
          else if (kind === "msi") opened = inner.msi(count);
          else opened = inner.active === "msix" ? inner.addMsix(first, count) : inner.msix(count);
          for (const [i, wire] of added.entries()) {
            const vector = first + i;
            const interrupt = opened[i];
            if (interrupt === undefined) continue;
            vectors.set(vector, interrupt);
            wires.set(vector, wire);
            wire.connect(interrupt, (came) => pass(kind, vector, came));
          }
          switched(kind, first, count);
          return 0;
        },
        disconnect(kind) {
          vectors.clear();
          wires.clear();
          if (inner.active !== "none") inner.disable();
          switched(kind, 0, 0);
        },
        act(_kind, vector, action) {
          if (action === "raise") vectors.get(vector)?.trigger();
          else if (action === "mask") line().mask();
          else line().unmask();
        },
      },
      onListenerError,
    );
    this.#wires = wires;
  }

  /** Raises a vector that is on, as if the function had. */
  raise(vector: number, count: number): void {
    this.#wires.get(vector)?.add(count);
  }
}
