// The files behind BARs that clients map. There is one for each BAR, whoever asks: a second one would take the memory away from
// who has mapped the first.
import { type FileDescriptor, type SharedInPlace, shareInPlace } from "../linux/index.ts";
import type { BarArea } from "../virtual/bars.ts";

interface SharedBar {
  readonly areas: readonly BarArea[];
  readonly shared: SharedInPlace;
}

/** Disposal gives the areas memory of their own again: what clients still have mapped shows nobody anything. */
export class SharedBars implements Disposable {
  readonly #bars = new Map<number, SharedBar>();

  /** One file as large as the BAR, behind all of its areas at their own offsets. */
  file(index: number, areas: readonly BarArea[], size: number): FileDescriptor {
    const known = this.#bars.get(index);
    if (known !== undefined) {
      if (sameAreas(known.areas, areas)) return known.shared.fd;
      // The BAR was resized, and its memory lies elsewhere now.
      known.shared[Symbol.dispose]();
    }
    const places = areas.map((area) => ({ range: area.range, fileOffset: area.offset, size: area.size }));
    const shared = shareInPlace(places, size);
    this.#bars.set(index, { areas, shared });
    return shared.fd;
  }

  [Symbol.dispose](): void {
    for (const { shared } of this.#bars.values()) shared[Symbol.dispose]();
    this.#bars.clear();
  }
}

function sameAreas(a: readonly BarArea[], b: readonly BarArea[]): boolean {
  return a.length === b.length && a.every((area, i) => area.range === b[i]?.range);
}
