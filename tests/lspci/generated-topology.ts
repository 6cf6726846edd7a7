// Buses and bridges for the comparison of trees: sound ones, and those that no firmware would leave behind (bus 0 below a
// bridge, ranges that overlap, circle or end before they begin, bridges on each other's buses, functions twice).
import { PciAddress } from "../../packages/ring3/src/pci/address.ts";
import { oneOf, type Pick } from "./generated-config.ts";

export interface Placed {
  readonly address: PciAddress;
  /** A header. */
  readonly bytes: Uint8Array;
}

/** The functions of one domain, in any order. */
export function generatedTopology(pick: Pick, domain: number, isSound: boolean): Placed[] {
  const placed: Placed[] = [];
  const add = (bus: number, slot: number, bytes: Uint8Array): void => {
    placed.push({ address: new PciAddress(domain, bus, slot >> 3, slot & 7), bytes });
  };
  let last = 0;
  const grow = (bus: number, depth: number): void => {
    const slots = Array.from({ length: 1 + pick(5) }, () => pick(256));
    for (const slot of isSound ? new Set(slots) : slots) {
      if (pick(3) !== 0 || depth > 4 || last > 250) {
        add(bus, slot, header(pick, 0));
        continue;
      }
      const bytes = header(pick, oneOf(pick, [1, 1, 1, 2]));
      const secondary = ++last;
      grow(secondary, depth + 1);
      bytes.set(isSound || pick(3) === 0 ? [bus, secondary, last] : oddNumbers(pick, bus), 0x18);
      add(bus, slot, bytes);
    }
  };
  last = oneOf(pick, [0, 0, 0, pick(8), 0x80]);
  grow(last, 0);
  for (let index = pick(3); index > 0; index--) {
    // A root bus of its own, or one that no bridge leads to.
    last = Math.min(255, last + pick(20));
    grow(isSound ? last : pick(256), 3);
  }
  return pick(2) === 0 ? placed.toReversed() : placed;
}

/** Of those that lead in a circle lspci dies. */
function oddNumbers(pick: Pick, bus: number): number[] {
  const below = Math.min(255, bus + 1 + pick(8));
  return [
    oneOf(pick, [bus, bus, Math.min(bus + pick(4), 255), 0]),
    oneOf(pick, [below, below, 0]),
    oneOf(pick, [0, 255, pick(256), bus]),
  ];
}

function header(pick: Pick, type: number): Uint8Array {
  const bytes = new Uint8Array(128);
  const view = new DataView(bytes.buffer);
  view.setUint16(0x00, oneOf(pick, [0x8086, 0x1af4, 0x10de, pick(0x10000)]), true);
  view.setUint16(0x02, pick(0x10000), true);
  bytes[0x0a] = type === 0 ? 0 : oneOf(pick, [4, 4, 7, 9]);
  // What has a bridge's header and no bridge's class is none, and the other way round.
  bytes[0x0b] = type === 0 ? oneOf(pick, [1, 2, 3, 6]) : oneOf(pick, [6, 6, 6, 6, 6, 8]);
  bytes[0x0e] = type | (pick(2) << 7);
  return bytes;
}
