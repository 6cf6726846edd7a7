// Vital product data behind an address and a data register. PCIe 6.0, section 7.9.18: writing the address with F clear reads
// and sets F; with F set it writes what the data register holds and clears F. Here both are done at once.
import { Ring3Error } from "../../binary/error.ts";
import { VitalProductData } from "../../pci/capabilities/vital-product-data.ts";
import type { ByteRange } from "../../pci/function.ts";
import type { CapabilityBuilder, CapabilityPlace } from "../capability-builder.ts";

export interface VitalProductDataOptions {
  readonly at?: number;
  /** The data from address 0 on, at most 32 KiB; `encodeVpd` makes them. What lies behind reads as ones. */
  readonly content: Uint8Array;
  /** Bytes that software can change; by default the data of VPD-W. */
  readonly writable?: ByteRange;
}

/** Where the data of VPD-W (tag 0x91) lie, if there are any. PCI Local Bus 3.0, appendix I. */
function readWriteRange(content: Uint8Array): ByteRange {
  for (let at = 0; at < content.length; ) {
    const tag = content[at] ?? 0;
    if (tag === 0x78 || tag === 0) break;
    const large = tag >= 0x80;
    const length = large ? (content[at + 1] ?? 0) | ((content[at + 2] ?? 0) << 8) : tag & 7;
    const start = at + (large ? 3 : 1);
    if (tag === 0x91) return { offset: start, size: Math.min(length, content.length - start) };
    at = start + length;
  }
  return { offset: 0, size: 0 };
}

/** Vital product data. Throws `DECLARATION_INVALID` where the content does not fit behind 15 address bits. */
export function vpd(options: VitalProductDataOptions): CapabilityBuilder {
  const { content, writable = readWriteRange(content) } = options;
  if (content.length > 0x8000) {
    throw new Ring3Error("DECLARATION_INVALID", `vital product data have ${content.length} bytes; 32768 is the most`);
  }
  return {
    group: VitalProductData,
    size: 8,
    ...(options.at === undefined ? {} : { at: options.at }),
    build: (place) => build(place, content, writable),
  };
}

function build(place: CapabilityPlace, content: Uint8Array, writable: ByteRange): void {
  const { ADDRESS, DATA } = VitalProductData;
  const { VPD_ADDRESS, F } = ADDRESS.fields;
  // Functions share the declared bytes until one of them writes.
  let store = content;
  const end = writable.offset + writable.size;
  place.onWrite(ADDRESS, ({ value, covered }) => {
    // F is the uppermost bit: an access that does not cover it starts nothing.
    if (!F.test(covered)) return;
    const address = VPD_ADDRESS.get(value) & ~3;
    if (F.test(value)) {
      const word = place.read(DATA);
      for (let index = 0; index < 4; index++) {
        const at = address + index;
        if (at < writable.offset || at >= end) continue;
        if (store === content) store = content.slice();
        store[at] = word >>> (8 * index);
      }
      place.set(ADDRESS, { F: 0 });
    } else {
      let word = 0;
      for (let index = 3; index >= 0; index--) word = word * 256 + (store[address + index] ?? 0xff);
      place.set(DATA, { VALUE: word });
      place.set(ADDRESS, { F: 1 });
    }
  });
  place.keepState({
    save: () => store.slice(),
    check(bytes) {
      if (bytes.length === content.length) return;
      throw new Ring3Error(
        "STATE_MISMATCH",
        `the saved vital product data have ${bytes.length} bytes, not ${content.length}`,
      );
    },
    restore(bytes) {
      store = bytes;
    },
    // The store is an EEPROM: it forgets nothing when power goes.
    powerOn() {},
  });
}
