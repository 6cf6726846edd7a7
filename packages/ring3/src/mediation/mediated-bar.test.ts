// BARs behind the mediator: which pages a user may map, what rules keep, and what observers see.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as virtual from "../virtual/index.ts";
import { type BarObservation, type BarRangeRule, mediate, type MediationOptions, type RuleHit } from "./index.ts";

class Memory extends virtual.VirtualFunction {
  constructor() {
    super({
      vendorId: 1,
      deviceId: 2,
      classCode: 0xff0000,
      bars: { 0: { size: 0x8000, memory: true }, 2: { size: 0x1000, read32: (offset) => offset } },
      capabilities: [
        virtual.pcie(),
        virtual.msix({ vectors: 2, table: { bar: 0, offset: 0x4000 }, pendingBits: { bar: 0, offset: 0x4800 } }),
      ],
    });
  }
}

async function opened(options: MediationOptions): Promise<{
  device: Memory;
  user: virtual.InProcessFunction;
  hits: RuleHit[];
  seen: BarObservation[];
  readonly turnClock: (ms: number) => void;
}> {
  const device = new Memory();
  const hits: RuleHit[] = [];
  const seen: BarObservation[] = [];
  let nowMs = 0;
  const mediated = await mediate(virtual.inProcess(device), {
    ...options,
    now: () => nowMs,
    observer: { rule: (hit) => hits.push(hit), bar: (one) => seen.push(one) },
  });
  return { device, user: virtual.inProcess(mediated), hits, seen, turnClock: (ms) => void (nowMs += ms) };
}

test("a user in this process maps the device's own pages, but for those of MSI-X and of rules", async () => {
  const { device, user } = await opened({ ranges: [{ bar: 0, offset: 0x1800, size: 4, access: "trapped" }] });
  assert.deepEqual(user.bar(0).mappable, [
    { offset: 0, size: 0x1000 },
    { offset: 0x2000, size: 0x2000 },
    { offset: 0x5000, size: 0x3000 },
  ]);
  using mapped = user.bar(0).map({ offset: 0x2000, size: 0x1000 });
  mapped.write32(8, 0x1234);
  assert.equal(device.barRead32(0, 0x2008), 0x1234);
  assert.throws(() => user.bar(0).map({ offset: 0x4000, size: 0x1000 }), { code: "NOT_MAPPABLE" });
  assert.throws(() => user.bar(0).map({ offset: 0x1000, size: 0x1000 }), { code: "NOT_MAPPABLE" });
  await user[Symbol.asyncDispose]();
  assert.throws(() => mapped.read32(8), { code: "REGION_REVOKED" });
});

test("a trapped BAR is not mapped, and every access is seen with its width", async () => {
  const { user, seen } = await opened({ trap: [0] });
  assert.deepEqual(user.bar(0).mappable, []);
  const registers = user.bar(0).registers();
  registers.write32(0x10, 5);
  registers.write8(0x14, 6);
  assert.equal(registers.read64(0x10), 0x6_0000_0005n);
  assert.deepEqual(seen, [
    { kind: "write", bar: 0, offset: 0x10, width: 4, value: 5 },
    { kind: "write", bar: 0, offset: 0x14, width: 1, value: 6 },
    { kind: "read", bar: 0, offset: 0x10, width: 8, value: 0x6_0000_0005n },
  ]);
});

test("a limited range lets through what its rate allows, and more as time goes by", async () => {
  const { device, user, hits, turnClock } = await opened({
    ranges: [{ bar: 0, offset: 0, size: 4, access: "limited", writesPerSecond: 2 }],
  });
  const written = (value: number): boolean => {
    user.bar(0).write32(0, value);
    return device.barRead32(0, 0) === value;
  };
  assert.deepEqual([written(1), written(2), written(3)], [true, true, false]);
  turnClock(500);
  assert.deepEqual([written(4), written(5)], [true, false]);
  assert.deepEqual(
    hits.map(({ rule, place }) => [rule, place]),
    [
      ["bar-rate", "BAR 0 0x0+0x4"],
      ["bar-rate", "BAR 0 0x0+0x4"],
    ],
  );
});

const wrong: readonly BarRangeRule[] = [
  { bar: 0, offset: 0x7fff, size: 2, access: "hidden" },
  { bar: 1, offset: 0, size: 4, access: "trapped" },
  { bar: 0, offset: -4, size: 4, access: "trapped" },
  { bar: 0, offset: 0, size: 0, access: "trapped" },
  { bar: 0, offset: 0, size: 4, access: "limited" },
  { bar: 0, offset: 0, size: 4, access: "hidden", writesPerSecond: 1 },
];
for (const rule of wrong) {
  test(`a rule that cannot be is refused: ${JSON.stringify(rule)}`, async () => {
    await assert.rejects(mediate(virtual.inProcess(new Memory()), { ranges: [rule] }), { code: "RULE_INVALID" });
  });
}

test("ranges smaller than a page, and accesses across their edges", async () => {
  const { device, user } = await opened({ ranges: [{ bar: 0, offset: 0x10, size: 4, access: "hidden" }] });
  device.barWrite32(0, 0x10, 0x1111);
  assert.deepEqual(
    [user.bar(0).read32(0x10), user.bar(0).read8(0x12), user.bar(0).read64(0x10)],
    [0xffff_ffff, 0xff, 2n ** 64n - 1n],
  );
  assert.deepEqual(Array.from(user.bar(0).readBytes(0x0c, 8)), [0, 0, 0, 0, 255, 255, 255, 255]);
});
