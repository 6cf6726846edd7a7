// Features: NVMe base 2.0, sections 5.15 (get) and 5.27 (set). None can be saved over a power cycle; all have a default
// that a controller reset brings back.
import {
  AsynchronousEvents,
  ErrorRecovery,
  Feature,
  FeatureCapabilities,
  FeatureSelect,
  InterruptVector,
  NumberOfQueues,
  PowerManagement,
  TemperatureSelect,
  TemperatureThreshold,
  TIMESTAMP_SIZE,
  TimestampAttributes,
  VolatileWriteCache,
  WriteAtomicity,
} from "../../specs/nvme/features.ts";
import { Status } from "../../specs/nvme/status.ts";
import { Oaes } from "../../specs/nvme/structs.ts";
import type { NvmeSettings } from "./options.ts";

/** Kelvin: what the device reports, and where it would warn and where it would be critical. */
export const Temperature = { NORMAL: 308, WARNING: 343, CRITICAL: 373 } as const;

export interface FeatureSetting {
  readonly fid: number;
  readonly value: number;
  readonly nsid: number;
  /** Whether I/O queues exist: the number of queues is fixed then. */
  readonly ioQueues: boolean;
}

/** A status, and dword 0 where it is success. */
export interface FeatureAnswer {
  readonly status: number;
  readonly dw0: number;
}

/** What the device knows of a feature beside its value. */
interface Kind {
  readonly initial: number;
  readonly changeable?: false;
  readonly namespaceSpecific?: true;
  /** The value that is kept, or a status (negative: minus the status). */
  readonly accept: (value: number) => number;
}

const refuse = (status: number): number => -status;
const keep =
  (mask: number) =>
  (value: number): number =>
    (value & mask) >>> 0;

export class Features {
  readonly #settings: NvmeSettings;
  readonly #kinds: ReadonlyMap<number, Kind>;
  readonly #values = new Map<number, number>();
  readonly #thresholds = new Map<number, number>();
  /** Vectors whose interrupt coalescing the host switched off. */
  readonly #uncoalesced = new Set<number>();
  /** What the host set, and when; 0 at the last reset otherwise. */
  #timestamp: { readonly value: number; readonly atMs: number; readonly origin: number };

  constructor(settings: NvmeSettings) {
    this.#settings = settings;
    this.#timestamp = { value: 0, atMs: settings.clock.now(), origin: 0 };
    const queues =
      NumberOfQueues.SUBMISSION.of(settings.ioQueues - 1) | NumberOfQueues.COMPLETION.of(settings.ioQueues - 1);
    const events = AsynchronousEvents.HEALTH.mask | AsynchronousEvents.NAMESPACE_ATTRIBUTES.mask;
    this.#kinds = new Map<number, Kind>([
      [Feature.ARBITRATION, { initial: 7, accept: keep(0xffff_ff07) }],
      // One power state, 0; the workload hint changes nothing.
      [
        Feature.POWER_MANAGEMENT,
        {
          initial: 0,
          accept: (value) =>
            PowerManagement.PS.get(value) === 0 ? PowerManagement.WH.mask & value : refuse(Status.INVALID_FIELD),
        },
      ],
      [Feature.TEMPERATURE_THRESHOLD, { initial: Temperature.WARNING, accept: keep(0xffff) }],
      [
        Feature.ERROR_RECOVERY,
        {
          initial: 0,
          namespaceSpecific: true,
          accept: (value) =>
            ErrorRecovery.DULBE.test(value) ? refuse(Status.INVALID_FIELD) : ErrorRecovery.TLER.get(value),
        },
      ],
      [Feature.NUMBER_OF_QUEUES, { initial: queues, accept: keep(0xffff_ffff) }],
      [Feature.INTERRUPT_COALESCING, { initial: 0, accept: keep(0xffff) }],
      [Feature.INTERRUPT_VECTOR, { initial: 0, accept: keep(0x1_ffff) }],
      [Feature.WRITE_ATOMICITY, { initial: 0, accept: keep(WriteAtomicity.DN.mask) }],
      [Feature.ASYNCHRONOUS_EVENTS, { initial: 0, accept: keep(events) }],
      [Feature.TIMESTAMP, { initial: 0, accept: keep(0) }],
      // One combination of command sets, the first: NVM alone.
      [
        Feature.COMMAND_SET_PROFILE,
        {
          initial: 0,
          accept: (value) => ((value & 0x1ff) === 0 ? 0 : refuse(Status.COMMAND_SET_COMBINATION_REJECTED)),
        },
      ],
      ...(settings.writeCache
        ? [
            [
              Feature.VOLATILE_WRITE_CACHE,
              { initial: VolatileWriteCache.WCE.mask, accept: keep(VolatileWriteCache.WCE.mask) },
            ] as const,
          ]
        : []),
    ]);
  }

  /** Ids of the features that there are, ascending. */
  get ids(): readonly number[] {
    return [...this.#kinds.keys()].sort((a, b) => a - b);
  }

  namespaceSpecific(fid: number): boolean {
    return this.#kinds.get(fid)?.namespaceSpecific === true;
  }

  value(fid: number): number {
    return this.#values.get(fid) ?? this.#kinds.get(fid)?.initial ?? 0;
  }

  /** Whether written data may stay in the cache. */
  get writeCache(): boolean {
    return this.value(Feature.VOLATILE_WRITE_CACHE) !== 0;
  }

  /** The over- and the under-temperature threshold of the composite temperature. */
  get thresholds(): { readonly over: number; readonly under: number } {
    return {
      over: this.#thresholds.get(TemperatureSelect.OVER) ?? Temperature.WARNING,
      under: this.#thresholds.get(TemperatureSelect.UNDER) ?? 0,
    };
  }

  reset(): void {
    this.#values.clear();
    this.#thresholds.clear();
    this.#uncoalesced.clear();
    this.#timestamp = { value: 0, atMs: this.#settings.clock.now(), origin: 0 };
  }

  // --- Get --------------------------------------------------------------------------------------------------------

  /** Dword 0. `argument` is CDW11: which threshold, which vector. */
  get(fid: number, select: number, argument: number): FeatureAnswer {
    const kind = this.#kinds.get(fid);
    if (kind === undefined) return failed(Status.INVALID_FIELD);
    if (select === FeatureSelect.CAPABILITIES) {
      const specific = kind.namespaceSpecific === true ? FeatureCapabilities.NAMESPACE_SPECIFIC.mask : 0;
      return done(specific | FeatureCapabilities.CHANGEABLE.mask);
    }
    if (select > FeatureSelect.CAPABILITIES) return failed(Status.INVALID_FIELD);
    const current = select === FeatureSelect.CURRENT;
    if (fid === Feature.TEMPERATURE_THRESHOLD) return this.#threshold(argument, current);
    if (fid === Feature.INTERRUPT_VECTOR) {
      const vector = InterruptVector.IV.get(argument);
      if (vector > this.#settings.ioQueues) return failed(Status.INVALID_FIELD);
      return done(vector | (current && this.#uncoalesced.has(vector) ? InterruptVector.CD.mask : 0));
    }
    return done(current ? this.value(fid) : kind.initial);
  }

  #threshold(argument: number, current: boolean): FeatureAnswer {
    const select = TemperatureThreshold.THSEL.get(argument);
    if (select > TemperatureSelect.UNDER || TemperatureThreshold.TMPSEL.get(argument) !== 0) {
      return failed(Status.INVALID_FIELD);
    }
    const initial = select === TemperatureSelect.OVER ? Temperature.WARNING : 0;
    return done(current ? (this.#thresholds.get(select) ?? initial) : initial);
  }

  // --- Set --------------------------------------------------------------------------------------------------------

  set({ fid, value, ioQueues }: FeatureSetting): FeatureAnswer {
    const kind = this.#kinds.get(fid);
    if (kind === undefined) return failed(Status.INVALID_FIELD);
    if (fid === Feature.NUMBER_OF_QUEUES) return this.#setQueues(value, ioQueues);
    if (fid === Feature.TEMPERATURE_THRESHOLD) return this.#setThreshold(value);
    if (fid === Feature.INTERRUPT_VECTOR) return this.#setVector(value);
    const accepted = kind.accept(value);
    if (accepted < 0) return failed(-accepted);
    this.#values.set(fid, accepted);
    return done(0);
  }

  /** Whatever the host asks for, it gets all that there are: more than it asked for is allowed. */
  #setQueues(value: number, ioQueues: boolean): FeatureAnswer {
    const submission = NumberOfQueues.SUBMISSION.get(value);
    const completion = NumberOfQueues.COMPLETION.get(value);
    if (submission === 0xffff || completion === 0xffff) return failed(Status.INVALID_FIELD);
    if (ioQueues) return failed(Status.COMMAND_SEQUENCE_ERROR);
    const most = this.#settings.ioQueues - 1;
    const granted = NumberOfQueues.SUBMISSION.of(most) | NumberOfQueues.COMPLETION.of(most);
    this.#values.set(Feature.NUMBER_OF_QUEUES, granted >>> 0);
    return done(granted >>> 0);
  }

  #setThreshold(value: number): FeatureAnswer {
    const select = TemperatureThreshold.THSEL.get(value);
    const sensor = TemperatureThreshold.TMPSEL.get(value);
    const known = sensor === 0 || sensor === TemperatureSelect.ALL_SENSORS;
    if (select > TemperatureSelect.UNDER || !known) return failed(Status.INVALID_FIELD);
    this.#thresholds.set(select, TemperatureThreshold.TMPTH.get(value));
    return done(0);
  }

  #setVector(value: number): FeatureAnswer {
    const vector = InterruptVector.IV.get(value);
    if (vector > this.#settings.ioQueues) return failed(Status.INVALID_FIELD);
    if (InterruptVector.CD.test(value)) this.#uncoalesced.add(vector);
    else this.#uncoalesced.delete(vector);
    return done(0);
  }

  // --- Timestamp --------------------------------------------------------------------------------------------------

  /** 48 bits of milliseconds, and where they come from. */
  timestamp(current: boolean): Uint8Array {
    const bytes = new Uint8Array(TIMESTAMP_SIZE);
    if (!current) return bytes;
    const { value, atMs, origin } = this.#timestamp;
    const now = (value + Math.floor(this.#settings.clock.now() - atMs)) % 2 ** 48;
    const view = new DataView(bytes.buffer);
    view.setUint32(0, now % 2 ** 32, true);
    view.setUint16(4, Math.floor(now / 2 ** 32), true);
    view.setUint8(6, TimestampAttributes.ORIGIN.of(origin));
    return bytes;
  }

  setTimestamp(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const value = view.getUint32(0, true) + view.getUint16(4, true) * 2 ** 32;
    this.#timestamp = { value, atMs: this.#settings.clock.now(), origin: 1 };
  }

  // --- State ------------------------------------------------------------------------------------------------------

  save(): { values: number[]; thresholds: number[]; uncoalesced: number[]; timestamp: Uint8Array } {
    return {
      values: [...this.#values].flat(),
      thresholds: [...this.#thresholds].flat(),
      uncoalesced: [...this.#uncoalesced],
      timestamp: this.timestamp(true),
    };
  }

  restore(state: {
    readonly values: readonly number[];
    readonly thresholds: readonly number[];
    readonly uncoalesced: readonly number[];
    readonly timestamp: Uint8Array;
  }): void {
    this.reset();
    for (let i = 0; i + 1 < state.values.length; i += 2) {
      const fid = state.values[i] as number;
      if (this.#kinds.has(fid)) this.#values.set(fid, state.values[i + 1] as number);
    }
    for (let i = 0; i + 1 < state.thresholds.length; i += 2) {
      this.#thresholds.set(state.thresholds[i] as number, state.thresholds[i + 1] as number);
    }
    for (const vector of state.uncoalesced) this.#uncoalesced.add(vector);
    this.setTimestamp(state.timestamp);
    const origin = TimestampAttributes.ORIGIN.get(state.timestamp[6] ?? 0);
    this.#timestamp = { ...this.#timestamp, origin };
  }
}

/** OAES: the optional events that the device sends. */
export const OFFERED_EVENTS: number = Oaes.NAMESPACE_ATTRIBUTES.mask;

function done(dw0: number): FeatureAnswer {
  return { status: Status.SUCCESS, dw0 };
}

function failed(status: number): FeatureAnswer {
  return { status, dw0: 0 };
}
