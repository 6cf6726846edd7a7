// Which interrupt tells of which queue: MSI-X where there is, else MSI, else the line. Queues share vectors where there
// are fewer. Hard about the line: it stays up until every completion queue is acknowledged, and the back end masked it.
import { isRing3Error } from "../../binary/error.ts";
import type { Interrupt, LineInterrupt, PciFunction } from "../../pci/function.ts";

export type InterruptKind = "msix" | "msi" | "intx" | "none";

export class QueueInterrupts implements Disposable {
  readonly #fn: PciFunction;
  readonly #wanted: number;
  readonly #listeners: Set<{ readonly queueId: number; readonly look: () => void }> = new Set();
  #kind: InterruptKind;
  #interrupts: readonly Interrupt[] = [];
  #listening: Disposable[] = [];

  /** `wanted`: vectors that would be used if the function has them. */
  constructor(fn: PciFunction, kind: InterruptKind | "best", wanted: number) {
    this.#fn = fn;
    this.#wanted = Math.max(1, wanted);
    const { msix, msi, intx } = fn.interrupts.available;
    this.#kind = kind !== "best" ? kind : msix > 0 ? "msix" : msi > 0 ? "msi" : intx > 0 ? "intx" : "none";
    this.open();
  }

  get kind(): InterruptKind {
    return this.#kind;
  }

  /** The vector that a queue's completions are to raise. */
  vectorOf(queueId: number): number {
    return this.#interrupts.length === 0 ? 0 : queueId % this.#interrupts.length;
  }

  /** Switches the interrupts on, at first and again after a function reset, which switches them off. */
  open(): void {
    this.close();
    const { interrupts } = this.#fn;
    if (this.#kind === "intx") this.#interrupts = [interrupts.intx()];
    else if (this.#kind !== "none") this.#interrupts = this.#vectors(this.#kind);
    this.#listening = this.#interrupts.map((interrupt, vector) => interrupt.listen(() => this.#deliver(vector)));
  }

  #vectors(kind: "msix" | "msi"): readonly Interrupt[] {
    const { interrupts } = this.#fn;
    let count = Math.min(this.#wanted, interrupts.available[kind]);
    if (kind === "msi") count = 2 ** Math.floor(Math.log2(count));
    for (;;) {
      try {
        return kind === "msix" ? interrupts.msix(count) : interrupts.msi(count);
      } catch (error) {
        if (!isRing3Error(error, "TOO_MANY_VECTORS") || count <= 1) throw error;
        count = kind === "msi" ? count / 2 : Math.ceil(count / 2);
      }
    }
  }

  /** Calls `look` when the queue may have completions. */
  connect(queueId: number, look: () => void): Disposable {
    const listener = { queueId, look };
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  #deliver(vector: number): void {
    const line = this.#kind === "intx" ? (this.#interrupts[0] as LineInterrupt | undefined) : undefined;
    for (const { queueId, look } of this.#listeners) {
      if (line !== undefined || this.vectorOf(queueId) === vector) look();
    }
    try {
      line?.unmask();
    } catch {
      // The function went away under the handler; its removal event says so.
    }
  }

  /** Whether an open call is needed: a reset by somebody else switched the interrupts off. */
  get lost(): boolean {
    return this.#kind !== "none" && this.#fn.interrupts.active !== this.#kind;
  }

  close(): void {
    for (const listening of this.#listening) listening[Symbol.dispose]();
    this.#listening = [];
    this.#interrupts = [];
    this.#fn.interrupts.disable();
  }

  [Symbol.dispose](): void {
    this.close();
    this.#listeners.clear();
  }
}
