// GET_IRQ_INFO and SET_IRQS: a client's eventfds as signals of the function's interrupts. Descriptors come in chunks, a
// message without any takes signals away, and one that is no eventfd could block whoever signals it, so it is refused. Of
// several clients the one that set a vector last has it, and only what a client has is taken away with it.
import { becomesSignal, EventFd, eventSignals, type FileDescriptor, type Watch } from "../linux/index.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import type { InterruptKind, InterruptSink } from "../virtual/interrupts.ts";
import { closeAll } from "./framing.ts";
import { IRQ_COUNT, Irq, IrqFlag, IrqInfo, IrqSet, IrqSetFlag } from "./messages.ts";
import type { NoticeKind } from "./server-notices.ts";
import type { Occupancy } from "./server-occupancy.ts";
import { checkPayload, refusal } from "./server-refusal.ts";
import type { Counters } from "./server-statistics.ts";
import type { ServerSight } from "./server-watch.ts";

const KINDS: readonly InterruptKind[] = ["intx", "msi", "msix", "error", "request"];
const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } = IrqSetFlag;

/** A client's eventfd, and how the function signals it. */
interface Signal {
  readonly event: EventFd;
  readonly sink: InterruptSink;
}

export class ServerInterrupts implements Disposable {
  readonly #fn: VirtualFunction;
  readonly #occupancy: Occupancy;
  readonly #counters: Counters;
  readonly #beforeSignal: () => void;
  readonly #sight: ServerSight;
  /** The client's eventfds by kind and vector. */
  readonly #signals: readonly Map<number, Signal>[] = KINDS.map(() => new Map<number, Signal>());
  /** Signalled when the line is masked; a signal of the other unmasks it, as the kernel's does for KVM's resampling. */
  #maskSignal: EventFd | undefined;
  #unmaskSignal: { readonly event: EventFd; readonly watch: Watch } | undefined;

  /** `beforeSignal` is called before the client learns of an interrupt. */
  constructor(
    fn: VirtualFunction,
    occupancy: Occupancy,
    counters: Counters,
    beforeSignal: () => void,
    sight: ServerSight = {},
  ) {
    this.#sight = sight;
    this.#fn = fn;
    this.#occupancy = occupancy;
    this.#counters = counters;
    this.#beforeSignal = beforeSignal;
  }

  info(payload: Uint8Array): Uint8Array {
    checkPayload(payload, IrqInfo.size, "GET_IRQ_INFO");
    const { argsz, index } = IrqInfo.from(payload);
    if (argsz < IrqInfo.size) throw refusal("EINVAL", `argsz ${argsz} is less than ${IrqInfo.size}`);
    const count = this.#count(index);
    const line = IrqFlag.EVENTFD | IrqFlag.MASKABLE | IrqFlag.AUTOMASKED;
    // MSI-X vectors can be added one by one, so that only it says nothing of sets.
    const flags = index === Irq.INTX ? line : index === Irq.MSIX ? IrqFlag.EVENTFD : IrqFlag.EVENTFD | IrqFlag.NORESIZE;
    return IrqInfo.bytes({ argsz: IrqInfo.size, flags, index, count });
  }

  set(payload: Uint8Array, fds: readonly FileDescriptor[]): void {
    const unused = new Set(fds);
    try {
      checkPayload(payload, IrqSet.size, "SET_IRQS");
      const { argsz, flags, index, start, count } = IrqSet.from(payload);
      if (argsz < IrqSet.size) throw refusal("EINVAL", `argsz ${argsz} is less than ${IrqSet.size}`);
      const data = flags & IrqSetFlag.DATA_MASK;
      const action = flags & IrqSetFlag.ACTION_MASK_BITS;
      if ((flags & ~(IrqSetFlag.DATA_MASK | IrqSetFlag.ACTION_MASK_BITS)) !== 0 || !one(data) || !one(action)) {
        throw refusal("EINVAL", `flags 0x${flags.toString(16)} do not name one kind of data and one action`);
      }
      const available = this.#count(index);
      if (start > available || count > available - start) {
        throw refusal("EINVAL", `interrupts ${start} to ${start + count} of ${available}`);
      }
      if (fds.length > 0 && data !== DATA_EVENTFD) throw refusal("EINVAL", "descriptors without the flag for them");
      if (count === 0) {
        if (data !== DATA_NONE || action !== ACTION_TRIGGER || start !== 0) {
          throw refusal("EINVAL", "a count of 0 disables: start 0, no data, the action trigger");
        }
        this.#disable(index);
      } else if (data === DATA_EVENTFD) {
        if (fds.length !== 0 && fds.length !== count) {
          throw refusal("EINVAL", `${fds.length} descriptors for ${count} interrupts`);
        }
        this.#setSignals(index, action, start, count, fds, unused);
      } else {
        const bools = data === DATA_BOOL ? payload.subarray(IrqSet.size) : undefined;
        if (bools !== undefined && bools.length < count)
          throw refusal("EINVAL", `${bools.length} of ${count} booleans`);
        for (let i = 0; i < count; i++) {
          if (bools === undefined || bools[i] !== 0) this.#act(index, action, start + i);
        }
      }
    } finally {
      closeAll([...unused]);
    }
  }

  /** The client's signals go, and those of others stay. */
  [Symbol.dispose](): void {
    try {
      for (const [index, signals] of this.#signals.entries()) {
        if (this.#release(index, signals)) this.#fn.interrupts.disconnect(KINDS[index] as InterruptKind);
      }
    } finally {
      for (const index of this.#signals.keys()) this.#forget(index);
    }
  }

  #count(index: number): number {
    if (index >= IRQ_COUNT) throw refusal("EINVAL", `there is no interrupt index ${index}`);
    const { intx, msi, msix } = this.#fn.interrupts.available;
    return [intx, msi, msix, 1, 1][index] as number;
  }

  #disable(index: number): void {
    const { interrupts } = this.#fn;
    const kind = KINDS[index] as InterruptKind;
    // Whoever is alone has all that there is.
    const all = this.#occupancy.alone && !isNotice(kind);
    if (!all) this.#release(index, this.#signals[index] as Map<number, Signal>);
    if (all || !interrupts.anyConnected(kind)) interrupts.disconnect(kind);
    this.#forget(index);
  }

  /** Takes signals away that are the client's still; `true` where those were the last of their kind. */
  #release(index: number, signals: ReadonlyMap<number, Signal>): boolean {
    const kind = KINDS[index] as InterruptKind;
    const sinks = new Map(Array.from(signals, ([vector, { sink }]) => [vector, sink]));
    if (!isNotice(kind)) return this.#fn.interrupts.release(kind, sinks);
    for (const sink of sinks.values()) this.#occupancy.notices.remove(kind, sink);
    return false;
  }

  #forget(index: number): void {
    const signals = this.#signals[index] as Map<number, Signal>;
    for (const { event } of signals.values()) event[Symbol.dispose]();
    signals.clear();
    if (index === Irq.INTX) this.#dropLineSignals();
  }

  #setSignals(
    index: number,
    action: number,
    start: number,
    count: number,
    fds: readonly FileDescriptor[],
    unused: Set<FileDescriptor>,
  ): void {
    for (const fd of fds) {
      if (!becomesSignal(fd)) throw refusal("EINVAL", "a descriptor is no eventfd");
    }
    if (action !== ACTION_TRIGGER) {
      if (index !== Irq.INTX) throw refusal("ENOTTY", "only INTx is masked by signals");
      this.#setLineSignal(action, fds[0], unused);
      return;
    }
    const kind = KINDS[index] as InterruptKind;
    const signals = this.#signals[index] as Map<number, Signal>;
    const added = fds.map((fd, i): Signal => {
      const event = new EventFd(fd);
      return { event, sink: this.#sinkOf(event, kind, start + i) };
    });
    const before = new Map<number, Signal>();
    for (let vector = start; vector < start + count; vector++) {
      const signal = signals.get(vector);
      if (signal !== undefined) before.set(vector, signal);
    }
    if (isNotice(kind)) {
      this.#release(index, before);
      for (const { sink } of added) this.#occupancy.notices.add(kind, sink);
    } else if (added.length === 0 && !this.#occupancy.alone) this.#release(index, before);
    else {
      const sinks = Array.from({ length: count }, (_, i) => added[i]?.sink);
      // Refused as a whole: the descriptors are still the message's then.
      this.#fn.interrupts.connectAll(kind, start, sinks);
    }
    for (const [vector, { event }] of before) {
      signals.delete(vector);
      event[Symbol.dispose]();
    }
    for (const [i, signal] of added.entries()) {
      unused.delete(signal.event.fd);
      signals.set(start + i, signal);
    }
  }

  #sinkOf(event: EventFd, kind: InterruptKind, vector: number): InterruptSink {
    const line = kind === "intx";
    const { between, watch } = this.#sight;
    const deliver = (): void => {
      this.#counters.interrupts++;
      this.#beforeSignal();
      watch?.signal(kind, vector);
      if (!event.fd.closed) eventSignals().signal(event.fd.number);
      // Each delivery masks the line.
      if (line) this.#signalMask();
    };
    return {
      // Whoever raises the descriptor past `signal` would go unseen.
      ...(watch === undefined && between === undefined ? { descriptor: event.fd.number } : {}),
      signal: between === undefined ? deliver : () => between.signal(kind, vector, deliver),
    };
  }

  #setLineSignal(action: number, fd: FileDescriptor | undefined, unused: Set<FileDescriptor>): void {
    if (action === ACTION_MASK) {
      this.#maskSignal?.[Symbol.dispose]();
      this.#maskSignal = undefined;
      if (fd === undefined) return;
      unused.delete(fd);
      this.#maskSignal = new EventFd(fd);
      return;
    }
    this.#unmaskSignal?.watch[Symbol.dispose]();
    this.#unmaskSignal?.event[Symbol.dispose]();
    this.#unmaskSignal = undefined;
    if (fd === undefined) return;
    unused.delete(fd);
    const event = new EventFd(fd, { foreign: true });
    const watch = event.watch(() => this.#fn.interrupts.unmaskLine(), { keepsAlive: false });
    this.#unmaskSignal = { event, watch };
  }

  #act(index: number, action: number, vector: number): void {
    if (action === ACTION_TRIGGER) this.#fn.interrupts.trigger(KINDS[index] as InterruptKind, vector);
    else if (index !== Irq.INTX)
      throw refusal("ENOTTY", "only INTx can be masked; MSI and MSI-X have masks of their own");
    else if (action === ACTION_UNMASK) this.#fn.interrupts.unmaskLine();
    else {
      this.#fn.interrupts.maskLine();
      this.#signalMask();
    }
  }

  #signalMask(): void {
    if (this.#maskSignal !== undefined) eventSignals().signal(this.#maskSignal.fd.number);
  }

  #dropLineSignals(): void {
    this.#maskSignal?.[Symbol.dispose]();
    this.#maskSignal = undefined;
    this.#unmaskSignal?.watch[Symbol.dispose]();
    this.#unmaskSignal?.event[Symbol.dispose]();
    this.#unmaskSignal = undefined;
  }
}

function isNotice(kind: InterruptKind): kind is NoticeKind {
  return kind === "error" || kind === "request";
}

function one(bits: number): boolean {
  return bits !== 0 && (bits & (bits - 1)) === 0;
}
