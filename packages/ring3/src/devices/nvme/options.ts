// What a user of the device may choose, and what holds otherwise.
import { Ring3Error } from "../../binary/error.ts";
import type { Arena } from "../../memory/arena.ts";
import { type DeviceClock, machineClock } from "../clock.ts";
import type { NamespaceOptions } from "./namespace.ts";

export interface NvmeDeviceOptions {
  /** Namespaces 1, 2, ...; more can come and go later. */
  readonly namespaces: readonly NamespaceOptions[];
  /** Shown in messages; `nvme` by default. */
  readonly name?: string;
  /** 20 characters at most; it also gives the namespaces' identifiers, so no two devices of a guest may share it. */
  readonly serialNumber?: string;
  /** 40 characters at most. */
  readonly modelNumber?: string;
  /** I/O queue pairs at most; 64 by default, which is the limit. There is a vector for each, and one for the admin queue. */
  readonly ioQueues?: number;
  /** Entries of a queue at most, 2 to 65,536; 4096 by default. */
  readonly maxQueueEntries?: number;
  /** Bytes of one command at most, a power of two from 8192 to 8 MiB; 512 KiB by default (MDTS). */
  readonly maxTransferBytes?: number;
  /** CAP.DSTRD: doorbells are `4 << stride` bytes apart; 0 by default, 10 at most. */
  readonly doorbellStride?: number;
  /**
   * The doorbells are plain memory that a client may map, and the device polls them. Fast for a client that maps them;
   * clients that do not, and QEMU, are served better by register writes, so it is off by default.
   */
  readonly mappableDoorbells?: boolean;
  /** Offers Doorbell Buffer Config, by which a paravirtual host saves register writes; on by default. */
  readonly shadowDoorbells?: boolean;
  /** Says that there is a volatile write cache that flush empties; on unless every namespace is memory. */
  readonly writeCache?: boolean;
  /** The messages by which the device can interrupt, both by default; the line (INTx) is there in any case. */
  readonly interrupts?: readonly ("msi" | "msix")[];
  /** 1234:4e56 by default: ids that no driver has quirks for, so that drivers bind by the class. */
  readonly vendorId?: number;
  readonly deviceId?: number;
  readonly arena?: Arena;
  readonly clock?: DeviceClock;
}

/** The options with everything decided. */
export interface NvmeSettings {
  readonly name: string;
  readonly serialNumber: string;
  readonly modelNumber: string;
  readonly ioQueues: number;
  readonly maxQueueEntries: number;
  readonly maxTransferBytes: number;
  readonly doorbellStride: number;
  readonly mappableDoorbells: boolean;
  readonly shadowDoorbells: boolean;
  readonly writeCache: boolean;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly clock: DeviceClock;
}

/** Namespace ids go up to this; identify controller says so (NN). */
export const NAMESPACES_MAX = 256;

/** Fills in what is not given. Throws `NVME_OPTION`. */
export function settingsOf(options: NvmeDeviceOptions): NvmeSettings {
  const settings: NvmeSettings = {
    name: options.name ?? "nvme",
    serialNumber: options.serialNumber ?? "ring3-1",
    modelNumber: options.modelNumber ?? "ring3 NVMe",
    ioQueues: whole("ioQueues", options.ioQueues ?? 64, 1, 64),
    maxQueueEntries: whole("maxQueueEntries", options.maxQueueEntries ?? 4096, 2, 65_536),
    maxTransferBytes: whole("maxTransferBytes", options.maxTransferBytes ?? 2 ** 19, 8192, 2 ** 23),
    doorbellStride: whole("doorbellStride", options.doorbellStride ?? 0, 0, 10),
    mappableDoorbells: options.mappableDoorbells ?? false,
    shadowDoorbells: options.shadowDoorbells ?? true,
    writeCache: options.writeCache ?? options.namespaces.some(({ backing }) => backing.contents === undefined),
    vendorId: whole("vendorId", options.vendorId ?? 0x1234, 0, 0xfffe),
    deviceId: whole("deviceId", options.deviceId ?? 0x4e56, 0, 0xffff),
    clock: options.clock ?? machineClock,
  };
  if (!Number.isInteger(Math.log2(settings.maxTransferBytes))) {
    throw new Ring3Error("NVME_OPTION", `maxTransferBytes is a power of two, not ${settings.maxTransferBytes}`);
  }
  if (options.namespaces.length > NAMESPACES_MAX) {
    throw new Ring3Error("NVME_OPTION", `a controller has at most ${NAMESPACES_MAX} namespaces`);
  }
  text("serialNumber", settings.serialNumber, 20);
  text("modelNumber", settings.modelNumber, 40);
  return settings;
}

function whole(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new Ring3Error("NVME_OPTION", `${name} is a whole number from ${least} to ${most}, not ${value}`);
}

function text(name: string, value: string, length: number): void {
  if (/^[\x20-\x7e]+$/.test(value) && value.length <= length) return;
  throw new Ring3Error("NVME_OPTION", `${name} is 1 to ${length} printable ASCII characters, not "${value}"`);
}
