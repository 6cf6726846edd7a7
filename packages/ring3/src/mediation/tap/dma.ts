// DMA memory with a tap before it: mappings are numbered in the order in which they were made, and, where memory is bounced,
// the driver gets memory of its own that is brought in step with the device's at each access and interrupt, and at each turn
// of the event loop while the device has something to do.
import type { Arena, ArenaRange } from "../../memory/arena.ts";
import { MappedBuffer } from "../../pci/dma-buffer.ts";
import type { DmaBuffer, DmaLimits, DmaMapOptions, DmaSpace } from "../../pci/function.ts";
import { BouncedMemory } from "./bounce.ts";
import type { FunctionTap } from "./tap.ts";

interface Mapping {
  readonly map: number;
  readonly inner: DmaBuffer;
  readonly buffer: MappedBuffer;
  readonly memory: BouncedMemory | undefined;
}

export class TappedDma implements DmaSpace {
  readonly #inner: DmaSpace;
  readonly #tap: FunctionTap;
  readonly #bounced: boolean;
  readonly #mappings: Set<Mapping> = new Set();
  #count = 0;
  #ended: Error | undefined;

  constructor(inner: DmaSpace, tap: FunctionTap, bounced: boolean) {
    this.#inner = inner;
    this.#tap = tap;
    this.#bounced = bounced;
  }

  get arena(): Arena {
    return this.#inner.arena;
  }

  limits(): DmaLimits {
    return this.#inner.limits();
  }

  allocate(size: number, options: DmaMapOptions = {}): DmaBuffer {
    this.#check();
    const inner = this.#inner.allocate(size, options);
    if (!this.#bounced) return this.#add(inner, inner.arenaOffset);
    try {
      const own = this.arena.reserve(inner.size);
      return this.#add(inner, own.offset, own);
    } catch (error) {
      inner[Symbol.dispose]();
      throw error;
    }
  }

  map(range: ArenaRange, options: DmaMapOptions = {}): DmaBuffer {
    this.#check();
    if (!this.#bounced) {
      const inner = this.#inner.map(range, options);
      return this.#add(inner, inner.arenaOffset);
    }
    // The function checks the range as if it were its own; the device gets other memory.
    this.#inner.map(range, options)[Symbol.dispose]();
    const hold = range.hold();
    try {
      return this.#add(this.#inner.allocate(range.size, options), range.offset, hold);
    } catch (error) {
      hold[Symbol.dispose]();
      throw error;
    }
  }

  unmapAll(): void {
    for (const { buffer } of Array.from(this.#mappings)) buffer[Symbol.dispose]();
  }

  /** What the driver wrote, to the device. */
  toDevice(): void {
    for (const { memory } of this.#mappings) memory?.toDevice();
  }

  /** What the device wrote, to the driver; whether there was anything. */
  toDriver(): boolean {
    let any = false;
    for (const { memory } of this.#mappings) any = memory?.toDriver() === true || any;
    return any;
  }

  /** Unmaps everything; later calls throw `reason`. */
  end(reason: Error): void {
    this.#ended = reason;
    this.unmapAll();
  }

  /** The driver's bytes at an IOVA, where one mapping holds them. */
  view(iova: number, size: number): Uint8Array | undefined {
    for (const { buffer } of this.#mappings) {
      const offset = iova - buffer.iova;
      if (offset >= 0 && offset + size <= buffer.size) return buffer.bytes.subarray(offset, offset + size);
    }
    return undefined;
  }

  #check(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }

  #add(inner: DmaBuffer, arenaOffset: number, own?: Disposable): DmaBuffer {
    const map = this.#count++;
    const { iova, size, permission, arena } = inner;
    let memory: BouncedMemory | undefined;
    if (own !== undefined) {
      const driver = arena.bytes(arenaOffset, size);
      const bounced = new BouncedMemory(driver, inner.bytes, (by, offset, bytes) => {
        this.#tap.happened({ type: "memory", by, map, offset, bytes });
        if (by === "driver") return;
        const patch = (at: number, patched: Uint8Array): void => bounced.patch(at - iova, patched);
        this.#tap.deviceWrote({ map, iova: iova + offset, bytes, memory: driver, start: iova, patch });
      });
      memory = bounced;
    }
    const buffer = new MappedBuffer({ iova, size, permission, arena, arenaOffset }, () => {
      this.#mappings.delete(mapping);
      this.#tap.happened({ type: "unmap", map, iova, size });
      inner[Symbol.dispose]();
      own?.[Symbol.dispose]();
    });
    const mapping: Mapping = { map, inner, buffer, memory };
    this.#mappings.add(mapping);
    this.#tap.happened({ type: "map", map, iova, size, permission });
    memory?.toDevice();
    return buffer;
  }
}
