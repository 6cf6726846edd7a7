// What a virtio disk can be asked for, and what it says of itself to drivers: features and configuration. Virtio 1.3, sections
// 5.2.3 and 5.2.4.
import { Ring3Error } from "../../binary/error.ts";
import { BlockFeature } from "../../specs/virtio/features.ts";
import { VirtioDeviceId } from "../../specs/virtio/registers.ts";
import { BLOCK_ID_BYTES, BlockConfig, SECTOR_BYTES } from "../../specs/virtio/structs.ts";
import { type BlockBacking, checkBacking } from "../block-backing.ts";
import { MAXIMUM_RANGES, RANGE_SECTORS } from "./block-ranges.ts";
import { DEFAULT_QUEUE_SIZE, type VirtioModel, type VirtioOptions } from "./function-declaration.ts";

export interface VirtioBlockOptions extends VirtioOptions {
  readonly backing: BlockBacking;
  /** Refuses writes; as the backing says by default. */
  readonly readOnly?: boolean;
  /** Bytes of a block, what `blk_size` says: 512 (default) to 65536. Requests are of whole sectors of 512 all the same. */
  readonly blockSize?: number;
  /** Queues, 1 (default) to 16. */
  readonly queues?: number;
  /** Up to 20 characters of ASCII, what the guest shows as the disk's serial number. */
  readonly serial?: string;
}

const MASS_STORAGE_SCSI = 0x010000;
const MAXIMUM_QUEUES = 16;
/** What one request may move, and the most of it that one segment may have: nothing grows with what a guest asks for. */
const SEGMENT_BYTES = 64 * 1024;
export const MAXIMUM_TRANSFER_BYTES: number = 16 * 2 ** 20;

/** Whole sectors of a backing. */
export function sectorsOf(backing: BlockBacking): number {
  return Math.floor(backing.sizeBytes / SECTOR_BYTES);
}

export function refusesWrites({ readOnly, backing }: VirtioBlockOptions): boolean {
  return readOnly ?? backing.readOnly ?? false;
}

/** Throws `VIRTIO_OPTION` or `BACKING_INVALID` for what no disk can be. */
export function checkBlockOptions(options: VirtioBlockOptions): void {
  const { backing, blockSize = SECTOR_BYTES, queues = 1, serial = "" } = options;
  if (!(Number.isInteger(queues) && queues >= 1 && queues <= MAXIMUM_QUEUES)) {
    throw new Ring3Error("VIRTIO_OPTION", `a virtio disk has 1 to ${MAXIMUM_QUEUES} queues, not ${queues}`);
  }
  if (!(blockSize >= SECTOR_BYTES && blockSize <= 65536 && Number.isInteger(Math.log2(blockSize)))) {
    throw new Ring3Error("VIRTIO_OPTION", `a block has 512 to 65536 bytes, a power of two, not ${blockSize}`);
  }
  if (serial.length > BLOCK_ID_BYTES || /[^\x20-\x7e]/.test(serial)) {
    throw new Ring3Error("VIRTIO_OPTION", `a serial number has at most ${BLOCK_ID_BYTES} printable ASCII characters`);
  }
  checkBacking(backing, blockSize);
}

/** The kind of device, with the features that this disk offers. */
export function blockModel(options: VirtioBlockOptions): VirtioModel {
  const { backing, queues = 1 } = options;
  const readOnly = refusesWrites(options);
  const zeroes = backing.zero !== undefined || backing.discard !== undefined;
  return {
    name: "virtio-blk",
    deviceId: VirtioDeviceId.BLOCK,
    classCode: MASS_STORAGE_SCSI,
    queues,
    configSize: BlockConfig.size,
    features: [
      BlockFeature.SIZE_MAX,
      BlockFeature.SEG_MAX,
      BlockFeature.BLK_SIZE,
      BlockFeature.FLUSH,
      BlockFeature.TOPOLOGY,
      BlockFeature.CONFIG_WCE,
      ...(readOnly ? [BlockFeature.RO] : []),
      ...(queues > 1 ? [BlockFeature.MQ] : []),
      ...(backing.discard !== undefined && !readOnly ? [BlockFeature.DISCARD] : []),
      ...(zeroes && !readOnly ? [BlockFeature.WRITE_ZEROES] : []),
    ],
  };
}

/** struct virtio_blk_config. */
export function blockConfiguration(options: VirtioBlockOptions): Uint8Array {
  const { backing, blockSize = SECTOR_BYTES, queues = 1, queueSize = DEFAULT_QUEUE_SIZE } = options;
  return BlockConfig.bytes({
    capacity: BigInt(sectorsOf(backing)),
    size_max: SEGMENT_BYTES,
    // Header and status take two descriptors of a ring without indirect ones.
    seg_max: Math.min(Math.max(1, queueSize - 2), MAXIMUM_TRANSFER_BYTES / SEGMENT_BYTES),
    blk_size: blockSize,
    min_io_size: 1,
    num_queues: queues,
    writeback: 1,
    max_discard_sectors: RANGE_SECTORS,
    max_discard_seg: MAXIMUM_RANGES,
    discard_sector_alignment: blockSize / SECTOR_BYTES,
    max_write_zeroes_sectors: RANGE_SECTORS,
    max_write_zeroes_seg: MAXIMUM_RANGES,
    write_zeroes_may_unmap: backing.discard === undefined ? 0 : 1,
  });
}
