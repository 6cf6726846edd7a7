// Interrupts of a mediated function. Where the user's signal is an eventfd and nobody watches, the real function raises it
// itself and no code runs here; otherwise each interrupt is heard and passed on. Hard about it: the user adds vectors one by
// one, and real functions differ in whether they can.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import type { Interrupt, Interrupts, LineInterrupt } from "../pci/function.ts";
import type { VirtualConfig } from "../virtual/config.ts";
import { type InterruptKind, type InterruptSink, VirtualInterrupts } from "../virtual/interrupts.ts";
import type { Observers } from "./observer.ts";

type Kind = "intx" | "msi" | "msix";

export interface MediatedInterruptsParts {
  readonly real: Interrupts;
  readonly observers: Observers;
  readonly failed: (error: unknown) => void;
  /** Whether somebody has the function. */
  readonly inUse: () => boolean;
}

export class MediatedInterrupts extends VirtualInterrupts {
  readonly #real: Interrupts;
  readonly #observers: Observers;
  readonly #failed: (error: unknown) => void;
  readonly #inUse: () => boolean;
  /** What the user connected, by vector, of the kind that is on. */
  readonly #signals = new Map<number, InterruptSink>();
  readonly #listening = new Map<number, Disposable>();
  #kind: Kind | undefined;
  #direct = false;
  /** Vectors that are on in the real function. */
  #count = 0;
  #line: LineInterrupt | undefined;
  /** Those that are heard here. */
  #vectors: Interrupt[] = [];

  constructor(config: VirtualConfig, { real, observers, failed, inUse }: MediatedInterruptsParts) {
    super(config);
    this.#real = real;
    this.#observers = observers;
    this.#failed = failed;
    this.#inUse = inUse;
  }

  /** Signals of MSI that are connected, up to the last. */
  get msiConnected(): number {
    return this.#kind === "msi" ? this.#count : 0;
  }

  /** Whether the real function raises the user's eventfds itself. */
  get direct(): boolean {
    return this.#direct;
  }

  override connect(kind: InterruptKind, vector: number, sink: InterruptSink | undefined): void {
    this.connectAll(kind, vector, [sink]);
  }

  override connectAll(kind: InterruptKind, first: number, sinks: readonly (InterruptSink | undefined)[]): void {
    const count = this.count(kind);
    if (!(Number.isInteger(first) && first >= 0 && first + sinks.length <= count)) {
      throw new Ring3Error(
        "INTERRUPT_INVALID",
        `${kind} has ${count} vectors, and not ${first} to ${first + sinks.length - 1}`,
        {
          errno: "EINVAL",
        },
      );
    }
    if (kind === "error" || kind === "request") {
      for (const [i, sink] of sinks.entries()) super.connect(kind, first + i, sink);
      return;
    }
    if (this.#kind !== undefined && this.#kind !== kind) {
      throw new Ring3Error("INTERRUPTS_BUSY", `${this.#kind} is on; switch it off before ${kind}`, { errno: "EINVAL" });
    }
    if (!this.#inUse()) {
      throw new Ring3Error("FUNCTION_REMOVED", "the function is not this user's any more", { errno: "ENODEV" });
    }
    const before = new Map(this.#signals);
    for (const [i, sink] of sinks.entries()) {
      if (sink === undefined) this.#signals.delete(first + i);
      else this.#signals.set(first + i, sink);
    }
    try {
      if (this.#kind !== undefined || this.#signals.size > 0) this.#arm(kind, first, sinks.length);
    } catch (error) {
      this.#signals.clear();
      for (const [vector, sink] of before) this.#signals.set(vector, sink);
      throw refused(error);
    }
    for (const [i, sink] of sinks.entries()) {
      super.connect(kind, first + i, sink);
      if (this.#observers.wants("interrupt")) {
        const change = sink === undefined ? "disconnected" : "connected";
        this.#observers.tell("interrupt", { kind: change, interrupt: kind, vector: first + i, count: 1 });
      }
    }
    this.refresh();
  }

  override disconnect(kind: InterruptKind): void {
    if (kind === this.#kind) {
      this.#disarm();
      this.#signals.clear();
      if (this.#observers.wants("interrupt")) {
        this.#observers.tell("interrupt", { kind: "disconnected", interrupt: kind, vector: 0, count: 1 });
      }
    }
    super.disconnect(kind);
  }

  override forget(): void {
    this.disconnectAll();
  }

  override maskLine(): void {
    super.maskLine();
    this.#act(() => this.#line?.mask());
    this.#tellLine("masked");
  }

  override unmaskLine(): void {
    // Whether the level is still up is the real line's to say: it fires again then.
    this.level(false);
    super.unmaskLine();
    this.#act(() => this.#line?.unmask());
    this.#tellLine("unmasked");
  }

  /** The function was reset, and whoever did gave its state back: signals stay as they are. */
  override reset(): void {
    this.level(false);
  }

  /** Somebody began or ceased to watch interrupts. */
  followObservers(): void {
    if (this.#kind === undefined || this.#direct === this.#mayBeDirect(this.#kind)) return;
    this.#rearm();
  }

  /** Sets the real function up again as it was, after a reset that its back end did not hide. */
  armAgain(lost: Readonly<Record<Kind, boolean>>): void {
    const kind = this.#kind;
    if (kind === undefined) return;
    if (lost[kind]) this.#rearm();
    // The user's copy of the registers may have forgotten that they are on; signals are connected still.
    for (const [vector, sink] of this.#signals) super.connect(kind, vector, sink);
  }

  // ---- the real function's side

  #mayBeDirect(kind: Kind): boolean {
    if (kind === "intx" || this.#real.attach === undefined || this.#observers.wants("interrupt")) return false;
    for (const { descriptor } of this.#signals.values()) if (descriptor === undefined) return false;
    return true;
  }

  #arm(kind: Kind, first: number, count: number): void {
    const direct = this.#mayBeDirect(kind);
    const end = Math.max(...Array.from(this.#signals.keys(), (vector) => vector + 1), this.#count, first + count);
    if (this.#kind === undefined) {
      this.#switchOn(kind, direct, end);
    } else if (direct !== this.#direct || (end > this.#count && !this.#growable(kind))) {
      this.#disarm();
      this.#switchOn(kind, direct, end);
      this.#wakeAll();
    } else {
      if (!direct && end > this.#count) this.#vectors.push(...this.#real.addMsix(this.#count, end - this.#count));
      this.#count = Math.max(this.#count, end);
      if (direct) this.#attach(kind, first, count);
      else for (let vector = first; vector < first + count; vector++) this.#listen(kind, vector);
    }
  }

  #switchOn(kind: Kind, direct: boolean, end: number): void {
    const count = kind === "msi" ? 2 ** Math.ceil(Math.log2(end)) : end;
    this.#count = count;
    this.#direct = direct;
    try {
      if (direct) this.#attach(kind, 0, count);
      else
        this.#vectors =
          kind === "intx"
            ? [this.#openLine()]
            : Array.from(kind === "msi" ? this.#real.msi(count) : this.#real.msix(count));
    } catch (error) {
      this.#count = 0;
      this.#direct = false;
      throw error;
    }
    this.#kind = kind;
    if (!direct) for (let vector = 0; vector < count; vector++) this.#listen(kind, vector);
  }

  #openLine(): LineInterrupt {
    this.#line = this.#real.intx();
    return this.#line;
  }

  /** Whether vectors can be added to those that are on. */
  #growable(kind: Kind): boolean {
    return kind === "msix" && this.#real.growable;
  }

  #attach(kind: "intx" | "msi" | "msix", first: number, count: number): void {
    const numbers = Array.from({ length: count }, (_, i) => this.#signals.get(first + i)?.descriptor);
    this.#real.attach?.(kind, first, numbers);
  }

  #listen(kind: Kind, vector: number): void {
    this.#listening.get(vector)?.[Symbol.dispose]();
    this.#listening.delete(vector);
    if (!this.#signals.has(vector)) return;
    const interrupt = this.#vectors[vector];
    if (interrupt === undefined) return;
    this.#listening.set(
      vector,
      interrupt.listen((count) => this.#raised(kind, vector, count)),
    );
  }

  #raised(kind: Kind, vector: number, count: number): void {
    if (this.#observers.wants("interrupt")) {
      this.#observers.tell("interrupt", { kind: "raised", interrupt: kind, vector, count });
    }
    if (kind === "intx") this.level(true);
    else this.raise(vector);
  }

  #rearm(): void {
    const kind = this.#kind;
    if (kind === undefined) return;
    const end = Math.max(1, ...Array.from(this.#signals.keys(), (vector) => vector + 1));
    try {
      this.#disarm();
      this.#switchOn(kind, this.#mayBeDirect(kind), end);
      this.#wakeAll();
    } catch (error) {
      this.#failed(error);
    }
    this.refresh();
  }

  /** What came while nothing was set up may be lost: whoever waits looks for itself. */
  #wakeAll(): void {
    for (const sink of this.#signals.values()) sink.signal();
  }

  #disarm(): void {
    for (const listening of this.#listening.values()) listening[Symbol.dispose]();
    this.#listening.clear();
    this.#vectors = [];
    this.#line = undefined;
    this.#kind = undefined;
    this.#direct = false;
    this.#count = 0;
    this.#act(() => this.#real.disable());
  }

  #act(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#failed(error);
    }
  }

  #tellLine(kind: "masked" | "unmasked"): void {
    if (this.#observers.wants("interrupt")) {
      this.#observers.tell("interrupt", { kind, interrupt: "intx", vector: 0, count: 1 });
    }
  }
}

/** What the real function says of signals that it does not take, as an answer to its user. */
function refused(error: unknown): unknown {
  if (!isRing3Error(error) || error.errno !== undefined) return error;
  return new Ring3Error(error.code, error.message, { errno: "EINVAL", cause: error });
}
