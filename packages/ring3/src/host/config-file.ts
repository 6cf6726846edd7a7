// Config space as a file: sysfs `config` and the files of /proc/bus/pci. Ordinary users read the first 64 bytes (128 of a
// CardBus bridge), though the file shows its full size.
import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { Ring3Error } from "../binary/error.ts";
import type { ConfigAccess } from "../pci/config-space.ts";

/** One open file for all functions: a machine may have more of them than a process may have files. */
export class OpenConfigFile {
  #path: string | undefined;
  #writable = false;
  #fd = -1;

  open(path: string, write: boolean): number {
    if (this.#path === path && (this.#writable || !write)) return this.#fd;
    this.close();
    try {
      this.#fd = openSync(path, write ? "r+" : "r");
    } catch (error) {
      throw failed(write ? "write" : "read", path, error);
    }
    this.#path = path;
    this.#writable = write;
    return this.#fd;
  }

  close(): void {
    if (this.#path !== undefined) closeSync(this.#fd);
    this.#path = undefined;
  }
}

/** Config space in a file; how far it goes is found by reading. */
export class FileConfig implements ConfigAccess {
  readonly #path: string;
  readonly #file: OpenConfigFile;
  readonly #word: Uint8Array = new Uint8Array(4);
  #size: number | undefined;

  constructor(path: string, file: OpenConfigFile) {
    this.#path = path;
    this.#file = file;
  }

  get size(): number {
    this.#size ??= this.#readable();
    return this.#size;
  }

  /** The file always shows its full size; a read beyond what the reader may see gives nothing. */
  #readable(): number {
    const { size } = fstatSync(this.#file.open(this.#path, false));
    for (const limit of [128, 64]) {
      if (size > limit && this.#transfer(limit, this.#word.subarray(0, 1)) === 1) return limit === 128 ? size : 128;
    }
    return Math.min(size, 64);
  }

  read(offset: number, width: 1 | 2 | 4): number {
    const bytes = this.#word.subarray(0, width);
    this.#readAll(offset, bytes);
    let value = 0;
    for (let at = width - 1; at >= 0; at--) value = value * 256 + (bytes[at] ?? 0);
    return value;
  }

  readBytes(offset: number, size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    this.#readAll(offset, bytes);
    return bytes;
  }

  write(offset: number, width: 1 | 2 | 4, value: number): void {
    const fd = this.#file.open(this.#path, true);
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    let written: number;
    try {
      written = writeSync(fd, bytes, 0, width, offset);
    } catch (error) {
      throw failed("write", this.#path, error);
    }
    if (written !== width) {
      throw new Ring3Error(
        "CONFIG_RANGE",
        `${this.#path} took ${written} of ${width} bytes at 0x${offset.toString(16)}: config space ends before`,
      );
    }
  }

  #readAll(offset: number, bytes: Uint8Array): void {
    const got = this.#transfer(offset, bytes);
    if (got === bytes.length) return;
    throw new Ring3Error(
      "CONFIG_RANGE",
      `${this.#path} gave ${got} of ${bytes.length} bytes at 0x${offset.toString(16)}; beyond the header only root may read`,
    );
  }

  #transfer(offset: number, bytes: Uint8Array): number {
    const fd = this.#file.open(this.#path, false);
    try {
      return readSync(fd, bytes, 0, bytes.length, offset);
    } catch (error) {
      throw failed("read", this.#path, error);
    }
  }
}

function failed(verb: "read" | "write", path: string, error: unknown): Ring3Error {
  const errno = (error as NodeJS.ErrnoException).code ?? "unknown";
  const call = `${verb} ${path}`;
  const details = { errno, call, cause: error };
  if (errno === "EACCES" || errno === "EPERM" || errno === "EROFS") {
    const fix =
      verb === "write"
        ? "config space is written by root: run it with sudo, or open the function through VFIO"
        : "ask its owner";
    return new Ring3Error("PERMISSION_DENIED", `${call} failed with ${errno}: ${fix}`, details);
  }
  return new Ring3Error(
    "CONFIG_UNREADABLE",
    `${call} failed with ${errno}: the function may have been removed`,
    details,
  );
}
