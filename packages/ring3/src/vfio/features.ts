// Optional features of a device and its kernel driver (VFIO_DEVICE_FEATURE), each probed before it is used: migration,
// logging of device writes, dma-buf export, the VF token.
import { Ring3Error } from "../binary/error.ts";
import { FileDescriptor } from "../linux/file-descriptor.ts";
import type { ByteRange } from "../pci/function.ts";
import type { DeviceFile } from "./device-file.ts";
import { Feature, type FeatureName, MigrationFlag, type MigrationState, migrationStates } from "./uapi.ts";
import {
  DmaBufRange,
  DmaLoggingRange,
  FeatureDmaBuf,
  FeatureDmaLoggingControl,
  FeatureDmaLoggingReport,
  FeatureMigration,
  FeatureMigrationDataSize,
  FeatureMigrationState,
} from "./uapi-structs.ts";
import { uuidBytes } from "./vf-token.ts";

/** What the device's driver can do of live migration. */
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

const O_RDWR_CLOEXEC = 0o2000002;

export class DeviceFeatures {
  readonly #device: DeviceFile;

  constructor(device: DeviceFile) {
    this.#device = device;
  }

  /** Which features the device has. One call for each that exists. */
  list(): FeatureName[] {
    return (Object.keys(Feature) as FeatureName[]).filter((name) => this.#device.hasFeature(name));
  }

  has(feature: FeatureName): boolean {
    return this.#device.hasFeature(feature);
  }

  /** `undefined` where the device's driver cannot migrate it; plain vfio-pci never can. */
  migration(): MigrationSupport | undefined {
    if (!this.#device.hasFeature("MIGRATION", "get")) return undefined;
    const data = FeatureMigration.bytes({});
    this.#device.getFeature("MIGRATION", data);
    const { flags } = FeatureMigration.from(data);
    return {
      stopCopy: (flags & MigrationFlag.STOP_COPY) !== 0n,
      peerToPeer: (flags & MigrationFlag.P2P) !== 0n,
      preCopy: (flags & MigrationFlag.PRE_COPY) !== 0n,
    };
  }

  /** The state of migration. Throws `NOT_SUPPORTED`. */
  migrationState(): MigrationState {
    const data = FeatureMigrationState.bytes({});
    this.#device.getFeature("MIG_DEVICE_STATE", data);
    return stateName(FeatureMigrationState.from(data).device_state);
  }

  /** Moves to a state; where that starts a transfer, the file that the device's state is read from or written to. */
  setMigrationState(state: MigrationState): FileDescriptor | undefined {
    const data = FeatureMigrationState.bytes({ device_state: migrationStates.indexOf(state), data_fd: -1 });
    this.#device.setFeature("MIG_DEVICE_STATE", data);
    const { data_fd } = FeatureMigrationState.from(data);
    return data_fd < 0 ? undefined : new FileDescriptor(data_fd);
  }

  /** Bytes that the device's state takes about, in the stopped copy. */
  migrationDataBytes(): number {
    const data = FeatureMigrationDataSize.bytes({});
    this.#device.getFeature("MIG_DATA_SIZE", data);
    return Number(FeatureMigrationDataSize.from(data).stop_copy_length);
  }

  /** Starts the device's own log of the pages that it writes; returns the page size that it chose. */
  startDmaLogging(spans: readonly IovaSpan[], pageSize: number): number {
    const ranges = new Uint8Array(spans.length * DmaLoggingRange.size);
    for (const [i, { iova, size }] of spans.entries()) {
      ranges.set(DmaLoggingRange.bytes({ iova: BigInt(iova), length: BigInt(size) }), i * DmaLoggingRange.size);
    }
    const data = FeatureDmaLoggingControl.bytes({ page_size: BigInt(pageSize), num_ranges: spans.length });
    const pointer = { at: FeatureDmaLoggingControl.offsets.ranges, memory: ranges };
    this.#device.setFeature("DMA_LOGGING_START", data, [pointer]);
    return Number(FeatureDmaLoggingControl.from(data).page_size);
  }

  stopDmaLogging(): void {
    this.#device.setFeature("DMA_LOGGING_STOP");
  }

  /** One bit for each page of `pageSize` written since the last look, lowest bit first; looking clears it. */
  readDmaLog({ iova, size }: IovaSpan, pageSize: number): Uint8Array {
    const bitmap = new Uint8Array(Math.ceil(size / pageSize / 64) * 8);
    const request = { iova: BigInt(iova), length: BigInt(size), page_size: BigInt(pageSize) };
    const pointer = { at: FeatureDmaLoggingReport.offsets.bitmap, memory: bitmap };
    this.#device.getFeature("DMA_LOGGING_REPORT", FeatureDmaLoggingReport.bytes(request), [pointer]);
    return bitmap;
  }

  /** A dma-buf over parts of a region, for another device or process to reach. Needs Linux 6.19. */
  exportDmaBuf(regionIndex: number, ranges: readonly ByteRange[]): FileDescriptor {
    if (ranges.length === 0) throw new Ring3Error("DMA_INVALID", "a dma-buf takes at least one range");
    const data = new Uint8Array(FeatureDmaBuf.size + ranges.length * DmaBufRange.size);
    const header = { region_index: regionIndex, open_flags: O_RDWR_CLOEXEC, nr_ranges: ranges.length };
    data.set(FeatureDmaBuf.bytes(header));
    for (const [i, { offset, size }] of ranges.entries()) {
      const range = { offset: BigInt(offset), length: BigInt(size) };
      data.set(DmaBufRange.bytes(range), FeatureDmaBuf.size + i * DmaBufRange.size);
    }
    return new FileDescriptor(this.#device.getFeature("DMA_BUF", data));
  }

  /** On a physical function: the token that whoever opens one of its virtual functions must name. */
  setVfToken(uuid: string): void {
    this.#device.setFeature("PCI_VF_TOKEN", uuidBytes(uuid));
  }
}

function stateName(value: number): MigrationState {
  const name = migrationStates[value];
  if (name === undefined)
    throw new Ring3Error("NOT_SUPPORTED", `the kernel reports migration state ${value}, which is unknown here`);
  return name;
}
