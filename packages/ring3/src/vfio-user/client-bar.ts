// A BAR of a served function: by messages, and mapped where the server shares memory. Writes are posted, as on a bus,
// unless some of the device's registers are mapped: those would overtake them.
import { Ring3Error } from "../binary/error.ts";
import { errnoName } from "../linux/errno.ts";
import { EventFd } from "../linux/event-fd.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { sealAgainstShrinking } from "../linux/memory-file.ts";
import { checkMappable, type MapOptions } from "../linux/memory-map.ts";
import { DeviceWindow } from "../linux/windows.ts";
import type { Arena } from "../memory/arena.ts";
import type { ByteRange } from "../pci/function.ts";
import type { RegionAccess } from "../pci/region-bar.ts";
import type { ServedDevice } from "./client-device.ts";
import type { DoorbellFd, RegionArea, RegionDescription } from "./client-regions.ts";

/** A register whose write is the signal of an eventfd. */
interface Doorbell {
  readonly size: number;
  readonly data: bigint | undefined;
  readonly eventFd: EventFd;
}

export interface ServedRegionOptions {
  readonly device: ServedDevice;
  readonly arena: Arena;
  /** Maps memory too that the server may truncate, which would kill this process. */
  readonly trustServerMemory: boolean;
}

export class ServedRegion implements RegionAccess, Disposable {
  /** Whether writes go out without awaiting them. */
  posted = false;
  #region: RegionDescription;
  #mappable: readonly RegionArea[] = [];
  readonly #options: ServedRegionOptions;
  readonly #mapOptions: MapOptions;
  readonly #windows: { readonly window: DeviceWindow; readonly pages: ByteRange }[] = [];
  readonly #doorbells: Map<number, Doorbell[]> = new Map();
  readonly #wide: Uint8Array = new Uint8Array(8);
  readonly #wideView: DataView = new DataView(this.#wide.buffer);

  /** Takes over the region's descriptors. */
  constructor(region: RegionDescription, options: ServedRegionOptions) {
    this.#region = region;
    this.#options = options;
    this.#mapOptions = { mayShrink: options.trustServerMemory ? "accept" : "refuse" };
    this.#mappable = region.areas.filter((area) => this.#safe(area));
  }

  get size(): number {
    return this.#region.size;
  }

  /** What may be mapped, within the region. */
  get mappable(): readonly ByteRange[] {
    const { size } = this.#region;
    return this.#mappable.map((area) => ({ offset: area.offset, size: Math.min(area.size, size - area.offset) }));
  }

  /** Areas that the server offers and that are not mapped, since it could truncate them. */
  get refusedAreas(): number {
    return this.#region.areas.length - this.#mappable.length;
  }

  /** Takes over eventfds that stand for registers. */
  useDoorbells(doorbells: readonly DoorbellFd[]): void {
    this.#closeDoorbells();
    for (const { offset, size, data, fd } of doorbells) {
      const list = this.#doorbells.get(offset) ?? [];
      list.push({ size, data, eventFd: new EventFd(fd) });
      this.#doorbells.set(offset, list);
    }
  }

  /** Throws `DEVICE_CHANGED` where another server's region could not take this one's place, windows included. */
  checkSame(other: RegionDescription | undefined): void {
    const areas = other?.areas.filter((area) => this.#safe(area)) ?? [];
    const covered = this.#windows.every(
      ({ window, pages }) => window.state === "revoked" || areaOf(areas, pages) !== undefined,
    );
    if (other?.size === this.#region.size && covered) return;
    throw new Ring3Error(
      "DEVICE_CHANGED",
      `region ${this.#region.index} is not what it was before; open the function anew`,
    );
  }

  /**
   * Goes on with what another server says of the same region, which was checked, and takes over its descriptors. Windows
   * that are mapped show the new memory, with `keepBytes` holding what the former held.
   */
  adopt(region: RegionDescription, keepBytes: boolean): void {
    const mappable = region.areas.filter((area) => this.#safe(area));
    for (const { window, pages } of this.#windows) {
      const area = areaOf(mappable, pages);
      if (area !== undefined) window.rebind(area.fd, fileOffset(area, pages), { ...this.#mapOptions, keepBytes });
    }
    closeFiles(this.#region);
    this.#region = region;
    this.#mappable = mappable;
  }

  read(offset: number, width: 1 | 2 | 4): number {
    const value = this.#options.device.tryRead(this.#region.index, offset, width);
    if (value < 0) throw this.#refused("read", offset, -value);
    return value;
  }

  write(offset: number, width: 1 | 2 | 4, value: number): void {
    const { channel } = this.#options.device;
    if (this.#doorbells.size > 0 && this.#ring(offset, width, BigInt(value >>> 0))) return;
    if (this.posted) {
      channel.postWrite(this.#region.index, offset, width, value);
      return;
    }
    const result = this.#options.device.tryWrite(this.#region.index, offset, width, value);
    if (result < 0) throw this.#refused("write", offset, -result);
  }

  read64(offset: number): bigint {
    this.readInto(offset, this.#wide);
    return this.#wideView.getBigUint64(0, true);
  }

  write64(offset: number, value: bigint): void {
    if (this.#doorbells.size > 0 && this.#ring(offset, 8, value)) return;
    this.#wideView.setBigUint64(0, value, true);
    if (this.posted) this.#options.device.postWriteFrom(this.#region.index, offset, this.#wide);
    else this.writeFrom(offset, this.#wide);
  }

  readInto(offset: number, bytes: Uint8Array): void {
    const result = this.#options.device.tryReadInto(this.#region.index, offset, bytes);
    if (result < 0) throw this.#refused("read", offset, -result);
  }

  writeFrom(offset: number, bytes: Uint8Array): void {
    const result = this.#options.device.tryWriteFrom(this.#region.index, offset, bytes);
    if (result < 0) throw this.#refused("write", offset, -result);
  }

  window(pages: ByteRange): DeviceWindow {
    const area = areaOf(this.#mappable, pages);
    if (area === undefined) throw new Ring3Error("NOT_MAPPABLE", `region ${this.#region.index} has no such area`);
    const { arena } = this.#options;
    const window = DeviceWindow.map(arena, area.fd, fileOffset(area, pages), pages.size, this.#mapOptions);
    for (let i = this.#windows.length - 1; i >= 0; i--) {
      if (this.#windows[i]?.window.state === "revoked") this.#windows.splice(i, 1);
    }
    this.#windows.push({ window, pages });
    return window;
  }

  /** Closes the descriptors; windows that are left are revoked by that. */
  [Symbol.dispose](): void {
    this.#closeDoorbells();
    closeFiles(this.#region);
  }

  /** Signals the register's eventfd, where there is one for this write and no posted write could be overtaken. */
  #ring(offset: number, width: number, value: bigint): boolean {
    for (const { size, data, eventFd } of this.#doorbells.get(offset) ?? []) {
      if ((size !== 0 && size !== width) || (data !== undefined && data !== value)) continue;
      const { channel } = this.#options.device;
      if (channel.dead !== undefined) throw channel.dead;
      if (channel.posted) return false;
      eventFd.write();
      return true;
    }
    return false;
  }

  /** A file that the server could truncate under our mapping would kill this process. */
  #safe({ fd, fileOffset: offset, size }: RegionArea): boolean {
    try {
      if (!this.#options.trustServerMemory) sealAgainstShrinking(fd);
      checkMappable(fd, offset, size, this.#mapOptions);
      return true;
    } catch (error) {
      if (error instanceof Ring3Error) return false;
      throw error;
    }
  }

  #closeDoorbells(): void {
    for (const list of this.#doorbells.values()) for (const { eventFd } of list) eventFd[Symbol.dispose]();
    this.#doorbells.clear();
  }

  #refused(what: string, offset: number, errno: number): Ring3Error {
    const name = errnoName(errno);
    return new Ring3Error(
      "REGISTER_REFUSED",
      `the vfio-user server does not ${what} region ${this.#region.index} at 0x${offset.toString(16)} (${name})`,
      { errno: name, call: what === "read" ? "REGION_READ" : "REGION_WRITE" },
    );
  }
}

function areaOf(areas: readonly RegionArea[], pages: ByteRange): RegionArea | undefined {
  return areas.find(
    ({ offset, size }) => pages.offset >= offset && pages.offset + pages.size <= offset + Math.ceil(size / 4096) * 4096,
  );
}

function fileOffset(area: RegionArea, pages: ByteRange): number {
  return area.fileOffset + pages.offset - area.offset;
}

/** Closes a region's descriptors. */
export function closeFiles(region: RegionDescription): void {
  for (const fd of new Set<FileDescriptor>(region.areas.map((area) => area.fd))) fd.close();
}
