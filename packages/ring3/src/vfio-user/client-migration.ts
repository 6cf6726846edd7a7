// Migration and DMA logging as calls of the client (migration version 2 of VFIO): a served function is stopped, its state
// read as a stream and written to another server, and the pages that its device wrote meanwhile are known.
import { concatenate } from "../binary/concatenate.ts";
import { Ring3Error } from "../binary/error.ts";
import { serverError } from "./client-channel.ts";
import type { ServedDevice } from "./client-device.ts";
import { protocolError } from "./client-lane.ts";
import {
  Command,
  DmaLoggingRange,
  Feature,
  FeatureDmaLoggingReport,
  FeatureDmaLoggingStart,
  FeatureFlag,
  FeatureMigration,
  FeatureMigrationState,
  HEADER_SIZE,
  MigrationData,
  MigrationFlag,
} from "./messages.ts";

/** By value of `device_state`. */
const states = [
  "error",
  "stop",
  "running",
  "stop-copy",
  "resuming",
  "running-p2p",
  "pre-copy",
  "pre-copy-p2p",
] as const;
export type MigrationState = (typeof states)[number];

/** What the server can do of migration. */
export interface MigrationSupport {
  readonly stopCopy: boolean;
  readonly peerToPeer: boolean;
  readonly preCopy: boolean;
}

/** A range of IOVAs, in bytes. */
export interface IovaSpan {
  readonly iova: number;
  readonly size: number;
}

const NOTHING = new Uint8Array(0);

/**
 * The migration of a served function.
 *
 * @example
 * import { connect } from "ring3/vfio-user";
 * await using fn = await connect("/run/disk.sock");
 * const state = fn.migration.save();
 */
export class Migration {
  readonly #device: ServedDevice;

  constructor(device: ServedDevice) {
    this.#device = device;
  }

  /** `undefined` where the server cannot migrate its device. */
  support(): MigrationSupport | undefined {
    const data = this.#device.feature(Feature.MIGRATION | FeatureFlag.GET, NOTHING, FeatureMigration.size, true);
    if (data === undefined) return undefined;
    const { flags } = FeatureMigration.from(data);
    return {
      stopCopy: (flags & MigrationFlag.STOP_COPY) !== 0n,
      peerToPeer: (flags & MigrationFlag.P2P) !== 0n,
      preCopy: (flags & MigrationFlag.PRE_COPY) !== 0n,
    };
  }

  get state(): MigrationState {
    const flags = Feature.MIG_DEVICE_STATE | FeatureFlag.GET;
    const data = this.#device.feature(flags, FeatureMigrationState.bytes({}), FeatureMigrationState.size) ?? NOTHING;
    const value = FeatureMigrationState.from(data).device_state;
    const name = states[value];
    if (name === undefined) throw protocolError(`migration state ${value}`);
    return name;
  }

  /** Moves to a state; the server has reached it when this returns. Throws `SERVER_REFUSED`. */
  setState(state: MigrationState): void {
    const data = FeatureMigrationState.bytes({ device_state: states.indexOf(state) });
    this.#device.feature(Feature.MIG_DEVICE_STATE | FeatureFlag.SET, data, 0);
  }

  /** The next bytes of the state's stream, in `stop-copy` or `pre-copy`; fewer than `most` are the last. */
  readData(most: number = this.#most): Uint8Array {
    const { channel } = this.#device;
    const { lane } = channel;
    const wanted = Math.min(most, this.#most);
    MigrationData.encode(lane.out, HEADER_SIZE, { argsz: MigrationData.size + wanted, size: wanted });
    const size = channel.call(Command.MIG_DATA_READ, MigrationData.size);
    if (size < 0) throw serverError(Command.MIG_DATA_READ, -size);
    if (size < MigrationData.size) throw protocolError(`${size} bytes of migration data`);
    const count = MigrationData.decode(lane.view, lane.payload).size;
    if (count > wanted || MigrationData.size + count > size) throw protocolError(`${count} bytes of migration data`);
    const from = lane.payload + MigrationData.size;
    return lane.bytes.slice(from, from + count);
  }

  /** Writes bytes of a state's stream, in `resuming`. */
  writeData(bytes: Uint8Array): void {
    const { channel } = this.#device;
    const { lane } = channel;
    for (let done = 0; done < bytes.length; ) {
      const count = Math.min(bytes.length - done, this.#most);
      MigrationData.encode(lane.out, HEADER_SIZE, { argsz: MigrationData.size, size: count });
      lane.outBytes.set(bytes.subarray(done, done + count), HEADER_SIZE + MigrationData.size);
      const size = channel.call(Command.MIG_DATA_WRITE, MigrationData.size + count);
      if (size < 0) throw serverError(Command.MIG_DATA_WRITE, -size);
      done += count;
    }
  }

  /** Stops the device and returns its whole state; it stays stopped until `setState("running")`. */
  save(): Uint8Array {
    this.setState("stop-copy");
    const parts: Uint8Array[] = [];
    for (;;) {
      const part = this.readData();
      if (part.length > 0) parts.push(part);
      if (part.length < this.#most) break;
    }
    this.setState("stop");
    return concatenate(parts);
  }

  /** Gives the device a state that {@link save} returned; it is stopped afterwards. Throws `SERVER_REFUSED`. */
  restore(state: Uint8Array): void {
    this.setState("stop");
    this.setState("resuming");
    this.writeData(state);
    this.setState("stop");
  }

  /** Whether the server logs what its device writes. */
  get logsDma(): boolean {
    const probe = Feature.DMA_LOGGING_START | FeatureFlag.PROBE | FeatureFlag.SET;
    return this.#device.feature(probe, NOTHING, 0, true) !== undefined;
  }

  /** Starts the log of pages that the device writes, in these spans or (none given) all; returns the page size in use. */
  startDmaLog(spans: readonly IovaSpan[] = [], pageSize = 4096): number {
    const data = new Uint8Array(FeatureDmaLoggingStart.size + spans.length * DmaLoggingRange.size);
    data.set(FeatureDmaLoggingStart.bytes({ page_size: BigInt(pageSize), num_ranges: spans.length }));
    for (const [i, { iova, size }] of spans.entries()) {
      const range = DmaLoggingRange.bytes({ iova: BigInt(iova), length: BigInt(size) });
      data.set(range, FeatureDmaLoggingStart.size + i * DmaLoggingRange.size);
    }
    const flags = Feature.DMA_LOGGING_START | FeatureFlag.SET;
    const reply = this.#device.feature(flags, data, 0) ?? NOTHING;
    return reply.length >= FeatureDmaLoggingStart.size
      ? Number(FeatureDmaLoggingStart.from(reply).page_size)
      : pageSize;
  }

  stopDmaLog(): void {
    this.#device.feature(Feature.DMA_LOGGING_STOP | FeatureFlag.SET, NOTHING, 0);
  }

  /** One bit for each page written since the last look, lowest bit first; looking clears it. */
  readDmaLog({ iova, size }: IovaSpan, pageSize = 4096): Uint8Array {
    const most = Math.max(8, Math.floor((this.#most - 64) / 8) * 8);
    const total = Math.ceil(size / pageSize / 64) * 8;
    if (total > most) throw new Ring3Error("DMA_INVALID", `ask for at most ${most * 8} pages at a time`);
    const request = { iova: BigInt(iova), length: BigInt(size), page_size: BigInt(pageSize) };
    const flags = Feature.DMA_LOGGING_REPORT | FeatureFlag.GET;
    const wanted = FeatureDmaLoggingReport.size + total;
    const reply = this.#device.feature(flags, FeatureDmaLoggingReport.bytes(request), wanted) ?? NOTHING;
    return reply.slice(FeatureDmaLoggingReport.size, wanted);
  }

  get #most(): number {
    return this.#device.negotiated.maximumTransferBytes;
  }
}
