// Which interrupt tells of which queue: MSI-X with a vector for each queue as far as there are, and one for everything else; or
// MSI or the line, whose one interrupt may mean any queue. Hard about the line: it stays up until its causes are read, and the
// back end has masked it.
import { isRing3Error } from "../../binary/error.ts";
import type { Interrupt, LineInterrupt, PciFunction } from "../../pci/function.ts";

export type InterruptKind = "msix" | "msi" | "intx" | "none";

/** How a device is told about its interrupts. */
export interface InterruptSource {
  /** The one interrupt of MSI or INTx, or the MSI-X vector of everything else, came. */
  acknowledge(): { readonly receive: boolean };
  /** The queue's interrupt came: none more until it is armed again. */
  quiet(queue: number): void;
}

/** What an interrupt leads to. */
export interface InterruptTargets {
  /** Packets may wait in the queue. */
  queue(index: number): void;
  /** Something else happened. */
  other(): void;
}

export class NetInterrupts implements Disposable {
  readonly #fn: PciFunction;
  readonly #source: InterruptSource;
  readonly #targets: InterruptTargets;
  readonly #queues: number;
  #kind: InterruptKind;
  #interrupts: readonly Interrupt[] = [];
  #listening: Disposable[] = [];

  /** `queues`: how many are waited for, each with a vector of its own where there are as many. */
  constructor(
    fn: PciFunction,
    source: InterruptSource,
    options: { readonly kind: InterruptKind | undefined; readonly queues: number },
    targets: InterruptTargets,
  ) {
    const { msix, msi, intx } = fn.interrupts.available;
    this.#fn = fn;
    this.#source = source;
    this.#targets = targets;
    this.#queues = options.queues;
    this.#kind = options.kind ?? (msix > 1 ? "msix" : msi > 0 ? "msi" : intx > 0 ? "intx" : "none");
  }

  get kind(): InterruptKind {
    return this.#kind;
  }

  /** The MSI-X vector of a queue, `undefined` where nobody waits for it. */
  vectorOf(queue: number): number | undefined {
    return queue < this.#queues ? queue % Math.max(1, this.#interrupts.length - 1) : undefined;
  }

  /** The MSI-X vector of everything else. */
  get otherVector(): number {
    return Math.max(0, this.#interrupts.length - 1);
  }

  /** Switches the interrupts on, at first and again after a function reset, which switches them off. */
  open(): void {
    this.close();
    if (this.#kind === "none") return;
    const { interrupts } = this.#fn;
    if (this.#kind === "msix") this.#interrupts = this.#vectors();
    else this.#interrupts = this.#kind === "msi" ? interrupts.msi(1) : [interrupts.intx()];
    this.#listening = this.#interrupts.map((interrupt, vector) => interrupt.listen(() => this.#deliver(vector)));
  }

  #vectors(): readonly Interrupt[] {
    const { interrupts } = this.#fn;
    let count = Math.min(this.#queues + 1, interrupts.available.msix);
    for (;;) {
      try {
        return interrupts.msix(count);
      } catch (error) {
        if (!isRing3Error(error, "TOO_MANY_VECTORS") || count <= 2) throw error;
        count = Math.max(2, Math.floor(count / 2));
      }
    }
  }

  #deliver(vector: number): void {
    try {
      if (this.#kind === "msix" && vector !== this.otherVector) {
        for (let queue = 0; queue < this.#queues; queue++) {
          if (this.vectorOf(queue) === vector) this.#wake(queue);
        }
        return;
      }
      const { receive } = this.#source.acknowledge();
      const shared = this.#kind === "msix" && this.#interrupts.length === 1;
      if (receive || shared) for (let queue = 0; queue < this.#queues; queue++) this.#wake(queue);
      this.#targets.other();
      if (this.#kind === "intx") (this.#interrupts[0] as LineInterrupt | undefined)?.unmask();
    } catch (error) {
      // The registers went away under the handler: the removal event says so.
      if (!isRing3Error(error)) throw error;
    }
  }

  #wake(queue: number): void {
    this.#source.quiet(queue);
    this.#targets.queue(queue);
  }

  close(): void {
    for (const listening of this.#listening) listening[Symbol.dispose]();
    this.#listening = [];
    this.#interrupts = [];
    this.#fn.interrupts.disable();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
