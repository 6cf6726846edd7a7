// seconds: 2
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { memoryBacking } from "../block-backing.ts";
import { VirtioBlock } from "./block.ts";
import { FakeStatus, FakeVirtioDriver } from "./fake-function-driver.ts";
import type { VirtioOptions } from "./transport.ts";

function disk(options: VirtioOptions & { readonly queues?: number } = {}): FakeVirtioDriver {
  return new FakeVirtioDriver(new VirtioBlock({ backing: memoryBacking(1 << 20), ...options }));
}

test("capabilities name the structures, in one BAR, as section 4.1.4 lays them out", () => {
  const driver = disk({ queues: 3 });
  const { fn, places } = driver;
  assert.deepEqual([fn.identity.vendorId, fn.identity.deviceId, fn.identity.revision], [0x1af4, 0x1042, 1]);
  assert.ok(fn.identity.subsystemId >= 0x40);
  assert.deepEqual(
    [...places.keys()].sort((a, b) => a - b),
    [1, 2, 3, 4, 5],
  );
  for (const [type, place] of places) {
    if (type === 5) continue;
    assert.equal(place.bar, 0);
    assert.equal(place.offset % 4, 0);
  }
  assert.equal(fn.config.read((places.get(1)?.at ?? 0) + 2, 1), 16, "cap_len of COMMON");
  assert.equal(fn.config.read((places.get(2)?.at ?? 0) + 2, 1), 20, "cap_len of NOTIFY");
  assert.equal(places.get(2)?.multiplier, 4);
  assert.ok((places.get(2)?.length ?? 0) >= 2 * 4 + 2);
  assert.equal(driver.readCommon(0x12, 2), 3);
});

test("features: two words, only what is offered, and not without VERSION_1", () => {
  const driver = disk();
  const offered = driver.offered();
  for (const feature of [28, 29, 32, 33, 34, 40]) assert.ok(offered.has(feature), `feature ${feature}`);
  for (const feature of [35, 39]) assert.ok(!offered.has(feature), `feature ${feature}`);
  driver.writeCommon(0, 4, 2);
  assert.equal(driver.readCommon(4, 4), 0, "nothing above bit 63");
  for (const [features, accepted] of [
    [[32], true],
    [[], false],
    [[28], false],
    [[32, 35], false],
    [[32, 0], false],
    [[...offered], true],
  ] as const) {
    driver.status = 0;
    assert.equal(driver.status, 0);
    driver.status = 3;
    driver.accept(features);
    driver.status = 11;
    assert.equal(driver.status, accepted ? 11 : 3, `features ${features.join(", ")}`);
    if (!accepted) continue;
    driver.accept([]);
    driver.writeCommon(8, 4, 1);
    assert.equal(driver.readCommon(12, 4) & 1, 1, "features stay as they were accepted");
  }
  const optional = disk({ inOrder: true, notificationConfigData: true, packed: false }).offered();
  assert.ok(optional.has(35) && optional.has(39) && !optional.has(34));
});

test("the status machine: no DRIVER_OK before FEATURES_OK, no bit is taken back", () => {
  const driver = disk();
  driver.status = 7;
  assert.equal(driver.status, 3);
  driver.status = 1;
  assert.equal(driver.status, 3);
  driver.status = 64;
  assert.equal(driver.status, 3, "DEVICE_NEEDS_RESET is the device's");
  driver.writeCommon(0x14, 4, 0);
  assert.equal(driver.status, 0);
});

test("queues: sizes, addresses in halves, enable once, reset alone", () => {
  const driver = disk({ queues: 2, queueSize: 1024 });
  driver.start({ queueSize: 8, queues: [0] });
  driver.writeCommon(0x16, 2, 1);
  assert.equal(driver.readCommon(0x18, 2), 1024);
  for (const [written, read] of [
    [0, 1024],
    [2048, 1024],
    [24, 1024],
    [16, 16],
  ] as const) {
    driver.writeCommon(0x18, 2, written);
    assert.equal(driver.readCommon(0x18, 2), read);
  }
  driver.writeCommon(0x24, 4, 0x12);
  driver.writeCommon(0x20, 4, 0x3456_7890);
  assert.deepEqual([driver.readCommon(0x20, 4), driver.readCommon(0x24, 4)], [0x3456_7890, 0x12]);
  driver.writeCommon(0x16, 2, 2);
  assert.equal(driver.readCommon(0x18, 2), 0, "there is no third queue");
  driver.writeCommon(0x1c, 2, 1);
  driver.writeCommon(0x3a, 2, 1);
  driver.writeCommon(0x16, 2, 0);
  assert.deepEqual([driver.readCommon(0x1c, 2), driver.readCommon(0x18, 2)], [1, 8]);
  driver.writeCommon(0x20, 4, 1);
  assert.notEqual(driver.readCommon(0x20, 4), 1, "an enabled queue does not move");
  driver.writeCommon(0x3a, 2, 1);
  assert.equal(driver.readCommon(0x1c, 2), 1, "no queue reset without RING_RESET");
  driver.start({ features: [40], queueSize: 8, queues: [0] });
  driver.writeCommon(0x16, 2, 0);
  driver.writeCommon(0x3a, 2, 1);
  assert.deepEqual(
    [driver.readCommon(0x3a, 2), driver.readCommon(0x1c, 2), driver.readCommon(0x18, 2), driver.readCommon(0x1a, 2)],
    [0, 0, 1024, 0xffff],
  );
  driver.setUpQueue(0, new Set([32, 40]), 4);
  assert.equal(driver.readCommon(0x1c, 2), 1);
});

test("vectors: what is there can be mapped, anything else reads NO_VECTOR", () => {
  const driver = disk();
  for (const offset of [0x10, 0x1a]) {
    assert.equal(driver.readCommon(offset, 2), 0xffff);
    driver.writeCommon(offset, 2, 1);
    assert.equal(driver.readCommon(offset, 2), 1);
    driver.writeCommon(offset, 2, 2);
    assert.equal(driver.readCommon(offset, 2), 0xffff);
  }
});

test("a change of the configuration changes the generation, and interrupts", () => {
  for (const interrupts of ["msix", "intx"] as const) {
    let size = 1 << 20;
    const backing = {
      ...memoryBacking(1 << 21),
      get sizeBytes(): number {
        return size;
      },
    };
    const device = new VirtioBlock({ backing });
    const driver = new FakeVirtioDriver(device).start({ interrupts });
    assert.equal(driver.readConfig(0, 4), 2048);
    const generation = driver.readCommon(0x15, 1);
    size = 1 << 21;
    device.resized();
    assert.equal(driver.readConfig(0, 4), 4096);
    assert.notEqual(driver.readCommon(0x15, 1), generation);
    assert.equal(driver.signals[0], 1);
    assert.equal(driver.readIsr(), 2);
    assert.equal(driver.readIsr(), 0, "reading clears");
    assert.equal(driver.fn.interrupts.asserted, false);
  }
});

test("a broken ring: DEVICE_NEEDS_RESET, a configuration interrupt, and a reset that heals", () => {
  for (const features of [[], [34]]) {
    const driver = disk().start({ features, queueSize: 8 });
    const faults: string[] = [];
    driver.fn.events.on("fault", ({ description }) => faults.push(description));
    driver.ring(0).add([{ iova: 0x10, size: 16 }], [{ iova: 0x20, size: 1 }]);
    driver.notify(0);
    assert.equal(driver.status, 15 | FakeStatus.NEEDS_RESET);
    assert.equal(driver.signals[0], 1);
    assert.ok(faults.length > 0);
    driver.ring(0).add([driver.guest.segment(16)], [driver.guest.segment(20)]);
    driver.notify(0);
    assert.equal(driver.ring(0).take(), undefined, "nothing is used any more");
    driver.start({ features, queueSize: 8 });
    const header = driver.guest.put(Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
    driver.ring(0).add([header], [driver.guest.segment(21)]);
    driver.notify(0);
    assert.equal(driver.ring(0).take()?.length, 21);
  }
});

test("a queue without a ring, out of line or above 2^53 is an error and no crash", () => {
  for (const [offset, value] of [
    [0x20, 1],
    [0x24, 0x8000_0000],
    [0x30, 2],
  ] as const) {
    const driver = disk();
    driver.status = 3;
    driver.accept([32]);
    driver.status = 11;
    driver.writeCommon(0x16, 2, 0);
    driver.writeCommon(offset, 4, value);
    driver.writeCommon(0x1c, 2, 1);
    assert.equal(driver.status, 11 | FakeStatus.NEEDS_RESET);
  }
});

test("buffers that were there before DRIVER_OK or bus mastering are found", async () => {
  const driver = disk();
  driver.busMaster(false);
  driver.start({ queueSize: 8 });
  const header = driver.guest.put(Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  driver.ring(0).add([header], [driver.guest.segment(21)]);
  driver.notify(0);
  assert.equal(driver.ring(0).take(), undefined);
  assert.equal(driver.status, 15);
  const interrupt = driver.interrupt();
  driver.busMaster(true);
  await interrupt;
  assert.equal(driver.ring(0).take()?.length, 21);
});

test("one place for all notifications: the value says which queue", () => {
  const driver = disk({ queues: 2, notifyMultiplier: 0 }).start({ queueSize: 8 });
  const header = driver.guest.put(Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  for (const index of [1, 0]) {
    driver.ring(index).add([header], [driver.guest.segment(21)]);
    driver.notify(index);
    assert.equal(driver.ring(index).take()?.length, 21);
    assert.equal(driver.signals[index + 1], 1);
  }
});

test("the window in config space reaches every structure, with each width", () => {
  const driver = disk();
  const at = driver.places.get(5)?.at ?? 0;
  const { config } = driver.fn;
  const aim = (offset: number, width: number, bar = 0): void => {
    config.write(at + 4, 1, bar);
    config.write(at + 8, 4, offset);
    config.write(at + 12, 4, width);
  };
  const base = driver.places.get(1)?.offset ?? 0;
  aim(base + 0x14, 1);
  config.write(at + 16, 1, 1);
  assert.equal(driver.status, 1);
  config.write(at + 16, 4, 0xffff_ff03);
  assert.equal(driver.status, 3);
  assert.equal(config.read(at + 16, 1), 3);
  aim(base + 0x18, 2);
  assert.equal(config.read(at + 16, 4), 256);
  aim(base + 0x00, 4);
  config.write(at + 16, 4, 1);
  aim(base + 0x04, 4);
  assert.equal(config.read(at + 16, 4) & 1, 1, "VERSION_1");
  aim(driver.places.get(4)?.offset ?? 0, 4);
  const bytes = new Uint8Array(4);
  config.readInto(at + 16, bytes);
  assert.deepEqual([...bytes], [0, 8, 0, 0], "the capacity");
  for (const [offset, width, bar] of [
    [base + 1, 2, 0],
    [base, 3, 0],
    [base, 8, 0],
    [0x4000, 4, 0],
    [base, 4, 1],
    [0xffff_fffc, 4, 0],
  ] as const) {
    aim(offset, width, bar);
    config.write(at + 16, 4, 0x1234);
    config.read(at + 16, 4);
  }
  assert.equal(driver.status, 3);
});

test("an access to any register, of any width, is answered", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          offset: fc.nat({ max: 0x3fff }),
          width: fc.constantFrom(1, 2, 4, 8),
          value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
          write: fc.boolean(),
        }),
        { maxLength: 200 },
      ),
      (accesses) => {
        const driver = disk({ queues: 2 });
        for (const { offset, width, value, write } of accesses) {
          const bytes = new Uint8Array(8);
          new DataView(bytes.buffer).setBigUint64(0, value, true);
          const at = offset % 0x40 === offset % 0x1000 ? offset : offset & 0x303f;
          if (write) assert.ok(driver.fn.writeBar(0, at, bytes.subarray(0, width)));
          else assert.ok(driver.fn.readBar(0, at, bytes.subarray(0, width)));
        }
        driver.status = 0;
        assert.equal(driver.status, 0);
        driver.fn.disconnect();
      },
    ),
    { numRuns: 200 },
  );
});

test("function-level reset, D3hot and a client that vanishes leave a device that starts anew", () => {
  const driver = disk();
  const { fn } = driver;
  const header = driver.guest.put(Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  const works = (): void => {
    driver.busMaster(true);
    driver.start({ queueSize: 8 });
    driver.ring(0).add([header], [driver.guest.segment(21)]);
    driver.notify(0);
    assert.equal(driver.ring(0).take()?.length, 21);
  };
  works();
  fn.resetForUser();
  assert.equal(driver.status, 0);
  works();
  fn.reset("d3hot");
  fn.config.write(4, 2, 6);
  assert.equal(driver.status, 0);
  works();
  fn.disconnect();
  const again = new FakeVirtioDriver(fn).start({ queueSize: 8, features: [34] });
  again.ring(0).add([again.guest.put(driver.guest.at(header))], [again.guest.segment(21)]);
  again.notify(0);
  assert.equal(again.ring(0).take()?.length, 21);
});
