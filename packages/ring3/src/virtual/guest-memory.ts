// What a device can reach: the memory that its user mapped, with bus mastering on, as far as each map's permission goes.
// Anything else is a fault: reported, and never an access. Hard about it: a ring looks up addresses millions of times a
// second, so finding costs a comparison where the last map is hit again, and allocates nothing.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { RangeTable } from "../memory/range-table.ts";
import type { DmaPermission } from "../pci/function.ts";
import { DirtyLog } from "./dirty-log.ts";
import { type DmaFault, dmaFault } from "./dma-fault.ts";
import { checkBacking, checkRange, GuestMap, hexAddress, type MapBacking, type MemoryMap } from "./guest-map.ts";

export type { DmaFault } from "./dma-fault.ts";
export type { MapBacking, MemoryMap } from "./guest-map.ts";

/** Addresses are exact numbers below it. */
const END = 2 ** 53;

export interface GuestMemoryOptions {
  /** Maps at most; 65,535 by default, as the kernel's limit is. */
  readonly maximum?: number;
  /** Whether a map may be: throws where not, before anybody learns of it. */
  readonly admit?: (map: MemoryMap) => void;
  readonly onMap?: (map: MemoryMap) => void;
  /** Before the map's backing is released: whoever kept a view lets go of it here. */
  readonly onUnmap?: (map: MemoryMap) => void;
  readonly onFault?: (fault: DmaFault) => void;
}

export class GuestMemory {
  /** COMMAND.BUS_MASTER and D0: without them nothing is found. The function sets it. */
  busMaster = false;
  readonly maximum: number;
  /** Which pages the device wrote, for live migration. */
  readonly dirty: DirtyLog = new DirtyLog();
  readonly #table = new RangeTable<GuestMap>();
  readonly #options: GuestMemoryOptions;
  #last: GuestMap | undefined;
  #faults = 0;
  #mappedBytes = 0;

  constructor(options: GuestMemoryOptions = {}) {
    this.#options = options;
    this.maximum = options.maximum ?? 65_535;
  }

  /** Maps there are. */
  get count(): number {
    return this.#table.count;
  }

  /** Bytes that are mapped. */
  get mappedBytes(): number {
    return this.#mappedBytes;
  }

  /** Faults so far. */
  get faults(): number {
    return this.#faults;
  }

  /** The maps, by ascending IOVA. */
  maps(): MemoryMap[] {
    return Array.from(this.#table);
  }

  // --- The bus side -----------------------------------------------------------------------------------------------

  /**
   * Lets the device reach `size` bytes at `iova`. Throws `DMA_INVALID` for what is no range below 2^53, `DMA_MAP_EXISTS`
   * (errno `EEXIST`) where a part is mapped already, `DMA_MAP_LIMIT` (`ENOSPC`) beyond {@link maximum}, and what the
   * function says of a map that it does not take. Nothing is mapped and the backing is the caller's where it throws. `owner`
   * is whoever takes the map away again, where several share the memory.
   */
  map(iova: number, size: number, permission: DmaPermission, backing: MapBacking, owner?: object): MemoryMap {
    checkRange(iova, size);
    checkBacking(iova, size, backing);
    if (this.#table.count >= this.maximum) {
      throw new Ring3Error("DMA_MAP_LIMIT", `${this.maximum} maps are there, which is the limit; unmap some`, {
        errno: "ENOSPC",
      });
    }
    const map = new GuestMap(iova, size, permission, backing, owner);
    const other = this.#table.insert(iova, size, map);
    if (other !== undefined) {
      throw new Ring3Error(
        "DMA_MAP_EXISTS",
        `${size} bytes at IOVA ${hexAddress(iova)} overlap the ${other.size} bytes mapped at ${hexAddress(other.iova)}`,
        { errno: "EEXIST" },
      );
    }
    try {
      this.#options.admit?.(map);
    } catch (error) {
      this.#table.removeBetween(iova, iova + 1);
      throw error;
    }
    this.#mappedBytes += size;
    this.#options.onMap?.(map);
    return map;
  }

  /**
   * Takes all maps away that lie inside the range, and gives them in ascending order: none where nothing is mapped there.
   * Throws `DMA_UNMAP_PARTIAL` (errno `EINVAL`), and takes none, where a map lies in it only in part. With `owner` only its
   * maps count.
   */
  unmap(iova: number, size: number, owner?: object): readonly MemoryMap[] {
    checkRange(iova, size);
    const end = iova + size;
    const first = this.#owned(this.#table.at(iova), owner);
    const last = this.#owned(this.#table.at(end - 1), owner);
    const cut =
      first !== undefined && first.iova < iova ? first : last !== undefined && last.end > end ? last : undefined;
    if (cut !== undefined) {
      throw new Ring3Error(
        "DMA_UNMAP_PARTIAL",
        `${size} bytes at IOVA ${hexAddress(iova)} are only a part of the ${cut.size} mapped at ${hexAddress(cut.iova)}; unmap all of it`,
        { errno: "EINVAL" },
      );
    }
    return this.#gone(this.#remove(iova, end, owner));
  }

  /** Takes every map away; with `owner` only its maps. */
  unmapAll(owner?: object): readonly MemoryMap[] {
    return this.#gone(owner === undefined ? this.#table.clear() : this.#remove(0, END, owner));
  }

  #owned(map: GuestMap | undefined, owner: object | undefined): GuestMap | undefined {
    return owner === undefined || map?.owner === owner ? map : undefined;
  }

  #remove(start: number, end: number, owner: object | undefined): GuestMap[] {
    return this.#table.removeBetween(start, end, owner === undefined ? undefined : (map) => map.owner === owner);
  }

  #gone(maps: GuestMap[]): readonly MemoryMap[] {
    this.#last = undefined;
    for (const map of maps) {
      this.#mappedBytes -= map.size;
      this.#options.onUnmap?.(map);
    }
    for (const map of maps) map.backing.release?.();
    return maps;
  }

  // --- The model's side: looking ----------------------------------------------------------------------------------

  /**
   * The map that holds all of these bytes, where the device may access them so; `undefined` where none does (the range may
   * still lie in several maps: `read` and `write` know). Looking is no fault.
   */
  find(iova: number, size: number, access: "read" | "write"): MemoryMap | undefined {
    return this.#find(iova, size, access);
  }

  /** The bytes themselves, where one map holds them in this process. After writing through a view call {@link written}. */
  view(iova: number, size: number, access: "read" | "write"): Uint8Array | undefined {
    const map = this.#find(iova, size, access);
    const bytes = map?.bytes;
    if (map === undefined || bytes === undefined) return undefined;
    const offset = iova - map.iova;
    return bytes.subarray(offset, offset + size);
  }

  /** The bytes themselves in one or several views, where all of them are in this process. */
  scatter(iova: number, size: number, access: "read" | "write"): readonly Uint8Array[] | undefined {
    if (!this.busMaster || !(size >= 0)) return undefined;
    const views: Uint8Array[] = [];
    for (let at = 0; at < size; ) {
      const map = this.#table.at(iova + at);
      const bytes = map?.bytes;
      if (map === undefined || bytes === undefined || !allows(map, access)) return undefined;
      const offset = iova + at - map.iova;
      const part = Math.min(size - at, map.size - offset);
      views.push(bytes.subarray(offset, offset + part));
      at += part;
    }
    return views;
  }

  /** Records what the device wrote through a view or an emitted loop; `write` and its like do it by themselves. */
  written(iova: number, size: number): void {
    if (this.dirty.active) this.dirty.mark(iova, size);
  }

  // --- The model's side: access. A miss is a fault and throws `DMA_FAULT` -----------------------------------------

  /**
   * Reads memory, across maps where need be. Throws `DMA_FAULT`, with `target` undefined in content. Where the client has to
   * be asked, it and other clients of the process are served until it has answered: the model may be called meanwhile.
   */
  read(iova: number, target: Uint8Array): void {
    const size = target.length;
    const map = this.#find(iova, size, "read");
    if (map !== undefined) this.#readFrom(map, iova, target);
    else
      this.#each(iova, size, "read", (part, at, count) =>
        this.#readFrom(part, iova + at, target.subarray(at, at + count)),
      );
  }

  /** Writes memory, across maps where need be. Throws `DMA_FAULT`; nothing was written then, unless a transfer failed. */
  write(iova: number, source: Uint8Array): void {
    const size = source.length;
    const map = this.#find(iova, size, "write");
    if (map !== undefined) this.#writeTo(map, iova, source);
    else
      this.#each(iova, size, "write", (part, at, count) =>
        this.#writeTo(part, iova + at, source.subarray(at, at + count)),
      );
  }

  /** One 32-bit load, little endian; atomic where the address is aligned and the memory is in this process. */
  read32(iova: number): number {
    const map = this.#find(iova, 4, "read");
    const words = map?.words;
    if (map !== undefined && words !== undefined && iova % 4 === 0 && map.iova % 4 === 0) {
      return Atomics.load(words, (iova - map.iova) / 4);
    }
    return this.#small(iova, 4).getUint32(0, true);
  }

  /** One 32-bit store, seen by others as a whole and after everything stored before; else as `read32`. */
  write32(iova: number, value: number): void {
    const map = this.#find(iova, 4, "write");
    const words = map?.words;
    if (map !== undefined && words !== undefined && iova % 4 === 0 && map.iova % 4 === 0) {
      Atomics.store(words, (iova - map.iova) / 4, value);
      if (this.dirty.active) this.dirty.mark(iova, 4);
      return;
    }
    const view = new DataView(new ArrayBuffer(4));
    view.setUint32(0, value, true);
    this.write(iova, new Uint8Array(view.buffer));
  }

  read16(iova: number): number {
    return this.#small(iova, 2).getUint16(0, true);
  }

  write16(iova: number, value: number): void {
    this.write(iova, Uint8Array.of(value & 0xff, (value >>> 8) & 0xff));
  }

  read64(iova: number): bigint {
    return this.#small(iova, 8).getBigUint64(0, true);
  }

  write64(iova: number, value: bigint): void {
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, value, true);
    this.write(iova, new Uint8Array(view.buffer));
  }

  /** A 64-bit address as a number; one from 2^53 on may come out inexact, and is mapped nowhere. */
  readAddress(iova: number): number {
    const view = this.#small(iova, 8);
    return view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  }

  // --- Inside -----------------------------------------------------------------------------------------------------

  #find(iova: number, size: number, access: "read" | "write"): GuestMap | undefined {
    if (!this.busMaster) return undefined;
    let map = this.#last;
    if (map === undefined || iova < map.iova || iova >= map.end) {
      map = this.#table.at(iova);
      if (map === undefined) return undefined;
      this.#last = map;
    }
    // Subtracting keeps the comparison exact where an end beyond 2^53 would round.
    if (!(size >= 0 && size <= map.end - iova)) return undefined;
    return (access === "read" ? map.readable : map.writable) ? map : undefined;
  }

  /** A few bytes as a view: of the memory itself, or of a copy. */
  #small(iova: number, size: number): DataView {
    const map = this.#find(iova, size, "read");
    if (map?.bytes !== undefined) return new DataView(map.bytes.buffer, map.bytes.byteOffset + (iova - map.iova), size);
    const copy = new Uint8Array(size);
    this.read(iova, copy);
    return new DataView(copy.buffer);
  }

  #each(
    iova: number,
    size: number,
    access: "read" | "write",
    act: (map: GuestMap, at: number, count: number) => void,
  ): void {
    if (size === 0) return;
    if (!this.busMaster) throw this.#fault(iova, size, access, "bus-master");
    // All of it is checked before any of it is touched.
    const parts: GuestMap[] = [];
    for (let at = 0; at < size; ) {
      const map = this.#table.at(iova + at);
      if (map === undefined || !Number.isSafeInteger(iova + at)) throw this.#fault(iova, size, access, "unmapped");
      if (!allows(map, access)) throw this.#fault(iova, size, access, "permission");
      parts.push(map);
      at += Math.min(size - at, map.end - (iova + at));
    }
    let at = 0;
    for (const map of parts) {
      const count = Math.min(size - at, map.end - (iova + at));
      // A transfer by messages lets the client in, who may take away what comes next.
      if (this.#table.at(iova + at) !== map) throw this.#fault(iova, size, access, "unmapped");
      act(map, at, count);
      at += count;
    }
  }

  #readFrom(map: GuestMap, iova: number, target: Uint8Array): void {
    const offset = iova - map.iova;
    if (map.bytes !== undefined) target.set(map.bytes.subarray(offset, offset + target.length));
    else this.#transfer(iova, target.length, "read", () => map.backing.transfer?.read(offset, target));
  }

  #writeTo(map: GuestMap, iova: number, source: Uint8Array): void {
    const offset = iova - map.iova;
    try {
      if (map.bytes !== undefined) map.bytes.set(source, offset);
      else this.#transfer(iova, source.length, "write", () => map.backing.transfer?.write(offset, source));
    } finally {
      // Afterwards: a transfer by messages lets in a client who asks for what is dirty, and cleans it by that.
      if (this.dirty.active) this.dirty.mark(iova, source.length);
    }
  }

  #transfer(iova: number, size: number, access: "read" | "write", act: () => void): void {
    try {
      act();
    } catch (error) {
      if (!isRing3Error(error)) throw error;
      throw this.#fault(iova, size, access, "transfer", error);
    }
  }

  #fault(
    iova: number,
    size: number,
    access: "read" | "write",
    reason: DmaFault["reason"],
    cause?: Ring3Error,
  ): Ring3Error {
    const fault = dmaFault(iova, size, access, reason, cause);
    this.#faults++;
    this.#options.onFault?.(fault);
    return new Ring3Error("DMA_FAULT", fault.description, cause === undefined ? {} : { cause });
  }
}

function allows(map: GuestMap, access: "read" | "write"): boolean {
  return access === "read" ? map.readable : map.writable;
}
