// The virtual function as whoever serves it sees it: decoding, resets, power, DMA faults, state, and models that fail.
// seconds: 1
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { throwsCode } from "../../../../tests/contract/fixture.ts";
import { SAMPLE_CONSTANT, Sample, SampleDevice } from "../../../../tests/fakes/sample-device.ts";
import { Ring3Error } from "../binary/error.ts";
import { readErrors } from "../pci/capabilities/advanced-error-reporting.ts";
import { AdvancedFeatures } from "../pci/capabilities/advanced-features.ts";
import { MsiX } from "../pci/capabilities/msi-x.ts";
import { PciExpress } from "../pci/capabilities/pci-express.ts";
import { PowerManagement } from "../pci/capabilities/power-management.ts";
import { ResizableBar } from "../pci/capabilities/resizable-bar.ts";
import type { BarIndex } from "../pci/function.ts";
import { Header, Header0 } from "../pci/header.ts";
import { aer } from "./capabilities/advanced-error-reporting.ts";
import { af } from "./capabilities/advanced-features.ts";
import { rebar } from "./capabilities/resizable-bar.ts";
import { handled, msi, pcie, pm, VirtualFunction } from "./index.ts";
import { encodeState } from "./state.ts";

const host = { name: "a test" };
const MEBIBYTE = 2 ** 20;

function connected(device = new SampleDevice()): SampleDevice {
  device.connect(host);
  device.told.length = 0;
  return device;
}

function mapPage(device: VirtualFunction, iova: number): Uint8Array {
  const bytes = new Uint8Array(4096);
  device.memory.map(iova, 4096, "read-write", { bytes });
  return bytes;
}

function busMaster(device: VirtualFunction, on: boolean): void {
  device.config.space.write(Header.COMMAND, { BUS_MASTER: on ? 1 : 0 });
}

describe("a user", () => {
  test("finds memory decoding on and bus mastering off; a second one finds the function busy", () => {
    using device = new SampleDevice();
    assert.equal(device.barRead32(0, 0), 0xffff_ffff, "nothing answers before somebody is there");
    device.connect(host);
    const { MEMORY, IO, BUS_MASTER } = device.config.space.read(Header.COMMAND);
    assert.deepEqual([MEMORY, IO, BUS_MASTER], [1, 1, 0]);
    assert.equal(device.barRead32(0, 0), SAMPLE_CONSTANT);
    assert.equal(device.connectedTo, "a test");
    throwsCode(() => device.connect({ name: "another" }), "FUNCTION_BUSY");
    device.disconnect();
    device.disconnect();
    device.connect({ name: "another" });
  });

  test("leaves nothing behind: maps, interrupts, registers, memory, sticky bits", () => {
    using device = connected();
    const released: number[] = [];
    device.memory.map(0x1000, 16, "read", { bytes: new Uint8Array(16), release: () => released.push(1) });
    device.interrupts.connect("msix", 0, { signal: () => undefined });
    device.barWrite32(0, Sample.SCRATCH, 5);
    device.barWrite32(0, Sample.MEMORY, 5);
    busMaster(device, true);
    device.memory.dirty.start();
    device.disconnect();
    assert.deepEqual(device.told, [
      "map 1000",
      "bus master on",
      "bus master off",
      "unmap 1000",
      "disconnect",
      "reset conventional",
    ]);
    assert.deepEqual(released, [1]);
    device.connect(host);
    assert.equal(device.barRead32(0, Sample.SCRATCH), 0);
    assert.equal(device.barRead32(0, Sample.MEMORY), 0);
    assert.equal(device.config.space.read(MsiX.CONTROL).MSIX_ENABLE, 0);
    assert.equal(device.memory.dirty.active, false);
  });

  test("may leave its state, and take it up again; DMA waits for the first write to COMMAND", () => {
    using device = connected();
    let signals = 0;
    const sink = { signal: () => void signals++ };
    device.interrupts.connect("msix", 1, sink);
    busMaster(device, true);
    device.barWrite32(0, Sample.SCRATCH, 5);
    device.disconnect({ keepState: true });
    assert.equal(device.keepsState, true);
    assert.equal(device.memory.busMaster, false);
    device.interrupts.raise(1);
    device.connect(host);
    assert.equal(device.barRead32(0, Sample.SCRATCH), 5);
    assert.equal(device.memory.busMaster, false);
    device.interrupts.connect("msix", 1, sink);
    assert.equal(signals, 0);
    device.config.write(Header.COMMAND.offset, 2, device.config.read(Header.COMMAND.offset, 2));
    assert.equal(device.memory.busMaster, true);
    assert.equal(signals, 1, "what was raised meanwhile");
  });
});

describe("decoding", () => {
  test("COMMAND gates memory and I/O apart", () => {
    using device = connected();
    const events: string[] = [];
    device.events.on("decoding", ({ memory, io }) => events.push(`${memory} ${io}`));
    device.config.space.write(Header.COMMAND, { MEMORY: 0 });
    const target = new Uint8Array(8);
    assert.equal(device.readBar(0, 0, target), false);
    assert.ok(target.every((byte) => byte === 0xff));
    assert.equal(device.writeBar(0, Sample.SCRATCH, target), false);
    assert.equal(device.barRead32(2, 0), 0);
    device.config.space.write(Header.COMMAND, { MEMORY: 1, IO: 0 });
    assert.equal(device.barRead32(2, 0), 0xffff_ffff);
    assert.equal(device.readBar(0, 0, target), true);
    assert.deepEqual(events, ["false true", "true false"]);
    assert.equal(device.scratch, 0);
  });

  test("every BAR, offset and length has a result, and nothing throws", () => {
    using device = connected();
    const number = fc.oneof(fc.nat(0x5000), fc.double(), fc.constantFrom(-1, 2 ** 53, 2 ** 64, Number.NaN));
    fc.assert(
      fc.property(fc.integer({ min: -1, max: 7 }), number, fc.nat(64), (index, offset, length) => {
        const bar = index as BarIndex;
        const target = new Uint8Array(length);
        const size = device.bars[bar]?.size ?? 0;
        const inside = size > 0 && Number.isInteger(offset) && offset >= 0 && offset + length <= size;
        assert.equal(device.readBar(bar, offset, target), inside);
        assert.equal(device.writeBar(bar, offset, target), inside);
        device.barRead8(bar, offset);
        device.barRead64(bar, offset);
        device.barWrite64(bar, offset, -1n);
        device.readRom(offset, target);
      }),
      // Nothing at all of a BAR that is not there.
      { numRuns: 500, examples: [[3, 0, 0]] },
    );
  });

  test("the ROM reads at any time, padded with ones", () => {
    using device = new SampleDevice();
    const target = new Uint8Array(8);
    assert.equal(device.readRom(0, target), true);
    assert.deepEqual([...target], [0x55, 0xaa, 1, 2, 3, 0xff, 0xff, 0xff]);
    assert.equal(device.rom?.length, 2048);
    assert.equal(device.readRom(2044, target), false);
  });

  test("the MSI-X structures answer in their BAR", () => {
    using device = connected();
    device.barWrite32(0, 0x2000 + 16, 0xfee0_0000);
    assert.equal(device.barRead32(0, 0x2010), 0xfee0_0000);
    assert.equal(device.barRead64(0, 0x2008), 0x1_0000_0000n);
    device.barWrite64(0, 0x2008, 7n);
    assert.equal(device.interrupts.table?.masked(0), false);
    device.barWrite32(0, 0x3000, 0xff);
    assert.equal(device.barRead32(0, 0x3000), 0);
  });

  test("a model that throws is reported; its reads give ones", () => {
    const faults: string[] = [];
    using device = new (class extends VirtualFunction {
      constructor() {
        super({ vendorId: 1, deviceId: 2, classCode: 0, bars: { 0: handled(4096) } });
      }
      protected override read32(): number {
        throw new Ring3Error("SOMETHING", "went wrong");
      }
      protected override onBusMaster(): void {
        throw new Error("hook");
      }
    })();
    device.connect({ name: "x", fault: (description) => faults.push(description) });
    assert.equal(device.barRead32(0, 0), 0xffff_ffff);
    const target = new Uint8Array(4);
    assert.equal(device.readBar(0, 4, target), true);
    assert.deepEqual([...target], [255, 255, 255, 255]);
    busMaster(device, true);
    assert.equal(device.memory.busMaster, true);
    assert.deepEqual(faults, ["SOMETHING: went wrong", "SOMETHING: went wrong", "Error: hook"]);
  });

  test("handlers of the declaration answer where no method does", () => {
    const written: string[] = [];
    using device = new VirtualFunction({
      vendorId: 1,
      deviceId: 2,
      classCode: 0,
      bars: {
        0: { size: 16, read32: (offset) => offset, write32: (offset, value) => written.push(`${offset} ${value}`) },
        1: { size: 16, read8: (offset) => offset },
      },
    });
    device.connect(host);
    assert.equal(device.barRead16(0, 6), 0);
    assert.equal(device.barRead8(0, 4), 4);
    assert.equal(device.barRead32(1, 4), 0x0706_0504);
    device.barWrite32(0, 4, 9);
    device.barWrite32(1, 4, 9);
    assert.deepEqual(written, ["4 9"]);
  });
});

describe("resets", () => {
  test("FLR by PCI Express: registers and memory lost, DMA stopped first, maps and signals stay", () => {
    using device = connected();
    const bytes = mapPage(device, 0x1000);
    busMaster(device, true);
    device.barWrite32(0, Sample.SCRATCH, 5);
    device.barWrite32(0, Sample.MEMORY, 5);
    device.told.length = 0;
    device.config.space.write(PciExpress.DEVICE_CONTROL, { INITIATE_FUNCTION_LEVEL_RESET: 1 });
    assert.deepEqual(device.told, ["bus master off", "reset flr"]);
    assert.equal(device.config.space.readRaw(Header.COMMAND), 0);
    device.config.space.write(Header.COMMAND, { MEMORY: 1 });
    assert.equal(device.barRead32(0, Sample.SCRATCH), 0);
    assert.equal(device.barRead32(0, Sample.MEMORY), 0);
    assert.equal(device.memory.count, 1);
    assert.ok(bytes.every((byte) => byte === 0));
  });

  test("FLR by advanced features", () => {
    using device = connected(new SampleDevice({ capabilities: [af()] }));
    assert.deepEqual(device.resetMethods, ["af_flr", "bus"]);
    device.config.space.write(AdvancedFeatures.CONTROL, { INITIATE_FLR: 1 });
    assert.deepEqual(device.told, ["reset flr"]);
    assert.equal(device.resetForUser(), "af_flr");
  });

  test("for a user BAR addresses and decoding come back, interrupts and bus mastering are off", () => {
    using device = connected();
    device.config.space.writeRaw(Header0.BAR0, 0xe000_0000);
    device.config.space.writeRaw(Header0.BAR1, 5);
    device.config.space.writeRaw(Header0.EXPANSION_ROM, 0xf000_0001);
    device.interrupts.connect("msix", 0, { signal: () => undefined });
    busMaster(device, true);
    const kinds: string[] = [];
    device.events.on("reset", ({ kind, byUser }) => kinds.push(`${kind} ${byUser}`));
    assert.equal(device.resetForUser(), "flr");
    assert.equal(device.config.barAddress(0), 5 * 2 ** 32 + 0xe000_0000);
    assert.equal(device.config.barAddress("rom"), 0xf000_0000);
    assert.equal(device.config.space.readRaw(Header.COMMAND), 3);
    assert.equal(device.interrupts.connected("msix"), false);
    assert.equal(device.memory.busMaster, false);
    assert.deepEqual(kinds, ["flr true"]);
    device.reset("conventional");
    assert.equal(device.config.barAddress(0), 0);
  });

  test("D3hot: nothing answers; leaving it resets, unless NO_SOFT_RESET", () => {
    for (const noSoftReset of [false, true]) {
      using device = connected(new SampleDevice({ capabilities: [pm({ noSoftReset, d1: true }), msi()] }));
      busMaster(device, true);
      device.barWrite32(0, Sample.SCRATCH, 5);
      device.told.length = 0;
      device.config.space.write(PowerManagement.PMCSR, { POWER_STATE: 1 });
      assert.equal(device.decodes(0), false, "D1 answers config accesses only");
      device.config.space.write(PowerManagement.PMCSR, { POWER_STATE: 0 });
      assert.equal(device.decodes(0), true);
      device.config.space.write(PowerManagement.PMCSR, { POWER_STATE: 3 });
      assert.equal(device.powerState, "D3hot");
      assert.equal(device.barRead32(0, 0), 0xffff_ffff);
      assert.equal(device.memory.busMaster, false);
      assert.deepEqual(device.told.splice(0), [
        "bus master off",
        "power D1",
        "bus master on",
        "power D0",
        "bus master off",
        "power D3hot",
      ]);
      device.config.space.write(PowerManagement.PMCSR, { POWER_STATE: 0 });
      assert.equal(device.powerState, "D0");
      assert.equal(device.scratch, noSoftReset ? 5 : 0);
      assert.deepEqual(device.told, noSoftReset ? ["bus master on", "power D0"] : ["power D0", "reset d3hot"]);
    }
  });

  test("a resizable BAR's memory follows its size", () => {
    using device = connected(
      new SampleDevice({
        bars: { 0: { size: MEBIBYTE, kind: "memory64", prefetchable: true, memory: true } },
        capabilities: [pcie(), rebar({ bars: [{ bar: 0, sizes: [MEBIBYTE, 4 * MEBIBYTE] }] })],
      }),
    );
    device.barWrite32(0, MEBIBYTE - 4, 7);
    const events: string[] = [];
    device.events.on("resized", ({ bar, size }) => events.push(`${bar} ${size}`));
    device.config.space.write(ResizableBar.CONTROL_0, { BAR_SIZE: 2 });
    assert.deepEqual(device.told, [`resize 0 ${4 * MEBIBYTE}`]);
    assert.deepEqual(events, [`0 ${4 * MEBIBYTE}`]);
    assert.equal(device.bars[0]?.size, 4 * MEBIBYTE);
    assert.equal(device.barRead32(0, MEBIBYTE - 4), 7);
    device.barWrite32(0, 4 * MEBIBYTE - 4, 9);
    device.resetForUser();
    assert.equal(device.bars[0]?.size, 4 * MEBIBYTE, "its user finds it as it was");
    assert.equal(device.barRead32(0, 4 * MEBIBYTE - 4), 0);
    device.reset("conventional");
    assert.equal(device.bars[0]?.size, MEBIBYTE);
  });
});

describe("DMA", () => {
  test("a read that nothing answers is reported, and recorded as a missing completion", () => {
    const errors: string[] = [];
    using device = connected(new SampleDevice({ capabilities: [pcie(), aer()] }));
    device.events.on("error", ({ description }) => errors.push(description));
    let signalled = 0;
    device.interrupts.connect("error", 0, { signal: () => void signalled++ });
    const faults: string[] = [];
    device.events.on("fault", ({ description }) => faults.push(description));
    busMaster(device, true);
    throwsCode(() => device.memory.write32(0x5000, 1), "DMA_FAULT");
    assert.equal(device.config.space.read(Header.STATUS).RECEIVED_MASTER_ABORT, 0, "writes are posted");
    throwsCode(() => device.memory.read32(0x5000), "DMA_FAULT");
    assert.equal(device.config.space.read(Header.STATUS).RECEIVED_MASTER_ABORT, 1);
    assert.deepEqual(readErrors(device.config.space).uncorrectable, ["COMPLETION_TIMEOUT"]);
    assert.equal(faults.length, 2);
    assert.match(faults[0] ?? "", /DMA write of 4 bytes at 0x5000/);
    assert.equal(signalled, 0, "reporting is off");
    device.config.space.write(PciExpress.DEVICE_CONTROL, { NON_FATAL_ERROR_REPORTING_ENABLE: 1 });
    throwsCode(() => device.memory.read32(0x5000), "DMA_FAULT");
    assert.equal(signalled, 1);
    assert.deepEqual(errors, ["COMPLETION_TIMEOUT (non-fatal)"]);
    device.injectError({ error: "MALFORMED_TLP", header: [1, 2, 3, 4] });
    device.config.space.write(PciExpress.DEVICE_CONTROL, { FATAL_ERROR_REPORTING_ENABLE: 1 });
    device.injectError({ error: "MALFORMED_TLP" });
    assert.equal(errors.at(-1), "MALFORMED_TLP (fatal)");
    throwsCode(() => device.injectError({ error: "NO_SUCH" as never }), "NOT_SUPPORTED");
  });

  test("while suspended nothing moves and no message is lost", async () => {
    using device = connected();
    let signals = 0;
    device.interrupts.connect("msi", 0, { signal: () => void signals++ });
    busMaster(device, true);
    await device.suspend();
    assert.equal(device.memory.busMaster, false);
    device.interrupts.raise(0);
    assert.equal(signals, 0);
    device.resume();
    assert.equal(device.memory.busMaster, true);
    assert.equal(signals, 1);
  });
});

describe("pause and client", () => {
  test("a pause ends with the client that asked for it", async () => {
    for (const keepState of [false, true]) {
      using device = connected();
      await device.suspend();
      device.disconnect({ keepState });
      device.connect(host);
      busMaster(device, true);
      assert.equal(device.paused, false);
      assert.equal(device.memory.busMaster, true);
    }
  });

  test("a client that goes before all has ended pauses nobody after it", async () => {
    let end = (): void => undefined;
    class Slow extends SampleDevice {
      protected override onSuspend(): Promise<void> {
        return new Promise((resolve) => {
          end = resolve;
        });
      }
    }
    using device = new Slow();
    device.connect(host);
    const suspended = device.suspend();
    device.disconnect();
    device.connect({ name: "the next one" });
    end();
    await suspended;
    assert.equal(device.paused, false);
  });
});

describe("state", () => {
  function worked(): SampleDevice {
    const device = connected();
    device.config.space.writeRaw(Header0.BAR0, 0xe000_0000);
    device.config.space.write(Header.COMMAND, { BUS_MASTER: 1 });
    device.interrupts.connect("msix", 2, { signal: () => undefined });
    device.barWrite32(0, 0x2000 + 2 * 16 + 12, 1);
    device.interrupts.raise(2);
    device.barWrite32(0, Sample.SCRATCH, 0xdead_beef);
    device.barWrite32(0, Sample.MEMORY + 0xffc, 0x1234);
    return device;
  }

  test("another device goes on where the first was", () => {
    using first = worked();
    const state = first.save();
    using second = new SampleDevice();
    second.restore(state);
    assert.equal(second.keepsState, true);
    using unused = new SampleDevice();
    second.restore(unused.save());
    assert.equal(second.bars[0]?.read(Sample.MEMORY + 0xffc, 4), 0, "pages that are not in the state hold zeros");
    second.restore(state);
    second.connect(host);
    assert.deepEqual(second.save(), state);
    assert.equal(second.config.barAddress(0), 0xe000_0000);
    assert.equal(second.barRead32(0, Sample.SCRATCH), 0xdead_beef);
    assert.equal(second.barRead32(0, Sample.MEMORY + 0xffc), 0x1234);
    assert.equal(second.interrupts.mode, "msix");
    let signals = 0;
    second.interrupts.connect("msix", 2, { signal: () => void signals++ });
    assert.equal(signals, 0, "DMA is held until the client says that it is ready");
    second.config.space.write(Header.COMMAND, { BUS_MASTER: 1 });
    assert.equal(signals, 1, "the pending message came along");
  });

  test("the state of another model, version or declaration is refused", () => {
    using first = worked();
    const state = first.save();
    using newer = new SampleDevice({ modelVersion: 2 });
    using other = new SampleDevice({ deviceId: 0x5a5b });
    using different = new SampleDevice({ capabilities: [pm()] });
    for (const device of [newer, other, different]) throwsCode(() => device.restore(state), "STATE_MISMATCH");
    throwsCode(() => first.restore(encodeState({ vendorId: 0x1234 })), "STATE_INVALID");
    assert.equal(first.scratch, 0xdead_beef, "nothing was touched");
  });

  test("a state that its model refuses leaves power-on state", () => {
    using first = worked();
    const saved = first.save();
    assert.ok(saved.length > 0);
    using picky = new (class extends SampleDevice {
      protected override restoreDevice(): void {
        throw new Ring3Error("STATE_INVALID", "no");
      }
    })();
    throwsCode(() => picky.restore(first.save()), "STATE_INVALID");
    assert.equal(picky.config.barAddress(0), 0);
    assert.equal(picky.bars[0]?.read(Sample.MEMORY + 0xffc, 4), 0);
    assert.equal(picky.keepsState, false);
  });

  test("mutated states are refused or taken, and the function works on", () => {
    using first = worked();
    const state = first.save();
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(state.length - 1), fc.nat(255)), { maxLength: 8 }), (mutations) => {
        const bytes = state.slice();
        for (const [at, value] of mutations) bytes[at] = value;
        using device = connected();
        try {
          device.restore(bytes);
        } catch (error) {
          assert.ok(error instanceof Ring3Error && error.code.startsWith("STATE_"), String(error));
        }
        device.resetForUser();
        device.config.space.write(Header.COMMAND, { MEMORY: 1 });
        assert.equal(device.barRead32(0, 0), SAMPLE_CONSTANT);
      }),
      { numRuns: 300 },
    );
  });
});

test("a removed function reads ones, tells its user, and takes no other", () => {
  const device = connected();
  const reasons: string[] = [];
  device.events.on("removed", ({ reason }) => reasons.push(reason));
  mapPage(device, 0);
  device.remove("pulled out");
  device.remove();
  assert.deepEqual(reasons, ["pulled out"]);
  assert.equal(device.memory.count, 0);
  assert.equal(device.barRead32(0, 0), 0xffff_ffff);
  assert.equal(device.readRom(0, new Uint8Array(4)), false);
  throwsCode(() => device.connect(host), "FUNCTION_REMOVED");
  device[Symbol.dispose]();
});

test("a listener that throws stops neither the function nor other listeners", () => {
  using device = connected();
  const faults: string[] = [];
  device.events.on("fault", ({ description }) => faults.push(description));
  let heard = 0;
  device.events.on("reset", () => {
    throw new Error("on purpose");
  });
  const listening = device.events.on("reset", () => void heard++);
  device.reset("flr");
  assert.equal(heard, 1);
  assert.deepEqual(faults, ["Error: on purpose"]);
  listening[Symbol.dispose]();
  device.reset("flr");
  assert.equal(heard, 1);
});
