// The laws of masks and writes, over declared registers of every kind and over all that this folder declares.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import * as fc from "fast-check";
import * as pci from "./index.ts";
import {
  capability,
  decodeRegister,
  encodeWrite,
  type FieldDeclaration,
  header,
  type Register,
  type RegisterGroup,
  type RegisterKind,
  registerMasks,
} from "./register.ts";

const kinds: readonly RegisterKind[] = ["RO", "RW", "RW1C", "HwInit", "RsvdP", "RsvdZ", "ROS", "RWS", "RW1CS"];

/** A register of 32 bits whose fields fill it from bit 0 on, with holes. */
const anyRegister = fc
  .array(fc.record({ kind: fc.constantFrom(...kinds), width: fc.integer({ min: 1, max: 8 }), hole: fc.boolean() }))
  .map((parts) => {
    const fields: Record<string, FieldDeclaration> = {};
    let at = 0;
    for (const [index, { kind, width, hole }] of parts.entries()) {
      if (at + width > 32) break;
      if (!hole) fields[`FIELD_${index}`] = [kind, at, width];
      at += width;
    }
    const group = capability("ANY", 0x7f, { REGISTER: { ...fields, at: [0x04, 32] } });
    return group.registers["REGISTER"] as Register;
  });
const word = fc.integer({ min: 0, max: 0xffff_ffff });

const groups = (Object.values(pci) as readonly unknown[]).filter(
  (value): value is RegisterGroup => typeof value === "object" && value !== null && "registers" in value,
);
const all = groups.flatMap((group) => Object.values(group.registers));

test("every bit of a register is in exactly one mask", () => {
  fc.assert(
    fc.property(anyRegister, (register) => {
      const { sticky, reset, ...masks } = registerMasks(register);
      const sum = Object.values(masks).reduce((total, mask) => total + mask, 0);
      const union = Object.values(masks).reduce((total, mask) => (total | mask) >>> 0, 0);
      assert.equal(sum, 2 ** 32 - 1);
      assert.equal(union, 2 ** 32 - 1);
      assert.equal((sticky & ~(masks.readOnly | masks.writable | masks.oneToClear)) >>> 0, 0);
      assert.equal(reset, 0);
    }),
  );
  for (const register of all) {
    const { sticky: _, reset: __, ...masks } = registerMasks(register);
    const sum = Object.values(masks).reduce((total, mask) => total + mask, 0);
    assert.equal(sum, 2 ** (8 * register.width) - 1, register.name);
  }
});

test("a write changes what it names and nothing else", () => {
  fc.assert(
    fc.property(anyRegister, word, word, fc.func(fc.boolean()), (register, current, wanted, chosen) => {
      const masks = registerMasks(register);
      const fields = Object.entries(register.fields);
      const values: Record<string, number> = {};
      for (const [name, field] of fields) {
        if ((masks.writable | masks.oneToClear) & field.mask && chosen(name)) values[name] = field.get(wanted);
      }
      const written = encodeWrite(register, current, values as never);
      const named = fields.reduce((mask, [name, field]) => (name in values ? mask | field.mask : mask), 0);
      const kept = masks.readOnly | masks.hardwareInitialized | masks.reservedPreserve | (masks.writable & ~named);
      assert.equal((written & kept) >>> 0, (current & kept) >>> 0);
      assert.equal((written & masks.oneToClear & ~named) >>> 0, 0);
      assert.equal((written & masks.reservedZero) >>> 0, 0);
      assert.equal((written & named) >>> 0, (wanted & named) >>> 0);
    }),
  );
});

test("decoding splits a word without losing a bit of a field", () => {
  fc.assert(
    fc.property(anyRegister, word, (register, raw) => {
      const values = decodeRegister(register, raw);
      const fields = Object.entries(register.fields);
      const joined = fields.reduce((total, [name, field]) => (total | field.of(values[name] ?? 0)) >>> 0, 0);
      const mask = fields.reduce((total, [, field]) => (total | field.mask) >>> 0, 0);
      assert.equal(joined, (raw & mask) >>> 0);
    }),
  );
});

test("undeclared bits of a status register are RsvdZ, of others RsvdP", () => {
  assert.equal(registerMasks(pci.PciExpress.DEVICE_STATUS).reservedZero, 0xff80);
  assert.equal(registerMasks(pci.PowerManagement.PMCSR).reservedPreserve, 0x00f4);
  assert.equal(registerMasks(pci.PowerManagement.PMCSR).oneToClear, 0x8000);
  assert.equal(registerMasks(pci.PowerManagement.PMCSR).sticky, 0x8100);
  assert.equal(registerMasks(pci.PciExpress.DEVICE_CONTROL).reset, 0x2810);
});

test("a write that names what cannot be written is refused", () => {
  const write = (values: object): number => encodeWrite(pci.PowerManagement.PMCSR, 0, values as never);
  assert.throws(() => write({ NO_SOFT_RESET: 1 }), /PM\.PMCSR\.NO_SOFT_RESET is RO/);
  assert.throws(() => write({ POWER: 1 }), /has no field POWER; it has POWER_STATE/);
  assert.throws(() => write({ constructor: 1 }), RangeError);
  assert.throws(() => write({ POWER_STATE: 4 }), RangeError);
  assert.equal(write({ POWER_STATE: undefined }), 0);
});

test("declarations that overlap, overflow or are misaligned are refused", () => {
  assert.throws(() => header("X", { A: { at: [0, 8], B: ["RW", 0, 4], C: ["RW", 3] } }), /X\.A\.C overlaps/);
  assert.throws(() => header("X", { A: { at: [0, 8], B: ["RW", 7, 2] } }), /does not fit in 8 bits/);
  assert.throws(() => header("X", { A: { at: [1, 16], B: ["RW", 0] } }), /not aligned/);
  assert.throws(() => header("X", { A: { at: [0, 8], B: ["RW", 0, 2, 4] } }), RangeError);
});

test("no two registers of a group overlap but for the layouts of MSI", () => {
  for (const group of groups) {
    if (group.name === "MSI") continue;
    const taken = new Map<number, string>();
    for (const register of Object.values(group.registers)) {
      for (let at = register.offset; at < register.offset + register.width; at++) {
        assert.equal(taken.get(at), undefined, `${group.name}.${register.name}`);
        taken.set(at, register.name);
      }
    }
  }
});

// A foreign witness for offsets and bits: the kernel's own header, which Debian's linux-libc-dev installs.
const kernelHeader = "/usr/include/linux/pci_regs.h";
test("offsets and bits agree with the kernel's header", { skip: !existsSync(kernelHeader) }, () => {
  const checked = {
    EXP: pci.PciExpress,
    ERR: pci.AdvancedErrorReporting,
    MSI: pci.Msi,
    MSIX: pci.MsiX,
    PM: pci.PowerManagement,
    AF: pci.AdvancedFeatures,
    ARI: pci.AlternativeRoutingId,
    ACS: pci.AccessControlServices,
    ATS: pci.AddressTranslationServices,
    PASID: pci.ProcessAddressSpaceId,
    SRIOV: pci.SingleRootIoVirtualization,
    VPD: pci.VitalProductData,
  };
  // Shifts and sizes look like masks, the DPC block shares a prefix, and one bit is "undefined" since PCIe 1.1.
  const noMask = /SHIFT|SIZEOF|_SIZE$|_MIN_|_MAX_|NUM_BARS|_DPC_|ERR_UNC_UND|_RFU|EGRESS_BITS|MSIX_ENTRY/;
  const lines = readFileSync(kernelHeader, "latin1").split("\n");
  let compared = 0;
  for (const [prefix, group] of Object.entries(checked)) {
    let registers: readonly Register[] = [];
    for (const line of lines) {
      const match = /^#define( +)PCI_([A-Z]+)(_\w+)\s+(0x[0-9a-f]+|\d+)\s*(?:\/\*.*)?$/i.exec(line);
      if (match === null || match[2] !== prefix || noMask.test(line)) continue;
      const value = Number(match[4]);
      if (match[1]?.length === 1) {
        registers = Object.values(group.registers).filter((register) => register.offset === value);
        assert.notEqual(registers.length, 0, line);
      } else if (match[1]?.length === 2) {
        const fields = registers.flatMap((register) => Object.values(register.fields));
        assert.ok(
          fields.some((field) => (value & ~field.mask) >>> 0 === 0),
          line,
        );
        compared++;
      }
    }
  }
  assert.ok(compared > 200, `${compared} masks compared`);
});
