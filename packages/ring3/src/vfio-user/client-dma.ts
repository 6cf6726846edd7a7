// DMA memory of a served function: memfds that the server maps, so that its device works on the very bytes that the driver
// sees. The order is always unmap first, then give the memory back; what a connection lost, the next one is shown again.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { ERRNO, errnoName } from "../linux/errno.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { SharedMemoryPool } from "../linux/shared-pool.ts";
import { shareRange } from "../linux/shared-range.ts";
import type { Arena, ArenaRange } from "../memory/arena.ts";
import { IovaAllocator } from "../memory/iova-allocator.ts";
import { MappedBuffer } from "../pci/dma-buffer.ts";
import type { DmaBuffer, DmaLimits, DmaMapOptions, DmaSpace } from "../pci/function.ts";
import type { ServedDevice } from "./client-device.ts";
import type { ReachableMemory, ReachableTable } from "./client-dma-requests.ts";

const PAGE = 4096;
/** What devices can address; 48 bits suit all of them. */
const IOVAS = [{ first: 0, last: 2 ** 48 - 1 }] as const;
/** SPDK's target takes so many maps and does not say so. */
const UNANNOUNCED_LIMIT = 64;
/** Addresses that are tried where other clients' memory lies, and how much is passed over at a time. */
const MAXIMUM_TRIES = 256;
const MAXIMUM_LEAP = 2 ** 30;

/** Memory with or without a descriptor. */
interface Backing extends Disposable {
  readonly arenaOffset: number;
  readonly size: number;
  readonly fd: FileDescriptor | undefined;
  readonly fileOffset: number;
}

interface Mapping extends ReachableMemory {
  readonly backing: Backing;
  readonly buffer: MappedBuffer;
}

export class VfioUserDmaSpace implements DmaSpace {
  readonly arena: Arena;
  readonly #table: ReachableTable;
  readonly #shares: boolean;
  readonly #pool: SharedMemoryPool;
  readonly #iovas: IovaAllocator = new IovaAllocator(IOVAS);
  readonly #mappings: Map<number, Mapping> = new Map();
  /** Memory that the server did not let go of: nobody else gets it while the server may write to it. */
  readonly #stuck: Backing[] = [];
  /** IOVAs where memory of other clients was found. */
  readonly #others: number[] = [];
  readonly #device: ServedDevice;
  #ended: Ring3Error | undefined;

  /** With `shares` memory goes to the server by descriptor, otherwise the server reads and writes it by messages. */
  constructor(device: ServedDevice, arena: Arena, table: ReachableTable, shares: boolean) {
    this.#device = device;
    this.arena = arena;
    this.#table = table;
    this.#shares = shares;
    this.#pool = new SharedMemoryPool(arena);
  }

  limits(): DmaLimits {
    this.#checkOpen();
    const { pageSizes, maximumDmaMaps } = this.#device.negotiated;
    return {
      ranges: this.#iovas.ranges,
      pageSizes: pageSizes.filter((size) => size >= PAGE),
      mappingsLeft: Math.max(0, maximumDmaMaps - this.#mappings.size),
      lockableBytes: undefined,
    };
  }

  allocate(size: number, options: DmaMapOptions = {}): DmaBuffer {
    this.#checkOpen();
    if (!(Number.isSafeInteger(size) && size > 0)) throw new Ring3Error("DMA_INVALID", `not a size in bytes: ${size}`);
    const bytes = Math.ceil(size / PAGE) * PAGE;
    return this.#map(bytes, options, () => (this.#sharing ? this.#pool.reserve(bytes) : this.#plain(bytes)));
  }

  map(range: ArenaRange, options: DmaMapOptions = {}): DmaBuffer {
    this.#checkOpen();
    const { arena, offset, size } = range;
    if (arena !== this.arena) {
      throw new Ring3Error(
        "DMA_INVALID",
        "the range lies in another arena than the function's; open the function with that arena",
      );
    }
    if (offset % PAGE !== 0 || size % PAGE !== 0) {
      throw new Ring3Error("DMA_INVALID", `only whole pages can be mapped, not ${size} bytes at ${offset}`);
    }
    return this.#map(size, options, () => {
      const file = this.#sharing ? shareRange(range) : undefined;
      const hold = range.hold();
      const dispose = (): void => {
        hold[Symbol.dispose]();
        file?.[Symbol.dispose]();
      };
      return { arenaOffset: offset, size, fd: file?.fd, fileOffset: file?.fileOffset ?? 0, [Symbol.dispose]: dispose };
    });
  }

  unmapAll(): void {
    for (const { buffer } of Array.from(this.#mappings.values())) buffer[Symbol.dispose]();
  }

  /** Where each live buffer lies, for workers. */
  mappings(): { iova: number; size: number; arenaOffset: number; permission: DmaBuffer["permission"] }[] {
    return Array.from(this.#mappings.values(), ({ iova, size, arenaOffset, permission }) => ({
      iova,
      size,
      arenaOffset,
      permission,
    }));
  }

  /** Maps everything at another server, at the same IOVAs. */
  showTo(device: ServedDevice): void {
    for (const { iova, size, permission, backing } of this.#mappings.values()) {
      const result = device.tryMap(iova, size, permission, backing.fd, backing.fileOffset);
      if (result < 0) throw this.#mapError(-result, size);
    }
  }

  /** Unmaps everything and closes the memory's files; later calls throw `reason`. */
  end(reason: Ring3Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    try {
      this.unmapAll();
    } finally {
      // A server that does not answer keeps nobody: what is left goes without being unmapped.
      for (const { backing } of this.#mappings.values()) backing[Symbol.dispose]();
      this.#mappings.clear();
      for (const backing of this.#stuck.splice(0)) backing[Symbol.dispose]();
      this.#pool[Symbol.dispose]();
    }
  }

  get #sharing(): boolean {
    return this.#shares && this.#device.negotiated.maximumFds > 0;
  }

  #plain(bytes: number): Backing {
    const range = this.arena.reserve(bytes);
    const dispose = (): void => range[Symbol.dispose]();
    return { arenaOffset: range.offset, size: bytes, fd: undefined, fileOffset: 0, [Symbol.dispose]: dispose };
  }

  #map(size: number, options: DmaMapOptions, take: () => Backing): DmaBuffer {
    const { permission = "read-write" } = options;
    let backing: Backing | undefined;
    let iova: number | undefined;
    try {
      iova = this.#takeIova(size, options);
      backing = take();
      for (let tries = 1; !this.#show(iova, size, permission, backing, tries < MAXIMUM_TRIES && options); tries++) {
        const there: number = iova;
        iova = undefined;
        iova = this.#leap(there, size, options);
      }
    } catch (error) {
      if (iova !== undefined) {
        this.#table.remove(iova);
        this.#iovas.release(iova);
      }
      backing?.[Symbol.dispose]();
      throw error;
    }
    const { arenaOffset } = backing;
    const parts = { iova, size, permission, arena: this.arena, arenaOffset };
    const buffer = new MappedBuffer(parts, () => this.#unmap(iova));
    this.#mappings.set(iova, { iova, size, arenaOffset, permission, backing, buffer });
    return buffer;
  }

  /** Maps memory at the server; `false` where another client's lies there and `mayMove` leaves a choice. */
  #show(
    iova: number,
    size: number,
    permission: DmaBuffer["permission"],
    { arenaOffset, fd, fileOffset }: Backing,
    mayMove: DmaMapOptions | false,
  ): boolean {
    // The server may ask for the memory before its reply.
    this.#table.add({ iova, size, arenaOffset, permission });
    const result = this.#device.tryMap(iova, size, permission, fd, fileOffset);
    if (result >= 0) return true;
    const shared = this.#device.negotiated.openings > 0;
    const taken = shared && result === -ERRNO.EEXIST[0] && mayMove !== false && mayMove.iova === undefined;
    if (!taken) throw this.#mapError(-result, size);
    return false;
  }

  /** Passes over memory of another client, of whose size nobody tells: further each time. */
  #leap(iova: number, size: number, options: DmaMapOptions): number {
    this.#table.remove(iova);
    this.#others.push(iova);
    const passed = this.#others.length;
    try {
      this.#others.push(this.#iovas.allocate(Math.min(size * 2 ** Math.min(passed, 30), MAXIMUM_LEAP), options));
    } catch (error) {
      if (!isRing3Error(error, "IOVA_EXHAUSTED")) throw error;
    }
    return this.#takeIova(size, options);
  }

  #unmap(iova: number): void {
    const mapping = this.#mappings.get(iova);
    if (mapping === undefined) return;
    const { size, backing } = mapping;
    this.#mappings.delete(iova);
    this.#table.remove(iova);
    const { channel } = this.#device;
    let released = channel.dead !== undefined;
    try {
      const result = released ? 0 : this.#device.tryUnmap(iova, size);
      released = result >= 0;
      if (result < 0 && this.#ended === undefined) throw unmapError(iova, -result);
    } catch (error) {
      // A server that is gone has let go.
      released = error === channel.dead;
      if (!released) throw error;
    } finally {
      if (released) {
        this.#iovas.release(iova);
        backing[Symbol.dispose]();
      } else this.#stuck.push(backing);
    }
  }

  #takeIova(size: number, options: DmaMapOptions): number {
    if (options.iova === undefined) {
      try {
        return this.#iovas.allocate(size, options);
      } catch (error) {
        if (this.#others.length === 0 || !isRing3Error(error, "IOVA_EXHAUSTED")) throw error;
        // The others may have unmapped theirs meanwhile.
        for (const passed of this.#others.splice(0)) this.#iovas.release(passed);
        return this.#iovas.allocate(size, options);
      }
    }
    const { iova, alignment = PAGE, below = 2 ** 53 } = options;
    if (iova % alignment !== 0 || iova + size > below) {
      throw new Ring3Error("IOVA_INVALID", `IOVA 0x${iova.toString(16)} is not what alignment and \`below\` ask for`);
    }
    this.#iovas.reserve(iova, size);
    return iova;
  }

  #mapError(errno: number, size: number): Ring3Error {
    const name = errnoName(errno);
    const count = this.#mappings.size;
    const details = { errno: name, call: "DMA_MAP" };
    const full = errno === ERRNO.ENOSPC[0] || errno === ERRNO.ENOMEM[0] || errno === ERRNO.E2BIG[0];
    if (full || count >= Math.min(UNANNOUNCED_LIMIT, this.#device.negotiated.maximumDmaMaps)) {
      return new Ring3Error(
        "DMA_MAPPINGS_EXHAUSTED",
        `the vfio-user server takes no further DMA mapping after ${count} (${name}); allocate small buffers from a DmaPool, ` +
          "which maps many at once",
        details,
      );
    }
    const others = errno === ERRNO.EEXIST[0] ? "; another client of the function has memory there" : "";
    return new Ring3Error("DMA_REFUSED", `the vfio-user server does not map ${size} bytes (${name})${others}`, details);
  }

  #checkOpen(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }
}

function unmapError(iova: number, errno: number): Ring3Error {
  return new Ring3Error(
    "DMA_REFUSED",
    `the vfio-user server does not unmap IOVA 0x${iova.toString(16)}; does its device still use it?`,
    { errno: errnoName(errno), call: "DMA_UNMAP" },
  );
}
