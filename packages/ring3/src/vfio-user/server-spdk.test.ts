// Our server and our NVMe device under a client that does what SPDK's NVMe driver was seen to do, in its order: it polls, asks
// one question at a time, gives every message the id 0, and lets nothing cross the socket while it reads and writes.
// seconds: 1
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { memoryBacking, NvmeDevice } from "../devices/nvme/index.ts";
import { createMemoryFile, type FileDescriptor, MappedMemory } from "../linux/index.ts";
import { FakeClient, turn } from "./fake-client.ts";
import {
  Command,
  DeviceInfo,
  DmaMap,
  DmaUnmap,
  HEADER_SIZE,
  HeaderFlag,
  RegionAccess,
  RegionInfo,
  SparseMmap,
  SparseMmapArea,
} from "./messages.ts";
import { serve } from "./server.ts";

const MEMORY_BYTES = 0x20_0000;
/** SPDK's IOVAs are its virtual addresses, of 47 bits. */
const IOVA = 0x7f12_3420_0000;
const PLACE = { adminSubmission: 0, adminCompletion: 0x1000, submission: 0x2000, completion: 0x3000, data: 0x10000 };
const ENTRIES = 64;
const [CAP, CC, CSTS, AQA, ASQ, ACQ] = [0, 0x14, 0x1c, 0x24, 0x28, 0x30];

/** SPDK's driver, as far as a test needs it. */
class SpdkDriver implements AsyncDisposable {
  readonly client: FakeClient;
  readonly words: Uint32Array;
  readonly memory: FileDescriptor;
  readonly #mapped: MappedMemory;
  doorbells: MappedMemory | undefined;
  readonly #queues = [
    { tail: 0, head: 0, phase: 1 },
    { tail: 0, head: 0, phase: 1 },
  ];

  private constructor(client: FakeClient) {
    this.client = client;
    this.memory = createMemoryFile(MEMORY_BYTES);
    this.#mapped = MappedMemory.file(this.memory, 0, MEMORY_BYTES);
    const { bytes } = this.#mapped;
    this.words = new Uint32Array(bytes.buffer, bytes.byteOffset, MEMORY_BYTES / 4);
  }

  static async open(path: string): Promise<SpdkDriver> {
    const client = FakeClient.connect(path);
    client.raw(Uint8Array.of(0, 0, 1, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
    const reply = await client.next();
    assert.deepEqual([reply.id, reply.errno, reply.payload.length], [0, 0, 4]);
    return new SpdkDriver(client);
  }

  async ask(
    command: number,
    payload: Uint8Array,
    fds: readonly FileDescriptor[] = [],
  ): ReturnType<FakeClient["request"]> {
    const reply = await this.client.request(command, payload, { id: 0, fds });
    assert.equal(reply.errno, 0);
    // Each reply's payload is one chunk.
    assert.ok(HEADER_SIZE + reply.payload.length <= 4096 + HEADER_SIZE);
    return reply;
  }

  async read(offset: number, count: 4 | 8, region = 0): Promise<bigint> {
    const { payload } = await this.ask(
      Command.REGION_READ,
      RegionAccess.bytes({ offset: BigInt(offset), region, count }),
    );
    const view = new DataView(payload.buffer, payload.byteOffset + RegionAccess.size);
    return count === 4 ? BigInt(view.getUint32(0, true)) : view.getBigUint64(0, true);
  }

  async write(offset: number, count: 2 | 4 | 8, value: bigint, region = 0): Promise<void> {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    const access = RegionAccess.bytes({ offset: BigInt(offset), region, count });
    await this.ask(Command.REGION_WRITE, Uint8Array.of(...access, ...bytes.subarray(0, count)));
  }

  /** Puts a command into queue 0 or 1, rings by shared memory, and looks at shared memory until it is completed. */
  async submit(queue: 0 | 1, opcode: number, fields: Readonly<Record<number, number>>): Promise<number> {
    const state = this.#queues[queue] as { tail: number; head: number; phase: number };
    const [submission, completion] =
      queue === 0 ? [PLACE.adminSubmission, PLACE.adminCompletion] : [PLACE.submission, PLACE.completion];
    const at = (submission + 64 * state.tail) / 4;
    this.words.fill(0, at, at + 16);
    this.words[at] = opcode | (state.tail << 16);
    for (const [index, value] of Object.entries(fields)) this.words[at + Number(index)] = value;
    state.tail = (state.tail + 1) % ENTRIES;
    this.ring(2 * queue, state.tail);
    const done = (completion + 16 * state.head) / 4;
    for (let turns = 0; ; turns++) {
      const status = Atomics.load(this.words, done + 3);
      if (((status >>> 16) & 1) === state.phase) {
        state.head = (state.head + 1) % ENTRIES;
        if (state.head === 0) state.phase ^= 1;
        this.ring(2 * queue + 1, state.head);
        return status >>> 17;
      }
      assert.ok(turns < 100_000, "no completion");
      await turn();
    }
  }

  ring(index: number, value: number): void {
    const { bytes } = this.doorbells as MappedMemory;
    new Uint32Array(bytes.buffer, bytes.byteOffset, 1024)[index] = value;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.doorbells?.[Symbol.dispose]();
    this.#mapped[Symbol.dispose]();
    this.memory.close();
    this.client[Symbol.dispose]();
    return Promise.resolve();
  }
}

const address = (place: number): Record<"low" | "high", number> => ({
  low: (IOVA + place) % 2 ** 32,
  high: Math.floor((IOVA + place) / 2 ** 32),
});

async function attach(driver: SpdkDriver): Promise<void> {
  const { payload } = await driver.ask(Command.DEVICE_GET_INFO, DeviceInfo.bytes({ argsz: 16 }));
  const { num_regions } = DeviceInfo.from(payload);
  assert.ok(num_regions === 8 || num_regions === 9);
  for (let index = 0; index < num_regions; index++) {
    const answer = await driver.ask(Command.DEVICE_GET_REGION_INFO, RegionInfo.bytes({ argsz: 4064, index }));
    assert.ok(answer.payload.length <= 4064);
    if (index === 0) {
      // The doorbells, and only they, each area with a descriptor of its own.
      const info = RegionInfo.from(answer.payload);
      const { nr_areas } = SparseMmap.from(answer.payload, info.cap_offset);
      const area = SparseMmapArea.from(answer.payload, info.cap_offset + SparseMmap.size);
      assert.ok(nr_areas <= 8);
      assert.deepEqual([nr_areas, answer.fds.length], [1, 1]);
      assert.deepEqual([area.offset, area.size % 4096n], [0x1000n, 0n]);
      driver.doorbells = MappedMemory.file(answer.fds[0] as FileDescriptor, Number(info.offset + area.offset), 4096);
    }
    for (const fd of answer.fds) fd.close();
  }
  const map = DmaMap.bytes({ argsz: 32, flags: 3, address: BigInt(IOVA), size: BigInt(MEMORY_BYTES) });
  await driver.ask(Command.DMA_MAP, map, [driver.memory]);
  const command = await driver.read(4, 4, 7);
  await driver.write(4, 2, (command & 0xffffn) | 0x404n, 7);
}

async function enable(driver: SpdkDriver): Promise<void> {
  // CAP.CSS: the NVM command set.
  assert.equal(((await driver.read(CAP, 8)) >> 37n) & 1n, 1n);
  await driver.write(CC, 4, 0n);
  while (((await driver.read(CSTS, 4)) & 1n) !== 0n);
  await driver.write(AQA, 4, BigInt((ENTRIES - 1) | ((ENTRIES - 1) << 16)));
  await driver.write(ASQ, 8, BigInt(IOVA + PLACE.adminSubmission));
  await driver.write(ACQ, 8, BigInt(IOVA + PLACE.adminCompletion));
  await driver.write(CC, 4, 0x46_0001n);
  while (((await driver.read(CSTS, 4)) & 1n) === 0n) await turn();
}

test("SPDK's NVMe driver attaches, reads and writes by shared memory alone, and leaves", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ring3-spdk-"));
  const disk = new Uint8Array(2 ** 20);
  using device = new NvmeDevice({ namespaces: [{ backing: memoryBacking(disk) }], mappableDoorbells: true });
  await using server = await serve(device, join(folder, "cntrl"));
  try {
    for (let round = 0; round < 2; round++) {
      await using driver = await SpdkDriver.open(server.path);
      await attach(driver);
      await enable(driver);
      const { data } = PLACE;
      const page = address(data);
      assert.equal(await driver.submit(0, 0x06, { 6: page.low, 7: page.high, 10: 1 }), 0);
      assert.equal(driver.words[data / 4], device.config.read(0, 2) | (device.config.read(0x2c, 2) << 16));
      const queues = [address(PLACE.completion), address(PLACE.submission)] as const;
      const size = 1 | ((ENTRIES - 1) << 16);
      assert.equal(await driver.submit(0, 0x05, { 6: queues[0].low, 7: queues[0].high, 10: size, 11: 1 }), 0);
      assert.equal(await driver.submit(0, 0x01, { 6: queues[1].low, 7: queues[1].high, 10: size, 11: 0x1_0001 }), 0);

      // From here on nothing crosses the socket.
      const before = server.statistics.bytesReceived;
      for (let i = 0; i < 200; i++) {
        driver.words.fill(round * 1000 + i, data / 4, data / 4 + 128);
        assert.equal(await driver.submit(1, 0x01, { 1: 1, 6: page.low, 7: page.high, 10: i }), 0);
        driver.words.fill(0, data / 4, data / 4 + 128);
        assert.equal(await driver.submit(1, 0x02, { 1: 1, 6: page.low, 7: page.high, 10: i }), 0);
        assert.equal(driver.words[data / 4 + 127], round * 1000 + i);
        assert.equal(new DataView(disk.buffer).getUint32(512 * i, true), round * 1000 + i);
      }
      assert.equal(server.statistics.bytesReceived, before);
      assert.ok(driver.client.silent, "the server asked for something");

      await driver.write(CC, 4, 0x46_4001n);
      while (((await driver.read(CSTS, 4)) & 0xcn) !== 8n) await turn();
      await driver.write(CC, 4, 0n);
      const unmap = DmaUnmap.bytes({ argsz: 24, address: BigInt(IOVA), size: BigInt(MEMORY_BYTES) });
      const { flags } = await driver.ask(Command.DMA_UNMAP, unmap, [driver.memory]);
      assert.equal(flags, HeaderFlag.REPLY);
    }
    const { errorReplies, faults } = server.statistics;
    assert.deepEqual([errorReplies, faults], [0, 0]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
