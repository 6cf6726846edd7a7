// Config spaces for the comparison with the real lspci: lists of capabilities of every kind, in order, odd and broken, with
// any content. A number makes each, so that one that fails can be had again.

/** Ids that are worth more than one draw, since their layout has many shapes. */
const STANDARD = [...Array.from({ length: 0x16 }, (_, id) => id), 0x10, 0x10, 0x10, 0x08, 0x08, 0x09, 0x14, 0x77];
const EXTENDED = [...Array.from({ length: 0x3a }, (_, id) => id), 0x23, 0x23, 0x23, 0x30, 0x02, 0x10, 0x12, 0x15, 0x36];
/** Of CXL's designated vendor-specific capabilities: ids with the lengths that their revisions have. */
const CXL: Readonly<Record<number, readonly number[]>> = {
  0: [0x38, 0x3c, 0x40],
  2: [0x2c],
  3: [0x28],
  4: [0x10],
  5: [0x10],
  7: [0x10, 0x14, 0x20, 0x24],
  8: [0x14, 0x1c, 0x24, 0x2c],
  9: [0x10],
  10: [0x14],
};

/** Numbers below a limit, one after the other, from a seed. */
type Pick = (limit: number) => number;

export function numbersFrom(seed: number): Pick {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const mixed = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) >>> 0;
    return ((mixed ^ (mixed >>> 13)) >>> 0) % limit;
  };
}

function oneOf<T>(pick: Pick, values: readonly T[]): T {
  return values[pick(values.length)] as T;
}

/** 64 to 4096 bytes. */
export function generatedConfig(pick: Pick): Uint8Array {
  const bytes = new Uint8Array(4096);
  const size = sizeOf(pick);
  const density = pick(3);
  for (let at = 0; at < bytes.length; at++) {
    const sparse = density === 1 ? pick(3) !== 0 : density === 2 && pick(4) < 2;
    bytes[at] = sparse ? 0 : density === 2 && pick(2) === 0 ? 0xff : pick(256);
  }
  const type = oneOf(pick, [0, 0, 0, 0, 1, 1, 1, 2, 3, pick(128)]);
  header(bytes, type, pick);
  standardCapabilities(bytes, type === 2 ? 0x14 : 0x34, type === 2 ? 0x48 : 0x40, pick);
  extendedCapabilities(bytes, pick);
  return bytes.subarray(0, size);
}

/** Mostly all of it; else what a dump of less shows, or one that breaks off anywhere. */
function sizeOf(pick: Pick): number {
  const kind = pick(12);
  if (kind > 1) return 4096;
  return kind === 0 ? oneOf(pick, [64, 128, 256, 300, 1024]) : 64 + (pick(2) === 0 ? 4 * pick(1008) : pick(400));
}

function header(bytes: Uint8Array, type: number, pick: Pick): void {
  const view = new DataView(bytes.buffer);
  const ids = [
    [0x8086, 0x1533],
    [0x1af4, 0x1000 + pick(0x80)],
    [0x8086, pick(0x10000)],
    [pick(0x10000), pick(0x10000)],
  ] as const;
  const [vendorId, deviceId] = oneOf(pick, ids);
  view.setUint16(0x00, vendorId, true);
  view.setUint16(0x02, deviceId, true);
  if (pick(10) !== 0) bytes[0x06] = (bytes[0x06] ?? 0) | 0x10;
  bytes[0x0e] = type | (pick(2) << 7);
  if (pick(4) !== 0) {
    bytes[0x0b] = type === 0 ? pick(0x14) : 6;
    bytes[0x0a] = type === 0 ? pick(6) : oneOf(pick, [4, 7, 9, 0]);
  }
  if (type === 1 && pick(2) === 0) {
    const wide = pick(2);
    for (const at of [0x1c, 0x1d, 0x24, 0x26]) bytes[at] = ((bytes[at] ?? 0) & 0xf0) | wide;
    for (const at of [0x20, 0x22]) bytes[at] = (bytes[at] ?? 0) & 0xf0;
  }
  for (let bar = 0; bar < (type === 0 ? 6 : 2); bar++) {
    const at = 0x10 + 4 * bar;
    const kind = pick(5);
    if (kind < 2) bytes.fill(kind === 0 ? 0 : 0xff, at, at + 4);
    else bytes[at] = ((bytes[at] ?? 0) & 0xf0) | oneOf(pick, [0, 4, 0xc, 1, 2, 6, 8]);
  }
}

function standardCapabilities(bytes: Uint8Array, pointer: number, first: number, pick: Pick): void {
  const count = pick(4) + 1;
  const start = pick(30) === 0 ? oneOf(pick, [0x10, 0x3c, 0xe0, 0xf0, 0xf4, 0xf8, 0xfc]) : first;
  bytes[pointer] = start | pick(4);
  for (let at = start, index = 0; at !== 0 && at < 0xf0 && index < count; index++) {
    const isLast = index === count - 1;
    const id = isLast && pick(3) !== 0 ? 0x10 : oneOf(pick, STANDARD);
    const step = id === 0x10 ? 0x3c : oneOf(pick, [8, 12, 16, 20, 24, 0x3c]);
    const next = pick(60) === 0 ? pick(256) : isLast || at + step > 0xf0 ? 0 : (at + step) & 0xfc;
    bytes[at] = id;
    bytes[at + 1] = next | pick(4);
    SHAPES[id]?.(bytes, at, pick);
    at = next & 0xfc;
  }
}

/** What a capability says about itself: mostly something that is defined. */
const SHAPES: Readonly<Record<number, (bytes: Uint8Array, at: number, pick: Pick) => void>> = {
  0x08: (bytes, at, pick) => {
    if (pick(2) === 0) bytes[at + 3] = oneOf(pick, [0, 0x20, 0x80, 0x88, 0xa8, 0xa0, 0xc8, 0x40]) | pick(8);
  },
  0x09: (bytes, at, pick) => {
    const isIntel = bytes[0] === 0x86;
    if (pick(4) === 0) return;
    bytes[at + 2] = oneOf(pick, [16, 20, 24, 24, 12, 8]);
    bytes[at + 3] = isIntel ? oneOf(pick, [0x01, 0x01, 0x11, 0x21, 0x02]) : oneOf(pick, [1, 2, 3, 4, 5, 8, 8, 9]);
  },
  0x10: (bytes, at, pick) => {
    const type = oneOf(pick, [0, 1, 4, 5, 6, 7, 8, 9, 10, pick(16)]);
    bytes[at + 2] = (type << 4) | oneOf(pick, [1, 2, 2]);
    // The power limits of device and slot, above what scale 0 counts.
    const view = new DataView(bytes.buffer);
    const raise = (place: number, shift: number): void => {
      const value = view.getUint32(place, true) & ~(0x3ff << shift);
      view.setUint32(place, (value | (oneOf(pick, [0xef, 0xf0, 0xf5, 0xfe, 0xff]) << shift)) >>> 0, true);
    };
    if (pick(3) === 0) raise(at + 0x04, 18);
    if (pick(3) === 0) raise(at + 0x14, 7);
  },
  0x14: (bytes, at, pick) => {
    bytes[at + 2] = pick(8);
    for (let entry = at + 4; entry < at + 40; entry += 4) {
      bytes[entry] = ((bytes[entry] ?? 0) & 0xf8) | (2 + pick(4));
      for (const place of [entry + 1, entry + 2]) {
        if (pick(4) !== 0) bytes[place] = oneOf(pick, [pick(10), 0xfd, 0xfe, 0xff]);
      }
    }
  },
};

function extendedCapabilities(bytes: Uint8Array, pick: Pick): void {
  const view = new DataView(bytes.buffer);
  const write = (at: number, value: number): void => {
    if (at + 4 <= bytes.length) view.setUint32(at, value >>> 0, true);
  };
  const count = pick(8) + 1;
  for (let at = 0x100, index = 0; at !== 0 && index < count; index++) {
    const id = oneOf(pick, EXTENDED);
    const step = pick(12) === 0 ? 0x1000 - 4 * (1 + pick(40)) - at : oneOf(pick, [0x10, 0x20, 0x40, 0x60, 0x100]);
    const after = (at + step) & 0xffc;
    const next = pick(80) === 0 ? pick(4096) & 0xffc : index === count - 1 || after <= at ? 0 : after;
    write(at, id | (pick(16) << 16) | (next << 20));
    if (id === 0x23) designated(bytes, write, at, pick);
    if (id === 0x36) write(at + 4, oneOf(pick, [0x10, 0x18, 0x20, 0x28, pick(300) + 8]));
    if (id === 0x30 && pick(2) === 0) write(at + 4, pick(0x10000) | (pick(3) << 16) | (pick(4) << 24));
    if ((id === 0x15 || id === 0x24) && pick(4) !== 0)
      bytes[at + 8] = ((bytes[at + 8] ?? 0) & 0x1f) | ((1 + pick(6)) << 5);
    if (id === 0x05) bytes[at + 5] = pick(5);
    at = next;
  }
}

function designated(bytes: Uint8Array, write: (at: number, value: number) => void, at: number, pick: Pick): void {
  const id = oneOf(pick, [0, 2, 3, 4, 5, 7, 8, 9, 10, pick(12), pick(0x10000)]);
  const length = oneOf(pick, CXL[id] ?? [16, 20, 40]);
  write(at + 4, (pick(8) !== 0 ? 0x1e98 : pick(0x10000)) | (pick(4) << 16) | (length << 20));
  write(at + 8, id | (pick(0x10000) << 16));
  if (id === 8) {
    for (let entry = at + 0x0c; entry < at + length; entry += 8) {
      bytes[entry] = (pick(8) & 7) | (pick(32) << 3);
      bytes[entry + 1] = oneOf(pick, [0, 1, 2, 3, 4, 5, 0xff]);
    }
  }
  if (id === 9) write(at + 8, id | (pick(18) << 16));
  // For media, classes and interleavings that CXL does not define the real one reads past its tables.
  for (const range of id === 0 ? [0x1c, 0x2c] : []) {
    bytes[at + range] = ((bytes[at + range] ?? 0) & 3) | (pick(3) << 2) | (pick(3) << 5);
    bytes[at + range + 1] = (bytes[at + range + 1] ?? 0) & 0xe7;
  }
}
