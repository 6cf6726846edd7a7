// The whole drivers on fake controllers: start and end, interrupts, links that come and go, devices that hang, lie, are reset,
// read all ones or are pulled out; and the virtual function under a physical one that refuses, is silent or is reset.
// seconds: 2
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FakeGigabit, type FakeGigabitKind } from "../../../../../tests/fakes/fake-gigabit.ts";
import { VirtualClock } from "../../../../../tests/fakes/virtual-clock.ts";
import { Ring3Error } from "../../binary/error.ts";
import { Arena } from "../../memory/arena.ts";
import type { LinkState, NetDevice, NetDeviceOptions } from "../net/device.ts";
import { openNetDevice } from "../net/open.ts";
import { PacketPool } from "../net/packet-pool.ts";
import { PACKET_WORDS, Packets, PacketWord } from "../net/packets.ts";

const KINDS: readonly FakeGigabitKind[] = ["e1000e", "igb", "igbvf"];

interface Scene extends AsyncDisposable {
  readonly fake: FakeGigabit;
  readonly device: NetDevice;
  readonly clock: VirtualClock;
  readonly packets: Packets;
}

async function start(kind: FakeGigabitKind, options: NetDeviceOptions = {}, arena?: Arena): Promise<Scene> {
  const fake = new FakeGigabit(kind, arena === undefined ? {} : { arena });
  const clock = new VirtualClock();
  const device = await openNetDevice(fake.fn, { ringEntries: 16, clock, ...options });
  const packets = new Packets(device.pool.arena, 32);
  const dispose = async (): Promise<void> => {
    await device[Symbol.asyncDispose]();
    await fake.fn[Symbol.asyncDispose]();
    packets[Symbol.dispose]();
  };
  return { fake, device, clock, packets, [Symbol.asyncDispose]: dispose };
}

const frame = (sequence: number): Uint8Array => new Uint8Array(60).fill(sequence);

/** Sends `count` frames, and says how many the device took. */
function send({ device, packets }: Scene, count: number): number {
  const prepared = device.pool.takeAll(packets, count);
  for (let i = 0; i < prepared; i++) packets.words[i * PACKET_WORDS + PacketWord.LENGTH] = 60;
  const taken = device.txBurst(0, packets, prepared);
  device.pool.giveAll(packets, prepared - taken, taken);
  return taken;
}

/** Receives once and returns what the frames are filled with. */
function receive({ device, packets }: Scene): number[] {
  const count = device.rxBurst(0, packets);
  const seen = Array.from({ length: count }, (_, i) => device.pool.frame(packets, i)[0] as number);
  device.pool.giveAll(packets, count);
  return seen;
}

/** Resolves at the device's next event of a kind. */
function next(device: NetDevice, type: "link" | "reset" | "removed"): Promise<unknown> {
  return new Promise((resolve) => {
    const listening = device.events.on(type, (event) => {
      listening[Symbol.dispose]();
      resolve(event);
    });
  });
}

for (const kind of KINDS) {
  test(`${kind}: frames both ways, by interrupt; the end gives everything back`, async () => {
    const arena = Arena.create();
    using pool = PacketPool.create(arena, { buffers: 64 });
    const scene = await start(kind, { receiveMode: "interrupt", pool }, arena);
    const { fake, device } = scene;
    const mapped = fake.fn.dma.mappedBytes;
    assert.ok(mapped > 0);
    assert.equal(device.driver, kind);
    await device.waitForLink();
    assert.equal(await device.receivable(0, { timeoutMs: 50 }), false);
    const waiting = device.receivable(0);
    fake.receive(frame(1));
    assert.equal(await waiting, true);
    assert.deepEqual(receive(scene), [1]);
    for (let i = 0; i < 100; i++) {
      fake.receive(frame(i));
      assert.deepEqual(receive(scene), [i]);
      assert.equal(send(scene, 3), 3);
    }
    assert.equal(fake.sent.length, 300);
    assert.deepEqual([...device.mac], [0x52, 0x54, 0, 0, 3, 7]);
    await device[Symbol.asyncDispose]();
    assert.equal(pool.free, pool.buffers);
    assert.equal(fake.fn.dma.mappedBytes, 0);
    assert.equal(fake.fn.busMaster, false);
    assert.equal(fake.fn.interrupts.active, "none");
    assert.throws(() => device.rxBurst(0, scene.packets), { code: "NET_CLOSED" });
    await assert.rejects(device.receivable(0), { code: "NET_CLOSED" });
    await scene[Symbol.asyncDispose]();
  });

  test(`${kind}: the link's way down and up is told`, async () => {
    await using scene = await start(kind);
    const { fake, device } = scene;
    await device.waitForLink();
    fake.link = false;
    assert.deepEqual(await next(device, "link"), { up: false, speedMbps: 0, fullDuplex: false });
    await assert.rejects(device.waitForLink({ timeoutMs: 100 }), { code: "NET_NO_LINK" });
    fake.link = true;
    fake.interruptOther();
    assert.equal(((await next(device, "link")) as LinkState).up, true);
  });

  test(`${kind}: what does not send, or leaves descriptors out, is reset and goes on`, async () => {
    await using scene = await start(kind);
    const { fake, device } = scene;
    await device.waitForLink();
    fake.hangs = true;
    assert.equal(send(scene, 32), 15, "the ring is full");
    assert.equal(send(scene, 5), 0);
    const reset = next(device, "reset");
    const free = device.pool.free;
    await reset;
    assert.equal(device.pool.free, free + 15, "what was not sent is given back");
    fake.hangs = false;
    await device.waitForLink();
    assert.equal(send(scene, 5), 5);
    assert.equal(fake.sent.length, 5);

    const again = next(device, "reset");
    fake.receive(frame(9), { skip: 1 });
    assert.deepEqual(receive(scene), []);
    await again;
    fake.receive(frame(7));
    assert.deepEqual(receive(scene), [7]);
  });

  test(`${kind}: registers that read all ones for a while are a reset; bursts find nothing meanwhile`, async () => {
    await using scene = await start(kind);
    const { fake, device, clock } = scene;
    await device.waitForLink();
    const reset = next(device, "reset");
    fake.absent = true;
    clock.after(700, () => {
      assert.deepEqual([receive(scene), send(scene, 1)], [[], 0]);
      fake.absent = false;
    });
    await reset;
    await device.waitForLink();
    assert.equal(send(scene, 1), 1);
  });

  test(`${kind}: pulled out, it ends bursts, waits and the driver with one error`, async () => {
    await using scene = await start(kind, { receiveMode: "interrupt" });
    const { fake, device, packets } = scene;
    await device.waitForLink();
    assert.ok(send(scene, 3) > 0);
    const removed = next(device, "removed");
    const waiting = device.receivable(0);
    fake.fn.remove();
    await assert.rejects(waiting, { code: "FUNCTION_REMOVED" });
    assert.equal(((await removed) as { code: string }).code, "FUNCTION_REMOVED");
    assert.throws(() => device.rxBurst(0, packets), { code: "FUNCTION_REMOVED" });
    assert.throws(() => device.txBurst(0, packets, 1), { code: "FUNCTION_REMOVED" });
    await assert.rejects(device.setMulticast([]), { code: "FUNCTION_REMOVED" });
    assert.equal(device.failure?.code, "FUNCTION_REMOVED");
    assert.equal(device.statistics().rx_packets, 0);
  });

  test(`${kind}: a function reset by somebody else is set up again as it was`, async () => {
    await using scene = await start(kind, { queues: 2 });
    const { fake, device } = scene;
    const group = Uint8Array.of(1, 0, 0x5e, 1, 2, 3);
    await device.setMulticast([group]);
    await device.setVlans([7]);
    const reset = next(device, "reset");
    await fake.fn.reset();
    await reset;
    await device.waitForLink();
    assert.equal(send(scene, 2), 2);
    fake.receive(frame(3), { queue: 1 });
    assert.equal(device.rxBurst(1, scene.packets), 1);
    if (kind === "igbvf") {
      const kinds = fake.parent.asked.slice(-5).map(([first = 0]) => first & 0xffff);
      assert.deepEqual(kinds, [1, 5, 6, 3, 4]);
    } else {
      // The hash of 01:00:5e:01:02:03 is 0x030: word 1, bit 16.
      assert.equal(fake.register(0x5204), 1 << 16);
      assert.equal(fake.register(0x5600), 1 << 7);
    }
    assert.ok(fake.fn.busMaster);
  });

  test(`${kind}: wishes that cannot be met are refused before anything happens`, async () => {
    const fake = new FakeGigabit(kind);
    const starting = (options: NetDeviceOptions): Promise<NetDevice> => openNetDevice(fake.fn, options);
    for (const options of [{ queues: 17 }, { ringEntries: 20 }, { mtu: 4000 }, { mtu: 10 }] as const) {
      await assert.rejects(starting(options), { code: "NET_INVALID" }, JSON.stringify(options));
    }
    await assert.rejects(starting({ interrupts: "none", receiveMode: "interrupt" }), { code: "NET_INVALID" });
    using pool = PacketPool.create(fake.fn.dma.arena, { buffers: 8 });
    await assert.rejects(starting({ pool, ringEntries: 16 }), { code: "NET_INVALID", message: /pool/ });
    assert.equal(pool.free, 8);
    assert.equal(fake.fn.dma.mappedBytes, 0);
    await using device = await starting({ ringEntries: 16 });
    await assert.rejects(device.setMtu(9000), { code: "NET_INVALID" });
    await assert.rejects(device.setMac(Uint8Array.of(1, 2, 3, 4, 5, 6)), { code: "NET_INVALID" });
    await assert.rejects(device.setMulticast([Uint8Array.of(2, 2, 3, 4, 5, 6)]), { code: "NET_INVALID" });
    await assert.rejects(device.setVlans([4096]), { code: "NET_INVALID" });
    using foreign = new Packets(Arena.create(), 4);
    assert.throws(() => device.rxBurst(0, foreign), { code: "NET_INVALID" });
    assert.throws(() => device.rxBurst(9, foreign), { code: "NET_NO_QUEUE" });
    await assert.rejects(device.openWorkerQueue(), { code: "NOT_SUPPORTED" });
  });
}

test("an unknown function is nobody's", async () => {
  const fake = new FakeGigabit("igb");
  const stranger = { identity: { ...fake.fn.identity, deviceId: 0x1234 } } as typeof fake.fn;
  await assert.rejects(openNetDevice(stranger), { code: "WRONG_DEVICE", message: /8086:1234/ });
});

test("igbvf: a physical function that is silent, in reset, or refuses", async () => {
  const silent = new FakeGigabit("igbvf");
  silent.parent.silent = true;
  const clock = new VirtualClock();
  const options = { ringEntries: 16, clock };
  await assert.rejects(openNetDevice(silent.fn, options), { code: "NET_MAILBOX", message: /ip link set/ });
  silent.parent.silent = false;
  silent.parent.resetting = true;
  await assert.rejects(openNetDevice(silent.fn, options), { code: "TIMEOUT" });

  await using scene = await start("igbvf");
  const { fake, device } = scene;
  for (const kind of [2, 3, 4]) fake.parent.refuses.add(kind);
  await assert.rejects(device.setMac(Uint8Array.of(2, 2, 2, 2, 2, 2)), { code: "NET_REFUSED" });
  await assert.rejects(device.setMulticast([Uint8Array.of(1, 2, 2, 2, 2, 2)]), { code: "NET_REFUSED" });
  await assert.rejects(device.setVlans([5]), { code: "NET_REFUSED" });
  await assert.rejects(device.setReceiveMode({ promiscuous: true }), { code: "NOT_SUPPORTED" });
  assert.deepEqual([...device.mac], [0x52, 0x54, 0, 0, 3, 7]);
});

test("igbvf: without an address from above it chooses one, and keeps it", async () => {
  const fake = new FakeGigabit("igbvf");
  fake.parent.refuses.add(1);
  const clock = new VirtualClock();
  await using device = await openNetDevice(fake.fn, { ringEntries: 16, clock });
  const { mac } = device;
  assert.equal((mac[0] as number) & 3, 2);
  await device.reset();
  assert.deepEqual(device.mac, mac);
  const asked = fake.parent.asked.filter(([first]) => first === 2);
  assert.equal(asked.length, 2);
  assert.equal(asked[0]?.[1], (mac[0]! | (mac[1]! << 8) | (mac[2]! << 16) | (mac[3]! << 24)) >>> 0);
});

test("igbvf: the parent's reset is noticed, and everything is asked for again once it is back", async () => {
  await using scene = await start("igbvf");
  const { fake, device, clock } = scene;
  await device.waitForLink();
  assert.ok(send(scene, 2) > 0);
  const down = next(device, "link");
  const reset = next(device, "reset");
  fake.parent.resetting = true;
  clock.after(15_000, () => {
    fake.parent.resetting = false;
    fake.parentWasReset();
  });
  assert.equal(((await down) as LinkState).up, false);
  assert.deepEqual([receive(scene), send(scene, 1)], [[], 0]);
  await reset;
  await device.waitForLink();
  assert.equal(send(scene, 4), 4);
  // A message without "clear to send": it has forgotten us.
  const again = next(device, "reset");
  fake.say(0x100);
  fake.interruptOther();
  await again;
  fake.receive(frame(5));
  assert.deepEqual(receive(scene), [5]);
});

test("whatever registers say and descriptors report, the driver starts or says why not, goes on or ends, and lets go of all", async () => {
  const lie = fc.oneof(
    { weight: 20, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.constantFrom(0, 0xffff_ffff, 0x8000_0000) },
    { weight: 1, arbitrary: fc.nat({ max: 0xffff_ffff }) },
  );
  const lies = fc.infiniteStream(lie);
  const status = fc.oneof(fc.constantFrom(3, 1, 0xffff_ffff), fc.nat({ max: 0xffff_ffff }));
  const steps = fc.array(fc.record({ status, skip: fc.nat({ max: 3 }), size: fc.nat({ max: 1600 }) }), {
    maxLength: 30,
  });
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...KINDS), lies, steps, async (kind, lies, steps) => {
      const fake = new FakeGigabit(kind);
      const clock = new VirtualClock();
      let replaced: number | undefined;
      fake.lie = (value) => {
        replaced = lies.next().value;
        return replaced ?? value;
      };
      const hang = Promise.withResolvers<never>();
      const watchdog = clock.after(600_000, () => hang.reject(new Error("it hangs")));
      const work = async (): Promise<void> => {
        let device: NetDevice;
        try {
          device = await openNetDevice(fake.fn, { ringEntries: 16, clock });
        } catch (error) {
          assert.ok(error instanceof Ring3Error, String(error));
          return;
        }
        using packets = new Packets(device.pool.arena, 32);
        for (const { status, skip, size } of steps) {
          try {
            fake.receive(new Uint8Array(size), { status, skip });
            device.pool.giveAll(packets, device.rxBurst(0, packets));
            const count = device.pool.takeAll(packets, 4);
            for (let i = 0; i < count; i++) packets.words[i * PACKET_WORDS + PacketWord.LENGTH] = 60;
            const sent = device.txBurst(0, packets, count);
            device.pool.giveAll(packets, count - sent, sent);
            await device.receivable(0, { timeoutMs: size });
            device.statistics();
          } catch (error) {
            assert.ok(error instanceof Ring3Error, String(error));
          }
        }
        await device[Symbol.asyncDispose]();
      };
      await Promise.race([work(), hang.promise]);
      watchdog[Symbol.dispose]();
      assert.equal(fake.fn.dma.mappedBytes, 0);
      await fake.fn[Symbol.asyncDispose]();
    }),
    { numRuns: Number(process.env["RING3_NET_RUNS"] ?? 60) },
  );
});
