// Interrupts of a fake function: raised from JavaScript, delivered in a later turn of the event loop as an eventfd's are.
import { Ring3Error } from "../../packages/ring3/src/binary/error.ts";
import {
  CountedInterrupt,
  type SignalSource,
  type SignalWatch,
} from "../../packages/ring3/src/pci/counted-interrupt.ts";
import type { Interrupt, Interrupts, LineInterrupt } from "../../packages/ring3/src/pci/function.ts";

class Signal implements SignalSource {
  #count = 0;
  readonly #watchers: Set<() => void> = new Set();

  raise(): void {
    this.#count++;
    this.#wake();
  }

  take(): number {
    const count = this.#count;
    this.#count = 0;
    return count;
  }

  watch(wake: () => void): SignalWatch {
    this.#watchers.add(wake);
    if (this.#count > 0) this.#wake();
    return { ref() {}, unref() {}, [Symbol.dispose]: () => void this.#watchers.delete(wake) };
  }

  #wake(): void {
    if (this.#watchers.size === 0) return;
    setImmediate(() => {
      if (this.#count > 0) for (const wake of [...this.#watchers]) wake();
    });
  }
}

/** The line: a level, masked by each delivery. */
class FakeLine extends CountedInterrupt implements LineInterrupt {
  readonly automasked: boolean = true;
  readonly signal: Signal;
  #level = false;
  #masked = false;

  constructor(signal: Signal, onListenerError: (error: unknown) => void) {
    super(0, signal, () => signal.raise(), onListenerError);
    this.signal = signal;
  }

  level(up: boolean): void {
    this.#level = up;
    this.#deliver();
  }

  mask(): void {
    this.#masked = true;
  }

  unmask(): void {
    this.#masked = false;
    this.#deliver();
  }

  #deliver(): void {
    if (!this.#level || this.#masked) return;
    this.#masked = true;
    this.signal.raise();
  }
}

interface Vector {
  readonly signal: Signal;
  readonly interrupt: CountedInterrupt;
}

export class FakeInterrupts implements Interrupts {
  readonly available: { readonly intx: number; readonly msi: number; readonly msix: number };
  readonly growable: boolean = true;
  /** Vectors that MSI-X grants at most, to play a kernel that is short of them. */
  grantedVectors: number = Number.POSITIVE_INFINITY;
  readonly #check: () => void;
  readonly #onListenerError: (error: unknown) => void;
  #active: "none" | "intx" | "msi" | "msix" = "none";
  #vectors: Vector[] = [];
  #line: FakeLine | undefined;
  #level = false;

  constructor(
    available: { readonly intx: number; readonly msi: number; readonly msix: number },
    check: () => void,
    onListenerError: (error: unknown) => void,
  ) {
    this.available = available;
    this.#check = check;
    this.#onListenerError = onListenerError;
  }

  get active(): "none" | "intx" | "msi" | "msix" {
    return this.#active;
  }

  intx(): LineInterrupt {
    this.#checkFree();
    if (this.available.intx === 0) throw new Ring3Error("NOT_SUPPORTED", "the function has no line interrupt");
    this.#line = new FakeLine(new Signal(), this.#onListenerError);
    this.#active = "intx";
    this.#line.level(this.#level);
    return this.#line;
  }

  msi(count = 1): readonly Interrupt[] {
    if (!(count >= 1 && count <= 32 && Number.isInteger(Math.log2(count))))
      throw new RangeError(`${count} MSI vectors`);
    return this.#vectorsOf("msi", count);
  }

  msix(count: number = this.available.msix): readonly Interrupt[] {
    if (!(Number.isInteger(count) && count >= 1)) throw new RangeError(`${count} MSI-X vectors`);
    return this.#vectorsOf("msix", count);
  }

  addMsix(first: number, count: number): readonly Interrupt[] {
    this.#check();
    if (this.#active !== "msix" || first !== this.#vectors.length) {
      throw new Ring3Error("INTERRUPTS_BUSY", `vector ${first} is not the next`);
    }
    this.#room("msix", first + count);
    return this.#add(count);
  }

  disable(): void {
    for (const { interrupt } of this.#vectors) interrupt[Symbol.dispose]();
    this.#line?.[Symbol.dispose]();
    this.#vectors = [];
    this.#line = undefined;
    this.#active = "none";
  }

  close(error: Ring3Error): void {
    for (const { interrupt } of this.#vectors) interrupt.close(error);
    this.#line?.close(error);
    this.disable();
  }

  /** The device's side: raises a message. */
  raise(vector: number): void {
    this.#vectors[vector]?.signal.raise();
  }

  /** The device's side: the level of the line. */
  level(up: boolean): void {
    this.#level = up;
    this.#line?.level(up);
  }

  #vectorsOf(kind: "msi" | "msix", count: number): readonly Interrupt[] {
    this.#checkFree();
    this.#room(kind, count);
    this.#active = kind;
    return this.#add(count);
  }

  #room(kind: "msi" | "msix", count: number): void {
    const room = Math.min(this.available[kind], this.grantedVectors);
    if (count > room) throw new Ring3Error("TOO_MANY_VECTORS", `${room} ${kind} vectors are available, not ${count}`);
  }

  #add(count: number): readonly Interrupt[] {
    const first = this.#vectors.length;
    for (let i = first; i < first + count; i++) {
      const signal = new Signal();
      const interrupt = new CountedInterrupt(i, signal, () => signal.raise(), this.#onListenerError);
      this.#vectors.push({ signal, interrupt });
    }
    return this.#vectors.slice(first).map(({ interrupt }) => interrupt);
  }

  #checkFree(): void {
    this.#check();
    if (this.#active !== "none") throw new Ring3Error("INTERRUPTS_BUSY", `${this.#active} is on; disable it first`);
  }
}
