// Turns memory of the arena that is in use into memory of a file, and back, so that another process can map what a device
// model shows in a BAR. The bytes stay, and so does every view of them.
import type { Arena } from "../memory/arena.ts";
import type { FileDescriptor } from "./file-descriptor.ts";
import { createMemoryFile } from "./memory-file.ts";
import { MAP, mapAnonymousOver, pageSize } from "./memory-map.ts";
import * as native from "./native.ts";
import { addressInArena } from "./pointers.ts";

/** A run of the arena, whole pages, and where it lies in the file. */
export interface SharedArea {
  readonly range: { readonly arena: Arena; readonly offset: number; readonly size: number; hold(): Disposable };
  /** Where the run starts in the range; 0 by default. */
  readonly rangeOffset?: number;
  readonly fileOffset: number;
  readonly size: number;
}

/** The file behind areas of the arena. Disposal gives the areas memory of their own again and closes the descriptor. */
export interface SharedInPlace extends Disposable {
  readonly fd: FileDescriptor;
}

/** Puts a new memfd of `fileSize` bytes behind the areas. Throws `SYSTEM_CALL`, and leaves everything as it was. */
export function shareInPlace(areas: readonly SharedArea[], fileSize: number, name = "ring3-bar"): SharedInPlace {
  const file = createMemoryFile(Math.ceil(fileSize / pageSize) * pageSize, { name });
  const done: { address: number; bytes: Uint8Array; hold: Disposable }[] = [];
  const undo = (): void => {
    for (const { address, bytes, hold } of done.splice(0)) {
      const kept = bytes.slice();
      mapAnonymousOver(address, bytes.length);
      // Untouched pages stay uncommitted.
      for (let at = 0; at < kept.length; at += pageSize) {
        const page = kept.subarray(at, at + pageSize);
        if (page.some((byte) => byte !== 0)) bytes.set(page, at);
      }
      hold[Symbol.dispose]();
    }
    file.close();
  };
  try {
    for (const { range, rangeOffset = 0, fileOffset, size } of areas) {
      const address = addressInArena(range.arena, range.offset + rangeOffset);
      const bytes = range.arena.bytes(range.offset + rangeOffset, size);
      native.systemCall("pwrite", () => native.pwrite(file.number, bytes, size, fileOffset));
      const hold = range.hold();
      try {
        native.systemCall("mmap", () =>
          native.mmap(address, size, 1 | 2, MAP.SHARED | MAP.FIXED, file.number, fileOffset),
        );
      } catch (error) {
        hold[Symbol.dispose]();
        throw error;
      }
      done.push({ address, bytes, hold });
    }
  } catch (error) {
    undo();
    throw error;
  }
  return { fd: file, [Symbol.dispose]: undo };
}
