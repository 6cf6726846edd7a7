// The tap that does harm: for each occasion it asks each fault of the plan whether it strikes.
import type { CompletionPlaces } from "../../binary/completion-places.ts";
import type { ResetMethod } from "../../pci/function.ts";
import { inLaterTurn, keepAlive } from "../../virtual/turns.ts";
import { PassingTap } from "../tap/pass.ts";
import type { Area, BytesTarget, DeviceWrite, InterruptKind, Target, WideTarget, Width } from "../tap/tap.ts";
import type { AccessDecoder } from "../trace/decoder.ts";
import { Occasions, seededRandom } from "./occasions.ts";
import { type PlaceFilter, placeFilter } from "./place-filter.ts";
import type { Fault, FaultKind, FaultPlan } from "./plan.ts";

/** A fault that struck. */
export interface Injection {
  /** Its place in the plan, from 0 on. */
  readonly fault: number;
  readonly kind: FaultKind;
  readonly description: string;
}

/** The function to which faults happen, seen from either side. */
export interface FaultTarget {
  readonly gone: boolean;
  /** The driver's memory, where it can be seen. */
  view(iova: number, size: number): Uint8Array | undefined;
  /** Signals a vector as if the function had. */
  raise(vector: number, count: number): void;
  /** `reset`: how the function was reset on its way back, if it was. */
  tell(what: "error" | "recovered", description: string, reset?: ResetMethod): void;
  remove(reason: string): void;
  /** Resets the function behind its driver's back; resolves when it answers again. */
  reset(): Promise<void>;
}

interface TapOptions {
  readonly completions?: CompletionPlaces | undefined;
  readonly onInjected?: (injection: Injection) => void;
  readonly after?: (delayMs: number, callback: () => void) => Disposable;
}

/** A fault of the plan with what it needs to strike. */
interface Armed<F extends Fault = Fault> {
  readonly index: number;
  readonly fault: F;
  readonly occasions: Occasions;
  readonly random: () => number;
  readonly meant: PlaceFilter;
}

const ALL_ONES_64 = 0xffff_ffff_ffff_ffffn;
const COMPLETION_BYTES = 16;

export class FaultTap extends PassingTap {
  readonly #armed: readonly Armed[];
  readonly #options: TapOptions;
  #target: FaultTarget | undefined;
  /** The link is down, or the function is gone and nobody knows it yet. */
  #silent = false;
  readonly #timers: Set<Disposable> = new Set();

  constructor({ seed = 1, faults }: FaultPlan, decoder: AccessDecoder, options: TapOptions) {
    super();
    this.#options = options;
    this.#armed = faults.map((fault, index) => {
      const random = seededRandom(seed + index);
      // What is stuck stays so.
      const occasions = new Occasions(fault, random, fault.kind === "stuck-bits" ? 0 : 1);
      const meant = placeFilter(("where" in fault ? fault.where : undefined) ?? {}, decoder);
      return { index, fault, occasions, random, meant };
    });
  }

  /** The function that has this tap. */
  attach(target: FaultTarget): void {
    this.#target = target;
  }

  override read(area: Area, target: Target, offset: number, width: Width): number {
    if (this.#strikesFirst(area, "read", offset, width)) return onesOf(width);
    return this.#changed(area, offset, width, super.read(area, target, offset, width));
  }

  override read64(area: Area, target: WideTarget, offset: number): bigint {
    if (this.#strikesFirst(area, "read", offset, 8)) return ALL_ONES_64;
    const value = super.read64(area, target, offset);
    const low = this.#changed(area, offset, 4, Number(value & 0xffff_ffffn));
    return ((value >> 32n) << 32n) | BigInt(low);
  }

  override readBytes(area: Area, target: BytesTarget, offset: number, size: number): Uint8Array {
    const bytes = super.readBytes(area, target, offset, size);
    return this.#strikesFirst(area, "read", offset, size) ? bytes.fill(0xff) : bytes;
  }

  override write(area: Area, target: Target, offset: number, width: Width, value: number): void {
    if (this.#strikesFirst(area, "write", offset, width)) return;
    if (area.space === "bar" && width === 4) {
      const view = (iova: number, size: number): Uint8Array | undefined => this.#target?.view(iova, size);
      this.#options.completions?.written(area.bar, area.base + offset, value, view);
    }
    super.write(area, target, offset, width, value);
    this.#spurious(area, "write", offset, width);
  }

  override write64(area: Area, target: WideTarget, offset: number, value: bigint): void {
    if (this.#strikesFirst(area, "write", offset, 8)) return;
    super.write64(area, target, offset, value);
    this.#spurious(area, "write", offset, 8);
  }

  override writeBytes(area: Area, target: BytesTarget, offset: number, bytes: Uint8Array): void {
    if (!this.#strikesFirst(area, "write", offset, bytes.length)) super.writeBytes(area, target, offset, bytes);
  }

  override interrupt(kind: InterruptKind, vector: number, count: number): number {
    if (this.#silent) return 0;
    for (const armed of this.#armed) {
      const { fault } = armed;
      if (fault.kind !== "lost-interrupt" && fault.kind !== "late-interrupt") continue;
      if ((fault.vector ?? vector) !== vector || !armed.occasions.strike()) continue;
      if (fault.kind === "lost-interrupt") {
        this.#injected(armed, `${count} of ${kind} ${vector} lost`);
      } else {
        this.#injected(armed, `${count} of ${kind} ${vector} comes ${fault.delayMs} ms later`);
        this.#later(fault.delayMs, () => this.#target?.raise(vector, count));
      }
      return 0;
    }
    return count;
  }

  override deviceWrote(written: DeviceWrite): void {
    for (const armed of this.#armed) {
      if (armed.fault.kind === "bad-completion") this.#spoil(armed as Armed<typeof armed.fault>, written);
      else if (armed.fault.kind === "dma-corruption") this.#corrupt(armed as Armed<typeof armed.fault>, written);
    }
  }

  override ended(): void {
    for (const timer of this.#timers) timer[Symbol.dispose]();
    this.#timers.clear();
  }

  /** Whether the access does not reach the function. Config space of a function that is away reads ones as well. */
  #strikesFirst(area: Area, op: "read" | "write", offset: number, size: number): boolean {
    const at = area.base + offset;
    for (const armed of this.#armed) {
      const { fault, meant, occasions } = armed;
      const { kind } = fault;
      if (!("where" in fault) && !placed.has(kind)) continue;
      if (kind === "stuck-bits" || kind === "spurious-interrupt" || !meant(area, op, at, size)) continue;
      if ((kind === "all-ones" && op === "write") || (kind === "lost-write" && op === "read")) continue;
      if (!occasions.strike()) continue;
      const place = `${op} of ${size} bytes at ${area.space === "bar" ? `BAR ${area.bar} + ` : `${area.space} `}0x${at.toString(16)}`;
      if (kind === "all-ones" || kind === "lost-write") {
        this.#injected(armed, kind === "all-ones" ? `${place} gave ones` : `${place} was lost`);
        return true;
      }
      if (kind === "link-down") this.#linkDown(armed, fault.forMs, place);
      else if (kind === "removal") this.#remove(armed, fault.noticedMs ?? 0, place);
      else if (kind === "aer") this.#error(armed, fault.severity ?? "non-fatal", fault.recoverMs ?? 1, place);
    }
    return this.#silent;
  }

  #changed(area: Area, offset: number, width: Width, value: number): number {
    let changed = value;
    for (const armed of this.#armed) {
      const { fault, meant, occasions } = armed;
      if (fault.kind !== "stuck-bits" || !meant(area, "read", area.base + offset, width) || !occasions.strike())
        continue;
      const stuck = (((changed | (fault.set ?? 0)) & ~(fault.clear ?? 0)) >>> 0) % 2 ** (8 * width);
      if (stuck !== changed) this.#injected(armed, `0x${changed.toString(16)} read as 0x${stuck.toString(16)}`);
      changed = stuck;
    }
    this.#spurious(area, "read", offset, width);
    return changed;
  }

  #spurious(area: Area, op: "read" | "write", offset: number, size: number): void {
    for (const armed of this.#armed) {
      const { fault, meant, occasions } = armed;
      if (fault.kind !== "spurious-interrupt" || !meant(area, op, area.base + offset, size) || !occasions.strike())
        continue;
      const vector = fault.vector ?? 0;
      this.#injected(armed, `vector ${vector} signalled by nobody`);
      inLaterTurn(() => this.#target?.raise(vector, 1));
    }
  }

  #linkDown(armed: Armed, forMs: number, place: string): void {
    this.#injected(armed, `the link goes down for ${forMs} ms at a ${place}`);
    this.#silent = true;
    this.#later(0, () => this.#target?.tell("error", "the link is down"));
    this.#later(forMs, () => this.#comeBack("the link is up again"));
  }

  #remove(armed: Armed, noticedMs: number, place: string): void {
    this.#injected(armed, `the function vanishes at a ${place}`);
    this.#silent = true;
    this.#later(noticedMs, () => this.#target?.remove("it vanished (a fault of the plan)"));
  }

  #error(armed: Armed, severity: "non-fatal" | "fatal", recoverMs: number, place: string): void {
    this.#injected(armed, `a ${severity} error is reported at a ${place}`);
    this.#silent = severity === "fatal";
    const description = `the platform reported an uncorrected error: ${severity}`;
    this.#later(0, () => this.#target?.tell("error", description));
    this.#later(recoverMs, () => {
      if (severity === "fatal") this.#comeBack("the function was reset after a fatal error");
      else this.#target?.tell("recovered", "the error was not fatal; nothing was reset");
    });
  }

  /** A link that was retrained, and a platform that recovers, leave a function that was reset. */
  #comeBack(description: string): void {
    const target = this.#target;
    if (target === undefined || target.gone) return;
    target.reset().then(
      () => {
        this.#silent = false;
        target.tell("recovered", description, "bus");
      },
      (error: unknown) => target.remove(`it could not be reset (${String(error)})`),
    );
  }

  #spoil(
    armed: Armed<Extract<Fault, { kind: "bad-completion" }>>,
    { iova, bytes, memory, start, patch }: DeviceWrite,
  ): void {
    const place = this.#options.completions?.completed(iova, bytes.length);
    const { queue, field, value } = armed.fault;
    if (place === undefined || (queue ?? place.queue) !== place.queue || !armed.occasions.strike()) return;
    const entry = memory.slice(place.iova - start, place.iova - start + COMPLETION_BYTES);
    this.#options.completions?.spoil(entry, field, place, value);
    this.#injected(armed, `${field} of a completion in queue ${place.queue} is wrong`);
    patch(place.iova, entry);
  }

  #corrupt(armed: Armed<Extract<Fault, { kind: "dma-corruption" }>>, { map, iova, bytes, patch }: DeviceWrite): void {
    const { map: only = map, least = 1, bits = 1 } = armed.fault;
    if (only !== map || bytes.length < least || !armed.occasions.strike()) return;
    const changed = bytes.slice();
    for (let i = 0; i < bits; i++) {
      const bit = Math.floor(armed.random() * changed.length * 8);
      changed[bit >>> 3] = (changed[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
    }
    this.#injected(armed, `${bits} bits of ${bytes.length} bytes at IOVA 0x${iova.toString(16)} flipped`);
    patch(iova, changed);
  }

  #later(delayMs: number, act: () => void): void {
    const after = this.#options.after ?? unheldTimer;
    const timer: Disposable = after(delayMs, () => {
      this.#timers.delete(timer);
      act();
    });
    this.#timers.add(timer);
  }

  #injected({ index, fault }: Armed, description: string): void {
    this.#options.onInjected?.({ fault: index, kind: fault.kind, description });
  }
}

/** Kinds that strike at an access before it is made. */
const placed: ReadonlySet<FaultKind> = new Set(["all-ones", "lost-write", "link-down", "removal", "aer"]);

function onesOf(width: Width): number {
  return 2 ** (8 * width) - 1;
}

function unheldTimer(delayMs: number, callback: () => void): Disposable {
  const timer = setTimeout(callback, delayMs);
  keepAlive(timer, false);
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}
