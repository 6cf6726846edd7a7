// INTx, MSI and MSI-X of any back end that delivers them over counters of its own (eventfds): one kind at a time, vectors
// that can be added, and vectors that another thread waits for. What a counter is, the back end says.
import { Ring3Error } from "../binary/error.ts";
import { CountedInterrupt, type SignalSource } from "./counted-interrupt.ts";
import type { Interrupt, Interrupts, LineInterrupt } from "./function.ts";

export type InterruptKind = "intx" | "msi" | "msix";

/** What a back end does for {@link SwitchedInterrupts}; a `Wire` is its counter of signals. */
export interface InterruptControl<Wire extends Disposable> {
  readonly counts: { readonly intx: number; readonly msi: number; readonly msix: number };
  /** Whether MSI-X vectors can be added while others are on. */
  readonly growable: boolean;
  /** Whether the line masks itself at each delivery. */
  readonly automasked: boolean;
  /** Throws where the process has no room for so many wires. */
  checkRoom(count: number): void;
  open(): Wire;
  source(wire: Wire): SignalSource;
  /** Wakes whoever waits on the wire. */
  wake(wire: Wire): void;
  /** Has vectors from `first` on signal `wires`. Returns 0, or how many are available where that is fewer: then none is on. */
  connect(kind: InterruptKind, first: number, wires: readonly Wire[]): number;
  /** Has vectors from `first` on signal eventfds by number. Returns as `connect` does. */
  attach?(kind: InterruptKind, first: number, descriptors: readonly (number | undefined)[]): number;
  /** Switches the whole kind off. */
  disconnect(kind: InterruptKind): void;
  /** Throws `NOT_SUPPORTED` where the back end does not do that. */
  act(kind: InterruptKind, vector: number, action: "mask" | "unmask" | "raise"): void;
}

interface Vector<Wire> {
  readonly wire: Wire;
  readonly interrupt: CountedInterrupt;
}

export class SwitchedInterrupts<Wire extends Disposable> implements Interrupts {
  readonly available: { readonly intx: number; readonly msi: number; readonly msix: number };
  readonly growable: boolean;
  readonly attach:
    | ((kind: InterruptKind, first: number, descriptors: readonly (number | undefined)[]) => void)
    | undefined;
  readonly #control: InterruptControl<Wire>;
  readonly #onListenerError: (error: unknown) => void;
  #vectors: Map<number, Vector<Wire>> = new Map();
  /** Wires of vectors that other threads wait for: kept open until those were told of the end. */
  readonly #lent: Wire[] = [];
  #active: "none" | InterruptKind = "none";
  /** What is on raises somebody else's signals. */
  #attached = false;
  #ended: Ring3Error | undefined;

  constructor(control: InterruptControl<Wire>, onListenerError: (error: unknown) => void) {
    this.#control = control;
    this.#onListenerError = onListenerError;
    this.available = control.counts;
    this.growable = control.growable;
    this.attach =
      control.attach === undefined ? undefined : (kind, first, descriptors) => this.#attach(kind, first, descriptors);
  }

  get active(): "none" | InterruptKind {
    return this.#active;
  }

  intx(): LineInterrupt {
    this.#checkFree();
    if (this.available.intx === 0)
      throw new Ring3Error("NOT_SUPPORTED", "the function has no line interrupt; use MSI or MSI-X");
    const wire = this.#control.open();
    const line = new SwitchedLine(this.#control, wire, this.#onListenerError);
    this.#arm("intx", 0, new Map([[0, { wire, interrupt: line }]]));
    return line;
  }

  msi(count = 1): readonly Interrupt[] {
    this.#checkFree();
    if (!(count >= 1 && count <= 32 && Number.isInteger(Math.log2(count)))) {
      throw new Ring3Error("INTERRUPT_INVALID", `MSI takes 1, 2, 4, 8, 16 or 32 vectors, not ${count}`);
    }
    return this.#switchOn("msi", 0, count, this.available.msi);
  }

  msix(count = 1): readonly Interrupt[] {
    this.#checkFree();
    return this.#switchOn("msix", 0, checkedCount(count), this.available.msix);
  }

  addMsix(first: number, count: number): readonly Interrupt[] {
    this.#checkOpen();
    if (!this.growable) {
      throw new Ring3Error(
        "NOT_SUPPORTED",
        "MSI-X vectors cannot be added here (kernels can from Linux 6.5 on): ask for all at once",
      );
    }
    if (this.#active !== "msix")
      throw new Ring3Error("INTERRUPTS_BUSY", `MSI-X is not on (${this.#active} is): call msix first`);
    if (!(Number.isInteger(first) && first >= 0)) throw new Ring3Error("INTERRUPT_INVALID", `not a vector: ${first}`);
    for (let vector = first; vector < first + checkedCount(count); vector++) {
      if (this.#vectors.has(vector)) throw new Ring3Error("INTERRUPTS_BUSY", `MSI-X vector ${vector} is on already`);
    }
    return this.#switchOn("msix", first, count, this.available.msix);
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

  /** Connects the vectors that are on once more: to a peer that has forgotten them. */
  connectAgain(): void {
    if (this.#active === "none") return;
    const kind = this.#active;
    const numbers = [...this.#vectors.keys()].sort((a, b) => a - b);
    for (let i = 0; i < numbers.length; ) {
      const first = numbers[i] ?? 0;
      const wires: Wire[] = [];
      for (; numbers[i] === first + wires.length; i++)
        wires.push((this.#vectors.get(numbers[i] ?? 0) as Vector<Wire>).wire);
      const granted = this.#control.connect(kind, first, wires);
      if (granted > 0) throw tooMany(kind, first + wires.length, granted);
    }
  }

  /** Signals every vector that is on, so that whoever waits looks for what it may have missed. */
  wakeAll(): void {
    for (const { wire } of this.#vectors.values()) this.#control.wake(wire);
  }

  /**
   * Gives a vector to another thread: its wire, which the caller must not dispose. Here the vector throws `INTERRUPT_LENT`
   * from now on. Throws `INTERRUPTS_BUSY` while somebody waits for it here.
   */
  lendWire(vector: number): Wire {
    this.#checkOpen();
    const found = this.#vectors.get(vector);
    if (found === undefined)
      throw new Ring3Error("INTERRUPT_INVALID", `vector ${vector} is not on; switch it on before lending it`);
    found.interrupt.lend();
    this.#lent.push(found.wire);
    return found.wire;
  }

  /** Wakes the threads that borrowed vectors, so that they see what became of the function. */
  wakeBorrowers(): void {
    for (const wire of this.#lent.splice(0)) {
      this.#control.wake(wire);
      wire[Symbol.dispose]();
    }
  }

  #attach(kind: InterruptKind, first: number, descriptors: readonly (number | undefined)[]): void {
    this.#checkOpen();
    if (!this.#attached || this.#active !== kind) this.#checkFree();
    const available = this.available[kind];
    if (first + descriptors.length > available) throw tooMany(kind, first + descriptors.length, available);
    const granted = this.#control.attach?.(kind, first, descriptors) ?? 0;
    if (granted > 0) throw tooMany(kind, first + descriptors.length, granted);
    this.#active = kind;
    this.#attached = true;
  }

  #switchOn(kind: "msi" | "msix", first: number, count: number, available: number): readonly Interrupt[] {
    if (first + count > available) throw tooMany(kind, first + count, available);
    this.#control.checkRoom(count);
    const vectors: Map<number, Vector<Wire>> = new Map();
    for (let vector = first; vector < first + count; vector++) {
      const wire = this.#control.open();
      const raise = (): void => this.#control.act(kind, vector, "raise");
      const source = this.#control.source(wire);
      vectors.set(vector, { wire, interrupt: new CountedInterrupt(vector, source, raise, this.#onListenerError) });
    }
    this.#arm(kind, first, vectors);
    return Array.from(vectors.values(), ({ interrupt }) => interrupt);
  }

  #arm(kind: InterruptKind, first: number, vectors: Map<number, Vector<Wire>>): void {
    try {
      const wires = Array.from(vectors.values(), ({ wire }) => wire);
      const granted = this.#control.connect(kind, first, wires);
      if (granted > 0) throw tooMany(kind, first + vectors.size, granted);
    } catch (error) {
      for (const { wire } of vectors.values()) wire[Symbol.dispose]();
      throw error;
    }
    this.#active = kind;
    for (const [vector, entry] of vectors) this.#vectors.set(vector, entry);
  }

  #disable(reason: Ring3Error): void {
    if (this.#active === "none") return;
    const kind = this.#active;
    this.#active = "none";
    this.#attached = false;
    const vectors = this.#vectors;
    this.#vectors = new Map();
    try {
      this.#control.disconnect(kind);
    } finally {
      for (const { interrupt, wire } of vectors.values()) {
        interrupt.close(reason);
        if (!this.#lent.includes(wire)) wire[Symbol.dispose]();
      }
    }
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

/** The line interrupt: level-triggered, so it is masked at each delivery and somebody has to unmask it. */
class SwitchedLine<Wire extends Disposable> extends CountedInterrupt implements LineInterrupt {
  readonly automasked: boolean;
  readonly #control: InterruptControl<Wire>;
  #on = true;

  constructor(control: InterruptControl<Wire>, wire: Wire, onListenerError: (error: unknown) => void) {
    super(0, control.source(wire), () => control.act("intx", 0, "raise"), onListenerError);
    this.#control = control;
    this.automasked = control.automasked;
  }

  mask(): void {
    this.#act("mask");
  }

  unmask(): void {
    this.#act("unmask");
  }

  override close(error: Ring3Error): void {
    this.#on = false;
    super.close(error);
  }

  #act(action: "mask" | "unmask"): void {
    if (!this.#on) throw new Ring3Error("INTERRUPT_CLOSED", "the line interrupt was switched off");
    this.#control.act("intx", 0, action);
  }
}

function checkedCount(count: number): number {
  if (Number.isInteger(count) && count >= 1) return count;
  throw new Ring3Error("INTERRUPT_INVALID", `not a number of vectors: ${count}`);
}

function tooMany(kind: string, wanted: number, available: number): Ring3Error {
  return new Ring3Error(
    "TOO_MANY_VECTORS",
    `${wanted} ${kind.toUpperCase()} vectors were asked for, ${available} are available`,
  );
}
