// What sysfs knows of a function besides its config space, generated: resources, interrupts, names, vital product data.
// Sound, odd and broken as in generated-config.ts, from the same numbers.
import type { FunctionFacts, FunctionResource } from "../../packages/ring3/src/pci/access.ts";
import { oneOf, type Pick } from "./generated-config.ts";

const NOTHING: FunctionResource = { start: 0n, end: 0n, flags: 0n };
const maybe = <T>(pick: Pick, value: () => T): T | undefined => (pick(2) === 0 ? value() : undefined);

export function generatedFacts(pick: Pick, type: number): FunctionFacts {
  return {
    resources: resources(pick, type),
    irq: maybe(pick, () => oneOf(pick, [0, 5, 11, 24, 4096])),
    messageIrqs: maybe(pick, () => Array.from({ length: pick(6) }, (_, index) => 24 + index * (1 + pick(2)))),
    driver: maybe(pick, () => oneOf(pick, ["nvme", "vfio-pci", "e1000e"])),
    numaNode: maybe(pick, () => pick(4) - 1),
    iommuGroup: maybe(pick, () => String(pick(100))),
    label: maybe(pick, () => "Onboard Ethernet"),
    classCode: maybe(pick, () => pick(0x140000)),
    revision: maybe(pick, () => pick(256)),
    readVpd: maybe(pick, () => {
      const bytes = productData(pick);
      return () => bytes;
    }),
  };
}

function resources(pick: Pick, type: number): FunctionResource[] {
  const count = type === 1 ? oneOf(pick, [17, 17, 11, 13, 7]) : oneOf(pick, [7, 7, 13, 17]);
  // A bridge's windows come last: I/O, memory, prefetchable memory and one that only CardBus has.
  const firstWindow = count - 4;
  return Array.from({ length: count }, (_, index) => {
    if (pick(3) === 0) return NOTHING;
    return (count === 17 || count === 11) && index >= firstWindow ? window(pick, index - firstWindow) : bar(pick);
  });
}

function bar(pick: Pick): FunctionResource {
  const size = BigInt(2 ** pick(40)) * BigInt(oneOf(pick, [1, 1, 3]));
  const start = BigInt(oneOf(pick, [0, 0x1000, 0xc0000000, 0xfebf0000, 2 ** 36]));
  const low = BigInt(oneOf(pick, [0, 1, 4, 8, 12, pick(16)]));
  const flags = BigInt(oneOf(pick, [0x100, 0x200, 0x2200, 0x102200, 0x40200, 0x80000200, 0x20000200, 0x220, 0]));
  return { start, end: start + size - 1n, flags: flags | low };
}

function window(pick: Pick, index: number): FunctionResource {
  const start = BigInt(index === 0 ? 0x1000 * (1 + pick(14)) : oneOf(pick, [0x100000, 0xfe000000, 2 ** 36, 2 ** 40]));
  const size = BigInt(index === 0 ? 0x1000 : 0x100000 * (1 + pick(64)));
  return { start, end: start + size - 1n, flags: [0x100n, 0x200n, oneOf(pick, [0x2200n, 0x102200n]), 0n][index] ?? 0n };
}

const KEYWORDS = [
  "PN",
  "EC",
  "MN",
  "SN",
  "RV",
  "RW",
  "YA",
  "Y1",
  "V0",
  "VA",
  "CP",
  "CC",
  "FC",
  "FN",
  "NA",
  "RM",
  "Z0",
  "??",
];
const [NAME, READ_ONLY, READ_WRITE, END] = [0x82, 0x90, 0x91, 0x78];

/** Resources of PCI 3.0, appendix I: mostly whole, some that end too early or are of a kind that nobody knows. */
function productData(pick: Pick): Uint8Array {
  const bytes: number[] = [];
  for (let index = pick(4); index >= 0; index--) {
    const tag = oneOf(pick, [NAME, READ_ONLY, READ_ONLY, READ_WRITE, pick(256)]);
    const content = tag === NAME ? text(pick, pick(20)) : fields(pick);
    if (tag === READ_ONLY && pick(2) === 0) {
      // A checksum that holds: all bytes up to it add up to nothing.
      const length = content.length + 4;
      content.push(0x52, 0x56, 1);
      content.push(
        -[...bytes, tag, length & 0xff, length >> 8, ...content].reduce((sum, byte) => sum + byte, 0) & 0xff,
      );
    }
    const length = pick(12) === 0 ? pick(0x200) : content.length;
    if (tag < 0x80) bytes.push((tag & 0x78) | Math.min(content.length, 7), ...content.slice(0, 7));
    else bytes.push(tag, length & 0xff, length >> 8, ...content);
  }
  if (pick(5) !== 0) bytes.push(END | pick(2));
  return Uint8Array.from(pick(6) === 0 ? bytes.slice(0, pick(bytes.length + 1)) : bytes);
}

function fields(pick: Pick): number[] {
  const bytes: number[] = [];
  for (let index = pick(5); index > 0; index--) {
    const keyword = oneOf(pick, KEYWORDS);
    const content = text(pick, pick(24));
    bytes.push(...Buffer.from(keyword, "latin1"), pick(15) === 0 ? pick(256) : content.length, ...content);
  }
  return bytes;
}

function text(pick: Pick, length: number): number[] {
  return Array.from({ length }, () => (pick(10) === 0 ? pick(256) : 0x20 + pick(0x5f)));
}
