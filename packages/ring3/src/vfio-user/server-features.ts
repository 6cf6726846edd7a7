// DEVICE_FEATURE: what of migration and of the logging of DMA writes can be probed, got and set.
import type { VirtualFunction } from "../virtual/function.ts";
import {
  DeviceFeature,
  DmaLoggingRange,
  Feature,
  FeatureDmaLoggingReport,
  FeatureDmaLoggingStart,
  FeatureFlag,
  FeatureMigration,
  FeatureMigrationState,
  MigrationFlag,
} from "./messages.ts";
import { pageSizeOf, safeRange } from "./server-dma.ts";
import type { ServerMigration } from "./server-migration.ts";
import type { Occupancy } from "./server-occupancy.ts";
import { checkPayload, refusal } from "./server-refusal.ts";

const { GET, SET, PROBE } = FeatureFlag;

/** What each feature can. */
const METHODS: Readonly<Record<number, number>> = {
  [Feature.MIGRATION]: GET,
  [Feature.MIG_DEVICE_STATE]: GET | SET,
  [Feature.DMA_LOGGING_START]: SET,
  [Feature.DMA_LOGGING_STOP]: SET,
  [Feature.DMA_LOGGING_REPORT]: GET,
};

export class ServerFeatures {
  readonly #fn: VirtualFunction;
  readonly #migration: ServerMigration;
  readonly #occupancy: Occupancy;

  constructor(fn: VirtualFunction, migration: ServerMigration, occupancy: Occupancy) {
    this.#fn = fn;
    this.#occupancy = occupancy;
    this.#migration = migration;
  }

  /** Gives the reply's payload. */
  handle(payload: Uint8Array, maximumReplyBytes: number): Uint8Array | Promise<Uint8Array> {
    checkPayload(payload, DeviceFeature.size, "DEVICE_FEATURE");
    const { argsz, flags } = DeviceFeature.from(payload);
    if (argsz < DeviceFeature.size) throw refusal("EINVAL", `argsz ${argsz} is less than ${DeviceFeature.size}`);
    if ((flags & ~(FeatureFlag.MASK | GET | SET | PROBE)) !== 0) throw refusal("EINVAL", "unknown flags");
    const methods = flags & (GET | SET);
    const feature = flags & FeatureFlag.MASK;
    const possible = this.#fn.movable ? METHODS[feature] : undefined;
    if (possible === undefined) throw refusal("EINVAL", `there is no feature ${feature}`);
    if ((methods & ~possible) !== 0) throw refusal("EINVAL", `feature ${feature} has no such method`);
    if ((flags & PROBE) !== 0) return payload.slice(0, DeviceFeature.size);
    if (methods !== GET && methods !== SET) throw refusal("EINVAL", "one of GET and SET");
    const data = payload.subarray(DeviceFeature.size);
    if (methods === SET && !this.#occupancy.alone) {
      throw refusal("EBUSY", `the function has ${this.#occupancy.count} clients: one that is moved has one`);
    }
    if (methods === GET) return featureReply(argsz, flags, this.#get(feature, data, maximumReplyBytes));
    if (feature !== Feature.MIG_DEVICE_STATE) return featureReply(argsz, flags, this.#set(feature, data));
    checkPayload(data, FeatureMigrationState.size, "a migration state");
    const state = data.slice(0, FeatureMigrationState.size);
    return this.#migration
      .set(FeatureMigrationState.from(state).device_state)
      .then(() => featureReply(argsz, flags, state));
  }

  #get(feature: number, data: Uint8Array, maximumReplyBytes: number): Uint8Array {
    if (feature === Feature.MIGRATION) {
      return FeatureMigration.bytes({ flags: MigrationFlag.STOP_COPY | MigrationFlag.PRE_COPY });
    }
    if (feature === Feature.MIG_DEVICE_STATE) {
      return FeatureMigrationState.bytes({ device_state: this.#migration.state, data_fd: 0xffff_ffff });
    }
    checkPayload(data, FeatureDmaLoggingReport.size, "a report of DMA writes");
    const { iova, length, page_size } = FeatureDmaLoggingReport.from(data);
    const pageSize = pageSizeOf(page_size);
    const range = safeRange(iova, length);
    const bytes = Math.ceil(Math.ceil(range.size / pageSize) / 64) * 8;
    if (FeatureDmaLoggingReport.size + bytes > maximumReplyBytes) {
      throw refusal("E2BIG", `the bitmap would have ${bytes} bytes; ask for a part of the range, or larger pages`);
    }
    const reply = new Uint8Array(FeatureDmaLoggingReport.size + bytes);
    reply.set(data.subarray(0, FeatureDmaLoggingReport.size));
    this.#fn.memory.dirty.report(range.iova, range.size, pageSize, reply.subarray(FeatureDmaLoggingReport.size));
    return reply;
  }

  #set(feature: number, data: Uint8Array): Uint8Array {
    if (feature === Feature.DMA_LOGGING_STOP) {
      this.#fn.memory.dirty.stop();
      return data.slice();
    }
    checkPayload(data, FeatureDmaLoggingStart.size, "the start of logging");
    const { page_size, num_ranges } = FeatureDmaLoggingStart.from(data);
    const size = FeatureDmaLoggingStart.size + num_ranges * DmaLoggingRange.size;
    checkPayload(data, size, `${num_ranges} ranges to log`);
    const ranges = Array.from({ length: num_ranges }, (_, i) => {
      const range = DmaLoggingRange.from(data, FeatureDmaLoggingStart.size + i * DmaLoggingRange.size);
      const { iova, size: rangeSize } = safeRange(range.iova, range.length);
      return { offset: iova, size: rangeSize };
    });
    // A hint: what cannot be had is answered with what is.
    const hint = Number(page_size);
    const pageSize = isPageSize(hint) ? hint : 4096;
    this.#fn.memory.dirty.start(pageSize, ranges);
    const reply = data.slice(0, size);
    new DataView(reply.buffer).setBigUint64(0, BigInt(pageSize), true);
    return reply;
  }
}

/** What does not fit is not sent; `argsz` tells how much is needed. */
function featureReply(argsz: number, flags: number, data: Uint8Array): Uint8Array {
  const size = DeviceFeature.size + data.length;
  const reply = new Uint8Array(argsz < size ? DeviceFeature.size : size);
  reply.set(DeviceFeature.bytes({ argsz: size, flags }));
  if (argsz >= size) reply.set(data, DeviceFeature.size);
  return reply;
}

function isPageSize(size: number): boolean {
  return size >= 4096 && size <= 2 ** 30 && 2 ** Math.round(Math.log2(size)) === size;
}
