// The user's memory in the real function's IOMMU domain, at the user's own addresses. What cannot be reached there, is
// too much, or lies where the IOMMU has no room is refused or noted, and bus mastering with it.
import { isRing3Error, messageOf, Ring3Error } from "../binary/error.ts";
import { ArenaRange } from "../memory/arena-range.ts";
import type { DmaBuffer, DmaSpace } from "../pci/function.ts";
import { hexAddress } from "../virtual/guest-map.ts";
import type { MemoryMap } from "../virtual/guest-memory.ts";
import type { Observers } from "./observer.ts";

export interface UserMemoryOptions {
  /** Bytes that a user may have locked in memory. */
  readonly lockedBytes: number;
  /** Maps that a user may have. */
  readonly maps: number;
}

export class UserMemory {
  readonly #dma: DmaSpace;
  readonly #options: UserMemoryOptions;
  readonly #observers: Observers;
  readonly #mapped = new Map<
    MemoryMap,
    { readonly buffer: Disposable | undefined; readonly why: string | undefined }
  >();
  #lockedBytes = 0;

  constructor(dma: DmaSpace, options: UserMemoryOptions, observers: Observers) {
    this.#dma = dma;
    this.#options = options;
    this.#observers = observers;
  }

  /** Bytes that are locked for the user. */
  get lockedBytes(): number {
    return this.#lockedBytes;
  }

  /** Maps that the function can reach. */
  get count(): number {
    return Array.from(this.#mapped.values()).filter(({ buffer }) => buffer !== undefined).length;
  }

  /** Why bus mastering must stay off; `undefined` where it may go on. */
  get refusal(): string | undefined {
    for (const [map, { why }] of this.#mapped) {
      if (why !== undefined && map.writable) return why;
    }
    return undefined;
  }

  /** Maps it for the function. Throws `DMA_INVALID`, `DMA_LOCK_LIMIT`, `DMA_MAP_LIMIT`, or what the IOMMU says. */
  admit(map: MemoryMap): void {
    let buffer: Disposable | undefined;
    let why: string | undefined;
    try {
      const reached = this.#reach(map);
      buffer = typeof reached === "string" ? undefined : reached;
      why = typeof reached === "string" ? reached : undefined;
    } catch (error) {
      this.#tell("refused", map, false, messageOf(error));
      throw refused(error);
    }
    this.#mapped.set(map, { buffer, why });
    if (buffer !== undefined) this.#lockedBytes += map.size;
    this.#tell("mapped", map, buffer !== undefined, why);
  }

  remove(map: MemoryMap): void {
    const entry = this.#mapped.get(map);
    if (entry === undefined) return;
    this.#mapped.delete(map);
    if (entry.buffer !== undefined) {
      this.#lockedBytes -= map.size;
      entry.buffer[Symbol.dispose]();
    }
    this.#tell("unmapped", map, entry.buffer !== undefined);
  }

  /** The buffer, or why the function cannot reach the memory though nothing is wrong with it. */
  #reach(map: MemoryMap): DmaBuffer | Disposable | string {
    const { iova, size, permission } = map;
    const where = `${size} bytes at ${hexAddress(iova)}`;
    if (map.bytes === undefined) {
      return `${where} came without a file descriptor that can be mapped, so the device cannot reach them; start the client with shared memory (QEMU: memory-backend-memfd,share=on)`;
    }
    if (iova % 4096 !== 0 || size % 4096 !== 0) {
      throw new Ring3Error("DMA_INVALID", `${where} are no whole pages, which an IOMMU maps`, { errno: "EINVAL" });
    }
    const { ranges } = this.#dma.limits();
    if (!ranges.some(({ first, last }) => iova >= first && iova + size - 1 <= last)) {
      const text = ranges.map(({ first, last }) => `${hexAddress(first)}-${hexAddress(last)}`).join(", ");
      throw new Ring3Error("DMA_INVALID", `${where} do not lie where the IOMMU can map (${text})`, { errno: "EINVAL" });
    }
    const { lockedBytes, maps } = this.#options;
    if (this.#lockedBytes + size > lockedBytes) {
      throw new Ring3Error(
        "DMA_LOCK_LIMIT",
        `${where} would make ${this.#lockedBytes + size} bytes of locked memory, and ${lockedBytes} are allowed`,
        { errno: "ENOMEM" },
      );
    }
    if (this.#mapped.size >= maps) {
      throw new Ring3Error("DMA_MAP_LIMIT", `${maps} maps are there, which is the limit; unmap some`, {
        errno: "ENOSPC",
      });
    }
    if (map.arenaOffset !== undefined) {
      const range = new ArenaRange(this.#dma.arena, map.arenaOffset, size, () => undefined);
      return this.#dma.map(range, { iova, permission });
    }
    if (this.#dma.mapBytes === undefined) {
      return `${where} lie outside the arena, and this back end (not the kernel's) cannot map such memory`;
    }
    return this.#dma.mapBytes(map.bytes, { iova, permission });
  }

  #tell(kind: "mapped" | "unmapped" | "refused", map: MemoryMap, reachable: boolean, reason?: string): void {
    if (this.#observers.wants("dma")) {
      const { iova, size, permission } = map;
      this.#observers.tell("dma", {
        kind,
        iova,
        size,
        permission,
        reachable,
        ...(reason === undefined ? {} : { reason }),
      });
    }
    if (reason !== undefined && this.#observers.wants("rule")) {
      this.#observers.tell("rule", { rule: "dma", place: `${hexAddress(map.iova)}+${map.size}`, description: reason });
    }
  }
}

/** What the IOMMU refused, as an answer to the user. */
function refused(error: unknown): unknown {
  if (!isRing3Error(error) || error.errno !== undefined) return error;
  return new Ring3Error(error.code, error.message, { errno: "EINVAL", cause: error });
}
