// Interrupts of a virtual function: the rules of INTx, MSI and MSI-X one by one, then any sequence against a small model.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { throwsCode } from "../../../../tests/contract/fixture.ts";
import { Msi } from "../pci/capabilities/msi.ts";
import { MsiX } from "../pci/capabilities/msi-x.ts";
import { Header } from "../pci/header.ts";
import { msi } from "./capabilities/msi.ts";
import { msix } from "./capabilities/msi-x.ts";
import { VirtualConfig } from "./config.ts";
import { VirtualInterrupts } from "./interrupts.ts";

class Counter {
  count = 0;
  signal(): void {
    this.count++;
  }
  take(): number {
    const { count } = this;
    this.count = 0;
    return count;
  }
}

const open = { awake: true, busMaster: true, held: false } as const;

function setUp(): { config: VirtualConfig; interrupts: VirtualInterrupts; sinks: Counter[] } {
  const config = new VirtualConfig({
    vendorId: 1,
    deviceId: 2,
    classCode: 0,
    interruptPin: "A",
    bars: { 0: { size: 4096 } },
    capabilities: [msi({ vectors: 4, perVectorMasking: true }), msix({ vectors: 3, table: { bar: 0 } })],
  });
  const interrupts = new VirtualInterrupts(config);
  interrupts.gate(open);
  return { config, interrupts, sinks: Array.from({ length: 4 }, () => new Counter()) };
}

const CONTROL = 12;

describe("MSI-X", () => {
  test("connecting switches it on and unmasks; disconnecting switches it off and masks", () => {
    const { config, interrupts, sinks } = setUp();
    assert.equal(interrupts.mode, "intx");
    assert.deepEqual(interrupts.available, { intx: 1, msi: 4, msix: 3 });
    assert.equal(interrupts.table?.read(16 + CONTROL, 4), 1);
    interrupts.connect("msix", 1, sinks[1]);
    assert.equal(interrupts.mode, "msix");
    assert.equal(config.space.read(MsiX.CONTROL).MSIX_ENABLE, 1);
    assert.equal(interrupts.table?.read(16 + CONTROL, 4), 0);
    interrupts.raise(1);
    interrupts.raise(7);
    interrupts.raise(-1);
    assert.equal(sinks[1]?.take(), 1);
    interrupts.disconnect("msix");
    assert.equal(config.space.read(MsiX.CONTROL).MSIX_ENABLE, 0);
    assert.equal(interrupts.table?.read(16 + CONTROL, 4), 1);
    interrupts.raise(1);
    assert.equal(sinks[1]?.take(), 0);
    throwsCode(() => interrupts.connect("msix", 3, sinks[0]), "INTERRUPT_INVALID");
    throwsCode(() => interrupts.connect("msi", 4, sinks[0]), "INTERRUPT_INVALID");
    throwsCode(() => interrupts.connect("error", 1, sinks[0]), "INTERRUPT_INVALID");
  });

  test("of signals that are given back those go that are still connected", () => {
    const { config, interrupts, sinks } = setUp();
    const [a, b, c] = sinks as [Counter, Counter, Counter];
    interrupts.connectAll("msix", 0, [a, a]);
    interrupts.connectAll("msix", 1, [b, c]);
    const signals = (): number[] => {
      for (const vector of [0, 1, 2]) interrupts.raise(vector);
      return [a.take(), b.take(), c.take()];
    };
    assert.deepEqual(signals(), [1, 1, 1]);
    const ofA = new Map([
      [0, a],
      [1, a],
    ]);
    assert.equal(interrupts.release("msix", ofA), false);
    assert.deepEqual(signals(), [0, 1, 1]);
    assert.equal(interrupts.release("msix", ofA), false);
    assert.equal(interrupts.release("msix", new Map([[1, b]])), false);
    assert.deepEqual(signals(), [0, 0, 1]);
    assert.equal(interrupts.release("msix", new Map([[2, c]])), true);
    assert.equal(interrupts.release("msix", new Map([[2, c]])), false);
    assert.deepEqual([interrupts.anyConnected("msix"), config.space.read(MsiX.CONTROL).MSIX_ENABLE], [false, 1]);
    interrupts.connect("intx", 0, a);
    assert.equal(interrupts.release("msi", new Map([[0, a]])), false);
    assert.equal(interrupts.release("intx", new Map([[0, b]])), false);
    assert.equal(interrupts.connected("intx"), true);
  });

  test("a masked vector waits in its pending bit, once, and fires at its unmasking", () => {
    const { interrupts, sinks } = setUp();
    const table = interrupts.table;
    assert.ok(table !== undefined);
    interrupts.connect("msix", 2, sinks[2]);
    table.write(32 + CONTROL, 4, 0xffff_ffff);
    assert.equal(table.read(32 + CONTROL, 4), 1, "only the mask bit can be written");
    interrupts.raise(2);
    interrupts.raise(2);
    assert.equal(sinks[2]?.take(), 0);
    assert.equal(table.readPending(0, 4), 4);
    assert.equal(interrupts.pending(2), true);
    table.write(32 + CONTROL, 1, 0);
    assert.equal(sinks[2]?.take(), 1);
    assert.equal(table.readPending(0, 1), 0);
    table.write(32 + CONTROL, 4, 1);
    interrupts.raise(2);
    interrupts.withdraw(2);
    table.write(32 + CONTROL, 4, 0);
    assert.equal(sinks[2]?.take(), 0, "what was withdrawn does not fire");
  });

  test("the function mask holds all of them", () => {
    const { config, interrupts, sinks } = setUp();
    for (const vector of [0, 1]) interrupts.connect("msix", vector, sinks[vector]);
    config.space.write(MsiX.CONTROL, { FUNCTION_MASK: 1 });
    interrupts.raise(0);
    interrupts.raise(1);
    assert.deepEqual([sinks[0]?.take(), sinks[1]?.take()], [0, 0]);
    config.space.write(MsiX.CONTROL, { FUNCTION_MASK: 0 });
    assert.deepEqual([sinks[0]?.take(), sinks[1]?.take()], [1, 1]);
  });

  test("messages are kept as written, without the address's lowest bits", () => {
    const { interrupts } = setUp();
    const { table } = interrupts;
    table?.write(0, 4, 0xfee0_0003);
    table?.write(4, 4, 1);
    table?.write(8, 2, 0x4567);
    table?.write(11, 1, 0x89);
    assert.deepEqual(table?.message(0), { address: 0x1_fee0_0000n, data: 0x8900_4567 });
    table?.write(1 << 20, 4, 0);
    assert.equal(table?.read(1 << 20, 4), 0);
  });
});

describe("MSI", () => {
  test("connecting allows as many messages as needed; more than allowed wrap around", () => {
    const { config, interrupts, sinks } = setUp();
    interrupts.connect("msi", 0, sinks[0]);
    assert.equal(interrupts.vectors, 1);
    interrupts.raise(3);
    assert.equal(sinks[0]?.take(), 1);
    interrupts.connect("msi", 2, sinks[2]);
    assert.equal(config.space.read(Msi.CONTROL).MULTIPLE_MESSAGE_ENABLE, 2);
    interrupts.raise(2);
    interrupts.raise(4);
    assert.deepEqual([sinks[0]?.take(), sinks[2]?.take()], [1, 1]);
    interrupts.disconnect("msi");
    assert.equal(interrupts.mode, "intx");
    assert.equal(config.space.read(Msi.CONTROL).MULTIPLE_MESSAGE_ENABLE, 0);
  });

  test("mask and pending bits", () => {
    const { config, interrupts, sinks } = setUp();
    for (const vector of [0, 1, 2, 3]) interrupts.connect("msi", vector, sinks[vector]);
    config.space.writeRaw(Msi.MASK_BITS_64, 0b1010);
    for (const vector of [0, 1, 2, 3]) interrupts.raise(vector);
    assert.deepEqual(
      sinks.map((sink) => sink.take()),
      [1, 0, 1, 0],
    );
    assert.equal(config.space.readRaw(Msi.PENDING_BITS_64), 0b1010);
    config.space.writeRaw(Msi.MASK_BITS_64, 0b1000);
    assert.deepEqual(
      sinks.map((sink) => sink.take()),
      [0, 1, 0, 0],
    );
    interrupts.withdraw(3);
    config.space.writeRaw(Msi.MASK_BITS_64, 0);
    assert.equal(sinks[3]?.take(), 0);
  });

  test("MSI-X comes before MSI, and MSI before the line", () => {
    const { config, interrupts } = setUp();
    config.space.write(Msi.CONTROL, { MSI_ENABLE: 1 });
    assert.equal(interrupts.mode, "msi");
    config.space.write(MsiX.CONTROL, { MSIX_ENABLE: 1 });
    assert.equal(interrupts.mode, "msix");
    config.space.write(MsiX.CONTROL, { MSIX_ENABLE: 0 });
    config.space.write(Msi.CONTROL, { MSI_ENABLE: 0 });
    assert.equal(interrupts.mode, "intx");
    config.space.write(Header.COMMAND, { INTX_DISABLE: 1 });
    assert.equal(interrupts.mode, "none");
  });
});

describe("messages need bus mastering", () => {
  for (const kind of ["msi", "msix"] as const) {
    test(`${kind}: without it they are lost, while the function is held they wait`, () => {
      const { interrupts, sinks } = setUp();
      interrupts.connect(kind, 0, sinks[0]);
      interrupts.gate({ ...open, busMaster: false });
      interrupts.raise(0);
      interrupts.gate(open);
      assert.equal(sinks[0]?.take(), 0);
      interrupts.gate({ ...open, held: true });
      interrupts.raise(0);
      interrupts.raise(0);
      assert.equal(sinks[0]?.take(), 0);
      interrupts.gate(open);
      assert.equal(sinks[0]?.take(), 1);
    });
  }
});

describe("the line", () => {
  test("fires once per unmasking while its level is up", () => {
    const { config, interrupts, sinks } = setUp();
    const [line] = sinks;
    assert.ok(line !== undefined);
    interrupts.level(true);
    assert.equal(config.space.read(Header.STATUS).INTERRUPT_STATUS, 1);
    interrupts.connect("intx", 0, line);
    assert.equal(line.take(), 1, "the level was up before anybody listened");
    interrupts.level(false);
    interrupts.level(true);
    assert.equal(line.take(), 0, "masked by its delivery");
    interrupts.unmaskLine();
    assert.equal(line.take(), 1);
    interrupts.unmaskLine();
    assert.equal(line.take(), 1, "still up");
    interrupts.level(false);
    assert.equal(config.space.read(Header.STATUS).INTERRUPT_STATUS, 0);
    interrupts.unmaskLine();
    assert.equal(line.take(), 0);
    interrupts.maskLine();
    interrupts.level(true);
    assert.equal(line.take(), 0);
    interrupts.unmaskLine();
    assert.equal(line.take(), 1);
  });

  test("INTX_DISABLE silences it; STATUS still tells, and clearing the bit lets it fire", () => {
    const { config, interrupts, sinks } = setUp();
    const [line] = sinks;
    assert.ok(line !== undefined);
    interrupts.connect("intx", 0, line);
    config.space.write(Header.COMMAND, { INTX_DISABLE: 1 });
    interrupts.level(true);
    assert.equal(line.take(), 0);
    assert.equal(config.space.read(Header.STATUS).INTERRUPT_STATUS, 1);
    config.space.write(Header.COMMAND, { INTX_DISABLE: 0 });
    assert.equal(line.take(), 1);
  });

  test("raise is nothing to it, and messages switch it off", () => {
    const { interrupts, sinks } = setUp();
    interrupts.connect("intx", 0, sinks[0]);
    interrupts.raise(0);
    assert.equal(sinks[0]?.take(), 0);
    interrupts.connect("msi", 0, sinks[1]);
    interrupts.level(true);
    assert.equal(sinks[0]?.take(), 0);
    interrupts.disconnect("msi");
    assert.equal(sinks[0]?.take(), 1);
  });
});

test("software can trigger whatever is connected", () => {
  const { interrupts, sinks } = setUp();
  interrupts.connect("error", 0, sinks[0]);
  interrupts.connect("request", 0, sinks[1]);
  interrupts.signalError();
  interrupts.requestRemoval();
  interrupts.trigger("msix", 2);
  assert.deepEqual([sinks[0]?.take(), sinks[1]?.take()], [1, 1]);
  interrupts.disconnectAll();
  interrupts.signalError();
  assert.equal(sinks[0]?.take(), 0);
});

test("a reset masks, empties and lowers, and leaves signals connected", () => {
  const { config, interrupts, sinks } = setUp();
  interrupts.connect("msix", 0, sinks[0]);
  interrupts.table?.write(CONTROL, 4, 1);
  interrupts.raise(0);
  interrupts.level(true);
  config.reset("flr");
  interrupts.reset();
  assert.equal(interrupts.mode, "intx");
  assert.equal(interrupts.asserted, false);
  assert.equal(interrupts.table?.readPending(0, 4), 0);
  assert.equal(interrupts.connected("msix", 0), true);
  interrupts.reconnect();
  interrupts.raise(0);
  assert.equal(sinks[0]?.take(), 1);
});

test("MSI-X against a model: any order of masks, raises, switches and connections", () => {
  const step = fc.record({
    what: fc.constantFrom("raise", "mask", "unmask", "functionMask", "enable", "connect", "hold", "master", "restore"),
    vector: fc.nat(2),
    on: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80, size: "max" }), (steps) => {
      const { config, interrupts, sinks } = setUp();
      const table = interrupts.table;
      assert.ok(table !== undefined);
      let [enabled, functionMask, held, master] = [false, false, false, true];
      const masked = [true, true, true];
      const pending = [false, false, false];
      const connected = [false, false, false];
      const expected = [0, 0, 0, 0];
      /** What the specification says happens now to everything that waits. */
      const settle = (): void => {
        for (let vector = 0; vector < 3; vector++) {
          if (!pending[vector] || !enabled || functionMask || held || !master || masked[vector]) continue;
          pending[vector] = false;
          if (connected[vector]) expected[vector] = (expected[vector] ?? 0) + 1;
        }
      };
      for (const { what, vector, on } of steps) {
        switch (what) {
          case "raise":
            if (enabled && master) pending[vector] = true;
            interrupts.raise(vector);
            break;
          case "mask":
          case "unmask":
            masked[vector] = what === "mask";
            table.write(vector * 16 + CONTROL, 4, what === "mask" ? 1 : 0);
            break;
          case "functionMask":
            functionMask = on;
            config.space.write(MsiX.CONTROL, { FUNCTION_MASK: on ? 1 : 0 });
            break;
          case "enable":
            enabled = on;
            if (!on) pending.fill(false);
            config.space.write(MsiX.CONTROL, { MSIX_ENABLE: on ? 1 : 0 });
            break;
          case "connect":
            connected[vector] = on;
            if (on) {
              enabled = true;
              // Whatever waits elsewhere fires before this vector is unmasked.
              settle();
              masked[vector] = false;
            }
            interrupts.connect("msix", vector, on ? sinks[vector] : undefined);
            break;
          case "hold":
            held = on;
            interrupts.gate({ awake: true, busMaster: master, held });
            break;
          case "master":
            master = on;
            interrupts.gate({ awake: true, busMaster: master, held });
            break;
          case "restore":
            interrupts.restore(interrupts.save());
            break;
        }
        settle();
        assert.deepEqual(
          sinks.map(({ count }) => count),
          expected,
          what,
        );
        assert.equal(
          table.readPending(0, 1),
          pending.reduce((bits, bit, i) => bits | (bit ? 1 << i : 0), 0),
          what,
        );
      }
    }),
    { numRuns: 500 },
  );
});

test("the line against a model", () => {
  const step = fc.constantFrom(
    "up",
    "down",
    "mask",
    "unmask",
    "connect",
    "forget",
    "disable",
    "enable",
    "sleep",
    "wake",
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
      const { config, interrupts, sinks } = setUp();
      const [line] = sinks;
      assert.ok(line !== undefined);
      let [level, masked, connected, disabled, awake, expected] = [false, false, false, false, true, 0];
      for (const what of steps) {
        if (what === "up" || what === "down") interrupts.level((level = what === "up"));
        else if (what === "mask") {
          masked = true;
          interrupts.maskLine();
        } else if (what === "unmask") {
          masked = false;
          interrupts.unmaskLine();
        } else if (what === "connect") {
          connected = true;
          masked = false;
          interrupts.connect("intx", 0, line);
        } else if (what === "forget") {
          connected = false;
          interrupts.connect("intx", 0, undefined);
        } else if (what === "disable" || what === "enable") {
          disabled = what === "disable";
          config.space.write(Header.COMMAND, { INTX_DISABLE: disabled ? 1 : 0 });
        } else {
          awake = what === "wake";
          interrupts.gate({ ...open, awake });
        }
        if (level && !masked && connected && !disabled && awake) {
          expected++;
          masked = true;
        }
        assert.equal(line.count, expected, what);
        assert.equal(config.space.read(Header.STATUS).INTERRUPT_STATUS, level ? 1 : 0);
      }
    }),
    { numRuns: 500 },
  );
});

test("an MSI message that waits because the function is held can be taken back", () => {
  const { config, interrupts, sinks } = setUp();
  interrupts.connect("msi", 1, sinks[1]);
  config.space.write(Msi.CONTROL, { MULTIPLE_MESSAGE_ENABLE: 2 });
  interrupts.gate({ ...open, held: true });
  interrupts.raise(1);
  assert.equal(interrupts.pending(1), true);
  interrupts.withdraw(1);
  assert.equal(interrupts.pending(1), false);
  interrupts.gate(open);
  assert.equal(sinks[1]?.count, 0);
});
