// The client's memory: a file with windows that are mapped for the device, among guards that never are. A guard that
// changes was written outside of a map; its pattern in a reply was read outside of one. One window is only ever mapped
// for reading.
import { createMemoryFile, type FileDescriptor, MappedMemory } from "../../packages/ring3/src/linux/index.ts";
import type { ByteRange } from "../../packages/ring3/src/pci/function.ts";
import type { Random } from "./random.ts";

const KIB = 1024;
export const GUARD_BYTES: number = 64 * KIB;
/** Where the windows are in the file. */
export const WRITABLE: ByteRange = { offset: GUARD_BYTES, size: 256 * KIB };
export const READ_ONLY: ByteRange = { offset: 2 * GUARD_BYTES + WRITABLE.size, size: 128 * KIB };
export const FILE_BYTES: number = 3 * GUARD_BYTES + WRITABLE.size + READ_ONLY.size;
/** IOVA of the file's byte 0: addresses in queues are where an honest map puts them. */
export const IOVA_BASE = 0x10_0000;
/** Eight bytes that nothing else contains. */
export const GUARD_PATTERN: Buffer = Buffer.from("\xa7R3\x9dGRD\xe1", "latin1");

export class GuardedMemory implements Disposable {
  readonly fd: FileDescriptor;
  readonly #memory: MappedMemory;
  readonly #guard: Buffer = Buffer.alloc(GUARD_BYTES, GUARD_PATTERN);
  readonly #readOnly: Buffer;

  constructor(random: Random) {
    this.fd = createMemoryFile(FILE_BYTES, { name: "hostile-guarded" });
    this.#memory = MappedMemory.file(this.fd, 0, FILE_BYTES);
    for (const at of this.#guards()) this.#memory.bytes.set(this.#guard, at);
    const content = Buffer.alloc(READ_ONLY.size);
    for (let at = 0; at < content.length; at += 4) content.writeUInt32LE(random.word(), at);
    this.#readOnly = content;
    this.#memory.bytes.set(content, READ_ONLY.offset);
  }

  /** What the device may write. */
  get writable(): Uint8Array {
    return this.#memory.bytes.subarray(WRITABLE.offset, WRITABLE.offset + WRITABLE.size);
  }

  /** Whether a map of this part of the file, so permitted, respects guards and the read-only window. */
  static allows(offset: bigint, size: bigint, flags: number): boolean {
    const end = offset + size;
    if (size === 0n || end > BigInt(FILE_BYTES)) return true;
    const within = (window: ByteRange): boolean =>
      offset >= BigInt(window.offset) && end <= BigInt(window.offset + window.size);
    return within(WRITABLE) || (within(READ_ONLY) && (flags & 2) === 0);
  }

  /** Throws where something was touched that is not mapped for it. */
  check(): void {
    const bytes = Buffer.from(this.#memory.bytes.buffer, this.#memory.bytes.byteOffset, FILE_BYTES);
    for (const at of this.#guards()) {
      if (this.#guard.compare(bytes, at, at + GUARD_BYTES) === 0) continue;
      const wrong = bytes.subarray(at, at + GUARD_BYTES).findIndex((byte, i) => byte !== this.#guard[i]);
      throw new Error(`the device wrote outside of its maps, at byte ${at + wrong} of the file`);
    }
    if (this.#readOnly.compare(bytes, READ_ONLY.offset, READ_ONLY.offset + READ_ONLY.size) !== 0) {
      throw new Error("the device wrote to memory that was mapped for reading");
    }
    if (bytes.subarray(WRITABLE.offset, WRITABLE.offset + WRITABLE.size).includes(GUARD_PATTERN)) {
      throw new Error("the device read what is outside of its maps and wrote it to a window");
    }
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
    this.fd.close();
  }

  #guards(): number[] {
    return [0, GUARD_BYTES + WRITABLE.size, FILE_BYTES - GUARD_BYTES];
  }
}
