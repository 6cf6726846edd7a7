// What a mediator tells of its function: for traces, for the audit log, for metrics. Nothing is made for who does not listen.
import type { BarIndex, DmaPermission, ResetMethod } from "../pci/function.ts";
import type { ResetKind } from "../virtual/config.ts";
import type { InterruptKind } from "../virtual/interrupts.ts";

/** One piece of an access to config space: at most 4 bytes, aligned, inside one capability. */
export interface ConfigObservation {
  readonly kind: "read" | "write";
  /** From the start of config space, in bytes. */
  readonly offset: number;
  readonly width: 1 | 2 | 4;
  /** What the user read, or wrote. */
  readonly value: number;
  /** What the hardware gave, or got; `undefined` where it was not asked. */
  readonly hardware: number | undefined;
}

/** An access to a BAR that went through the mediator: all of them where it is trapped. */
export interface BarObservation {
  readonly kind: "read" | "write";
  readonly bar: BarIndex;
  readonly offset: number;
  readonly width: 1 | 2 | 4 | 8;
  readonly value: number | bigint;
}

export interface InterruptObservation {
  /** `connected` and `disconnected`: the user set up its signals; `raised`: the function interrupted. */
  readonly kind: "connected" | "disconnected" | "raised" | "masked" | "unmasked";
  readonly interrupt: InterruptKind;
  readonly vector: number;
  /** How many signals; 1 unless several came at once. */
  readonly count: number;
}

export interface DmaObservation {
  readonly kind: "mapped" | "unmapped" | "refused";
  readonly iova: number;
  readonly size: number;
  readonly permission: DmaPermission;
  /** Whether the function itself can reach the memory. */
  readonly reachable: boolean;
  /** Why it was refused. */
  readonly reason?: string;
}

export interface ResetObservation {
  /** `user`: by a register or a message of the user; `handover`: before the next user. */
  readonly cause: "user" | "handover";
  readonly kind: ResetKind | ResetMethod;
}

/** A rule that kept a user from something. */
export interface RuleHit {
  readonly rule:
    | "config-write"
    | "bar-hidden"
    | "bar-read-only"
    | "bar-rate"
    | "bus-master"
    | "dma"
    | "interrupt"
    | "save";
  /** The register, the range, the map. */
  readonly place: string;
  readonly description: string;
}

export interface SessionObservation {
  readonly kind: "opened" | "closed" | "ready";
  /** Who uses the function; the one who did, when it is ready for the next. */
  readonly user: string;
}

/** Errors and removal, as they are passed on to the user by its ERR and REQ interrupts. */
export interface NoticeObservation {
  readonly kind: "error" | "recovered" | "removal-requested" | "removed" | "fault";
  readonly description: string;
  /** Of a recovery: how the function was reset on the way, if it was. */
  readonly reset?: ResetMethod;
}

/** Listens to a mediator. Methods are called at once; what they throw is reported as a fault and stops nothing. */
export interface MediationObserver {
  config?(access: ConfigObservation): void;
  bar?(access: BarObservation): void;
  /** With it every interrupt goes through this process: it costs a wake-up each. */
  interrupt?(event: InterruptObservation): void;
  dma?(event: DmaObservation): void;
  reset?(event: ResetObservation): void;
  rule?(hit: RuleHit): void;
  session?(event: SessionObservation): void;
  notice?(event: NoticeObservation): void;
}

type Kind = keyof MediationObserver;
type Event<K extends Kind> = Parameters<NonNullable<MediationObserver[K]>>[0];

/** All observers of one mediator. */
export class Observers {
  readonly #all = new Set<MediationObserver>();
  readonly #counts: Record<Kind, number> = {
    config: 0,
    bar: 0,
    interrupt: 0,
    dma: 0,
    reset: 0,
    rule: 0,
    session: 0,
    notice: 0,
  };
  readonly #changed: () => void;
  readonly #failed: (error: unknown) => void;

  /** `changed` hears of observers that come and go, `failed` of what one throws. */
  constructor(changed: () => void, failed: (error: unknown) => void) {
    this.#changed = changed;
    this.#failed = failed;
  }

  /** Whether anybody listens to this: what is told costs nothing otherwise. */
  wants(kind: Kind): boolean {
    return this.#counts[kind] > 0;
  }

  add(observer: MediationObserver): Disposable {
    const entry = observer;
    if (this.#all.has(entry)) throw new RangeError("this observer listens already");
    this.#all.add(entry);
    this.#count(entry, 1);
    return {
      [Symbol.dispose]: () => {
        if (this.#all.delete(entry)) this.#count(entry, -1);
      },
    };
  }

  tell<K extends Kind>(kind: K, event: Event<K>): void {
    for (const observer of Array.from(this.#all)) {
      try {
        const listener = observer[kind] as ((event: Event<K>) => void) | undefined;
        listener?.call(observer, event);
      } catch (error) {
        this.#failed(error);
      }
    }
  }

  #count(observer: MediationObserver, change: 1 | -1): void {
    for (const kind of Object.keys(this.#counts) as Kind[]) {
      if (observer[kind] !== undefined) this.#counts[kind] += change;
    }
    this.#changed();
  }
}
