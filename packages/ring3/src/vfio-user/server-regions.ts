// Regions as a client sees them: sizes, what can be mapped and by which descriptor, and accesses by message. Hard about
// it: how much of a region's description is sent depends on the room that the client offers, and clients differ in how
// many descriptors they take.
import { adoptArena, type FileDescriptor, pageSize } from "../linux/index.ts";
import type { BarIndex } from "../pci/function.ts";
import type { BarArea } from "../virtual/bars.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import {
  DeviceFlag,
  DeviceInfo,
  IRQ_COUNT,
  REGION_COUNT,
  Region,
  RegionCapability,
  RegionFlag,
  RegionInfo,
  SparseMmap,
  SparseMmapArea,
} from "./messages.ts";
import { checkPayload, refusal } from "./server-refusal.ts";
import type { SharedBars } from "./server-shared-bars.ts";
import { type RegisterBus, type ServerSight, busOf } from "./server-watch.ts";

/** A payload, and descriptors to send with it, which stay the server's. */
export interface RegionReply {
  readonly payload: Uint8Array;
  readonly fds: readonly FileDescriptor[];
}

const NO_AREAS: readonly BarArea[] = [];

export class ServerRegions {
  readonly #fn: VirtualFunction;
  readonly #bus: RegisterBus;
  /** A descriptor for each area rather than one for all: SPDK's client maps each area by its own. */
  readonly #fdPerArea: boolean;
  readonly #bars: SharedBars;

  constructor(fn: VirtualFunction, bars: SharedBars, fdPerArea: boolean, sight: ServerSight = {}) {
    this.#bars = bars;
    this.#fn = fn;
    this.#bus = busOf(fn, sight);
    this.#fdPerArea = fdPerArea;
  }

  deviceInfo(payload: Uint8Array): Uint8Array {
    checkPayload(payload, DeviceInfo.size, "GET_INFO");
    const { argsz } = DeviceInfo.from(payload);
    if (argsz < DeviceInfo.size) throw refusal("EINVAL", `argsz ${argsz} is less than ${DeviceInfo.size}`);
    return DeviceInfo.bytes({
      argsz: DeviceInfo.size,
      flags: DeviceFlag.PCI | DeviceFlag.RESET,
      num_regions: REGION_COUNT,
      num_irqs: IRQ_COUNT,
    });
  }

  /** Bytes of a region; 0 where there is none. */
  sizeOf(index: number): number {
    if (index === Region.CONFIG) return this.#fn.config.size;
    if (index === Region.ROM) return this.#fn.rom?.length ?? 0;
    return this.#fn.bars[index]?.size ?? 0;
  }

  info(payload: Uint8Array): RegionReply {
    checkPayload(payload, RegionInfo.size, "GET_REGION_INFO");
    const { argsz, index } = RegionInfo.from(payload);
    if (argsz < RegionInfo.size) throw refusal("EINVAL", `argsz ${argsz} is less than ${RegionInfo.size}`);
    if (index >= REGION_COUNT) throw refusal("EINVAL", `there is no region ${index}`);
    const size = this.sizeOf(index);
    const areas = this.#mappable(index);
    const access = size === 0 ? 0 : index === Region.ROM ? RegionFlag.READ : RegionFlag.READ | RegionFlag.WRITE;
    const whole = areas.length === 1 && areas[0]?.offset === 0 && areas[0].size === size;
    const sparse = areas.length > 0 && !whole;
    const needed = RegionInfo.size + (sparse ? SparseMmap.size + areas.length * SparseMmapArea.size : 0);
    const info = { argsz: needed, index, size: BigInt(size), offset: 0n };
    if (areas.length === 0) return { payload: RegionInfo.bytes({ ...info, flags: access }), fds: [] };
    if (argsz < needed) {
      // The client asks again with the room that is needed. FLAG_CAPS without capabilities would be an error to QEMU.
      return { payload: RegionInfo.bytes({ ...info, flags: access | RegionFlag.MMAP }), fds: [] };
    }
    const fd = this.#bars.file(index, areas, size);
    const fds = this.#fdPerArea ? areas.map(() => fd) : [fd];
    if (!sparse) return { payload: RegionInfo.bytes({ ...info, flags: access | RegionFlag.MMAP }), fds };
    const reply = new Uint8Array(needed);
    const flags = access | RegionFlag.MMAP | RegionFlag.CAPS;
    reply.set(RegionInfo.bytes({ ...info, flags, cap_offset: RegionInfo.size }));
    reply.set(
      SparseMmap.bytes({ id: RegionCapability.SPARSE_MMAP, version: 1, next: 0, nr_areas: areas.length }),
      RegionInfo.size,
    );
    for (const [i, area] of areas.entries()) {
      reply.set(
        SparseMmapArea.bytes({ offset: BigInt(area.offset), size: BigInt(area.size) }),
        RegionInfo.size + SparseMmap.size + i * SparseMmapArea.size,
      );
    }
    return { payload: reply, fds };
  }

  /** Throws `EINVAL` unless the range lies in the region. */
  check(region: number, offset: bigint, count: number): void {
    if (region >= REGION_COUNT) throw refusal("EINVAL", `there is no region ${region}`);
    const size = this.sizeOf(region);
    if (offset + BigInt(count) > BigInt(size)) {
      throw refusal("EINVAL", `${count} bytes at 0x${offset.toString(16)} pass the region's ${size} bytes`);
    }
  }

  /** Reads what was checked. Where the BAR does not decode the client gets ones, as from a bus. */
  read(region: number, offset: number, target: Uint8Array): void {
    if (region === Region.CONFIG) this.#bus.config.readInto(offset, target);
    else if (region === Region.ROM) this.#bus.readRom(offset, target);
    else this.#bus.readBar(region as BarIndex, offset, target);
  }

  write(region: number, offset: number, source: Uint8Array): void {
    if (region === Region.ROM) throw refusal("EPERM", "the expansion ROM cannot be written");
    if (region === Region.CONFIG) this.#bus.config.writeFrom(offset, source);
    else this.#bus.writeBar(region as BarIndex, offset, source);
  }

  /** Areas that a client can map: whole pages, in memory that can become a file's. */
  #mappable(index: number): readonly BarArea[] {
    const bar = index <= Region.BAR5 ? this.#fn.bars[index] : undefined;
    const areas = bar?.shareable === true ? bar.areas : NO_AREAS;
    if (areas.length === 0 || !adoptArena(this.#fn.arena)) return NO_AREAS;
    const unit = pageSize - 1;
    const whole = areas.every(({ offset, size, range }) => ((offset | size | range.offset) & unit) === 0);
    return whole ? areas : areas.filter(({ offset, size, range }) => ((offset | size | range.offset) & unit) === 0);
  }
}
