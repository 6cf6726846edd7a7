// Hostile sequences by fast-check: messages that are nearly right. Most of them pass the first checks, so that what is
// behind those is reached too; lengths, counts, flags, offsets and descriptors are wrong in every way one at a time.
import * as fc from "fast-check";
import { Command } from "../../packages/ring3/src/vfio-user/messages.ts";
import { FILE_BYTES, IOVA_BASE, READ_ONLY, WRITABLE } from "./guarded-memory.ts";
import type { DescriptorKind, Manners, Sequence, Step } from "./sequence.ts";
import { HEADER_BYTES } from "./sequence.ts";

type Value = number | bigint;

const U32_END = 2 ** 32;
const NO_REPLY = 0x10;

/** Numbers at which arithmetic goes wrong. */
const edges64 = [0n, 1n, 4095n, 4096n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 52n, 2n ** 53n - 1n, 2n ** 53n]
  .concat([2n ** 53n + 1n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 4096n, 2n ** 64n - 1n])
  .concat([BigInt(FILE_BYTES), BigInt(FILE_BYTES) - 4096n, BigInt(IOVA_BASE), BigInt(IOVA_BASE + WRITABLE.offset)]);
const hostile64: fc.Arbitrary<bigint> = fc.oneof(
  { arbitrary: fc.constantFrom(...edges64), weight: 4 },
  { arbitrary: fc.nat(64).map((pages) => BigInt(pages) * 4096n), weight: 2 },
  { arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), weight: 1 },
);
const hostile32: fc.Arbitrary<number> = fc.oneof(
  {
    arbitrary: fc.constantFrom(0, 1, 2, 7, 8, 9, 16, 31, 32, 33, 0x1000, 0xffff, 0x10000, 0x10_0000, 0x10_0001),
    weight: 4,
  },
  { arbitrary: fc.constantFrom(2 ** 31 - 1, 2 ** 31, U32_END - 1, U32_END - 16), weight: 2 },
  { arbitrary: fc.nat(255), weight: 2 },
  { arbitrary: fc.integer({ min: 0, max: U32_END - 1 }), weight: 1 },
);
/** Mostly `usual`. */
function mostly<T>(usual: fc.Arbitrary<T>, wrong: fc.Arbitrary<T>, times = 9): fc.Arbitrary<T> {
  return fc.oneof({ arbitrary: usual, weight: times }, { arbitrary: wrong, weight: 1 });
}

/** Little-endian words and quadwords. */
function pack(...values: readonly Value[]): Uint8Array {
  const bytes = Buffer.alloc(values.reduce<number>((sum, value) => sum + (typeof value === "bigint" ? 8 : 4), 0));
  let at = 0;
  for (const value of values) {
    if (typeof value === "bigint") at = bytes.writeBigUInt64LE(BigInt.asUintN(64, value), at);
    else at = bytes.writeUInt32LE(value >>> 0, at);
  }
  return bytes;
}

interface Body {
  readonly command: number;
  readonly payload: Uint8Array;
  readonly fds: readonly DescriptorKind[];
}

const oneFd: fc.Arbitrary<readonly DescriptorKind[]> = fc
  .constantFrom<DescriptorKind>(
    ...(["sealed", "unsealed", "unsealable", "ram", "read-only", "write-only", "path-only", "file", "null"] as const),
    ...(["pipe-read", "pipe-write", "socket", "own-socket", "event", "directory", "epoll", "proc"] as const),
  )
  .map((kind) => [kind]);
const signals: fc.Arbitrary<readonly DescriptorKind[]> = fc.array(
  fc.oneof(
    { arbitrary: fc.constantFrom<DescriptorKind>("event", "blocking-event", "full-event"), weight: 9 },
    { arbitrary: fc.constantFrom<DescriptorKind>("pipe-write", "sealed", "socket", "own-socket"), weight: 1 },
  ),
  { maxLength: 5 },
);

const windowMap = fc
  .tuple(fc.constantFrom(WRITABLE, WRITABLE, WRITABLE, READ_ONLY), fc.nat(15), fc.nat(15), fc.constantFrom(0, 0, 1))
  .map(([window, first, count, part]) => {
    const offset = part === 0 ? window.offset : window.offset + first * 8192;
    const size = part === 0 ? window.size : Math.min((count + 1) * 4096, window.offset + window.size - offset);
    const flags = window === WRITABLE ? 3 : 1;
    return { offset: BigInt(offset), address: BigInt(IOVA_BASE + offset), size: BigInt(size), flags };
  });
const dmaMap: fc.Arbitrary<Body> = fc.oneof(
  {
    weight: 6,
    arbitrary: windowMap.map(({ offset, address, size, flags }) => ({
      command: Command.DMA_MAP,
      payload: pack(32, flags, offset, address, size),
      fds: ["guarded" as const],
    })),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.nat(15), fc.nat(64), fc.constantFrom(1, 2, 3, 3, 3)).map(([place, pages, flags]) => ({
      command: Command.DMA_MAP,
      payload: pack(32, flags, 0n, BigInt(0x1000_0000 + place * 0x1_0000), BigInt(4096 * (pages + 1))),
      fds: [],
    })),
  },
  {
    weight: 5,
    arbitrary: fc
      .tuple(
        mostly(fc.constant(32), hostile32),
        mostly(fc.constantFrom(1, 2, 3, 3, 7), hostile32),
        hostile64,
        hostile64,
      )
      .chain(([argsz, flags, offset, address]) =>
        fc
          .tuple(hostile64, mostly(oneFd, fc.constantFrom<readonly DescriptorKind[]>([], ["guarded", "sealed"])))
          .map(([size, fds]) => ({
            command: Command.DMA_MAP,
            payload: pack(argsz, flags, offset, address, size),
            fds,
          })),
      ),
  },
);
const dmaUnmap: fc.Arbitrary<Body> = fc.oneof(
  {
    weight: 2,
    arbitrary: windowMap.map(({ address, size }) => ({
      command: Command.DMA_UNMAP,
      payload: pack(24, 0, address, size),
      fds: [],
    })),
  },
  { weight: 1, arbitrary: fc.constant({ command: Command.DMA_UNMAP, payload: pack(24, 2, 0n, 0n), fds: [] }) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(mostly(fc.constant(24), hostile32), hostile32, hostile64, hostile64, hostile64, hostile64)
      .map(([argsz, flags, address, size, pageSize, bitmapSize]) => ({
        command: Command.DMA_UNMAP,
        payload: pack(argsz, flags & 3, address, size, pageSize, bitmapSize),
        fds: [],
      })),
  },
);

/** Words that a driver might write: flags, page addresses in the windows, queue sizes. */
const word: fc.Arbitrary<number> = fc.oneof(
  fc.nat(15),
  fc.nat(63).map((page) => IOVA_BASE + WRITABLE.offset + page * 4096),
  fc.constantFrom(0x0046_0001, 0x000f_000f, 0x003f_003f, 0x0406, 0x8000_0000, 0x0003_0001, 0xffff, 0),
  hostile32,
);
/** Where the devices have registers that do something. */
const register: fc.Arbitrary<number> = fc.oneof(
  { arbitrary: fc.nat(31).map((index) => index * 4), weight: 4 },
  { arbitrary: fc.nat(15).map((index) => 0x1000 + index * 4), weight: 4 },
  { arbitrary: fc.constantFrom(0x80, 0x88, 0x90, 0x98, 0x60, 0x64, 0x20, 0x24, 0x14), weight: 2 },
  { arbitrary: fc.nat(15).map((index) => 0x3000 + index * 4), weight: 2 },
  { arbitrary: fc.nat(0x7fff), weight: 2 },
);
const configOffset: fc.Arbitrary<number> = fc.oneof(
  fc.constantFrom(4, 4, 6, 0x10, 0x14, 0x30, 0x3c),
  fc.nat(0xff),
  fc.nat(0xfff),
);
const access: fc.Arbitrary<Body> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .tuple(register, fc.constantFrom(4, 4, 4, 4, 8, 2, 1), word, word)
      .map(([offset, count, low, high]) => ({
        command: Command.REGION_WRITE,
        payload: Buffer.concat([pack(BigInt(offset), 0, count), pack(low, high).subarray(0, count)]),
        fds: [],
      })),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(configOffset, fc.constantFrom(2, 2, 4, 1), mostly(fc.constantFrom(6, 0x406, 7, 0), hostile32, 2))
      .map(([offset, count, value]) => ({
        command: Command.REGION_WRITE,
        payload: Buffer.concat([pack(BigInt(offset), 7, count), pack(value).subarray(0, count)]),
        fds: [],
      })),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(
        fc.constantFrom(0, 0, 0, 7, 7, 6, 2),
        register,
        mostly(fc.constantFrom(4, 4, 1, 2, 8, 64, 4096), hostile32),
      )
      .map(([region, offset, count]) => ({
        command: Command.REGION_READ,
        payload: pack(BigInt(offset), region, count),
        fds: [],
      })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom(Command.REGION_READ, Command.REGION_WRITE), hostile64, hostile32, hostile32, fc.nat(40))
      .map(([command, offset, region, count, data]) => ({
        command,
        payload: Buffer.concat([pack(offset, region, count), Buffer.alloc(data, 0x5a)]),
        fds: [],
      })),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(mostly(fc.constant(-1n), hostile64, 4), fc.array(fc.tuple(register, word), { maxLength: 4 }))
      .map(([claimed, writes]) => ({
        command: Command.REGION_WRITE_MULTI,
        payload: Buffer.concat([
          pack(claimed < 0n ? BigInt(writes.length) : claimed),
          ...writes.map(([offset, value]) => pack(BigInt(offset), offset % 3 === 0 ? 7 : 0, 4, BigInt(value))),
        ]),
        fds: [],
      })),
  },
);

const question: fc.Arbitrary<Body> = fc
  .tuple(
    fc.constantFrom(
      Command.DEVICE_GET_INFO,
      Command.DEVICE_GET_REGION_INFO,
      Command.DEVICE_GET_REGION_IO_FDS,
      Command.DEVICE_GET_IRQ_INFO,
    ),
    mostly(fc.constantFrom(16, 32, 64, 4096), hostile32),
    mostly(fc.constant(0), hostile32),
    mostly(fc.nat(8), hostile32),
    mostly(fc.constant(0), hostile32),
  )
  .map(([command, argsz, flags, index, last]) => ({
    command,
    payload: Buffer.concat([
      pack(argsz, flags, index, last),
      Buffer.alloc(command === Command.DEVICE_GET_REGION_INFO ? 16 : 0),
    ]),
    fds: [],
  }));

const irqs: fc.Arbitrary<Body> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.tuple(fc.constantFrom(0, 1, 2, 2, 3, 4), fc.nat(3), signals).map(([index, start, fds]) => ({
      command: Command.DEVICE_SET_IRQS,
      payload: pack(20, 0x24, index, start, Math.max(1, fds.length)),
      fds,
    })),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(
        mostly(fc.constant(20), hostile32),
        mostly(fc.constantFrom(0x21, 0x22, 0x24, 0x09, 0x11, 0x0c, 0x14, 0x0a), hostile32, 4),
        mostly(fc.nat(4), hostile32),
        mostly(fc.nat(3), hostile32, 3),
        mostly(fc.nat(3), hostile32, 3),
        fc.tuple(signals, fc.nat(6)),
      )
      .map(([argsz, flags, index, start, count, [fds, bools]]) => ({
        command: Command.DEVICE_SET_IRQS,
        payload: Buffer.concat([pack(argsz, flags, index, start, count), Buffer.alloc(bools, 1)]),
        fds,
      })),
  },
);

const migration: fc.Arbitrary<Body> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .tuple(
        fc.constantFrom(0x2_0002, 0x2_0002, 0x1_0002, 0x1_0001, 0x2_0006, 0x2_0007, 0x1_0008, 0x4_0001, 0x7_0002),
        fc.oneof(fc.nat(8), hostile32),
        hostile64,
        hostile64,
      )
      .map(([flags, state, iova, length]) => ({
        command: Command.DEVICE_FEATURE,
        payload:
          flags === 0x2_0006
            ? pack(64, flags, 4096n, state, 0, iova, length)
            : flags === 0x1_0008
              ? pack(4096, flags, iova, length, 4096n)
              : pack(64, flags, state, 0),
        fds: [],
      })),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(hostile32, hostile32, hostile64)
      .map(([argsz, flags, data]) => ({ command: Command.DEVICE_FEATURE, payload: pack(argsz, flags, data), fds: [] })),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(hostile32, mostly(fc.constantFrom(0, 64, 4096), hostile32))
      .map(([argsz, size]) => ({ command: Command.MIG_DATA_READ, payload: pack(argsz, size), fds: [] })),
  },
  {
    weight: 1,
    arbitrary: fc.uint8Array({ maxLength: 64 }).map((data) => ({
      command: Command.MIG_DATA_WRITE,
      payload: Buffer.concat([pack(8, data.length), data]),
      fds: [],
    })),
  },
);

const nonsense: fc.Arbitrary<Body> = fc
  .tuple(fc.oneof(fc.nat(30), fc.nat(0xffff)), fc.uint8Array({ maxLength: 48 }), mostly(fc.constant([]), oneFd))
  .map(([command, payload, fds]) => ({ command, payload, fds }));

const body: fc.Arbitrary<Body> = fc.oneof(
  { arbitrary: access, weight: 16 },
  { arbitrary: dmaMap, weight: 5 },
  { arbitrary: dmaUnmap, weight: 2 },
  { arbitrary: question, weight: 2 },
  { arbitrary: irqs, weight: 4 },
  { arbitrary: migration, weight: 2 },
  { arbitrary: nonsense, weight: 1 },
  { arbitrary: fc.constant({ command: Command.DEVICE_RESET, payload: pack(), fds: [] }), weight: 1 },
);

/** Header flags: commands, posted ones, replies to nothing, and what is none of it (that ends the connection). */
const flagsOf: fc.Arbitrary<number> = fc.oneof(
  { arbitrary: fc.constant(0), weight: 200 },
  { arbitrary: fc.constant(NO_REPLY), weight: 60 },
  { arbitrary: fc.constantFrom(1, 0x21, 0x20, 0x30, 0xffff_ff00), weight: 15 },
  { arbitrary: fc.constantFrom(2, 3, 0xf, U32_END - 1), weight: 1 },
);

/** A message with its header. */
export function frame(
  command: number,
  payload: Uint8Array,
  { id = 1, flags = 0, more = 0 }: { readonly id?: number; readonly flags?: number; readonly more?: number } = {},
): Uint8Array {
  const bytes = Buffer.alloc(HEADER_BYTES + payload.length);
  bytes.writeUInt16LE(id & 0xffff, 0);
  bytes.writeUInt16LE(command & 0xffff, 2);
  bytes.writeUInt32LE(Math.max(0, bytes.length + more) % U32_END, 4);
  bytes.writeUInt32LE(flags >>> 0, 8);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

const step: fc.Arbitrary<Step> = fc
  .tuple(body, flagsOf, fc.nat(0xefff), mostly(fc.constant(0), fc.nat(60), 14), mostly(fc.constant(0), hostile32, 150))
  .map(([{ command, payload, fds }, flags, id, cut, more]) => ({
    bytes: frame(command, payload, { id, flags, more: more > 2 ** 24 ? -5 : more }),
    fds,
    ...(cut > 0 && cut < HEADER_BYTES + payload.length ? { cuts: [cut] } : {}),
  }));

const write32 = (region: number, offset: number, value: number): Step => ({
  bytes: frame(Command.REGION_WRITE, pack(BigInt(offset), region, 4, value)),
  fds: [],
});
const write16 = (offset: number, value: number): Step => ({
  bytes: frame(Command.REGION_WRITE, Buffer.concat([pack(BigInt(offset), 0, 2), pack(value).subarray(0, 2)])),
  fds: [],
});
const WINDOW = IOVA_BASE + WRITABLE.offset;
const unmapAll: Step = { bytes: frame(Command.DMA_UNMAP, pack(24, 2, 0n, 0n)), fds: [] };
const mapWindow: readonly Step[] = [
  unmapAll,
  {
    bytes: frame(Command.DMA_MAP, pack(32, 3, BigInt(WRITABLE.offset), BigInt(WINDOW), BigInt(WRITABLE.size))),
    fds: ["guarded"],
  },
  {
    bytes: frame(
      Command.DMA_MAP,
      pack(32, 1, BigInt(READ_ONLY.offset), BigInt(IOVA_BASE + READ_ONLY.offset), BigInt(READ_ONLY.size)),
    ),
    fds: ["guarded"],
  },
  write32(7, 4, 0x0406),
];
/** The same addresses, and no memory behind them: the device has to ask. */
const mapByMessage: readonly Step[] = mapWindow.map(({ bytes }) => ({ bytes, fds: [] }));
const page = (index: number): number => WINDOW + index * 4096;

/** What a driver does first, once memory is mapped: afterwards the device works on what lies in the windows. */
const PREPARATIONS: Readonly<Record<string, readonly Step[]>> = {
  edu: [write32(0, 0x80, WINDOW), write32(0, 0x88, 0x40000), write32(0, 0x90, 256), write32(0, 0x98, 1)],
  nvme: [
    write32(0, 0x14, 0),
    write32(0, 0x24, 0x000f_000f),
    write32(0, 0x28, page(0)),
    write32(0, 0x2c, 0),
    write32(0, 0x30, page(1)),
    write32(0, 0x34, 0),
    write32(0, 0x14, 0x0046_0001),
    write32(0, 0x1000, 4),
    write32(0, 0x1000, 8),
    write32(0, 0x1008, 3),
  ],
  virtio: [
    write32(0, 0x14, 0),
    write16(0x14, 0x3),
    write32(0, 0x08, 1),
    write32(0, 0x0c, 1),
    write16(0x14, 0xb),
    ...[0, 1, 2].flatMap((queue) => [
      write16(0x16, queue),
      write16(0x18, 16),
      write32(0, 0x20, page(queue)),
      write32(0, 0x28, page(queue + 4)),
      write32(0, 0x30, page(queue + 8)),
      write16(0x1c, 1),
    ]),
    write16(0x14, 0xf),
    write16(0x3000, 0),
    write16(0x3004, 1),
    write16(0x3008, 2),
  ],
};

const manners: fc.Arbitrary<Manners> = fc.oneof(
  { arbitrary: fc.constant<Manners>("honest"), weight: 22 },
  { arbitrary: fc.constant<Manners>("lying"), weight: 7 },
  { arbitrary: fc.constant<Manners>("silent"), weight: 1 },
);
const greeting: fc.Arbitrary<Uint8Array | undefined> = mostly<Uint8Array | undefined>(
  fc.constant(undefined),
  fc.oneof(
    fc
      .tuple(fc.nat(2), fc.nat(3), fc.json())
      .map(([major, minor, text]) =>
        frame(Command.VERSION, Buffer.concat([Uint8Array.of(major, 0, minor, 0), Buffer.from(`${text}\0`)])),
      ),
    fc.uint8Array({ maxLength: 80 }).map((payload) => frame(Command.VERSION, payload)),
    fc
      .record({
        max_msg_fds: fc.oneof(fc.nat(20), fc.constantFrom<unknown>(-1, 1e300, "8", null)),
        max_data_xfer_size: fc.oneof(fc.constantFrom<unknown>(0, 1, 7, 4096, 2 ** 40, "x"), fc.nat(100_000)),
        twin_socket: fc.constantFrom<unknown>({ supported: true }, {}, 1, null, { supported: 1 }),
      })
      .map((capabilities) =>
        frame(Command.VERSION, Buffer.concat([pack(0), Buffer.from(`${JSON.stringify({ capabilities })}\0`)])),
      ),
  ),
  60,
);

/** What a driver does until the device is at work: with memory that is mapped, and with memory that it has to ask for. */
export function beginningsFor(device: string): readonly [mapped: readonly Step[], byMessage: readonly Step[]] {
  const kind = device.startsWith("nvme") ? "nvme" : device.startsWith("virtio") ? "virtio" : device;
  const preparation = PREPARATIONS[kind] ?? [];
  return [
    [...mapWindow, ...preparation],
    [...mapByMessage, ...preparation],
  ];
}

/** Sequences for a device of this name. */
export function sequencesFor(device: string): fc.Arbitrary<Sequence> {
  const beginnings = beginningsFor(device);
  return fc
    .tuple(fc.array(step, { minLength: 1, maxLength: 8 }), fc.nat(9), manners, greeting, fc.nat(400))
    .map(([steps, prepared, conduct, first, truncated]) => ({
      steps: [...(beginnings[prepared] ?? []), ...steps],
      manners: conduct,
      ...(first === undefined ? {} : { greeting: first }),
      ...(truncated === 0 ? { truncates: true } : {}),
    }));
}
