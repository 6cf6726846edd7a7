// Names of what the inventory has as numbers, from the first pci.ids that is installed; without one only classes have names.
import { readFileSync } from "node:fs";
import { classDescription } from "../pci/class-codes.ts";
import { PciIds } from "../pci/ids.ts";

const PLACES = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"] as const;

export class FunctionNames {
  readonly #ids: PciIds | undefined;

  /** `places`: where a pci.ids may lie; those of the distributions by default. */
  constructor(places: readonly string[] = PLACES) {
    this.#ids = firstOf(places);
  }

  vendor(vendorId: number): string | undefined {
    return this.#ids?.vendor(vendorId);
  }

  device(vendorId: number, deviceId: number): string | undefined {
    return this.#ids?.device(vendorId, deviceId);
  }

  /** For example `Non-volatile memory controller`. */
  class(classCode: number): string {
    return classDescription(classCode);
  }
}

function firstOf(places: readonly string[]): PciIds | undefined {
  for (const place of places) {
    try {
      return new PciIds(readFileSync(place, "utf8"));
    } catch {
      // The next place.
    }
  }
  return undefined;
}
