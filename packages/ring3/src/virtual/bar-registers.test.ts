// Sizing as software does it, over every kind and size of BAR, and the conflicts that BARs can have.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { barSize, romSize } from "../pci/bar.ts";
import { readBars } from "../pci/index.ts";
import type { BarDeclaration, BarDeclarations, FunctionDeclaration } from "./declaration.ts";
import * as virtual from "./index.ts";
import { VirtualConfig } from "./index.ts";

const base: FunctionDeclaration = { vendorId: 0x1234, deviceId: 0x5678, classCode: 0xff0000 };

/** Every kind with every size that it can have. */
const shapes: BarDeclaration[] = [
  ...[4, 8, 16, 32, 64, 128, 256].map((size): BarDeclaration => ({ size, kind: "io" })),
  ...Array.from({ length: 28 }, (_, index): BarDeclaration => ({ size: 2 ** (index + 4) })),
  ...Array.from({ length: 60 }, (_, index): BarDeclaration => ({ size: 2 ** (index + 4), kind: "memory64" })),
].flatMap((bar) => (bar.kind === "io" ? [bar] : [bar, { ...bar, prefetchable: true }]));

test("sizing finds the size of every BAR, and its type", () => {
  for (const bar of shapes) {
    const config = new VirtualConfig({ ...base, bars: { 2: bar } });
    config.write(0x18, 4, 0xffff_ffff);
    config.write(0x1c, 4, 0xffff_ffff);
    assert.equal(barSize(config.read(0x18, 4), config.read(0x1c, 4)), bar.size, JSON.stringify(bar));
    if (bar.kind !== "memory64") assert.equal(config.read(0x1c, 4), 0);
    config.write(0x18, 4, 0);
    config.write(0x1c, 4, 0);
    const type = bar.kind === "io" ? 1 : bar.kind === "memory64" ? 4 : 0;
    assert.equal(config.read(0x18, 4), type | (bar.prefetchable ? 8 : 0));
    assert.equal(config.barSize(2), bar.size);
    for (const at of [0x10, 0x14, 0x20, 0x24]) {
      config.write(at, 4, 0xffff_ffff);
      assert.equal(config.read(at, 4), 0, "a BAR that is not there reads as 0");
    }
  }
});

test("an address that was written reads back, aligned to the size", () => {
  fc.assert(
    fc.property(fc.constantFrom(...shapes), fc.bigInt({ min: 0n, max: 2n ** 53n - 1n }), (bar, wished) => {
      const config = new VirtualConfig({ ...base, bars: { 0: bar } });
      const space = bar.kind === "memory64" ? wished : wished & 0xffff_ffffn;
      const address = space & -BigInt(bar.size);
      config.write(0x10, 4, Number(wished & 0xffff_ffffn));
      config.write(0x14, 4, Number(wished >> 32n));
      assert.equal(config.barAddress(0), Number(address));
      assert.equal(config.barEnabled(0), false);
      config.write(0x04, 2, bar.kind === "io" ? 1 : 2);
      assert.equal(config.barEnabled(0), true);
      config.write(0x04, 2, bar.kind === "io" ? 2 : 1);
      assert.equal(config.barEnabled(0), false);
      assert.equal(readBars(config.space)[0]?.kind, config.read(0x10, 4) === 0 ? "none" : (bar.kind ?? "memory32"));
    }),
  );
});

test("the expansion ROM is sized in 2 KiB steps and has its own enable bit", () => {
  for (const [bytes, size] of [
    [1, 2048],
    [2048, 2048],
    [2049, 4096],
    [70_000, 131_072],
  ] as const) {
    const config = new VirtualConfig({ ...base, rom: new Uint8Array(bytes) });
    config.write(0x30, 4, 0xffff_f800);
    assert.equal(romSize(config.read(0x30, 4)), size);
    assert.equal(config.read(0x30, 4) & 1, 0);
    config.write(0x30, 4, 0xe000_0001);
    assert.equal(config.barAddress("rom"), 0xe000_0000);
    assert.equal(config.barEnabled("rom"), false);
    config.write(0x04, 2, 2);
    assert.equal(config.barEnabled("rom"), true);
    assert.equal(config.barSize("rom"), size);
  }
  const none = new VirtualConfig(base);
  none.write(0x30, 4, 0xffff_ffff);
  assert.equal(none.read(0x30, 4), 0);
  assert.equal(none.barEnabled("rom"), false);
});

test("BARs that cannot be are refused, and the message names both sides", () => {
  const express = [virtual.pcie()];
  const cases: readonly (readonly [BarDeclarations, FunctionDeclaration["capabilities"], string, RegExp])[] = [
    [{ 0: { size: 3000 } }, [], "DECLARATION_INVALID", /BAR 0 has 3000 bytes, which is no power of two; take 4096/],
    [{ 0: { size: 0 } }, [], "DECLARATION_INVALID", /no power of two/],
    [{ 0: { size: Number.NaN } }, [], "DECLARATION_INVALID", /no power of two/],
    [{ 0: { size: 8 } }, [], "DECLARATION_INVALID", /at least 16/],
    [{ 0: { size: 64 } }, express, "DECLARATION_INVALID", /at least 128 in PCI Express/],
    [{ 0: { size: 2 ** 32 } }, [], "DECLARATION_INVALID", /take memory64/],
    [{ 0: { size: 512, kind: "io" } }, [], "DECLARATION_INVALID", /4 to 256/],
    [{ 0: { size: 16, kind: "io", prefetchable: true } }, [], "DECLARATION_INVALID", /prefetchable/],
    [{ 0: { size: 16, kind: "io", memory: true } }, [], "DECLARATION_INVALID", /clients map/],
    [{ 5: { size: 4096, kind: "memory64" } }, [], "BAR_CONFLICT", /BAR 5 has no register after it/],
    [
      { 1: { size: 4096, kind: "memory64" }, 2: { size: 16 } },
      [],
      "BAR_CONFLICT",
      /BAR 2 of the declaration is already the upper half of BAR 1/,
    ],
    [{ 0: { size: 8192, memory: [{ offset: 4096, size: 8192 }] } }, [], "BAR_CONFLICT", /beyond the BAR/],
    [{ 0: { size: 8192, memory: [{ offset: 0, size: 100 }] } }, [], "DECLARATION_INVALID", /4096-byte pages/],
    [
      {
        0: {
          size: 8192,
          memory: [
            { offset: 0, size: 8192 },
            { offset: 4096, size: 4096 },
          ],
        },
      },
      [],
      "BAR_CONFLICT",
      /overlaps/,
    ],
    [
      { 3: { size: 4096, kind: "memory64" } },
      [virtual.msix({ vectors: 1, table: { bar: 4 } })],
      "BAR_CONFLICT",
      /BAR 4 of MSI-X is already the upper half of BAR 3/,
    ],
    [
      { 0: { size: 4096 } },
      [virtual.msix({ vectors: 200, table: { bar: 0, offset: 1024 } })],
      "BAR_CONFLICT",
      /table at 0x400 to 0x107f leave BAR 0, which has 0x1000 bytes/,
    ],
    [
      { 0: { size: 4096 } },
      [virtual.msix({ vectors: 8, table: { bar: 0 }, pendingBits: { bar: 0, offset: 64 } })],
      "BAR_CONFLICT",
      /table at 0x0 to 0x7f of BAR 0 overlaps the pending bits at 0x40 to 0x47/,
    ],
    [
      { 0: { size: 256, kind: "io" } },
      [virtual.msix({ vectors: 2, table: { bar: 0 } })],
      "BAR_CONFLICT",
      /need memory, and BAR 0 is I\/O/,
    ],
    [
      { 0: { size: 4096 } },
      [virtual.msix({ vectors: 2, table: { bar: 0, offset: 4 } })],
      "DECLARATION_INVALID",
      /multiple of 8/,
    ],
    [
      { 0: { size: 4096 } },
      [...express, virtual.rebar({ bars: [{ bar: 1, sizes: [2 ** 20] }] })],
      "BAR_CONFLICT",
      /resizes BAR 1, which the function does not have/,
    ],
    [
      { 0: { size: 4096 } },
      [...express, virtual.rebar({ bars: [{ bar: 0, sizes: [2 ** 20] }] })],
      "BAR_CONFLICT",
      /does not list the 4096 bytes/,
    ],
    [
      { 0: { size: 2 ** 20 } },
      [...express, virtual.rebar({ bars: [{ bar: 0, sizes: [2 ** 20, 2 ** 32] }] })],
      "BAR_CONFLICT",
      /make it memory64/,
    ],
  ];
  for (const [bars, capabilities = [], code, message] of cases) {
    assert.throws(() => new VirtualConfig({ ...base, bars, capabilities }), { code, message });
  }
  const odd = { 6: { size: 16 } } as BarDeclarations;
  assert.throws(() => new VirtualConfig({ ...base, bars: odd }), { code: "DECLARATION_INVALID", message: /no BAR 6/ });
});
