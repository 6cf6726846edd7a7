// Goes through a script with a driver: answers its reads, checks its writes and what it put into memory, and does what the
// device did in between. Hard about it: a driver that polls looks more or less often than it did then, and may touch
// registers that have nothing to do with each other in another order; none of that is a departure.
import { Mappings } from "./mappings.ts";
import type { AccessStep, Script, SignalStep, Step } from "./script.ts";

/** `strict`: every access as it was. `state`: polls may be more or fewer, independent accesses may change places. */
export type ReplayOrder = "strict" | "state";

/** What the player does to the driver. */
export interface Stage {
  signal(interrupt: SignalStep["interrupt"], vector: number, count: number): void;
  write(map: number, iova: number, bytes: Uint8Array): void;
  /** Calls in a later turn of the event loop. */
  later(act: () => void): void;
}

/** An access as it came. */
export interface CameAccess {
  readonly kind: "read" | "write";
  readonly bar: number;
  readonly offset: number;
  readonly width: 1 | 2 | 4 | 8;
  readonly value?: number | bigint;
}

/** A departure from the recording. */
export interface Departure {
  /** The access of the recording that was to come, from 1 on; one more than there are where it was over. */
  readonly access: number;
  readonly expected: string;
  readonly came: string;
}

/** Writes to other registers that may still be to come when one is made. */
const REORDERED_WRITES = 8;
/** Steps that a read looks ahead for a register that was not read yet. */
const READ_AHEAD = 64;

export class Player {
  readonly mappings: Mappings = new Mappings();
  readonly #script: Script;
  readonly #order: ReplayOrder;
  readonly #stage: Stage;
  readonly #describe: (access: CameAccess) => string;
  /** Value that each place was read as last. */
  readonly #last: Map<string, number | bigint> = new Map();
  #position = 0;
  #made = 0;
  #departure: Departure | undefined;
  #releasing = false;
  /** The device wrote to memory and has not signalled since. */
  #untold = false;

  /** `describe` names an access as the recording would. */
  constructor(script: Script, order: ReplayOrder, stage: Stage, describe: (access: CameAccess) => string) {
    this.#script = script;
    this.#order = order;
    this.#stage = stage;
    this.#describe = describe;
    for (const step of script.steps) {
      if (isAccessStep(step)) step.done = false;
      else if (step.kind === "signal") step.left = step.count;
    }
    this.advance();
  }

  /** Accesses that were as recorded. */
  get made(): number {
    return this.#made;
  }

  get departure(): Departure | undefined {
    return this.#departure;
  }

  /** The first write that was not made, or with the strict order the first access; `undefined` where all is done. */
  get missing(): AccessStep | undefined {
    for (let at = this.#position; at < this.#script.steps.length; at++) {
      const step = this.#script.steps[at];
      if (step !== undefined && isAccessStep(step) && !step.done && (step.kind === "write" || this.#order === "strict"))
        return step;
    }
    return undefined;
  }

  /** The value that a read gives; `undefined` after a departure. */
  read(came: CameAccess): number | bigint | undefined {
    if (this.#departure !== undefined) return undefined;
    const step = this.#order === "strict" ? this.#next(came) : this.#nextRead(came);
    if (step === undefined) {
      const last = this.#order === "state" ? this.#last.get(placeOf(came)) : undefined;
      if (last === undefined) this.#depart(came);
      return last;
    }
    if (!step.done) this.#made++;
    step.done = true;
    this.#last.set(placeOf(came), step.value);
    this.advance();
    return step.value;
  }

  /** A write; whether it was as recorded. */
  write(came: CameAccess): boolean {
    if (this.#departure !== undefined) return false;
    const step = this.#order === "strict" ? this.#next(came) : this.#nextWrite(came);
    if (step === undefined || !this.#sameValue(step, came)) {
      this.#depart(came, step);
      return false;
    }
    if (!this.#checkMemory(step)) return false;
    this.#passReads(step);
    step.done = true;
    this.#made++;
    this.advance();
    return true;
  }

  /** The function was reset by its driver. */
  reset(): void {
    const at = this.#stepsAhead().find(([, step]) => step.kind === "reset")?.[0];
    if (at === undefined) return;
    this.#position = at + 1;
    this.advance();
  }

  /** Does what is the device's turn, up to what is the driver's. */
  advance(): void {
    this.#doDeviceSteps();
    if (this.#untold && this.#departure === undefined) this.#signalEarly();
  }

  /**
   * A driver that saw by looking what the device wrote had its interrupt later. This one may not look, and wait for it.
   */
  #signalEarly(): void {
    this.#untold = false;
    for (const [, step] of this.#stepsAhead()) {
      if (step.kind !== "signal" || step.left === 0) continue;
      this.#signal(step, 1);
      return;
    }
  }

  #signal(step: SignalStep, count: number): void {
    this.#untold = false;
    step.left -= count;
    if (count > 0) this.#stage.signal(step.interrupt, step.vector, count);
  }

  #doDeviceSteps(): void {
    const { steps } = this.#script;
    for (; this.#position < steps.length && this.#departure === undefined; this.#position++) {
      const step = steps[this.#position] as Step;
      if (isAccessStep(step)) {
        if (step.done) continue;
        if (step.kind === "read" && this.#order === "state") this.#release();
        return;
      }
      if (step.kind === "driver" || step.kind === "reset" || !this.#perform(step)) return;
    }
  }

  /** Whether a step of the device could be done: memory has to be mapped first. */
  #perform(step: Exclude<Step, AccessStep>): boolean {
    if (step.kind === "map") this.mappings.expect(step.map, step.iova, step.size);
    else if (step.kind === "unmap") this.mappings.forget(step.map);
    else if (step.kind === "signal") this.#signal(step, step.left);
    else if (step.kind === "device") {
      const live = this.mappings.live(step.map);
      if (live === undefined) return false;
      this.mappings.wrote(step.map, step.offset, step.bytes);
      this.#stage.write(step.map, live.iova + step.offset, step.bytes);
      this.#untold = true;
    }
    return true;
  }

  /** Reads that the driver does not make must not hold up what the device does after them. */
  #release(): void {
    if (this.#releasing) return;
    this.#releasing = true;
    this.#stage.later(() => {
      this.#releasing = false;
      const { steps } = this.#script;
      let at = this.#position;
      while (isRead(steps[at])) at++;
      const step = steps[at];
      if (at === this.#position || (step?.kind !== "device" && step?.kind !== "signal")) return;
      this.#passReads(step);
      this.#position = at;
      this.advance();
    });
  }

  /** Reads before `until` are not made any more: what they would have given is what stands there now. */
  #passReads(until: Step): void {
    for (const [, step] of this.#stepsAhead()) {
      if (step === until) return;
      if (step.kind !== "read" || step.done) continue;
      step.done = true;
      this.#last.set(placeOf(step), step.value);
    }
  }

  /** With the strict order: the access that must come now. */
  #next(came: CameAccess): AccessStep | undefined {
    for (const [at, step] of this.#stepsAhead()) {
      if (!isAccessStep(step)) {
        if (step.kind === "driver" && came.kind === "read" && !this.#compare(step)) return undefined;
        if (step.kind !== "driver" && !(step.kind !== "reset" && this.#perform(step))) return undefined;
        if (came.kind === "read" || step.kind !== "driver") this.#position = at + 1;
        continue;
      }
      return placeOf(step) === placeOf(came) && step.kind === came.kind ? step : undefined;
    }
    return undefined;
  }

  #nextRead(came: CameAccess): AccessStep | undefined {
    const place = placeOf(came);
    let ahead = 0;
    for (const [, step] of this.#stepsAhead()) {
      // Beyond the next write the device may be in another state, which it has not reached yet.
      const barrier = isAccessStep(step) ? step.kind === "write" && !step.done : step.kind !== "driver";
      if (barrier && this.#last.has(place)) return undefined;
      if (isAccessStep(step) && step.kind === "read" && !step.done && placeOf(step) === place) return step;
      if (++ahead > READ_AHEAD) return undefined;
    }
    return undefined;
  }

  #nextWrite(came: CameAccess): AccessStep | undefined {
    const place = placeOf(came);
    let others = 0;
    let first: AccessStep | undefined;
    for (const [, step] of this.#stepsAhead()) {
      if (!isAccessStep(step)) {
        // What the device did in answer to one write must not come before it.
        if (others > 0 && (step.kind === "device" || step.kind === "signal")) break;
        continue;
      }
      if (step.kind === "read" || step.done) continue;
      first ??= step;
      if (placeOf(step) === place) return step;
      if (++others > REORDERED_WRITES) break;
    }
    return first;
  }

  *#ahead(): Generator<[number, Step]> {
    const { steps } = this.#script;
    for (let at = this.#position; at < steps.length; at++) yield [at, steps[at] as Step];
  }

  #stepsAhead(): Iterable<[number, Step]> & {
    find(test: (entry: [number, Step]) => boolean): [number, Step] | undefined;
  } {
    return Iterator.from(this.#ahead());
  }

  #sameValue(step: AccessStep, came: CameAccess): boolean {
    if (step.kind !== came.kind || placeOf(step) !== placeOf(came)) return false;
    if (step.value === came.value || came.value === undefined) return step.value === came.value;
    if (step.width === 8) return this.mappings.sameAddress(BigInt(step.value), BigInt(came.value));
    return step.width === 4 && this.mappings.sameHalf(Number(step.value), Number(came.value));
  }

  /** Whether the driver has put into memory what it had before this write; what comes before is passed by then. */
  #checkMemory(until: AccessStep): boolean {
    for (const [at, step] of this.#stepsAhead()) {
      if (step === until) return true;
      if (isAccessStep(step)) {
        if (step.kind === "write" && !step.done) return true;
        continue;
      }
      if (step.kind === "driver" && !this.#compare(step)) return false;
      if (step.kind !== "driver" && step.kind !== "reset" && !this.#perform(step)) {
        this.#departAt("memory that the device writes to is mapped", "it is not");
        return false;
      }
      this.#position = at + 1;
    }
    return true;
  }

  #compare(step: Extract<Step, { kind: "driver" }>): boolean {
    const { map, offset, bytes } = step;
    this.mappings.wrote(map, offset, bytes);
    const at = this.mappings.difference(map, offset, bytes);
    if (at === undefined) return true;
    const now = this.mappings.live(map)?.bytes?.subarray(offset, offset + bytes.length) ?? new Uint8Array();
    const place = `mapping ${map} at 0x${at.toString(16)}`;
    this.#departAt(`${place}: ${around(bytes, at - offset)}`, `${place}: ${around(now, at - offset)}`);
    return false;
  }

  #depart(came: CameAccess, step: AccessStep | undefined = this.#expected()): void {
    if (this.#departure !== undefined) return;
    const expected = step === undefined ? "nothing more: the recording is over" : this.#describe(step);
    this.#departAt(expected, this.#describe(came), step);
  }

  #departAt(expected: string, came: string, step: AccessStep | undefined = this.#expected()): void {
    this.#departure ??= { access: step?.number ?? this.#script.accesses + 1, expected, came };
  }

  #expected(): AccessStep | undefined {
    for (const [, step] of this.#stepsAhead()) if (isAccessStep(step) && !step.done) return step;
    return undefined;
  }
}

function isAccessStep(step: Step): step is AccessStep {
  return step.kind === "read" || step.kind === "write";
}

function isRead(step: Step | undefined): boolean {
  return step !== undefined && (step.kind === "read" || (step.kind === "write" && step.done));
}

function placeOf({
  bar,
  offset,
  width,
}: {
  readonly bar: number;
  readonly offset: number;
  readonly width: number;
}): string {
  return `${bar} ${offset} ${width}`;
}

/** Up to eight bytes from `at` on. */
function around(bytes: Uint8Array, at: number): string {
  return Array.from(bytes.subarray(at, at + 8), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
