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
  const size = pick(12) === 0 ? oneOf(pick, [64, 128, 256, 300, 1024]) : 4096;
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
  const isIntel = bytes[0] === 0x86;
  const count = pick(4) + 1;
  bytes[pointer] = first | pick(4);
  for (let at = first, index = 0; at !== 0 && at < 0xf0 && index < count; index++) {
    const isLast = index === count - 1;
    const id = isLast && pick(3) !== 0 ? 0x10 : oneOf(pick, STANDARD);
    const step = id === 0x10 ? 0x3c : oneOf(pick, [8, 12, 16, 20, 24, 0x3c]);
    const next = pick(60) === 0 ? pick(256) : isLast || at + step > 0xf0 ? 0 : (at + step) & 0xfc;
    bytes[at] = id;
    bytes[at + 1] = next | pick(4);
    if (id === 0x10)
      bytes[at + 2] = (oneOf(pick, [0, 1, 4, 5, 6, 7, 8, 9, 10, pick(16)]) << 4) | oneOf(pick, [1, 2, 2]);
    if (id === 0x14) {
      bytes[at + 2] = pick(4);
      for (let entry = at + 4; entry < at + 40; entry += 4) bytes[entry] = ((bytes[entry] ?? 0) & 0xf8) | (2 + pick(4));
    }
    if (id === 0x09 && pick(2) === 0) {
      bytes[at + 2] = oneOf(pick, [16, 20, 24, 12, 8]);
      bytes[at + 3] = isIntel ? oneOf(pick, [0x01, 0x01, 0x11, 0x21, 0x02]) : oneOf(pick, [1, 2, 3, 4, 5, 8, 9]);
    }
    if (id === 0x08 && pick(2) === 0)
      bytes[at + 3] = oneOf(pick, [0, 0x20, 0x80, 0x88, 0xa8, 0xa0, 0xc8, 0x40]) | pick(8);
    at = next & 0xfc;
  }
}

function extendedCapabilities(bytes: Uint8Array, pick: Pick): void {
  const view = new DataView(bytes.buffer);
  const write = (at: number, value: number): void => {
    if (at + 4 <= bytes.length) view.setUint32(at, value >>> 0, true);
  };
  const count = pick(8) + 1;
  for (let at = 0x100, index = 0; at !== 0 && index < count; index++) {
    const id = oneOf(pick, EXTENDED);
    const after = (at + oneOf(pick, [0x10, 0x20, 0x40, 0x60, 0x100])) & 0xffc;
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
  // For media, classes and interleavings that CXL does not define the real one reads past its tables.
  for (const range of id === 0 ? [0x1c, 0x2c] : []) {
    bytes[at + range] = ((bytes[at + range] ?? 0) & 3) | (pick(3) << 2) | (pick(3) << 5);
    bytes[at + range + 1] = (bytes[at + range + 1] ?? 0) & 0xe7;
  }
}
