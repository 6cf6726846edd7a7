// How the host learns of completions: NVMe base 2.0, section 3.5.1 and PCIe transport 1.0, section 3.5. MSI-X and MSI are
// messages, one for each batch; the line is a level that stays up while a queue holds entries that the host has not taken.
import type { VirtualInterrupts } from "../../virtual/interrupts.ts";
import type { CompletionQueue } from "./completion-queue.ts";

export class InterruptLines {
  readonly #interrupts: VirtualInterrupts;
  #queues: readonly (CompletionQueue | undefined)[] = [];
  #mask = 0;

  constructor(interrupts: VirtualInterrupts) {
    this.#interrupts = interrupts;
  }

  /** INTMS and INTMC: a bit for each of the first 32 vectors; without effect on MSI-X. */
  get mask(): number {
    return this.#mask;
  }

  set mask(value: number) {
    const unmasked = this.#mask & ~value;
    this.#mask = value >>> 0;
    if (this.#interrupts.mode === "msi") {
      for (const queue of this.#queues) {
        if (queue?.vector !== undefined && queue.used > 0 && bitSet(unmasked, queue.vector)) {
          this.#interrupts.raise(queue.vector);
        }
      }
    } else this.#updateLevel();
  }

  /** Whether the host's taking of entries matters to the line at present. */
  get levelUsed(): boolean {
    return this.#interrupts.asserted;
  }

  /** The completion queues that exist now. */
  watch(queues: readonly (CompletionQueue | undefined)[]): void {
    this.#queues = queues;
    this.#updateLevel();
  }

  /** Tells the host of what was written to `queue`. */
  signal(queue: CompletionQueue): void {
    if (!queue.unsignalled) return;
    queue.unsignalled = false;
    const { vector } = queue;
    if (vector === undefined) return;
    const { mode } = this.#interrupts;
    if (mode === "msix") this.#interrupts.raise(vector);
    else if (mode !== "msi") this.#updateLevel();
    else if (!bitSet(this.#mask, vector)) this.#interrupts.raise(vector);
  }

  /** The host took entries of `queue`. */
  freed(queue: CompletionQueue): void {
    this.signal(queue);
    if (this.levelUsed) this.#updateLevel();
  }

  /** The line of INTx: up while an unmasked queue with interrupts on holds entries and no messages are in use. */
  #updateLevel(): void {
    const { mode } = this.#interrupts;
    const up =
      mode !== "msix" &&
      mode !== "msi" &&
      this.#queues.some((queue) => queue?.vector !== undefined && queue.used > 0 && !bitSet(this.#mask, queue.vector));
    this.#interrupts.level(up);
  }
}

function bitSet(mask: number, vector: number): boolean {
  return vector < 32 && (mask & (1 << vector)) !== 0;
}
