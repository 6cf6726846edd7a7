import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { isRing3Error } from "../../binary/error.ts";
import * as virtual from "../../virtual/index.ts";
import { PciAddress } from "../address.ts";
import { PciExpress } from "../capabilities/pci-express.ts";
import { bytesConfigAccess, ConfigSpace } from "../config-space.ts";
import { Header } from "../header.ts";
import { registerPath } from "../register.ts";
import { capabilityGroups, headerGroups } from "../register-groups.ts";
import { runSetpciOperation, traceSetpci } from "./execute.ts";
import { parseFieldOperation, runFieldOperation } from "./field-path.ts";
import { parseSetpciOperation } from "./operation.ts";
import { parseSetpciWord } from "./word.ts";

function bytesOf(): Uint8Array {
  const content = Uint8Array.of(1, 2, 3);
  const config = new virtual.VirtualConfig({
    vendorId: 0x1234,
    deviceId: 0x0add,
    classCode: 0x020000,
    capabilities: [
      virtual.pm({ noSoftReset: true }),
      virtual.vendorSpecific({ content }),
      virtual.pcie(),
      virtual.vendorSpecific({ content: Uint8Array.of(9) }),
      virtual.aer(),
    ],
  });
  const bytes = new Uint8Array(config.size);
  config.readInto(0, bytes);
  return bytes;
}

function configOf(bytes: Uint8Array = bytesOf()): ConfigSpace {
  return new ConfigSpace(bytesConfigAccess(bytes));
}

const address = PciAddress.parse("01:00.0");

function trace(config: ConfigSpace, word: string): string {
  return traceSetpci(address, runSetpciOperation(config, parseSetpciOperation(word)));
}

function code(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    assert.ok(isRing3Error(error), String(error));
    return error.code;
  }
  return "none";
}

test("the examples of setpci's manual", () => {
  const config = configOf();
  config.write16(4, 0x0406);
  assert.equal(trace(config, "COMMAND"), "0000:01:00.0 @04 = 0406");
  assert.equal(trace(config, "4.w"), "0000:01:00.0 @04 = 0406");
  assert.equal(trace(config, "COMMAND.l"), "0000:01:00.0 @04 = 00100406");
  assert.equal(trace(config, "VENDOR_ID+1.b"), "0000:01:00.0 @01 = 12");
  assert.match(trace(config, "CAP_PM+2.w"), /^0000:01:00\.0 \(cap 01 @40\) @42 = [0-9a-f]{4}$/);
  assert.match(trace(config, "ECAP001.l"), /^0000:01:00\.0 \(ecap 0001 @100\) @100 = [0-9a-f]{8}$/);
});

test("writes: masks keep what they leave out, several values go to consecutive registers, a dry run writes nothing", () => {
  const config = configOf();
  config.write8(0x3c, 0x0f);
  assert.equal(trace(config, "INTERRUPT_LINE=35:f0"), "0000:01:00.0 @3c 0f->(30:f0)->3f");
  assert.equal(config.read8(0x3c), 0x3f);
  assert.equal(trace(config, "10.w=1,2,ffff:f"), "0000:01:00.0 @10 0001 0002 0000->(000f:000f)->000f");
  assert.equal(config.read32(0x10), 0x0002_0001);
  assert.equal(config.read16(0x14), 0x000f);
  const dry = runSetpciOperation(config, parseSetpciOperation("COMMAND=7:7"), { dryRun: true });
  assert.deepEqual([dry.writes[0]?.after, config.read16(4)], [7, 0]);
  // 32 bits of ones are minus one, which every width takes.
  trace(config, "CACHE_LINE_SIZE=ffffffff");
  assert.equal(config.read8(0x0c), 0xff);
});

test("the n-th capability of a kind, and capabilities or registers that are not there", () => {
  const config = configOf();
  const [first, second] = config.findAll(9).map(({ offset }) => offset.toString(16));
  assert.ok(trace(config, "CAP_VNDR.w").includes(`(cap 09 @${first})`));
  assert.ok(trace(config, "cap09.w@1").includes(`(cap 09 @${second})`));
  const failing: [word: string, code: string][] = [
    ["CAP_VNDR.w@2", "CAPABILITY_ABSENT"],
    ["CAP_MSIX.w", "CAPABILITY_ABSENT"],
    ["PRIMARY_BUS", "REGISTER_ABSENT"],
    ["CAP_PM+1.w", "SETPCI_SYNTAX"],
    ["CAP_PM+ffc.w", "CONFIG_RANGE"],
    ["COMAND", "SETPCI_SYNTAX"],
    ["COMMAND=", "SETPCI_SYNTAX"],
    ["4", "SETPCI_SYNTAX"],
  ];
  for (const [word, wanted] of failing)
    assert.equal(
      code(() => trace(config, word)),
      wanted,
      word,
    );
  assert.equal(trace(configOf(bytesOf().slice(0, 64)), "100.l"), "0000:01:00.0 @100 = ffffffff");
  assert.equal(
    code(() => trace(configOf(bytesOf().slice(0, 64)), "100.l=0")),
    "CONFIG_RANGE",
  );
});

test("no text does anything but parse or be refused", () => {
  const text = fc.oneof(fc.string(), fc.stringMatching(/^[A-Za-z_0-9.+@=:,]{0,30}$/));
  fc.assert(
    fc.property(text, (word) => {
      const found = code(() => parseSetpciWord(word));
      assert.ok(["none", "SETPCI_SYNTAX", "FIELD_UNKNOWN"].includes(found), found);
    }),
  );
});

test("every declared field can be named, in its own spelling and in camel case", () => {
  for (const group of [...headerGroups, ...capabilityGroups]) {
    for (const register of Object.values(group.registers)) {
      for (const field of ["", ...Object.keys(register.fields)]) {
        const path = `${registerPath(register)}${field === "" ? "" : `.${field}`}`;
        for (const word of [path, camel(path)]) {
          const parsed = parseFieldOperation(word);
          assert.ok(parsed.registers.includes(register), word);
          assert.equal(parsed.field ?? "", field, word);
        }
      }
    }
  }
});

function camel(path: string): string {
  const word = (name: string): string =>
    name.toLowerCase().replace(/[_-]([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  return path.split(".").map(word).join(".");
}

test("fields in the units of people: bytes, power states; a beginning is enough, neighbours stay", () => {
  const config = configOf();
  const run = (word: string) => runFieldOperation(config, parseFieldOperation(word));
  assert.deepEqual([run("express.deviceControl.maxReadRequest").meaning], ["512"]);
  const before = config.readRaw(PciExpress.DEVICE_CONTROL);
  run("express.deviceControl.maxReadRequest=4096");
  assert.equal(config.readRaw(PciExpress.DEVICE_CONTROL), (before & ~0x7000) | (5 << 12));
  run("CAP_EXP.device_control.MAX_READ_REQUEST_SIZE=0");
  assert.equal(config.read(PciExpress.DEVICE_CONTROL).MAX_READ_REQUEST_SIZE, 0);
  assert.equal(run("PM.PMCSR.POWER_STATE=d3hot").value, 3);
  assert.equal(run("pm.pmcsr.powerState").meaning, "D3hot");
  run("command.busMaster=1");
  assert.equal(config.read(Header.COMMAND).BUS_MASTER, 1);
  assert.equal(run("header.COMMAND").raw, 4);
  assert.equal(runFieldOperation(config, parseFieldOperation("COMMAND.MEMORY=1"), { dryRun: true }).written, 6);
  assert.equal(config.read16(4), 4);
});

test("bits that clear by writing one stay set unless they are named", () => {
  const bytes = bytesOf();
  bytes[0x07] = 0xf9;
  const config = configOf(bytes);
  const { written = 0 } = runFieldOperation(config, parseFieldOperation("STATUS.DETECTED_PARITY_ERROR=1"));
  assert.equal(written & 0xf900, 0x8000);
});

test("what cannot be is refused with what can", () => {
  const config = configOf();
  const failing: [word: string, code: string, message: RegExp][] = [
    ["foo.bar", "FIELD_UNKNOWN", /COMMAND, BAR0.*MSI-X/],
    ["PM.FOO", "FIELD_UNKNOWN", /it has PMC, PMCSR/],
    ["command.mem=1", "FIELD_UNKNOWN", /may mean MEMORY or MEMORY_WRITE_AND_INVALIDATE/],
    ["PM.PMCSR.POWER_STATE.X", "FIELD_UNKNOWN", /deeper/],
    ["PM.PMCSR.POWER_STATE=D4", "FIELD_VALUE", /0 to 3.*D0, D1, D2, D3hot/],
    ["express.deviceControl.maxReadRequest=100", "FIELD_VALUE", /4096/],
    ["COMMAND.BUS_MASTER=2", "FIELD_VALUE", /0 to 1/],
    ["PM.PMC.VERSION=1", "FIELD_READ_ONLY", /RO in the specification/],
    ["MSI-X.CONTROL", "CAPABILITY_ABSENT", /no MSI-X capability/],
    ["VNDR.LENGTH@7", "CAPABILITY_ABSENT", /only 2/],
    ["PRIMARY_BUS_NUMBER.VALUE", "REGISTER_ABSENT", /type 0/],
  ];
  for (const [word, wanted, message] of failing) {
    assert.throws(
      () => runFieldOperation(config, parseFieldOperation(word)),
      (error: Error) => isRing3Error(error, wanted) && message.test(error.message),
      word,
    );
  }
});

test("setpci's words and field names do not meet", () => {
  const kinds = (words: readonly string[]): string[] => words.map((word) => parseSetpciWord(word).kind);
  assert.deepEqual(kinds(["COMMAND", "COMMAND.w", "AF.b", "4.l=1:1", "CAP_PM.w@0"]), Array(5).fill("raw"));
  assert.deepEqual(kinds(["COMMAND.IO", "AF.CONTROL", "BAR0", "PM.PMCSR@0", "bar1=0x10"]), Array(5).fill("field"));
});
