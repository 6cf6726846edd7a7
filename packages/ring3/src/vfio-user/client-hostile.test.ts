// Nothing that a server sends crashes, hangs or leaks: each lie ends in an error that says what is wrong, or is of no effect.
// seconds: 7
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  type Lie,
  LyingServer,
  type Piece,
  type Script,
  versionPayload,
} from "../../../../tests/fakes/lying-server.ts";
import { isRing3Error } from "../binary/error.ts";
import { openFilesCount } from "../linux/limits.ts";
import { type ConnectOptions, connect } from "./client.ts";
import type { VfioUserFunction } from "./client-function.ts";
import {
  Command,
  DeviceInfo,
  DmaAccess,
  HEADER_SIZE,
  Header,
  IrqInfo,
  RegionInfo,
  SparseMmap,
  SparseMmapArea,
} from "./messages.ts";

const quick: ConnectOptions = { timeoutMs: 150, doorbells: false };

/** The error's code; anything but a Ring3Error is a failure of the test. */
async function codeOf(action: () => Promise<unknown>): Promise<string> {
  try {
    await action();
    return "nothing";
  } catch (error) {
    if (isRing3Error(error)) return error.code;
    throw error;
  }
}

/** Connects once per script, uses the function if there is one, and checks that no descriptor is left over. */
async function attempt(
  scripts: readonly Script[],
  use: (fn: VfioUserFunction, index: number) => Promise<unknown> = () => Promise.resolve(),
): Promise<string[]> {
  await using server = await LyingServer.start(...scripts);
  const codes: string[] = [];
  for (const [i] of scripts.entries()) {
    codes.push(
      await codeOf(async () => {
        await using fn = await connect(server.path, quick);
        await use(fn, i);
      }),
    );
  }
  await server.heard();
  return codes;
}

const lie = (command: number, ...pieces: readonly Piece[]): Lie => ({ command, pieces });
const payloadLie = (command: number, payload: Uint8Array): Lie => lie(command, { payload });
const nothing = new Uint8Array(0);

test("an honest answer is a function", async () => {
  const codes = await attempt([[]], async (fn) => {
    assert.equal(fn.identity.vendorId, 0x1234);
    fn.bar(0).write32(8, 0xabcd_1234);
    assert.equal(fn.bar(0).read32(8), 0xabcd_1234);
    assert.equal(fn.interrupts.available.msix, 4);
    await fn.reset();
  });
  assert.deepEqual(codes, ["nothing"]);
});

test("a refusal's own words are shown as far as they are words, and no more of them than a few", async () => {
  const words: readonly (readonly [Uint8Array, string])[] = [
    [new TextEncoder().encode("in use by\u001b[2Jpid 1\r\n\u202e\0"), ": in use by [2Jpid 1"],
    [new Uint8Array(60_000).fill(0x61), `: ${"a".repeat(1024)}`],
    [Uint8Array.of(0xff, 0xc0), ": \ufffd\ufffd"],
    [new Uint8Array(40), ""],
  ];
  const scripts = words.map(([payload]): Script => [lie(Command.VERSION, { payload, flags: 0x21, error: 16 })]);
  await using server = await LyingServer.start(...scripts);
  for (const [, expected] of words) {
    const message = `SERVER_REFUSED: the vfio-user server refuses the connection (EBUSY)${expected}`;
    await assert.rejects(connect(server.path, quick), { message, errno: "EBUSY" });
  }
});

describe("at the greeting", () => {
  const version = Command.VERSION;
  const scenes: readonly (readonly [name: string, lie: Lie, code: string])[] = [
    ["a refusal", lie(version, { payload: nothing, flags: 0x21, error: 22 }), "SERVER_REFUSED"],
    ["a refusal without a reason", lie(version, { payload: nothing, flags: 0x21 }), "SERVER_REFUSED"],
    ["another major version", payloadLie(version, versionPayload({}, 1, 0)), "PROTOCOL_ERROR"],
    ["a higher minor version", payloadLie(version, versionPayload({}, 0, 99)), "PROTOCOL_ERROR"],
    ["no payload", payloadLie(version, nothing), "PROTOCOL_ERROR"],
    ["no JSON", payloadLie(version, Uint8Array.of(0, 0, 0, 0, 0x7b, 0x7b, 0)), "PROTOCOL_ERROR"],
    ["JSON that is no object", payloadLie(version, Uint8Array.of(0, 0, 0, 0, 0x37, 0)), "nothing"],
    ["nothing but the version", payloadLie(version, new Uint8Array(4)), "nothing"],
    ["capabilities that are a list", payloadLie(version, versionPayload([1, 2])), "PROTOCOL_ERROR"],
    ["a negative number of fds", payloadLie(version, versionPayload({ max_msg_fds: -1 })), "PROTOCOL_ERROR"],
    ["a transfer size in words", payloadLie(version, versionPayload({ max_data_xfer_size: "big" })), "PROTOCOL_ERROR"],
    ["a transfer size of 0", payloadLie(version, versionPayload({ max_data_xfer_size: 0 })), "PROTOCOL_ERROR"],
    [
      "a twin socket that is missing",
      payloadLie(version, versionPayload({ twin_socket: { supported: true, fd_index: 0 } })),
      "PROTOCOL_ERROR",
    ],
    [
      "a twin socket with another index",
      lie(version, { payload: versionPayload({ twin_socket: { supported: true, fd_index: 7 } }), fds: [4096] }),
      "PROTOCOL_ERROR",
    ],
    ["descriptors for nothing", lie(version, { payload: versionPayload({}), fds: [4096, 4096, 4096] }), "nothing"],
    ["another id", lie(version, { payload: versionPayload({}), id: 0x7777 }), "PROTOCOL_ERROR"],
    ["another command", lie(version, { payload: versionPayload({}), command: Command.DMA_MAP }), "PROTOCOL_ERROR"],
    ["an unknown type", lie(version, { payload: versionPayload({}), flags: 7 }), "PROTOCOL_ERROR"],
    ["a message of 4 GiB", lie(version, { payload: nothing, size: 0xffff_fff0 }), "PROTOCOL_ERROR"],
    ["a message shorter than its header", lie(version, { payload: nothing, size: 3 }), "PROTOCOL_ERROR"],
    ["half a header", lie(version, { raw: new Uint8Array(7) }), "SERVER_TIMEOUT"],
    ["half a header, and the end", lie(version, { raw: new Uint8Array(7) }, "close"), "CONNECTION_LOST"],
    ["half a message", lie(version, { payload: new Uint8Array(8), size: 900 }), "SERVER_TIMEOUT"],
    ["silence", lie(version), "SERVER_TIMEOUT"],
    ["the end", lie(version, "close"), "CONNECTION_LOST"],
    ["noise", lie(version, { raw: Uint8Array.from({ length: 500 }, (_, i) => (i * 37) & 0xff) }), "PROTOCOL_ERROR"],
  ];
  test("each lie has its error, and no descriptor is left", async () => {
    // A first round opens what stays open for good.
    await attempt([[]]);
    const before = openFilesCount();
    const codes = await attempt(scenes.map(([, one]) => [one]));
    assert.deepEqual(
      codes.map((code, i) => `${scenes[i]?.[0]}: ${code}`),
      scenes.map(([name, , code]) => `${name}: ${code}`),
    );
    assert.equal(openFilesCount(), before);
  });
});

describe("about the device", () => {
  const region = (
    index: number,
    fields: Parameters<typeof RegionInfo.bytes>[0],
    tail: Uint8Array = nothing,
  ): Uint8Array => {
    const head = RegionInfo.bytes({ argsz: 32 + tail.length, flags: 3, index, size: 4096n, ...fields });
    const bytes = new Uint8Array(head.length + tail.length);
    bytes.set(head);
    bytes.set(tail, head.length);
    return bytes;
  };
  const sparse = (areas: readonly (readonly [bigint, bigint])[], count = areas.length, next = 0): Uint8Array => {
    const bytes = new Uint8Array(SparseMmap.size + areas.length * SparseMmapArea.size);
    bytes.set(SparseMmap.bytes({ id: 1, version: 1, next, nr_areas: count }));
    for (const [i, [offset, size]] of areas.entries()) {
      bytes.set(SparseMmapArea.bytes({ offset, size }), SparseMmap.size + i * SparseMmapArea.size);
    }
    return bytes;
  };
  const about = Command.DEVICE_GET_REGION_INFO;
  // A region with capabilities is asked for twice, since the first answer says that it did not fit.
  const first = (piece: Piece): Lie => {
    const long = typeof piece === "object" && "payload" in piece && piece.payload.length > RegionInfo.size;
    return { command: about, times: long ? 2 : 1, pieces: [piece] };
  };
  const CAPS = 8 | 7;

  test("information that is wrong", async () => {
    const scenes: readonly (readonly [name: string, lie: Lie, code: string])[] = [
      ["short device information", payloadLie(Command.DEVICE_GET_INFO, new Uint8Array(8)), "PROTOCOL_ERROR"],
      [
        "no PCI device",
        payloadLie(Command.DEVICE_GET_INFO, DeviceInfo.bytes({ argsz: 16, flags: 1, num_regions: 9 })),
        "NOT_SUPPORTED",
      ],
      [
        "three regions",
        payloadLie(Command.DEVICE_GET_INFO, DeviceInfo.bytes({ argsz: 16, flags: 3, num_regions: 3 })),
        "NOT_SUPPORTED",
      ],
      ["a region that is short", first({ payload: new Uint8Array(12) }), "PROTOCOL_ERROR"],
      ["a region that is refused", first({ payload: nothing, flags: 0x21, error: 22 }), "SERVER_REFUSED"],
      ["no config space", lie(about, { payload: region(7, { size: 0n }) }), "NOT_SUPPORTED"],
      [
        "a billion vectors",
        payloadLie(Command.DEVICE_GET_IRQ_INFO, IrqInfo.bytes({ argsz: 16, flags: 1, count: 0x4000_0000 })),
        "PROTOCOL_ERROR",
      ],
      ["short interrupts", payloadLie(Command.DEVICE_GET_IRQ_INFO, new Uint8Array(4)), "PROTOCOL_ERROR"],
      ["nothing behind config space", payloadLie(Command.REGION_READ, new Uint8Array(16)), "PROTOCOL_ERROR"],
      ["config space refused", lie(Command.REGION_READ, { payload: nothing, flags: 0x21, error: 5 }), "CONFIG_REFUSED"],
    ];
    const codes = await attempt(scenes.map(([, one]) => [one]));
    assert.deepEqual(
      codes.map((code, i) => `${scenes[i]?.[0]}: ${code}`),
      scenes.map(([name, , code]) => `${name}: ${code}`),
    );
  });

  test("memory that is offered for any region, config space too, is let go of at the end", async () => {
    await attempt([[]]);
    const before = openFilesCount();
    const codes = await attempt(
      Array.from({ length: 8 }, (_, index) => [
        {
          command: about,
          after: index,
          times: 1,
          pieces: [{ payload: region(index, { flags: 7 }), fds: [4096, 4096] }],
        },
      ]),
    );
    assert.deepEqual(new Set(codes), new Set(["nothing"]));
    assert.equal(openFilesCount(), before);
  });

  test("areas that cannot be mapped are not", async () => {
    const size = 0x4000n;
    const scenes: readonly (readonly [name: string, piece: Piece, areas: readonly (readonly [number, number])[]])[] = [
      ["one file for all of it", { payload: region(0, { flags: 7, size }), fds: [0x4000] }, [[0, 0x4000]]],
      ["no descriptor", { payload: region(0, { flags: 7, size }) }, []],
      ["a descriptor without the flag", { payload: region(0, { flags: 3, size }), fds: [0x4000] }, []],
      [
        "more descriptors than areas",
        { payload: region(0, { flags: 7, size }), fds: [0x4000, 4096, 4096] },
        [[0, 0x4000]],
      ],
      ["a file that is too short", { payload: region(0, { flags: 7, size }), fds: [0x1000] }, []],
      ["an offset behind the file", { payload: region(0, { flags: 7, size, offset: 0x4000n }), fds: [0x4000] }, []],
      ["an offset of 2^63", { payload: region(0, { flags: 7, size, offset: 2n ** 63n }), fds: [0x4000] }, []],
      ["a region of 2^63 bytes", { payload: region(0, { flags: 7, size: 2n ** 63n }), fds: [0x4000] }, []],
      [
        "areas outside, crooked, empty and wrapped, and one that is right",
        {
          payload: region(
            0,
            { flags: CAPS, size, cap_offset: 32 },
            sparse([
              [0x8000n, 0x1000n],
              [0x10n, 0x1000n],
              [0n, 0n],
              [2n ** 64n - 4096n, 8192n],
              [0x1000n, 0x1000n],
            ]),
          ),
          fds: [0x4000],
        },
        [[0x1000, 0x1000]],
      ],
      [
        "areas that overlap",
        {
          payload: region(
            0,
            { flags: CAPS, size, cap_offset: 32 },
            sparse([
              [0n, 0x2000n],
              [0x1000n, 0x1000n],
            ]),
          ),
          fds: [0x4000],
        },
        [[0, 0x2000]],
      ],
      [
        "more areas than are there",
        {
          payload: region(0, { flags: CAPS, size, cap_offset: 32 }, sparse([[0n, 0x1000n]], 4_000_000_000)),
          fds: [0x4000],
        },
        [[0, 0x1000]],
      ],
      [
        "a file for each area",
        {
          payload: region(
            0,
            { flags: CAPS, size, cap_offset: 32 },
            sparse([
              [0n, 0x1000n],
              [0x2000n, 0x1000n],
            ]),
          ),
          fds: [0x4000, 0x3000],
        },
        [
          [0, 0x1000],
          [0x2000, 0x1000],
        ],
      ],
      [
        "a chain that loops",
        {
          payload: region(0, { flags: CAPS, size, cap_offset: 32 }, Uint8Array.of(9, 0, 1, 0, 32, 0, 0, 0)),
          fds: [0x4000],
        },
        [[0, 0x4000]],
      ],
      [
        "a chain that leaves",
        { payload: region(0, { flags: CAPS, size, cap_offset: 0xffff_fff0 }), fds: [0x4000] },
        [[0, 0x4000]],
      ],
    ];
    const found: string[] = [];
    // The first window that goes opens a file of ones for good.
    await attempt([[first({ payload: region(0, { flags: 7, size }), fds: [0x4000] })]], async (fn) => {
      fn.bar(0).map({ offset: 0, size: 4096 })[Symbol.dispose]();
      await Promise.resolve();
    });
    const before = openFilesCount();
    await attempt(
      scenes.map(([, piece]) => [first(piece)]),
      async (fn, i) => {
        const { mappable } = fn.bar(0);
        found.push(`${scenes[i]?.[0]}: ${JSON.stringify(mappable.map((area) => [area.offset, area.size]))}`);
        for (const area of mappable) {
          using window = fn.bar(0).map(area);
          assert.equal(window.read32(0), 0);
        }
        await Promise.resolve();
      },
    );
    assert.deepEqual(
      found,
      scenes.map(([name, , areas]) => `${name}: ${JSON.stringify(areas)}`),
    );
    assert.equal(openFilesCount(), before);
  });
});

describe("in use", () => {
  /** Lies to accesses after the function was opened; `open` of them happen before. */
  const later = (command: number, ...pieces: readonly Piece[]): Lie => ({ command, pieces, after: 40 });
  const dmaRead = (address: bigint, count: bigint, id = 1): Uint8Array => {
    const payload = DmaAccess.bytes({ address, count });
    const bytes = new Uint8Array(HEADER_SIZE + payload.length);
    bytes.set(Header.bytes({ message_id: id, command: Command.DMA_READ, size: bytes.length, flags: 0 }));
    bytes.set(payload, HEADER_SIZE);
    return bytes;
  };

  async function useUntilLie(fn: VfioUserFunction): Promise<void> {
    for (let i = 0; i < 60; i++) fn.bar(0).read32(4 * i);
    await Promise.resolve();
  }

  test("replies to a register", async () => {
    const read = Command.REGION_READ;
    const scenes: readonly (readonly [name: string, lie: Lie, code: string])[] = [
      ["no data", later(read, { payload: new Uint8Array(16) }), "PROTOCOL_ERROR"],
      [
        "fewer bytes than said",
        later(read, { payload: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1, 2) }),
        "PROTOCOL_ERROR",
      ],
      [
        "another count",
        later(read, { payload: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 2, 3, 4) }),
        "PROTOCOL_ERROR",
      ],
      ["a refusal", later(read, { payload: nothing, flags: 0x21, error: 22 }), "REGISTER_REFUSED"],
      [
        "a refusal with a strange errno",
        later(read, { payload: nothing, flags: 0x21, error: 0xffff_ffff }),
        "REGISTER_REFUSED",
      ],
      ["silence", later(read), "SERVER_TIMEOUT"],
      ["the end", later(read, "close"), "FUNCTION_REMOVED"],
      ["an answer to nothing", later(read, { payload: nothing, id: 0xfedc }, "honest"), "FUNCTION_REMOVED"],
      [
        "descriptors",
        later(read, {
          payload: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4),
          fds: [4096, 4096],
        }),
        "nothing",
      ],
      ["a request to read memory", later(read, { raw: dmaRead(0x1000n, 64n) }, "honest"), "nothing"],
      [
        "a request that nobody knows",
        later(read, { raw: Header.bytes({ message_id: 9, command: 99, size: 16 }) }, "honest"),
        "nothing",
      ],
    ];
    const before = openFilesCount();
    const codes = await attempt(
      scenes.map(([, one]) => [one]),
      useUntilLie,
    );
    assert.deepEqual(
      codes.map((code, i) => `${scenes[i]?.[0]}: ${code}`),
      scenes.map(([name, , code]) => `${name}: ${code}`),
    );
    assert.equal(openFilesCount(), before);
  });

  test("after a time-out the late reply is dropped and the function goes on", async () => {
    const script: Script = [
      { command: Command.REGION_READ, after: 40, times: 1, pieces: [] },
      {
        command: Command.REGION_WRITE,
        after: 0,
        times: 1000,
        pieces: ["honest"],
      },
    ];
    const codes = await attempt([script], async (fn) => {
      assert.equal(await codeOf(() => useUntilLie(fn)), "SERVER_TIMEOUT");
      assert.equal(fn.bar(0).read32(0), 0);
    });
    assert.deepEqual(codes, ["nothing"]);
  });

  test("a server reaches what is mapped, with bus master on, as the permissions say, and nothing else", async () => {
    const iova = 0x10_0000;
    const asks = (...requests: readonly (readonly [address: number, count: number])[]): Piece[] => [
      ...requests.map(([address, count], i): Piece => ({ raw: dmaRead(BigInt(address), BigInt(count), i) })),
      "honest",
    ];
    const script: Script = [
      {
        command: Command.DEVICE_RESET,
        times: 1,
        pieces: asks([iova, 16]),
      },
      {
        command: Command.REGION_WRITE,
        after: 20,
        times: 1,
        pieces: asks(
          [iova, 16],
          [iova + 4092, 4],
          [iova + 4092, 5],
          [iova - 1, 2],
          [0, 0],
          [iova, 0],
          [iova, 2 ** 40],
          [2 ** 53, 64],
          [iova + 0x10_0000, 4],
        ),
      },
    ];
    await using server = await LyingServer.start(script);
    {
      await using fn = await connect(server.path, { ...quick, postedWrites: false });
      const memory = fn.dma.allocate(4096, { iova });
      fn.dma.allocate(4096, { iova: iova + 0x10_0000, permission: "write" });
      memory.bytes.fill(0x5a);
      await fn.reset();
      fn.busMaster = true;
      for (let i = 0; i < 30; i++) fn.bar(0).write32(0, i);
      assert.equal(fn.refusedDmaRequests, 8);
    }
    const replies = (await server.heard()).filter(({ command }) => command === Command.DMA_READ);
    assert.deepEqual(
      replies.map(({ error, payload }) => [error, payload.length]),
      [
        [19, 0],
        [0, 32],
        [0, 20],
        [14, 0],
        [14, 0],
        [22, 0],
        [22, 0],
        [22, 0],
        [14, 0],
        [1, 0],
      ],
    );
    assert.ok(replies[1]?.payload.subarray(16).every((byte) => byte === 0x5a));
  });
});

test("replies with any bytes changed end in an error or in nothing", async () => {
  const commands = [1, 4, 5, 7, 8, 9, 10, 2, 3, 13];
  const change = fc.tuple(fc.nat({ max: 60 }), fc.nat({ max: 255 }));
  const oneLie = fc.record({
    command: fc.constantFrom(...commands),
    after: fc.nat({ max: 12 }),
    times: fc.constantFrom(1, 2),
    pieces: fc.tuple(fc.record({ changed: fc.array(change, { minLength: 1, maxLength: 4 }) })),
  });
  const scripts = fc.sample(fc.array(oneLie, { minLength: 1, maxLength: 3 }), { numRuns: 250, seed: 20261122 });
  // A first connection opens what stays open for good.
  await attempt([[]]);
  const before = openFilesCount();
  await using server = await LyingServer.start(...scripts);
  const codes = new Set<string>();
  for (const _ of scripts) {
    const code = await codeOf(async () => {
      await using fn = await connect(server.path, { ...quick, timeoutMs: 30, resetTimeoutMs: 30 });
      const buffer = fn.dma.allocate(4096);
      for (let i = 0; i < 12; i++) fn.bar(0).read32(4 * i);
      fn.interrupts.msix(4);
      buffer[Symbol.dispose]();
      await fn.reset();
    });
    codes.add(code);
  }
  await server.heard();
  // The worker has descriptors of its own until it ended.
  await server[Symbol.asyncDispose]();
  assert.ok(codes.has("nothing") && codes.size > 4, [...codes].join(" "));
  assert.equal(openFilesCount(), before);
});
