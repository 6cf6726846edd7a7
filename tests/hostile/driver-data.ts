// What a hostile driver leaves in memory: queue entries that look right and are not, for the device to find.
import type { Random } from "./random.ts";

const PAGE = 4096;
const NVME_OPCODES = [0, 1, 2, 4, 5, 6, 8, 9, 0xa, 0xc, 0x10, 0x11, 0x14, 0x18, 0x19, 0x1a, 0x7c, 0x80, 0x81, 0x84];

function address(random: Random, base: number, size: number): number {
  const choice = random.below(10);
  if (choice < 6) return base + PAGE * random.below(size / PAGE);
  if (choice < 8) return base + random.below(size);
  if (choice === 8) return base + size - random.below(64);
  return random.word();
}

/** An NVMe submission queue entry at `at`. */
function putNvmeCommand(view: DataView, at: number, random: Random, base: number, size: number): void {
  view.setUint32(
    at,
    random.pick(NVME_OPCODES) | (random.oneIn(6) ? random.word() & 0xff00 : 0) | (random.word() & 0xffff_0000),
    true,
  );
  view.setUint32(at + 4, random.oneIn(8) ? random.word() : random.below(4), true);
  for (let word = 8; word < 24; word += 4) view.setUint32(at + word, random.oneIn(9) ? random.word() : 0, true);
  for (let pointer = 24; pointer < 40; pointer += 8) {
    view.setUint32(at + pointer, address(random, base, size), true);
    view.setUint32(at + pointer + 4, random.oneIn(20) ? random.word() : 0, true);
  }
  for (let word = 40; word < 64; word += 4) {
    const choice = random.below(6);
    const value = choice < 3 ? random.below(20) : choice === 3 ? (random.below(16) << 16) | random.below(8) : 0;
    view.setUint32(at + word, choice === 5 && random.oneIn(4) ? random.word() : value, true);
  }
}

/** A virtqueue descriptor (split or packed, they have the same size) at `at`. */
function putDescriptor(view: DataView, at: number, random: Random, base: number, size: number): void {
  view.setUint32(at, address(random, base, size), true);
  view.setUint32(at + 4, random.oneIn(30) ? random.word() : 0, true);
  view.setUint32(
    at + 8,
    random.oneIn(8) ? random.word() : random.pick([0, 1, 8, 10, 12, 16, 64, 512, 4096, 65536]),
    true,
  );
  const flags = random.oneIn(6) ? random.word() & 0xffff : random.below(8);
  view.setUint32(at + 12, flags | ((random.oneIn(8) ? random.word() & 0xffff : random.below(16)) << 16), true);
}

/**
 * Fills pages of `bytes` with something of each kind, by the page's place: submission queues, descriptor tables, rings of
 * indexes, lists of addresses, small numbers. `base` is the IOVA of `bytes`.
 */
export function putDriverData(bytes: Uint8Array, random: Random, base: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let start = 0; start + PAGE <= bytes.length; start += PAGE) {
    const kind = random.below(6);
    const end = start + PAGE;
    if (kind <= 1) {
      for (let at = start; at < end; at += 64) putNvmeCommand(view, at, random, base, bytes.length);
    } else if (kind === 2) {
      for (let at = start; at < end; at += 16) putDescriptor(view, at, random, base, bytes.length);
    } else if (kind === 3) {
      // Available and used rings: flags, index, entries.
      for (let at = start; at < end; at += 2)
        view.setUint16(at, random.oneIn(20) ? random.word() & 0xffff : random.below(16), true);
    } else if (kind === 4) {
      for (let at = start; at < end; at += 8) {
        view.setUint32(at, address(random, base, bytes.length), true);
        view.setUint32(at + 4, random.oneIn(30) ? random.word() : 0, true);
      }
    } else {
      for (let at = start; at < end; at += 4) view.setUint32(at, random.below(20), true);
    }
  }
}

/** Entries of the queues that the preparations of `arbitraries.ts` make. */
const ENTRIES = 16;

/**
 * What a driver leaves in the queues of the preparations: for the most part it works, so that the device gets far. The
 * admin queue creates a pair of I/O queues.
 */
function putNvmeQueues(bytes: Uint8Array, random: Random, base: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const entry = (page: number, index: number): number => page * PAGE + index * 64;
  for (let i = 0; i < ENTRIES; i++) putNvmeCommand(view, entry(0, i), random, base, bytes.length);
  for (let i = 0; i < 64; i++) {
    putNvmeCommand(view, entry(3, i), random, base, bytes.length);
    if (random.oneIn(3)) continue;
    const at = entry(3, i);
    view.setUint32(at, random.pick([0, 1, 1, 2, 2, 2, 4, 5, 8, 9, 0xc]) | (i << 16), true);
    view.setUint32(at + 4, 1 + random.below(2), true);
    view.setUint32(at + 28, 0, true);
    view.setUint32(at + 36, 0, true);
    view.setUint32(at + 40, random.below(2000), true);
    view.setUint32(at + 44, 0, true);
    view.setUint32(at + 48, random.below(24), true);
  }
  if (random.oneIn(6)) return;
  const create = (index: number, opcode: number, page: number, flags: number): void => {
    const at = entry(0, index);
    bytes.fill(0, at, at + 64);
    view.setUint32(at, opcode | (index << 16), true);
    view.setUint32(at + 24, base + page * PAGE, true);
    view.setUint32(at + 40, ((ENTRIES - 1) << 16) | 1, true);
    view.setUint32(at + 44, flags, true);
  };
  create(0, 5, 2, 3);
  create(1, 1, 3, 1 | (1 << 16));
}

/** As {@link putNvmeQueues}, split virtqueues 0 to 2 with chains of three descriptors. */
function putVirtqueues(bytes: Uint8Array, random: Random, base: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let queue = 0; queue < 3; queue++) {
    for (let i = 0; i < ENTRIES; i++) {
      const at = queue * PAGE + i * 16;
      putDescriptor(view, at, random, base, bytes.length);
      if (random.oneIn(5)) continue;
      const place = i % 3;
      view.setUint32(at + 4, 0, true);
      view.setUint32(at + 8, place === 0 ? 16 : place === 2 ? 1 : 512 * (1 + random.below(9)), true);
      const flags = (place < 2 ? 1 : 0) | (place === 2 || (place === 1 && random.oneIn(2)) ? 2 : 0);
      view.setUint32(at + 12, flags | (((i + 1) % ENTRIES) << 16), true);
      if (place !== 0) continue;
      // The header of a block request.
      const header = view.getUint32(at, true) - base;
      if (header < 12 * PAGE || header + 16 > bytes.length) continue;
      view.setUint32(header, random.pick([0, 1, 4, 8, 11, 13, 99]), true);
      view.setUint32(header + 4, 0, true);
      view.setUint32(header + 8, random.below(4000), true);
      view.setUint32(header + 12, 0, true);
    }
    const available = (queue + 4) * PAGE;
    view.setUint16(available, random.below(2), true);
    view.setUint16(available + 2, random.oneIn(8) ? random.word() & 0xffff : 1 + random.below(ENTRIES), true);
    for (let i = 0; i < ENTRIES; i++) {
      view.setUint16(available + 4 + 2 * i, random.oneIn(12) ? random.word() & 0xffff : 3 * random.below(5), true);
    }
  }
}

/** What a driver of this device would leave in its windows. */
export function putDeviceData(device: string, bytes: Uint8Array, random: Random, base: number): void {
  putDriverData(bytes, random, base);
  if (device.startsWith("nvme")) putNvmeQueues(bytes, random, base);
  else if (device.startsWith("virtio")) putVirtqueues(bytes, random, base);
}
