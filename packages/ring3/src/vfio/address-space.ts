// One set of DMA mappings, for one function or shared by several: the container or IOAS, the IOVAs that are taken, and
// the checks that turn the kernel's ENOMEM, ENOSPC and EINVAL into what is wrong before the call is made.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { type HostPaths, thisMachine } from "../host/paths.ts";
import { defaultArena } from "../linux/arena-memory.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import type { Pointable } from "../linux/pointers.ts";
import type { Arena } from "../memory/arena.ts";
import { IovaAllocator, type IovaPlacement } from "../memory/iova-allocator.ts";
import type { DmaLimits, DmaPermission } from "../pci/function.ts";
import { attachHandedIommufd, attachThroughIommufd } from "./cdev.ts";
import type { VfioDescriptors } from "./descriptors.ts";
import { attachHandedGroup, attachThroughGroup, type GroupFile } from "./group.ts";
import type { Ioas } from "./ioas.ts";
import type { AttachedDevice, DirtyPages, Iommu } from "./iommu.ts";
import { chooseInterface, type FunctionLocation, type KernelInterface } from "./locate.ts";
import { checkLockable, lockableBytes, lockedMemoryError } from "./locked-memory.ts";

export interface AddressSpaceOptions {
  /** `auto` (default) takes iommufd where its nodes may be opened, else the group. */
  readonly backend?: "auto" | KernelInterface;
  /** Where DMA memory lies; by default the arena of this thread. */
  readonly arena?: Arena;
  /** Attaches so that dirty pages can be tracked; only iommufd needs to know beforehand. */
  readonly trackDirtyPages?: boolean;
}

/**
 * What several functions share when a buffer that one of them maps shall be reached by all.
 *
 * @example
 * import { AddressSpace, open } from "ring3";
 * using space = new AddressSpace();
 * await using a = await open("0000:01:00.0", { addressSpace: space });
 * await using b = await open("0000:02:00.0", { addressSpace: space });
 */
export class AddressSpace implements Disposable {
  readonly arena: Arena;
  readonly #wanted: "auto" | KernelInterface;
  readonly #trackDirtyPages: boolean;
  readonly #paths: HostPaths;
  readonly #attached: Set<AttachedDevice> = new Set();
  readonly #groups: Map<number, GroupFile> = new Map();
  /** Live mappings: size by IOVA. */
  readonly #mappings: Map<number, number> = new Map();
  #container: FileDescriptor | undefined;
  #iommu: Iommu | undefined;
  #iovas: IovaAllocator | undefined;
  #disposed = false;

  constructor(options: AddressSpaceOptions = {}, paths: HostPaths = thisMachine) {
    this.arena = options.arena ?? defaultArena();
    this.#wanted = options.backend ?? "auto";
    this.#trackDirtyPages = options.trackDirtyPages ?? false;
    this.#paths = paths;
  }

  /** The interface in use; `undefined` until the first function is attached. */
  get backend(): KernelInterface | undefined {
    return this.#iommu?.backend;
  }

  /** How many functions are attached. */
  get functions(): number {
    return this.#attached.size;
  }

  /** Tracking of pages that devices write; `undefined` where it is not offered. */
  get dirtyPages(): DirtyPages | undefined {
    return this.#iommu?.dirtyPages;
  }

  /** Opens a function into this space. For `open`. */
  attach(location: FunctionLocation, vfToken: string | undefined): AttachedDevice {
    this.#checkOpen();
    const kind = this.#iommu?.backend ?? chooseInterface(location, this.#wanted);
    return this.#join(kind === "group" ? this.#attachGroup(location, vfToken) : this.#attachIommufd(location, vfToken));
  }

  /**
   * As {@link attach}, by descriptors that another process has opened: they bring their own container or iommufd, so the space
   * must be new. They stay the caller's where it fails. Throws `ADDRESS_SPACE_BUSY` where it is not.
   */
  attachHanded(location: FunctionLocation, descriptors: VfioDescriptors, vfToken: string | undefined): AttachedDevice {
    this.#checkOpen();
    if (this.#iommu !== undefined) {
      throw new Ring3Error(
        "ADDRESS_SPACE_BUSY",
        `the descriptors of ${location.address} come with an address space of their own; open it without sharing one`,
      );
    }
    if (descriptors.backend === "group") {
      const { device, iommu } = attachHandedGroup(location, descriptors, this.#groups);
      this.#container = descriptors.container;
      this.#iommu = iommu;
      return this.#join(device);
    }
    const { device, ioas } = attachHandedIommufd(location, descriptors, vfToken, this.#trackDirtyPages, this.#paths);
    this.#iommu = ioas;
    return this.#join(device);
  }

  #join(device: AttachedDevice): AttachedDevice {
    this.#attached.add(device);
    try {
      this.#learnRanges();
    } catch (error) {
      this.detach(device);
      throw error;
    }
    return device;
  }

  /** Closes the function's file and takes it out of the space. The kernel's side ends with its last function. */
  detach(device: AttachedDevice): void {
    if (!this.#attached.delete(device)) return;
    device.file.close();
    device.detach();
    if (this.#attached.size === 0) this.#close();
  }

  /** The files of the groups whose functions are attached: proof of ownership for a hot reset. */
  groupFiles(): FileDescriptor[] {
    return Array.from(this.#groups.values(), ({ file }) => file);
  }

  limits(): DmaLimits {
    const iommu = this.#live();
    return {
      ranges: this.#allocator().ranges,
      pageSizes: iommu.pageSizes(),
      mappingsLeft: iommu.mappingsLeft(),
      lockableBytes: lockableBytes(iommu.lockedCounter),
    };
  }

  /** Chooses an IOVA for `size` bytes, or takes the one that is asked for. */
  takeIova(size: number, options: IovaPlacement & { readonly iova?: number }): number {
    const iovas = this.#allocator();
    if (options.iova === undefined) return iovas.allocate(size, options);
    const { iova, alignment = 4096, below = 2 ** 53 } = options;
    if (iova % alignment !== 0 || iova + size > below) {
      throw new Ring3Error("IOVA_INVALID", `IOVA 0x${iova.toString(16)} is not what alignment and \`below\` ask for`);
    }
    iovas.reserve(iova, size);
    return iova;
  }

  releaseIova(iova: number): void {
    this.#iovas?.release(iova);
  }

  /** Fails early, with the limit's name, where mapping `size` more bytes cannot work. */
  checkRoom(size: number): void {
    const iommu = this.#live();
    checkLockable(size, iommu.lockedCounter);
    const left = iommu.mappingsLeft();
    if (left === 0) throw this.#mappingsExhausted();
  }

  map(memory: Pointable, size: number, iova: number, permission: DmaPermission): void {
    const iommu = this.#live();
    try {
      iommu.map(memory, size, iova, permission);
    } catch (error) {
      throw this.#explainMapFailure(error, size);
    }
    this.#mappings.set(iova, size);
  }

  /** A mapping that is gone already (with its container) is none to remove. */
  unmap(iova: number): void {
    const size = this.#mappings.get(iova);
    if (size === undefined || this.#iommu === undefined) return;
    this.#mappings.delete(iova);
    this.#iommu.unmap(iova, size);
  }

  /** Removes every mapping of every function at once, where the kernel can; `false` where it cannot. */
  unmapEverything(): boolean {
    if (this.#iommu === undefined || !this.#iommu.unmapEverything()) return false;
    this.#mappings.clear();
    return true;
  }

  /** Ends the space. Throws `ADDRESS_SPACE_BUSY` while a function is attached. */
  [Symbol.dispose](): void {
    if (this.#attached.size > 0) {
      throw new Ring3Error(
        "ADDRESS_SPACE_BUSY",
        `${this.#attached.size} functions use the address space; close them first`,
      );
    }
    this.#disposed = true;
    this.#close();
  }

  #attachGroup(location: FunctionLocation, vfToken: string | undefined): AttachedDevice {
    const result = attachThroughGroup(location, vfToken, this.#groups, this.#container, this.#paths);
    this.#container = result.container;
    this.#iommu ??= result.iommu;
    return result.device;
  }

  #attachIommufd(location: FunctionLocation, vfToken: string | undefined): AttachedDevice {
    const ioas = this.#iommu as Ioas | undefined;
    const result = attachThroughIommufd(location, vfToken, ioas, this.#trackDirtyPages, this.#paths);
    this.#iommu = result.ioas;
    return result.device;
  }

  /** Ranges shrink with each function; what is mapped stays taken. */
  #learnRanges(): void {
    const iovas = new IovaAllocator(this.#live().ranges());
    for (const [iova, size] of this.#mappings) iovas.reserve(iova, size);
    this.#iovas = iovas;
  }

  #close(): void {
    this.#iommu?.[Symbol.dispose]();
    this.#container?.close();
    this.#iommu = undefined;
    this.#container = undefined;
    this.#iovas = undefined;
    this.#mappings.clear();
    this.#groups.clear();
  }

  #allocator(): IovaAllocator {
    this.#live();
    return this.#iovas as IovaAllocator;
  }

  #live(): Iommu {
    this.#checkOpen();
    if (this.#iommu === undefined) {
      throw new Ring3Error(
        "ADDRESS_SPACE_EMPTY",
        "the address space has no function yet, so nothing can be mapped; open one with it",
      );
    }
    return this.#iommu;
  }

  #checkOpen(): void {
    if (this.#disposed) throw new Ring3Error("ADDRESS_SPACE_CLOSED", "the address space was disposed");
  }

  #explainMapFailure(error: unknown, size: number): unknown {
    if (!isRing3Error(error)) return error;
    const counter = this.#iommu?.lockedCounter ?? "VmLck";
    if (error.errno === "ENOMEM") return lockedMemoryError(size, counter) ?? error;
    if (error.errno === "ENOSPC") return this.#mappingsExhausted();
    return error;
  }

  #mappingsExhausted(): Ring3Error {
    return new Ring3Error(
      "DMA_MAPPINGS_EXHAUSTED",
      `the kernel takes no further DMA mapping after ${this.#mappings.size}; allocate small buffers from a DmaPool, ` +
        "which maps many at once, or raise vfio_iommu_type1's parameter dma_entry_limit",
      { errno: "ENOSPC" },
    );
  }
}
