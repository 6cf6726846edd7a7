// The laws of config space: what software can change and what not, whatever the width and place of its accesses; what each
// reset keeps; and that a saved state is the function's and nobody else's.
// seconds: 1
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { isRing3Error } from "../binary/error.ts";
import {
  AdvancedErrorReporting,
  capability,
  Header,
  Header0,
  LatencyToleranceReporting,
  PciExpress,
  PowerManagement,
} from "../pci/index.ts";
import type { CapabilityBuilder, RegisterWrite } from "./capability-builder.ts";
import * as virtual from "./index.ts";
import { type FunctionDeclaration, VirtualConfig } from "./index.ts";

const MiB = 2 ** 20;

/** One of each. */
const everything: FunctionDeclaration = {
  vendorId: 0x1234,
  deviceId: 0x0add,
  classCode: 0x010802,
  interruptPin: "A",
  bars: {
    0: { size: 16 * MiB, kind: "memory64", prefetchable: true },
    2: { size: 4096 },
    3: { size: 128, kind: "io" },
  },
  rom: new Uint8Array(5000),
  capabilities: [
    virtual.pm({ pme: ["D0"] }),
    virtual.msi({ vectors: 4, perVectorMasking: true }),
    virtual.msix({ vectors: 3, table: { bar: 4 } }),
    virtual.pcie(),
    virtual.vpd({ content: Uint8Array.of(0x91, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x78) }),
    virtual.vendorSpecific({ content: Uint8Array.of(1, 2, 3, 4, 5), writable: Uint8Array.of(0, 0xff, 0x0f) }),
    virtual.aer({ headers: 3, prefixLog: true }),
    virtual.ats(),
    virtual.ltr(),
    virtual.rebar({ bars: [{ bar: 0, sizes: [MiB, 16 * MiB, 2 ** 33] }] }),
  ],
};

const bytesOf = (config: VirtualConfig): Uint8Array => {
  const bytes = new Uint8Array(config.size);
  config.readInto(0, bytes);
  return bytes;
};

const width = fc.constantFrom<1 | 2 | 4>(1, 2, 4);
const write = fc.record({
  // Mostly where registers are.
  offset: fc.oneof(fc.integer({ min: -4, max: 4100 }), fc.integer({ min: 0, max: 0x1a0 })),
  width,
  value: fc.integer({ min: 0, max: 0xffff_ffff }),
});

test("no sequence of writes changes a bit that software cannot write or clear", () => {
  const fresh = bytesOf(new VirtualConfig(everything));
  const may = new Uint8Array(4096);
  for (const { offset, width: size, writable, oneToClear } of new VirtualConfig(everything).registers()) {
    for (let index = 0; index < size; index++) may[offset + index] = ((writable | oneToClear) >>> (8 * index)) & 0xff;
  }
  // Resizing moves the border of BAR 0 down to 1 MiB.
  may[0x12] = 0xf0;
  fc.assert(
    fc.property(fc.array(write, { maxLength: 40 }), (writes) => {
      const config = new VirtualConfig(everything);
      for (const { offset, width: size, value } of writes) config.write(offset, size, value);
      const after = bytesOf(config);
      for (const [at, byte] of after.entries()) {
        assert.equal((byte ^ (fresh[at] ?? 0)) & ~(may[at] ?? 0) & 0xff, 0, `byte 0x${at.toString(16)}`);
      }
    }),
    { numRuns: 200 },
  );
});

test("a write of any width and place does what its bytes do one after the other, where nothing acts", () => {
  // Without hooks: registers that act may see an access as one.
  const plain: FunctionDeclaration = {
    ...everything,
    capabilities: [virtual.pcie(), virtual.ats(), virtual.ltr(), virtual.acs()],
  };
  fc.assert(
    fc.property(fc.array(write, { maxLength: 30 }), (writes) => {
      const whole = new VirtualConfig(plain);
      const bytewise = new VirtualConfig(plain);
      for (const { offset, width: size, value } of writes) {
        whole.write(offset, size, value);
        for (let index = 0; index < size; index++) bytewise.write(offset + index, 1, (value >>> (8 * index)) & 0xff);
      }
      assert.deepEqual(bytesOf(whole), bytesOf(bytewise));
    }),
  );
});

test("reads of any width and place agree with the bytes; outside are ones", () => {
  const config = new VirtualConfig(everything);
  const bytes = bytesOf(config);
  fc.assert(
    fc.property(fc.integer({ min: -8, max: 4104 }), width, (offset, size) => {
      let expected = 0;
      for (let index = size - 1; index >= 0; index--) expected = expected * 256 + (bytes[offset + index] ?? 0xff);
      assert.equal(config.read(offset, size), expected);
    }),
  );
  assert.equal(config.read(Number.NaN, 4), 0xffff_ffff);
  assert.equal(config.read(0.5, 2), 0xffff);
  assert.equal(config.read(2 ** 60, 4), 0xffff_ffff);
  assert.equal(new VirtualConfig({ ...everything, capabilities: [] }).read(0x100, 4), 0xffff_ffff);
  const around = new Uint8Array(8);
  config.readInto(-4, around);
  assert.deepEqual([...around], [0xff, 0xff, 0xff, 0xff, 0x34, 0x12, 0xdd, 0x0a]);
});

test("writeFrom is the same as single accesses, outside is dropped", () => {
  fc.assert(
    fc.property(fc.integer({ min: -20, max: 4110 }), fc.uint8Array({ maxLength: 300 }), (offset, source) => {
      const plain = { ...everything, capabilities: [virtual.pcie(), virtual.ltr()] };
      const one = new VirtualConfig(plain);
      const other = new VirtualConfig(plain);
      one.writeFrom(offset, source);
      for (const [index, byte] of source.entries()) other.write(offset + index, 1, byte);
      assert.deepEqual(bytesOf(one), bytesOf(other));
    }),
  );
  new VirtualConfig(everything).writeFrom(Number.NaN, new Uint8Array(4));
});

test("STATUS clears by one and only by one", () => {
  const config = new VirtualConfig(everything);
  config.latch(Header.STATUS, ["RECEIVED_MASTER_ABORT", "DETECTED_PARITY_ERROR"]);
  config.write(0x06, 2, 0x8000);
  assert.equal(config.space.read(Header.STATUS).DETECTED_PARITY_ERROR, 0);
  assert.equal(config.space.read(Header.STATUS).RECEIVED_MASTER_ABORT, 1);
  config.write(0x04, 4, 0x0000_0007);
  assert.equal(config.space.read(Header.STATUS).RECEIVED_MASTER_ABORT, 1);
  config.write(0x07, 1, 0xff);
  assert.equal(config.read(0x06, 2), 0x0010);
});

test("COMMAND has what a PCI Express function has, and a conventional one no more", () => {
  for (const capabilities of [[virtual.pcie()], []]) {
    const config = new VirtualConfig({ ...everything, capabilities });
    config.write(0x04, 2, 0xffff);
    // I/O, memory, bus master, parity response, SERR and INTx disable: PCIe 6.0, section 7.5.1.1.3.
    assert.equal(config.read(0x04, 2), 0x0547);
    config.write(0x0c, 4, 0xffff_ffff);
    assert.equal(config.read(0x0c, 4), capabilities.length > 0 ? 0x0000_00ff : 0x0000_ffff);
  }
});

test("resets keep what PCIe 6.0 says they keep", () => {
  const make = (): VirtualConfig => {
    const config = new VirtualConfig(everything);
    config.space.write(Header.COMMAND, { MEMORY: 1, BUS_MASTER: 1 });
    config.write(0x10, 4, 0xc000_0000);
    config.space.write(PciExpress.DEVICE_CONTROL, { MAX_PAYLOAD_SIZE: 5, MAX_READ_REQUEST_SIZE: 5 });
    config.space.write(PciExpress.LINK_CONTROL, { ASPM_CONTROL: 3, COMMON_CLOCK_CONFIGURATION: 1 });
    config.space.write(AdvancedErrorReporting.UNCORRECTABLE_ERROR_MASK, { COMPLETION_TIMEOUT: 1 });
    config.space.write(PowerManagement.PMCSR, { PME_ENABLE: 1 });
    config.space.write(LatencyToleranceReporting.MAX_SNOOP_LATENCY, { VALUE: 3, SCALE: 2 });
    config.recordError({ error: "MALFORMED_TLP", header: [1, 2, 3, 4] });
    config.set(Header0.SUBSYSTEM_ID, { VALUE: 0x77 });
    config.set(Header.STATUS, { INTERRUPT_STATUS: 1 });
    return config;
  };
  for (const kind of ["conventional", "flr", "d3hot"] as const) {
    const config = make();
    config.reset(kind);
    const linkKept = kind !== "conventional";
    // Section 6.6.2: the function goes quiet.
    assert.equal(config.read(0x04, 2), 0);
    assert.equal(config.read(0x10, 4), 0x0000_000c);
    assert.equal(config.space.read(Header.STATUS).INTERRUPT_STATUS, 0);
    assert.equal(config.space.read(PciExpress.DEVICE_CONTROL).MAX_READ_REQUEST_SIZE, 2);
    // What belongs to the link stays, Max_Payload_Size among it.
    assert.equal(config.space.read(PciExpress.DEVICE_CONTROL).MAX_PAYLOAD_SIZE, linkKept ? 5 : 0);
    assert.equal(config.space.read(PciExpress.LINK_CONTROL).ASPM_CONTROL, linkKept ? 3 : 0);
    assert.equal(config.space.read(PciExpress.LINK_CONTROL).COMMON_CLOCK_CONFIGURATION, linkKept ? 1 : 0);
    assert.equal(config.readRaw(LatencyToleranceReporting.MAX_SNOOP_LATENCY), linkKept ? 0x0803 : 0);
    // Sticky and HwInit stay over every reset (table 7-2).
    assert.equal(config.space.read(AdvancedErrorReporting.UNCORRECTABLE_ERROR_MASK).COMPLETION_TIMEOUT, 1);
    assert.equal(config.space.read(AdvancedErrorReporting.UNCORRECTABLE_ERROR_STATUS).MALFORMED_TLP, 1);
    assert.equal(config.space.read(AdvancedErrorReporting.HEADER_LOG_3).VALUE, 4);
    assert.equal(config.space.read(PowerManagement.PMCSR).PME_ENABLE, 1);
    assert.equal(config.space.read(Header0.SUBSYSTEM_ID).VALUE, 0x77);
  }
  const config = make();
  config.powerOn();
  assert.deepEqual(bytesOf(config), bytesOf(new VirtualConfig(everything)));
  // The header log is empty too: the next error is the first again.
  config.recordError({ error: "COMPLETION_TIMEOUT", header: [9] });
  assert.equal(config.space.read(AdvancedErrorReporting.HEADER_LOG_0).VALUE, 9);
});

test("preset outlives a reset, set does not", () => {
  const config = new VirtualConfig(everything);
  config.preset(PciExpress.LINK_STATUS, { CURRENT_LINK_SPEED: 3 });
  config.set(PciExpress.DEVICE_STATUS, { TRANSACTIONS_PENDING: 1 });
  config.reset("conventional");
  assert.equal(config.space.read(PciExpress.LINK_STATUS).CURRENT_LINK_SPEED, 3);
  assert.equal(config.space.read(PciExpress.DEVICE_STATUS).TRANSACTIONS_PENDING, 0);
  config.powerOn();
  assert.equal(config.space.read(PciExpress.LINK_STATUS).CURRENT_LINK_SPEED, 3);
});

test("restore(save()) is the identity, after any writes", () => {
  fc.assert(
    fc.property(fc.array(write, { maxLength: 40 }), fc.array(write, { maxLength: 10 }), (writes, others) => {
      const config = new VirtualConfig(everything);
      config.recordError({ error: "POISONED_TLP_RECEIVED", header: [1, 2] });
      for (const { offset, width: size, value } of writes) config.write(offset, size, value);
      const state = config.save();
      const twin = new VirtualConfig(everything);
      for (const { offset, width: size, value } of others) twin.write(offset, size, value);
      twin.restore(state);
      assert.deepEqual(bytesOf(twin), bytesOf(config));
      assert.deepEqual(twin.save(), state);
      assert.equal(twin.barSize(0), config.barSize(0));
    }),
    { numRuns: 60 },
  );
});

test("a state that was tampered with is refused whole, or is one that writes could have made", () => {
  const source = new VirtualConfig(everything);
  source.space.write(Header.COMMAND, { BUS_MASTER: 1 });
  const state = source.save();
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(state.length - 1), fc.nat(255)), { minLength: 1, maxLength: 5 }),
      fc.option(fc.nat(state.length)),
      (changes, length) => {
        const bytes = state.slice(0, length ?? undefined);
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        const config = new VirtualConfig(everything);
        const before = bytesOf(config);
        try {
          config.restore(bytes);
        } catch (error) {
          assert.ok(isRing3Error(error, "STATE_INVALID") || isRing3Error(error, "STATE_MISMATCH"), String(error));
          assert.deepEqual(bytesOf(config), before);
          return;
        }
        assert.equal(config.read(0x00, 4), 0x0add_1234);
        assert.equal(config.read(0x10, 4) & 0xf_ffff, 0xc);
        assert.deepEqual([config.read(0x18, 4) & 0xfff, config.read(0x1c, 4) & 0x7f], [0, 1]);
        assert.equal(config.read(0x24, 4), 0);
        assert.ok([MiB, 16 * MiB, 2 ** 33].includes(config.barSize(0)));
        assert.deepEqual(config.space.capabilities(), source.space.capabilities());
      },
    ),
    { numRuns: 300 },
  );
});

test("bits of BARs that there are not are dropped, bytes too many are refused", () => {
  const state = new VirtualConfig(everything).save();
  // The bytes of config space lie behind 20 of head.
  state.fill(0xff, 20 + 0x10, 20 + 0x28);
  const config = new VirtualConfig(everything);
  config.restore(state);
  const bars = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24].map((at) => config.read(at, 4));
  assert.deepEqual(bars, [0xff00_000c, 0xffff_ffff, 0xffff_f000, 0xffff_ff81, 0xffff_f000, 0]);
  const longer = new Uint8Array(state.length + 1);
  longer.set(state);
  assert.throws(() => config.restore(longer), { code: "STATE_INVALID" });
});

test("a state of another declaration is refused", () => {
  const state = new VirtualConfig(everything).save();
  const differing: FunctionDeclaration[] = [
    { ...everything, deviceId: 0x0ade },
    { ...everything, bars: { ...everything.bars, 2: { size: 8192 } } },
    { ...everything, capabilities: (everything.capabilities ?? []).slice(1) },
    { ...everything, capabilities: [] },
  ];
  for (const declaration of differing) {
    assert.throws(() => new VirtualConfig(declaration).restore(state), { code: "STATE_MISMATCH" });
  }
  assert.throws(() => new VirtualConfig(everything).restore(new Uint8Array(3)), { code: "STATE_INVALID" });
});

test("hooks see what was written, whatever the access", () => {
  const config = new VirtualConfig(everything);
  const seen: RegisterWrite[] = [];
  const hook = config.onWrite(Header.COMMAND, (written) => seen.push(written));
  config.write(0x04, 4, 0xffff_0006);
  config.write(0x05, 1, 0x04);
  config.write(0x03, 2, 0x01aa);
  assert.deepEqual(seen, [
    { before: 0, value: 6, raw: 6, covered: 0xffff },
    { before: 6, value: 0x406, raw: 0x0400, covered: 0xff00 },
    { before: 0x406, value: 0x401, raw: 0x01, covered: 0xff },
  ]);
  config.write(0x06, 2, 0xffff);
  config.write(0x08, 4, 0);
  hook[Symbol.dispose]();
  config.write(0x04, 2, 0);
  assert.equal(seen.length, 3);
});

test("a hook that throws is reported and not felt by the bus", () => {
  const faults: unknown[] = [];
  const config = new VirtualConfig(everything, { fault: (error) => faults.push(error) });
  config.onWrite(Header.INTERRUPT_LINE, () => {
    throw new Error("model");
  });
  config.write(0x3c, 4, 11);
  assert.equal(config.read(0x3c, 1), 11);
  assert.equal(faults.length, 1);
});

test("a guard that throws leaves the register as it was", () => {
  const Odd = capability("ODD", 0x7d, { VALUE: { at: [0x02, 16], VALUE: ["RW", 0, 16, 5] } });
  const odd: CapabilityBuilder = {
    group: Odd,
    size: 4,
    build(place) {
      place.guard(Odd.VALUE, () => {
        throw new Error("model");
      });
    },
  };
  const faults: unknown[] = [];
  const config = new VirtualConfig({ ...everything, capabilities: [odd] }, { fault: (error) => faults.push(error) });
  config.write(0x40, 4, 0xffff_ffff);
  assert.equal(config.read(0x42, 2), 5);
  assert.equal(faults.length, 1);
});

test("a user's own capability: registers, guard, hooks, state", () => {
  const registers = {
    CONTROL: { at: [0x02, 16], LEVEL: ["RW", 0, 4], GO: ["RW", 15] },
    COUNT: { at: [0x04, 32], VALUE: ["RO", 0, 32] },
  } as const;
  const Counter = capability("COUNTER", 0x7e, registers);
  let count = 0;
  const counter: CapabilityBuilder = {
    group: Counter,
    size: 8,
    build(place) {
      place.preset(Counter.CONTROL, { LEVEL: 2 });
      place.only(Counter.CONTROL, ["LEVEL"]);
      place.guard(Counter.CONTROL, ({ before, value }) => ((value & 0xf) > 9 ? before : value));
      place.onWrite(Counter.CONTROL, ({ raw }) => {
        if (Counter.CONTROL.fields.GO.test(raw)) place.set(Counter.COUNT, { VALUE: ++count });
      });
      place.onRead(Counter.COUNT, () => place.set(Counter.COUNT, { VALUE: ++count }));
    },
  };
  const config = new VirtualConfig({ ...everything, capabilities: [counter] });
  assert.equal(config.space.read(Counter.CONTROL).LEVEL, 2);
  config.space.write(Counter.CONTROL, { LEVEL: 12 });
  assert.equal(config.space.read(Counter.CONTROL).LEVEL, 2);
  config.space.write(Counter.CONTROL, { LEVEL: 9, GO: 1 });
  assert.deepEqual(config.space.read(Counter.CONTROL), { LEVEL: 9, GO: 0 });
  assert.equal(count, 1);
  assert.equal(config.space.readRaw(Counter.COUNT), 2);
  assert.equal(config.readRaw(Counter.COUNT), 2);
});

test("registers that are not there are named", () => {
  const config = new VirtualConfig({ ...everything, capabilities: [virtual.msi()] });
  assert.throws(() => config.set(PciExpress.LINK_STATUS, { CURRENT_LINK_SPEED: 1 }), { code: "CAPABILITY_ABSENT" });
  assert.throws(() => config.readRaw(PowerManagement.PMCSR), { code: "CAPABILITY_ABSENT" });
  assert.equal(config.has(PciExpress.LINK_STATUS), false);
});

test("declarations that cannot be are refused by name", () => {
  const base = { vendorId: 1, deviceId: 2, classCode: 3 };
  const cases: readonly (readonly [Partial<FunctionDeclaration>, RegExp])[] = [
    [{ vendorId: 0x1_0000 }, /vendorId is 65536/],
    [{ vendorId: 0xffff }, /no function answers/],
    [{ deviceId: -1 }, /deviceId/],
    [{ classCode: 2 ** 24 }, /classCode/],
    [{ revision: 256 }, /revision/],
    [{ interruptPin: "E" as "A" }, /interruptPin/],
    [{ rom: new Uint8Array() }, /ROM is empty/],
  ];
  for (const [part, message] of cases) {
    assert.throws(() => new VirtualConfig({ ...base, ...part }), { code: "DECLARATION_INVALID", message });
  }
});
