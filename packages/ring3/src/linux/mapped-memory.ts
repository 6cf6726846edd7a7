// Memory mapped outside the arena: for what must not be writable, or is only looked at once.
import { Ring3Error } from "../binary/error.ts";
import type { FileDescriptor } from "./file-descriptor.ts";
import { checkMappable, MAP, type MapOptions, mapAnywhere, mapFlags } from "./memory-map.ts";
import * as native from "./native.ts";

/** A mapping with its own lifetime. Disposal detaches the view, so later access finds nothing, and unmaps. */
export class MappedMemory implements Disposable {
  readonly size: number;
  readonly #address: number;
  #buffer: ArrayBuffer | undefined;

  private constructor(address: number, size: number) {
    this.size = size;
    this.#address = address;
    this.#buffer = native.viewAt(address, size);
  }

  /** Anonymous memory, zero. */
  static anonymous(size: number): MappedMemory {
    return new MappedMemory(mapAnywhere(-1, 0, size, MAP.PRIVATE | MAP.ANONYMOUS | MAP.NORESERVE), size);
  }

  /** `size` bytes of a file from `offset` on. See {@link MapOptions}. Throws `NOT_MAPPABLE`. */
  static file(fd: FileDescriptor, offset: number, size: number, options: MapOptions = {}): MappedMemory {
    checkMappable(fd, offset, size, options);
    return new MappedMemory(mapAnywhere(fd.number, offset, size, mapFlags(options)), size);
  }

  /** The bytes. Throws `MEMORY_UNMAPPED` after disposal. */
  get bytes(): Uint8Array {
    if (this.#buffer === undefined) throw new Ring3Error("MEMORY_UNMAPPED", "this memory was unmapped");
    return new Uint8Array(this.#buffer);
  }

  [Symbol.dispose](): void {
    if (this.#buffer === undefined) return;
    this.#buffer.transfer(0);
    this.#buffer = undefined;
    native.munmap(this.#address, this.size);
  }
}
