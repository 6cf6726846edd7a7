// Follows the two linked lists of capabilities. Config space may be truncated, looped, half written or all-ones (a function
// that is gone), so every step is checked: a walk always ends, never throws, and says what was odd.

/** Where one capability lies. */
export interface CapabilityEntry {
  readonly kind: "standard" | "extended";
  readonly id: number;
  /** Of extended capabilities; 0 for standard ones. */
  readonly version: number;
  /** Offset of its first byte in config space. */
  readonly offset: number;
}

export interface CapabilityWalk {
  readonly entries: readonly CapabilityEntry[];
  /** A sentence for each thing that is not as the specification has it. */
  readonly problems: readonly string[];
}

/** Reads config space for a walk; offsets are aligned and in range. */
export interface WalkReader {
  readonly size: number;
  read(offset: number, width: 1 | 2 | 4): number;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Whether everything reads as ones: no function answers. (The ids alone do not tell: a VF's read as FFFF in hardware.) */
export function answersNothing(reader: WalkReader): boolean {
  return reader.size >= 8 && reader.read(0, 4) === 0xffff_ffff && reader.read(4, 4) === 0xffff_ffff;
}

/** The standard capabilities, in list order. PCI 3.0, section 6.7. */
export function walkCapabilities(reader: WalkReader): CapabilityWalk {
  const entries: CapabilityEntry[] = [];
  if (reader.size < 64) return { entries, problems: [`config space has ${reader.size} bytes, less than a header`] };
  if (answersNothing(reader)) return { entries, problems: ["config space reads as all ones: no function answers"] };
  if ((reader.read(0x06, 2) & 0x10) === 0) return { entries, problems: [] };
  const headerType = reader.read(0x0e, 1) & 0x7f;
  if (headerType > 2) return { entries, problems: [`header type ${hex(headerType)} is unknown: no pointer to follow`] };

  const problems: string[] = [];
  const seen = new Set<number>();
  let from = headerType === 2 ? 0x14 : 0x34;
  let pointer = reader.read(from, 1);
  while (pointer !== 0) {
    const at = pointer & 0xfc;
    if (at !== pointer) problems.push(`the pointer at ${hex(from)} is ${hex(pointer)}, whose low bits should be 0`);
    if (at === 0) break;
    if (at < 0x40) {
      problems.push(`the pointer at ${hex(from)} leads to ${hex(at)}, inside the header`);
      break;
    }
    if (at + 4 > reader.size) {
      problems.push(`the capability at ${hex(at)} lies beyond the ${reader.size} bytes that can be read`);
      break;
    }
    if (seen.has(at)) {
      problems.push(`the capability list loops: the pointer at ${hex(from)} leads back to ${hex(at)}`);
      break;
    }
    seen.add(at);
    const word = reader.read(at, 2);
    if (word === 0xffff) {
      problems.push(`the capability at ${hex(at)} reads as all ones`);
      break;
    }
    entries.push({ kind: "standard", id: word & 0xff, version: 0, offset: at });
    from = at + 1;
    pointer = word >>> 8;
  }
  return { entries, problems };
}

/**
 * The extended capabilities, in list order. PCIe 6.0, section 7.6. None, and no problem, where there are but 256 bytes or
 * where the first dword is zero or all ones (the function is not PCI Express).
 */
export function walkExtendedCapabilities(reader: WalkReader): CapabilityWalk {
  const entries: CapabilityEntry[] = [];
  const problems: string[] = [];
  const seen = new Set<number>();
  let from = 0x100;
  let at = 0x100;
  while (at + 4 <= reader.size) {
    const word = reader.read(at, 4);
    if (word === 0xffff_ffff) {
      if (at !== 0x100) problems.push(`the extended capability at ${hex(at)} reads as all ones`);
      break;
    }
    if (word === 0) {
      if (at !== 0x100) problems.push(`the pointer at ${hex(from)} leads to ${hex(at)}, which is empty`);
      break;
    }
    seen.add(at);
    entries.push({ kind: "extended", id: word & 0xffff, version: (word >>> 16) & 0xf, offset: at });
    const pointer = word >>> 20;
    const next = pointer & 0xffc;
    if (next !== pointer) problems.push(`the pointer at ${hex(at)} is ${hex(pointer)}, whose low bits should be 0`);
    if (next === 0) break;
    if (next < 0x100) {
      problems.push(`the pointer at ${hex(at)} leads to ${hex(next)}, below the extended area`);
      break;
    }
    if (seen.has(next)) {
      problems.push(`the extended capability list loops: the pointer at ${hex(at)} leads back to ${hex(next)}`);
      break;
    }
    if (next + 4 > reader.size) {
      problems.push(`the extended capability at ${hex(next)} lies beyond the ${reader.size} bytes that can be read`);
      break;
    }
    from = at;
    at = next;
  }
  return { entries, problems };
}
