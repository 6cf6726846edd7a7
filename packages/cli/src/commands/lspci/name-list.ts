// The list of names: where lspci of the distributions looks for it, plain or compressed.
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { PciIds } from "ring3/pci";

const PLACES = ["/usr/share/misc/pci.ids.gz", "/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"] as const;

/** `undefined` where there is none: lspci then shows numbers, with a word for what they are. */
export function readNames(file: string | undefined, encoding: "latin1" | "utf8"): PciIds | undefined {
  for (const place of file === undefined ? PLACES : [file]) {
    try {
      const bytes = readFileSync(place);
      const isCompressed = bytes[0] === 0x1f && bytes[1] === 0x8b;
      return new PciIds((isCompressed ? gunzipSync(bytes) : bytes).toString(encoding));
    } catch {
      // The next place.
    }
  }
  return undefined;
}
