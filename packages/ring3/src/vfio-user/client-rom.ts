// The expansion ROM of a served function, by messages.
import { Ring3Error } from "../binary/error.ts";
import type { Rom } from "../pci/function.ts";
import type { WindowGate } from "../pci/window-gate.ts";
import type { ServedRegion } from "./client-bar.ts";

export class ServedRom implements Rom {
  readonly size: number;
  readonly #region: ServedRegion;
  readonly #gate: WindowGate;

  constructor(region: ServedRegion, gate: WindowGate) {
    this.size = region.size;
    this.#region = region;
    this.#gate = gate;
  }

  read(offset: number, size: number): Uint8Array {
    const inside = Number.isSafeInteger(offset) && Number.isSafeInteger(size) && offset >= 0 && size >= 0;
    if (!inside || offset + size > this.size) {
      throw new Ring3Error("REGISTER_RANGE", `${size} bytes at ${offset} leave the ${this.size} bytes of the ROM`);
    }
    this.#gate.check();
    const bytes = new Uint8Array(size);
    try {
      this.#region.readInto(offset, bytes);
    } catch (error) {
      if (!(error instanceof Ring3Error && error.code === "REGISTER_REFUSED")) throw error;
      const details = { cause: error, ...(error.errno === undefined ? {} : { errno: error.errno }) };
      throw new Ring3Error("ROM_UNREADABLE", "the ROM cannot be read: the vfio-user server refuses it", details);
    }
    return bytes;
  }
}
