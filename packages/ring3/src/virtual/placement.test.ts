// Chains as software walks them, wished places and gaps, and what cannot be placed.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { isRing3Error } from "../binary/error.ts";
import { capability, extendedCapability } from "../pci/index.ts";
import type { CapabilityBuilder } from "./capability-builder.ts";
import * as virtual from "./index.ts";
import { type FunctionDeclaration, VirtualConfig } from "./index.ts";

const base: FunctionDeclaration = { vendorId: 0x1234, deviceId: 0x5678, classCode: 0xff0000 };
const registers = { LENGTH: { at: [0x02, 16], VALUE: ["RO", 0, 16] } } as const;
const extendedRegisters = { LENGTH: { at: [0x04, 32], VALUE: ["RO", 0, 32] } } as const;

/** A capability of any size, whose id tells it from the others. */
function any(kind: "standard" | "extended", index: number, size: number, at?: number): CapabilityBuilder {
  const id = 0x60 + index;
  const group =
    kind === "standard"
      ? capability(`S${index}`, id, registers)
      : extendedCapability(`E${index}`, id, extendedRegisters);
  return { group, size, ...(at === undefined ? {} : { at }), build() {} };
}

test("the chains hold every capability once, in list order, apart from each other, or the error says why not", () => {
  const wish = fc.record({
    kind: fc.constantFrom("standard" as const, "extended" as const),
    size: fc.integer({ min: 8, max: 60 }),
    at: fc.option(fc.integer({ min: 0, max: 0x110 }), { nil: undefined }),
  });
  let placed = 0;
  fc.assert(
    fc.property(fc.array(wish, { maxLength: 8 }), (wishes) => {
      const builders = wishes.map(({ kind, size, at }, index) => {
        const start = kind === "standard" ? 0 : 0x100;
        return any(kind, index, size, at === undefined ? undefined : start + 4 * (at >> 2));
      });
      let config: VirtualConfig;
      try {
        config = new VirtualConfig({ ...base, capabilities: [virtual.pcie(), ...builders] });
      } catch (error) {
        assert.ok(isRing3Error(error, "CAPABILITY_CONFLICT"), String(error));
        return;
      }
      placed++;
      for (const kind of ["standard", "extended"] as const) {
        const walk = config.space.walk(kind);
        assert.deepEqual(walk.problems, []);
        const ids = builders.filter(({ group }) => group.kind === kind).map(({ group }) => group.id);
        const found = walk.entries.map(({ id }) => id).filter((id) => id !== 0x10);
        assert.deepEqual(new Set(found), new Set(ids));
        assert.equal(found.length, ids.length);
        const spans = walk.entries.map(({ id, offset }) => {
          const size = builders.find(({ group }) => group.id === id)?.size ?? 0x3c;
          return [offset, offset + size] as const;
        });
        spans.sort(([one], [other]) => one - other);
        for (const [index, [start]] of spans.entries()) assert.ok(start >= (spans[index - 1]?.[1] ?? 0));
      }
    }),
  );
  assert.ok(placed > 10);
});

test("wished places are kept, gaps are filled, the chain follows the list", () => {
  const config = new VirtualConfig({
    ...base,
    capabilities: [virtual.pcie({ at: 0xc0 }), virtual.pm(), virtual.msi({ at: 0x48 }), virtual.af()],
  });
  assert.deepEqual(
    config.space.capabilities().map(({ id, offset }) => [id, offset]),
    [
      [0x10, 0xc0],
      [0x01, 0x40],
      [0x05, 0x48],
      [0x13, 0x58],
    ],
  );
  assert.equal(config.size, 4096);
  assert.equal(config.read(0x100, 4), 0);
  const extended = new VirtualConfig({
    ...base,
    capabilities: [virtual.pcie(), virtual.ltr({ at: 0x200 }), virtual.ari(), virtual.acs()],
  });
  assert.deepEqual(
    extended.space.extendedCapabilities().map(({ id, offset }) => [id, offset]),
    [
      [0x0e, 0x100],
      [0x18, 0x200],
      [0x0d, 0x108],
    ],
  );
});

test("a function without capabilities has no list", () => {
  const config = new VirtualConfig(base);
  assert.equal(config.size, 256);
  assert.equal(config.read(0x34, 1), 0);
  assert.equal(config.read(0x06, 2), 0);
  assert.deepEqual(config.space.capabilities(), []);
});

test("conflicts name both parties", () => {
  const twice = virtual.pm();
  const cases: readonly (readonly [readonly CapabilityBuilder[], RegExp])[] = [
    [[virtual.pm(), virtual.pm()], /two PM capabilities share the id 0x1/],
    [
      [any("standard", 1, 8), { ...any("standard", 1, 8), group: capability("OTHER", 0x61, registers) }],
      /S1 and OTHER share/,
    ],
    [[virtual.aer()], /AER lies in extended config space, which only PCI Express functions have; add pcie\(\)/],
    [[virtual.pm({ at: 0x50 }), virtual.msi({ at: 0x54 })], /MSI at 0x54 to 0x61 overlaps PM at 0x50 to 0x57/],
    [[virtual.pm({ at: 0x38 })], /PM at 0x38 takes 8 bytes; standard capabilities lie from 0x40 to 0xff/],
    [[virtual.pcie({ at: 0xe0 })], /EXP at 0xe0 takes 60 bytes/],
    [[virtual.pm({ at: 0x42 })], /multiples of 4/],
    [
      [virtual.pcie(), any("standard", 1, 100), any("standard", 2, 100)],
      /S2 finds no room for its 100 bytes .* beside EXP, S1/,
    ],
    [[virtual.pcie(), virtual.ltr({ at: 0x200 })], /no extended capability lies at 0x100/],
    [
      [virtual.pcie(), virtual.ltr({ at: 0x104 }), virtual.dsn({ serialNumber: "0011223344556677" })],
      /DSN opens the chain at 0x100, where its 12 bytes overlap LTR at 0x104/,
    ],
    [[virtual.pcie(), any("extended", 1, 4000)], /E1 finds no room/],
    [[twice, twice], /share the id|twice/],
  ];
  for (const [capabilities, message] of cases) {
    assert.throws(() => new VirtualConfig({ ...base, capabilities }), { code: "CAPABILITY_CONFLICT", message });
  }
  const head = { group: { kind: "header" as const, name: "X", id: 0, registers: {} }, size: 8, build() {} };
  assert.throws(() => new VirtualConfig({ ...base, capabilities: [head] }), { code: "DECLARATION_INVALID" });
  assert.throws(() => new VirtualConfig({ ...base, capabilities: [any("standard", 1, 0)] }), {
    code: "DECLARATION_INVALID",
  });
});

test("vendor-specific capabilities may repeat", () => {
  const content = Uint8Array.of(1, 2, 3);
  const config = new VirtualConfig({
    ...base,
    capabilities: [
      virtual.pcie(),
      virtual.vendorSpecific({ content }),
      virtual.vendorSpecific({ content, writable: Uint8Array.of(0xff) }),
      virtual.vsec({ id: 1, content }),
      virtual.vsec({ id: 2, content }),
      virtual.dvsec({ vendorId: 0x1e98, id: 0, content }),
      virtual.dvsec({ vendorId: 0x1e98, id: 3, content }),
    ],
  });
  const [first, second] = config.space.findAll(0x09);
  assert.ok(first !== undefined && second !== undefined);
  config.write(first.offset + 3, 1, 0xaa);
  config.write(second.offset + 3, 1, 0xaa);
  assert.equal(config.read(first.offset + 3, 1), 1);
  assert.equal(config.read(second.offset + 3, 1), 0xaa);
  assert.equal(config.space.findAll(0x0b, "extended").length, 2);
  assert.equal(config.space.findAll(0x23, "extended").length, 2);
});
