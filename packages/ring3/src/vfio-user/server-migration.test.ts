// seconds: 2
import assert from "node:assert/strict";
import { test } from "node:test";
import { createMemoryFile } from "../linux/index.ts";
import { FakeClient, turn } from "./fake-client.ts";
import { type Served, ServedTestDevice, serveTestDevice } from "./fake-served.ts";
import {
  Command,
  DeviceFeature,
  DmaLoggingRange,
  DmaMap,
  Feature,
  FeatureDmaLoggingReport,
  FeatureDmaLoggingStart,
  FeatureFlag,
  FeatureMigrationState,
  MigrationData,
  MigrationState,
  RegionAccess,
  WireErrno,
} from "./messages.ts";

const { EINVAL, ETIMEDOUT } = WireErrno;
const { GET, SET, PROBE } = FeatureFlag;
const { ERROR, STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P } = MigrationState;
const NONE = new Uint8Array(0);

function feature(flags: number, data: Uint8Array = NONE, argsz = 4096): Uint8Array {
  return Uint8Array.of(...DeviceFeature.bytes({ argsz, flags }), ...data);
}

function state(device_state: number): Uint8Array {
  return feature(SET | Feature.MIG_DEVICE_STATE, FeatureMigrationState.bytes({ device_state }));
}

class Migrating implements Disposable {
  readonly client: FakeClient;

  constructor(client: FakeClient) {
    this.client = client;
  }

  static async open(served: Served): Promise<Migrating> {
    return new Migrating(await FakeClient.open(served.path, { max_msg_fds: 16 }));
  }

  async feature(flags: number, data?: Uint8Array, argsz?: number): Promise<number> {
    return await this.client.errno(Command.DEVICE_FEATURE, feature(flags, data, argsz));
  }

  async set(device_state: number): Promise<number> {
    return await this.client.errno(Command.DEVICE_FEATURE, state(device_state));
  }

  async get(): Promise<number> {
    const { payload } = await this.client.request(Command.DEVICE_FEATURE, feature(GET | Feature.MIG_DEVICE_STATE));
    return FeatureMigrationState.from(payload, 8).device_state;
  }

  /** All that there is to read, in pieces of `size`. */
  async data(size: number): Promise<Uint8Array> {
    const all: number[] = [];
    for (;;) {
      const request = MigrationData.bytes({ argsz: 8 + size, size });
      const { payload } = await this.client.request(Command.MIG_DATA_READ, request);
      const head = MigrationData.from(payload);
      assert.deepEqual([payload.length, head.argsz], [8 + head.size, 8 + head.size]);
      all.push(...payload.subarray(8));
      if (head.size < size) return Uint8Array.from(all);
    }
  }

  async write(data: Uint8Array, size = data.length): Promise<number> {
    const payload = Uint8Array.of(...MigrationData.bytes({ argsz: 8 + size, size }), ...data);
    return await this.client.errno(Command.MIG_DATA_WRITE, payload);
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
  }
}

async function poke(client: FakeClient, offset: number, value: number): Promise<void> {
  const access = RegionAccess.bytes({ offset: BigInt(offset), region: 0, count: 4 });
  const data = new Uint8Array(Uint32Array.of(value).buffer);
  assert.equal(await client.errno(Command.REGION_WRITE, Uint8Array.of(...access, ...data)), 0);
}

test("features: what can be probed, and what is refused", async () => {
  await using served = await serveTestDevice();
  using migrating = await Migrating.open(served);
  const possible = [
    [Feature.MIGRATION, GET],
    [Feature.MIG_DEVICE_STATE, GET | SET],
    [Feature.DMA_LOGGING_START, SET],
    [Feature.DMA_LOGGING_STOP, SET],
    [Feature.DMA_LOGGING_REPORT, GET],
  ] as const;
  for (const [number, methods] of possible) {
    for (const wanted of [0, GET, SET, GET | SET]) {
      const expected = (wanted & ~methods) === 0 ? 0 : EINVAL;
      assert.equal(await migrating.feature(PROBE | wanted | number), expected, `${number} ${wanted}`);
    }
  }
  const probe = feature(PROBE | GET | Feature.MIGRATION, NONE, 8);
  assert.deepEqual((await migrating.client.request(Command.DEVICE_FEATURE, probe)).payload, probe);
  for (const flags of [PROBE, PROBE | GET | 3, GET | SET | 2, 2, GET | 9, 0xffff_ffff, GET | 1 | 0x8_0000]) {
    assert.equal(await migrating.feature(flags), EINVAL);
  }
  assert.equal(await migrating.feature(GET | 1, NONE, 7), EINVAL);
  assert.equal(await migrating.client.errno(Command.DEVICE_FEATURE, new Uint8Array(7)), EINVAL);
  const { payload } = await migrating.client.request(Command.DEVICE_FEATURE, feature(GET | Feature.MIGRATION));
  // STOP_COPY and PRE_COPY, without peer to peer.
  assert.deepEqual([...payload], [16, 0, 0, 0, 1, 0, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
  const short = await migrating.client.request(Command.DEVICE_FEATURE, feature(GET | Feature.MIGRATION, NONE, 8));
  assert.deepEqual(DeviceFeature.from(short.payload), { argsz: 16, flags: GET | Feature.MIGRATION });
  assert.equal(short.payload.length, 8);
});

test("every transition of the state machine goes where the specification says", async () => {
  await using served = await serveTestDevice();
  using migrating = await Migrating.open(served);
  /** By state: how to get there from RUNNING, and where one can go from it. */
  const ways: Readonly<Record<number, readonly number[]>> = {
    [RUNNING]: [],
    [STOP]: [STOP],
    [STOP_COPY]: [STOP_COPY],
    [RESUMING]: [RESUMING],
    [PRE_COPY]: [PRE_COPY],
  };
  // An unfinished transfer to the target cannot end well, so that is left by reset.
  const possible: Readonly<Record<number, readonly number[]>> = {
    [RUNNING]: [RUNNING, STOP, STOP_COPY, RESUMING, PRE_COPY],
    [STOP]: [RUNNING, STOP, STOP_COPY, RESUMING, PRE_COPY],
    [STOP_COPY]: [RUNNING, STOP, STOP_COPY, RESUMING],
    [RESUMING]: [RESUMING],
    [PRE_COPY]: [RUNNING, STOP, STOP_COPY, RESUMING, PRE_COPY],
  };
  for (const [from, way] of Object.entries(ways)) {
    for (const to of [ERROR, STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P, 8, 0xffff_ffff]) {
      assert.equal(await migrating.client.errno(Command.DEVICE_RESET), 0);
      for (const step of way) assert.equal(await migrating.set(step), 0);
      assert.equal(await migrating.get(), Number(from));
      const expected = possible[Number(from)]?.includes(to) === true;
      assert.equal(await migrating.set(to), expected ? 0 : EINVAL, `${from} to ${to}`);
      const incomplete = Number(from) === RESUMING && [STOP, RUNNING, STOP_COPY, PRE_COPY].includes(to as never);
      assert.equal(await migrating.get(), expected ? to : incomplete ? ERROR : Number(from), `${from} to ${to}`);
    }
  }
});

for (const preCopy of [false, true]) {
  for (const size of [7, 100_000]) {
    test(`a device moves to another server${preCopy ? ", announced by PRE_COPY" : ""}, in pieces of ${size}`, async () => {
      await using from = await serveTestDevice();
      await using to = await serveTestDevice();
      using source = await Migrating.open(from);
      using target = await Migrating.open(to);
      await poke(source.client, 8, 0x1234_5678);
      from.device.config.write(0x3c, 1, 11);
      from.device.barWrite32(3, 100, 0xabcd);
      assert.equal(await target.set(RESUMING), 0);
      if (preCopy) {
        assert.equal(await source.set(PRE_COPY), 0);
        assert.ok(!from.device.suspended);
        const early = await source.data(size);
        assert.ok(early.length > 0);
        for (let at = 0; at < early.length; at += size) {
          assert.equal(await target.write(early.subarray(at, at + size)), 0);
        }
        await poke(source.client, 12, 0x99);
      }
      assert.equal(await source.set(STOP_COPY), 0);
      assert.ok(from.device.suspended);
      const data = await source.data(size);
      for (let at = 0; at < data.length; at += size) {
        assert.equal(await target.write(data.subarray(at, at + size)), 0);
      }
      assert.equal(await source.set(STOP), 0);
      assert.equal(await target.set(RUNNING), 0);
      const { device } = to;
      assert.deepEqual([device.words[2], device.words[3]], [0x1234_5678, preCopy ? 0x99 : 0]);
      assert.deepEqual([device.config.read(0x3c, 1), device.barRead32(3, 100)], [11, 0xabcd]);
      assert.ok(!device.paused && from.device.paused);
      // The source may go on after all.
      assert.equal(await source.set(RUNNING), 0);
      assert.ok(!from.device.paused);
    });
  }
}

test("data of another model, incomplete or made up, is refused", async () => {
  await using from = await serveTestDevice();
  await using to = await serveTestDevice();
  using source = await Migrating.open(from);
  using target = await Migrating.open(to);
  assert.equal(await source.set(STOP_COPY), 0);
  const good = await source.data(65536);
  const attempt = async (data: Uint8Array): Promise<number> => {
    assert.equal(await target.client.errno(Command.DEVICE_RESET), 0);
    assert.equal(await target.set(RESUMING), 0);
    const written = await target.write(data);
    const stopped = await target.set(STOP);
    if (stopped !== 0) assert.equal(await target.get(), ERROR);
    return written === 0 ? stopped : written;
  };
  assert.equal(await attempt(good), 0);
  assert.equal(await attempt(good.subarray(0, good.length - 1)), EINVAL);
  assert.equal(await attempt(Uint8Array.of(...good, 0)), EINVAL);
  assert.equal(await attempt(new Uint8Array(100)), EINVAL);
  assert.equal(await attempt(NONE), EINVAL);
  const otherVersion = good.slice();
  otherVersion[20] = 4;
  assert.equal(await attempt(otherVersion), EINVAL);
  for (let at = 24; at < good.length; at += 61) {
    const spoilt = good.slice();
    spoilt[at] = (spoilt[at] as number) ^ 0x80;
    await attempt(spoilt);
  }
  assert.equal(await attempt(good), 0);
  // Out of turn.
  assert.equal(await target.write(good), EINVAL);
  const request = MigrationData.bytes({ argsz: 100, size: 92 });
  assert.equal(await target.client.errno(Command.MIG_DATA_READ, request), EINVAL);
  assert.equal(await source.client.errno(Command.MIG_DATA_READ, MigrationData.bytes({ argsz: 100, size: 93 })), EINVAL);
  assert.equal(await source.client.errno(Command.MIG_DATA_READ, MigrationData.bytes({ argsz: 7 })), EINVAL);
  const huge = MigrationData.bytes({ argsz: 0xffff_ffff, size: 0xffff_fff0 });
  assert.equal(await source.client.errno(Command.MIG_DATA_READ, huge), EINVAL);
  assert.equal(await target.set(RESUMING), 0);
  assert.equal(await target.write(NONE, 5), EINVAL);
});

test("a state change is answered when the device has finished, and nothing overtakes it", async () => {
  await using served = await serveTestDevice();
  using migrating = await Migrating.open(served);
  let finish = (): void => undefined;
  served.device.suspending = new Promise((resolve) => {
    finish = resolve;
  });
  migrating.client.send(Command.DEVICE_FEATURE, state(STOP), { id: 1 });
  migrating.client.send(Command.DEVICE_FEATURE, feature(GET | Feature.MIG_DEVICE_STATE), { id: 2 });
  for (let i = 0; i < 20; i++) await turn();
  assert.ok(migrating.client.silent);
  finish();
  assert.equal((await migrating.client.next()).id, 1);
  const { id, payload } = await migrating.client.next();
  assert.deepEqual([id, FeatureMigrationState.from(payload, 8).device_state], [2, STOP]);
});

test("a device that never finishes does not keep the client waiting for ever", async (context) => {
  await using served = await serveTestDevice({}, new ServedTestDevice());
  using migrating = await Migrating.open(served);
  served.device.suspending = new Promise(() => undefined);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  migrating.client.send(Command.DEVICE_FEATURE, state(STOP));
  for (let i = 0; i < 20; i++) await turn();
  context.mock.timers.tick(4000);
  assert.equal((await migrating.client.next()).errno, ETIMEDOUT);
  context.mock.timers.reset();
  assert.equal(await migrating.get(), ERROR);
});

test("the log of DMA writes: started, reported and cleared, stopped", async () => {
  await using served = await serveTestDevice();
  using migrating = await Migrating.open(served);
  const { client } = migrating;
  const { device } = served;
  using file = createMemoryFile(0x10_0000);
  const map = DmaMap.bytes({ argsz: 32, flags: 3, address: 0x10_0000n, size: 0x10_0000n });
  assert.equal(await client.errno(Command.DMA_MAP, map, { fds: [file] }), 0);
  device.config.write(4, 2, 6);
  const report = (iova: number, length: number, page = 4096): Uint8Array =>
    feature(
      GET | Feature.DMA_LOGGING_REPORT,
      FeatureDmaLoggingReport.bytes({ iova: BigInt(iova), length: BigInt(length), page_size: BigInt(page) }),
    );
  assert.equal(await client.errno(Command.DEVICE_FEATURE, report(0x10_0000, 0x1000)), EINVAL);
  const start = (page: bigint, ...ranges: [bigint, bigint][]): Uint8Array =>
    feature(
      SET | Feature.DMA_LOGGING_START,
      Uint8Array.of(
        ...FeatureDmaLoggingStart.bytes({ page_size: page, num_ranges: ranges.length }),
        ...ranges.flatMap(([iova, length]) => [...DmaLoggingRange.bytes({ iova, length })]),
      ),
    );
  const started = await client.request(Command.DEVICE_FEATURE, start(4096n, [0x10_0000n, 0x8_0000n]));
  assert.deepEqual(started.payload.subarray(8), start(4096n, [0x10_0000n, 0x8_0000n]).subarray(8));
  device.memory.write(0x10_1fff, Uint8Array.of(1, 2));
  device.memory.write(0x1f_0000, Uint8Array.of(1));
  const bits = async (request: Uint8Array): Promise<string> => {
    const { payload } = await client.request(Command.DEVICE_FEATURE, request);
    assert.equal(DeviceFeature.from(payload).argsz, payload.length);
    return Buffer.from(payload.subarray(8 + 24)).toString("hex");
  };
  assert.equal(await bits(report(0x10_0000, 0x10_0000)), `06${"00".repeat(31)}`);
  assert.equal(await bits(report(0x10_0000, 0x10_0000)), "00".repeat(32));
  // What cannot be had as a page size is answered with what is.
  for (const hint of [0n, 1n, 5000n, 2n ** 60n]) {
    const { payload } = await client.request(Command.DEVICE_FEATURE, start(hint));
    assert.equal(FeatureDmaLoggingStart.from(payload, 8).page_size, 4096n);
  }
  device.memory.write(0x1f_0000, Uint8Array.of(1));
  assert.equal(await bits(report(0x1f_0000, 0x1000)), "0100000000000000");
  for (const payload of [
    report(0x10_0000, 0),
    report(0x10_0000, 0x1000, 1000),
    report(0x10_0000, 0x1000, 0),
    report(0x10_0001, 0x1000),
    feature(GET | Feature.DMA_LOGGING_REPORT),
    feature(SET | Feature.DMA_LOGGING_START),
    start(4096n, [2n ** 64n - 1n, 2n]),
    start(4096n, [0n, 0n]),
    start(4096n, [0n, 0x2000n], [0x1000n, 0x1000n]),
    start(4096n, [0n, 0x1000n]).subarray(0, 30),
    feature(
      SET | Feature.DMA_LOGGING_START,
      FeatureDmaLoggingStart.bytes({ page_size: 4096n, num_ranges: 0xffff_ffff }),
    ),
  ]) {
    assert.equal(await client.errno(Command.DEVICE_FEATURE, payload), EINVAL);
  }
  assert.equal(await client.errno(Command.DEVICE_FEATURE, report(0, 2 ** 52)), WireErrno.E2BIG);
  assert.equal(await migrating.feature(SET | Feature.DMA_LOGGING_STOP), 0);
  assert.equal(await client.errno(Command.DEVICE_FEATURE, report(0x10_0000, 0x1000)), EINVAL);
});
