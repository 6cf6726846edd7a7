// The expansion ROM. The kernel enables it for each read where it can; at most 4 bytes an access reach the hardware.
import { Ring3Error } from "../binary/error.ts";
import { errnoName } from "../linux/errno.ts";
import { tryReadAt } from "../linux/file-access.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import type { Rom } from "../pci/function.ts";
import type { WindowGate } from "../pci/window-gate.ts";
import type { Region } from "./region.ts";

export class VfioRom implements Rom {
  readonly size: number;
  readonly #fd: FileDescriptor;
  readonly #region: Region;
  readonly #gate: WindowGate;

  constructor(fd: FileDescriptor, region: Region, gate: WindowGate) {
    this.size = region.size;
    this.#fd = fd;
    this.#region = region;
    this.#gate = gate;
  }

  read(offset: number, size: number): Uint8Array {
    if (
      !(
        Number.isSafeInteger(offset) &&
        Number.isSafeInteger(size) &&
        offset >= 0 &&
        size >= 0 &&
        offset + size <= this.size
      )
    ) {
      throw new Ring3Error("REGISTER_RANGE", `${size} bytes at ${offset} leave the ${this.size} bytes of the ROM`);
    }
    this.#gate.check();
    const bytes = new Uint8Array(size);
    const result = tryReadAt(this.#fd, this.#region.fileOffset + offset, bytes);
    if (result < 0) {
      throw new Ring3Error("ROM_UNREADABLE", "the ROM cannot be read: it holds no image, or memory decoding is off", {
        errno: errnoName(-result),
        call: "pread",
      });
    }
    // Behind the image the region reads short: an erased ROM reads as ones.
    bytes.fill(0xff, result);
    return bytes;
  }
}
