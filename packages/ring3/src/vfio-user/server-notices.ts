// What a function tells whoever uses it besides its own interrupts: an error, or that it is wanted back. With several clients
// all of them are told.
import type { InterruptSink, VirtualInterrupts } from "../virtual/interrupts.ts";

export type NoticeKind = "error" | "request";

/** Signals of the clients that there are now. */
export class Notices {
  readonly #interrupts: VirtualInterrupts;
  readonly #sinks: Readonly<Record<NoticeKind, Set<InterruptSink>>> = { error: new Set(), request: new Set() };

  constructor(interrupts: VirtualInterrupts) {
    this.#interrupts = interrupts;
  }

  add(kind: NoticeKind, sink: InterruptSink): void {
    const sinks = this.#sinks[kind];
    sinks.add(sink);
    // Whoever is told may leave at once.
    const signal = (): void => [...sinks].forEach((one) => one.signal());
    if (!this.#interrupts.connected(kind)) this.#interrupts.connect(kind, 0, { signal });
  }

  remove(kind: NoticeKind, sink: InterruptSink): void {
    const sinks = this.#sinks[kind];
    if (sinks.delete(sink) && sinks.size === 0) this.#interrupts.disconnect(kind);
  }
}
