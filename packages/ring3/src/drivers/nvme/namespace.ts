// A namespace: blocks that are read, written and managed. NVM command set 1.0, section 3.2; flush: NVMe base 2.0,
// section 7.1. Every operation is split where the controller's limits ask for it. Reads, flushes, compares, verifies, and
// writes of whole given data have the same effect done twice, so they are repeated after a controller reset; two writes
// to the same block that are in flight together have no order before it either.
import { Ring3Error } from "../../binary/error.ts";
import { DATASET_RANGES_MAX, DatasetCdw11, IoCdw12, IoOpcode } from "../../specs/nvme/commands.ts";
import { DatasetRange, Flbas, type IdentifyNamespace, LbaFormat } from "../../specs/nvme/structs.ts";
import type { Command } from "./command.ts";
import type { DataSegment } from "./data-pointer.ts";
import type { TransferPool } from "./transfer-pool.ts";

/** What a namespace needs of whoever runs its commands: the driver, or a queue in a worker. */
export interface BlockPath {
  execute(command: Command): Promise<number>;
  readonly pool: TransferPool;
  readonly limits: BlockLimits;
}

/** Structured-cloneable. */
export interface BlockLimits {
  /** Bytes of data in one command at most. */
  readonly maxTransferBytes: number;
  /** Bytes of one verify, and of one write zeroes, at most; 0 for no limit. */
  readonly maxVerifyBytes: number;
  readonly maxWriteZeroesBytes: number;
  /** Blocks in one range of dataset management at most; 0 for no limit. */
  readonly maxDatasetRangeBlocks: number;
}

/** What a namespace is, checked. Structured-cloneable. */
export interface NamespaceShape {
  readonly id: number;
  /** In bytes: 512, 4096, or another power of two. */
  readonly blockSize: number;
  /** Size in blocks. */
  readonly blocks: bigint;
}

/** Memory that the device reaches, such as a `DmaBuffer`. */
export type BlockBuffer = DataSegment;

/** A block address: a bigint, or a number while that is exact. */
export type BlockAddress = bigint | number;

export interface WriteOptions {
  /** Force unit access: complete only when the data is on the medium. */
  readonly forceUnitAccess?: boolean;
}

const COMMAND_BLOCKS_MAX = 65536;
const HIGH = 2 ** 32;

/** Checks what identify namespace says. Throws `NVME_PROTOCOL`, `NVME_UNSUPPORTED`. */
export function namespaceShape(id: number, identify: IdentifyNamespace): NamespaceShape {
  const index = Flbas.LSB.get(identify.FLBAS) | (Flbas.MSB.get(identify.FLBAS) << 4);
  const format = identify.LBAF[index];
  if (format === undefined || index > identify.NLBAF) {
    throw new Ring3Error("NVME_PROTOCOL", `namespace ${id} uses LBA format ${index}, but has ${identify.NLBAF + 1}`);
  }
  const shift = LbaFormat.LBADS.get(format);
  if (shift < 9 || shift > 16) {
    throw new Ring3Error("NVME_PROTOCOL", `namespace ${id} has blocks of 2^${shift} bytes; 2^9 is the least`);
  }
  const metadata = LbaFormat.MS.get(format);
  if (metadata !== 0 && (Flbas.EXTENDED.test(identify.FLBAS) || (identify.DPS & 7) !== 0)) {
    const advice = "format it without metadata";
    throw new Ring3Error(
      "NVME_UNSUPPORTED",
      `namespace ${id} carries ${metadata} bytes of metadata in each block; ${advice}`,
    );
  }
  return { id, blockSize: 2 ** shift, blocks: identify.NSZE };
}

export class Namespace implements NamespaceShape {
  readonly id: number;
  readonly blockSize: number;
  readonly blocks: bigint;
  readonly #path: BlockPath;
  readonly #dataBlocks: number;
  /** Blocks as a number, for the check of each operation; beyond 2^53 nothing can be named anyway. */
  readonly #end: number;

  constructor(shape: NamespaceShape, path: BlockPath) {
    this.id = shape.id;
    this.blockSize = shape.blockSize;
    this.blocks = shape.blocks;
    this.#path = path;
    this.#end = Math.min(Number(shape.blocks), Number.MAX_SAFE_INTEGER);
    this.#dataBlocks = Math.min(COMMAND_BLOCKS_MAX, Math.floor(path.limits.maxTransferBytes / shape.blockSize));
    if (this.#dataBlocks < 1) {
      const limit = `${path.limits.maxTransferBytes} bytes`;
      throw new Ring3Error(
        "NVME_UNSUPPORTED",
        `namespace ${shape.id}: a block of ${shape.blockSize} bytes exceeds the transfer limit of ${limit}`,
      );
    }
  }

  /** Size in bytes. */
  get sizeBytes(): bigint {
    return this.blocks * BigInt(this.blockSize);
  }

  /** Reads `count` blocks from block `first` on; copies them out of DMA memory. */
  async read(first: BlockAddress, count: number): Promise<Uint8Array> {
    const start = this.#check(first, count);
    const result = new Uint8Array(count * this.blockSize);
    if (count <= this.#dataBlocks) await this.#copyIn(start, count, result, 0);
    else {
      await this.#split(start, count, this.#dataBlocks, (lba, blocks) =>
        this.#copyIn(lba, blocks, result, (lba - start) * this.blockSize),
      );
    }
    return result;
  }

  async #copyIn(lba: number, blocks: number, result: Uint8Array, at: number): Promise<void> {
    const size = blocks * this.blockSize;
    const taken = this.#path.pool.take(size);
    const transfer = taken instanceof Promise ? await taken : taken;
    try {
      await this.#run("read", IoOpcode.READ, lba, blocks, 0, transfer.segment(size));
      result.set(transfer.bytes.subarray(0, size), at);
    } finally {
      this.#path.pool.give(transfer);
    }
  }

  /** Reads into `target`, from byte `offset` of it on: no copy. */
  async readInto(target: BlockBuffer, first: BlockAddress, count: number, offset = 0): Promise<void> {
    const start = this.#check(first, count);
    const iova = this.#place(target, count, offset);
    if (count <= this.#dataBlocks) {
      await this.#run("read", IoOpcode.READ, start, count, 0, this.#segment(iova, 0, count));
      return;
    }
    await this.#split(start, count, this.#dataBlocks, (lba, blocks) =>
      this.#run("read", IoOpcode.READ, lba, blocks, 0, this.#segment(iova, lba - start, blocks)),
    );
  }

  /** Writes `bytes`, whole blocks, from block `first` on. Resolves when the controller has completed every part. */
  async write(first: BlockAddress, bytes: Uint8Array, options: WriteOptions = {}): Promise<void> {
    await this.#copyOut("write", IoOpcode.WRITE, first, bytes, fuaBit(options));
  }

  /** Writes `count` blocks out of `source`, from byte `offset` of it on: no copy. */
  async writeFrom(
    source: BlockBuffer,
    first: BlockAddress,
    count: number,
    offset = 0,
    options: WriteOptions = {},
  ): Promise<void> {
    const start = this.#check(first, count);
    const iova = this.#place(source, count, offset);
    if (count <= this.#dataBlocks) {
      await this.#run("write", IoOpcode.WRITE, start, count, fuaBit(options), this.#segment(iova, 0, count));
      return;
    }
    await this.#split(start, count, this.#dataBlocks, (lba, blocks) =>
      this.#run("write", IoOpcode.WRITE, lba, blocks, fuaBit(options), this.#segment(iova, lba - start, blocks)),
    );
  }

  /** Makes everything that was written durable. */
  async flush(): Promise<void> {
    await this.#path.execute({
      what: `flush of namespace ${this.id}`,
      opcode: IoOpcode.FLUSH,
      nsid: this.id,
      repeatable: true,
    });
  }

  /** Sets blocks to zero without transferring data; with `deallocate` the controller may drop them. */
  async writeZeroes(
    first: BlockAddress,
    count: number,
    options: WriteOptions & { readonly deallocate?: boolean } = {},
  ): Promise<void> {
    const start = this.#check(first, count);
    const flags = fuaBit(options) | (options.deallocate === true ? IoCdw12.DEAC.mask : 0);
    await this.#split(start, count, this.#limitBlocks(this.#path.limits.maxWriteZeroesBytes), (lba, blocks) =>
      this.#run("write zeroes", IoOpcode.WRITE_ZEROES, lba, blocks, flags, undefined),
    );
  }

  /** Tells the controller that the contents of these blocks are not needed any more (dataset management). */
  async deallocate(ranges: readonly { readonly first: BlockAddress; readonly count: number }[]): Promise<void> {
    const limit = this.#path.limits.maxDatasetRangeBlocks;
    const rangeBlocks = limit === 0 ? HIGH - 1 : Math.min(limit, HIGH - 1);
    const parts: { SLBA: bigint; LENGTH: number }[] = [];
    for (const { first, count } of ranges) {
      const start = this.#check(first, count);
      for (let done = 0; done < count; done += rangeBlocks) {
        parts.push({ SLBA: BigInt(start + done), LENGTH: Math.min(rangeBlocks, count - done) });
      }
    }
    for (let from = 0; from < parts.length; from += DATASET_RANGES_MAX) {
      await this.#deallocate(parts.slice(from, from + DATASET_RANGES_MAX));
    }
  }

  async #deallocate(ranges: readonly { readonly SLBA: bigint; readonly LENGTH: number }[]): Promise<void> {
    const size = ranges.length * DatasetRange.size;
    const taken = this.#path.pool.take(size);
    const transfer = taken instanceof Promise ? await taken : taken;
    try {
      for (const [i, range] of ranges.entries()) transfer.bytes.set(DatasetRange.bytes(range), i * DatasetRange.size);
      await this.#path.execute({
        what: `dataset management of ${ranges.length} ranges`,
        opcode: IoOpcode.DATASET_MANAGEMENT,
        nsid: this.id,
        cdw10: ranges.length - 1,
        cdw11: DatasetCdw11.AD.mask,
        data: transfer.segment(size),
        repeatable: true,
      });
    } finally {
      this.#path.pool.give(transfer);
    }
  }

  /** Compares blocks with `bytes`; rejects with the status `COMPARE_FAILURE` where they differ. */
  async compare(first: BlockAddress, bytes: Uint8Array): Promise<void> {
    await this.#copyOut("compare", IoOpcode.COMPARE, first, bytes, 0);
  }

  /** Lets the controller read blocks and check them, without transferring data. */
  async verify(first: BlockAddress, count: number): Promise<void> {
    const start = this.#check(first, count);
    const limit = this.#path.limits.maxVerifyBytes;
    await this.#split(start, count, limit === 0 ? this.#dataBlocks : this.#limitBlocks(limit), (lba, blocks) =>
      this.#run("verify", IoOpcode.VERIFY, lba, blocks, 0, undefined),
    );
  }

  async #copyOut(what: string, opcode: number, first: BlockAddress, bytes: Uint8Array, flags: number): Promise<void> {
    const count = bytes.length / this.blockSize;
    if (!Number.isInteger(count)) {
      throw new Ring3Error(
        "NVME_RANGE",
        `${bytes.length} bytes are not a multiple of the ${this.blockSize} of a block`,
      );
    }
    const start = this.#check(first, count);
    await this.#split(start, count, this.#dataBlocks, async (lba, blocks) => {
      const size = blocks * this.blockSize;
      const at = (lba - start) * this.blockSize;
      const taken = this.#path.pool.take(size);
      const transfer = taken instanceof Promise ? await taken : taken;
      try {
        transfer.bytes.set(bytes.subarray(at, at + size));
        await this.#run(what, opcode, lba, blocks, flags, transfer.segment(size));
      } finally {
        this.#path.pool.give(transfer);
      }
    });
  }

  #run(
    what: string,
    opcode: number,
    lba: number,
    blocks: number,
    flags: number,
    data: readonly DataSegment[] | undefined,
  ): Promise<number> {
    return this.#path.execute({
      what,
      opcode,
      nsid: this.id,
      cdw10: lba % HIGH,
      cdw11: Math.floor(lba / HIGH),
      cdw12: ((blocks - 1) | flags) >>> 0,
      data,
      repeatable: true,
    });
  }

  /** Runs `part` over pieces of at most `limit` blocks, all at once; the first failure is reported when all have ended. */
  async #split(
    start: number,
    count: number,
    limit: number,
    part: (lba: number, blocks: number) => Promise<unknown>,
  ): Promise<void> {
    if (count <= limit) {
      await part(start, count);
      return;
    }
    const parts: Promise<unknown>[] = [];
    for (let done = 0; done < count; done += limit) parts.push(part(start + done, Math.min(limit, count - done)));
    const failed = (await Promise.allSettled(parts)).find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  #segment(iova: number, block: number, blocks: number): readonly DataSegment[] {
    return [{ iova: iova + block * this.blockSize, size: blocks * this.blockSize }];
  }

  #limitBlocks(bytes: number): number {
    return bytes === 0
      ? COMMAND_BLOCKS_MAX
      : Math.max(1, Math.min(COMMAND_BLOCKS_MAX, Math.floor(bytes / this.blockSize)));
  }

  #check(first: BlockAddress, count: number): number {
    const start = Number(first);
    const valid = Number.isSafeInteger(start) && start >= 0 && Number.isSafeInteger(count) && count >= 1;
    if (!valid || start + count > this.#end) {
      const size = `namespace ${this.id} has ${this.blocks} blocks`;
      throw new Ring3Error("NVME_RANGE", `${size}; ${count} from ${first} on do not lie in it`);
    }
    return start;
  }

  #place(buffer: BlockBuffer, count: number, offset: number): number {
    const size = count * this.blockSize;
    if (!(Number.isSafeInteger(offset) && offset >= 0 && offset % 4 === 0 && offset + size <= buffer.size)) {
      const place = `${size} bytes at offset ${offset}`;
      throw new Ring3Error("NVME_RANGE", `${place} do not fit in the buffer's ${buffer.size}, or are not aligned to 4`);
    }
    return buffer.iova + offset;
  }
}

function fuaBit(options: WriteOptions): number {
  return options.forceUnitAccess === true ? IoCdw12.FUA.mask : 0;
}
