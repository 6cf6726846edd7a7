// Errors as PCIe 6.0, section 6.2.5 and figure 6-2 have them: status, mask, severity, header log, messages.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { AdvancedErrorReporting as Aer, Header, PciExpress, readErrors } from "../pci/index.ts";
import type { UncorrectableError } from "./index.ts";
import * as virtual from "./index.ts";
import { VirtualConfig } from "./index.ts";

const base = { vendorId: 0x1234, deviceId: 0x5678, classCode: 0xff0000 };

function reporting(options: virtual.AdvancedErrorReportingOptions = {}): VirtualConfig {
  const config = new VirtualConfig({ ...base, capabilities: [virtual.pcie(), virtual.aer(options)] });
  config.space.write(PciExpress.DEVICE_CONTROL, {
    CORRECTABLE_ERROR_REPORTING_ENABLE: 1,
    NON_FATAL_ERROR_REPORTING_ENABLE: 1,
    FATAL_ERROR_REPORTING_ENABLE: 1,
    UNSUPPORTED_REQUEST_REPORTING_ENABLE: 1,
  });
  return config;
}

test("severity decides over the message, and software over severity", () => {
  const config = reporting();
  assert.deepEqual(config.recordError({ error: "COMPLETION_TIMEOUT" }), ["ERR_NONFATAL"]);
  assert.deepEqual(config.recordError({ error: "MALFORMED_TLP" }), ["ERR_FATAL"]);
  assert.deepEqual(config.recordError({ error: "BAD_TLP" }), ["ERR_COR"]);
  const status = config.space.read(PciExpress.DEVICE_STATUS);
  assert.deepEqual(
    [status.CORRECTABLE_ERROR_DETECTED, status.NON_FATAL_ERROR_DETECTED, status.FATAL_ERROR_DETECTED],
    [1, 1, 1],
  );
  config.space.write(Aer.UNCORRECTABLE_ERROR_SEVERITY, { COMPLETION_TIMEOUT: 1, MALFORMED_TLP: 0 });
  assert.deepEqual(config.recordError({ error: "COMPLETION_TIMEOUT" }), ["ERR_FATAL"]);
  assert.deepEqual(config.recordError({ error: "MALFORMED_TLP" }), ["ERR_NONFATAL"]);
});

test("nothing is sent that was not enabled; SERR enables uncorrectable errors too", () => {
  const config = new VirtualConfig({ ...base, capabilities: [virtual.pcie(), virtual.aer()] });
  for (const error of ["COMPLETION_TIMEOUT", "MALFORMED_TLP", "BAD_TLP"] as const) {
    assert.deepEqual(config.recordError({ error }), []);
  }
  config.space.write(Header.COMMAND, { SERR_ENABLE: 1 });
  assert.deepEqual(config.recordError({ error: "MALFORMED_TLP" }), ["ERR_FATAL"]);
  assert.equal(config.space.read(Header.STATUS).SIGNALED_SYSTEM_ERROR, 1);
  assert.deepEqual(config.recordError({ error: "BAD_TLP" }), []);
  // An unsupported request needs its own enable besides.
  const device = reporting();
  device.space.write(PciExpress.DEVICE_CONTROL, { UNSUPPORTED_REQUEST_REPORTING_ENABLE: 0 });
  assert.deepEqual(device.recordError({ error: "UNSUPPORTED_REQUEST_ERROR" }), []);
  assert.equal(device.space.read(PciExpress.DEVICE_STATUS).UNSUPPORTED_REQUEST_DETECTED, 1);
});

test("a masked error sets its status bit and nothing else", () => {
  const config = reporting();
  config.space.write(Aer.UNCORRECTABLE_ERROR_MASK, { COMPLETION_TIMEOUT: 1 });
  config.space.write(Aer.CORRECTABLE_ERROR_MASK, { BAD_TLP: 1 });
  assert.deepEqual(config.recordError({ error: "COMPLETION_TIMEOUT", header: [7] }), []);
  assert.deepEqual(config.recordError({ error: "BAD_TLP" }), []);
  const errors = readErrors(config.space);
  assert.deepEqual(errors.uncorrectable, ["COMPLETION_TIMEOUT"]);
  assert.deepEqual(errors.correctable, ["BAD_TLP"]);
  assert.equal(errors.first, undefined);
  assert.deepEqual(errors.headerLog, [0, 0, 0, 0]);
});

test("an advisory non-fatal error counts as correctable", () => {
  const config = reporting();
  // Masked after reset (section 7.8.4.6): the status bits of the uncorrectable error stay clear.
  assert.deepEqual(config.recordError({ error: "UNSUPPORTED_REQUEST_ERROR", advisory: true }), []);
  assert.deepEqual(readErrors(config.space).uncorrectable, []);
  assert.deepEqual(readErrors(config.space).correctable, ["ADVISORY_NON_FATAL_ERROR"]);
  config.space.write(Aer.CORRECTABLE_ERROR_MASK, { ADVISORY_NON_FATAL_ERROR: 0 });
  assert.deepEqual(config.recordError({ error: "UNSUPPORTED_REQUEST_ERROR", advisory: true, header: [3] }), [
    "ERR_COR",
  ]);
  assert.deepEqual(readErrors(config.space).first, "UNSUPPORTED_REQUEST_ERROR");
  assert.equal(config.space.read(PciExpress.DEVICE_STATUS).NON_FATAL_ERROR_DETECTED, 0);
  // Masked as uncorrectable: no header, but a message.
  config.space.write(Aer.UNCORRECTABLE_ERROR_MASK, { UNEXPECTED_COMPLETION: 1 });
  assert.deepEqual(config.recordError({ error: "UNEXPECTED_COMPLETION", advisory: true, header: [8] }), ["ERR_COR"]);
  assert.deepEqual(readErrors(config.space).headerLog, [3, 0, 0, 0]);
  // Without AER nothing is sent.
  const plain = new VirtualConfig({ ...base, capabilities: [virtual.pcie()] });
  plain.space.write(PciExpress.DEVICE_CONTROL, { CORRECTABLE_ERROR_REPORTING_ENABLE: 1 });
  assert.deepEqual(plain.recordError({ error: "UNSUPPORTED_REQUEST_ERROR", advisory: true }), []);
  assert.equal(plain.readRaw(PciExpress.DEVICE_STATUS), 0b1001);
  // A fatal one is never advisory.
  assert.deepEqual(config.recordError({ error: "MALFORMED_TLP", advisory: true }), ["ERR_FATAL"]);
});

test("one header is kept until its error is cleared; the next one overflows", () => {
  const config = reporting();
  config.space.write(Aer.CORRECTABLE_ERROR_MASK, { HEADER_LOG_OVERFLOW: 0 });
  config.recordError({ error: "COMPLETION_TIMEOUT", header: [1, 2, 3, 4] });
  assert.deepEqual(config.recordError({ error: "POISONED_TLP_RECEIVED", header: [5, 6, 7, 8] }), [
    "ERR_COR",
    "ERR_NONFATAL",
  ]);
  let errors = readErrors(config.space);
  assert.equal(errors.first, "COMPLETION_TIMEOUT");
  assert.deepEqual(errors.headerLog, [1, 2, 3, 4]);
  assert.deepEqual(errors.correctable, ["HEADER_LOG_OVERFLOW"]);
  config.space.write(Aer.UNCORRECTABLE_ERROR_STATUS, { POISONED_TLP_RECEIVED: 1 });
  assert.equal(readErrors(config.space).first, "COMPLETION_TIMEOUT");
  config.space.write(Aer.UNCORRECTABLE_ERROR_STATUS, { COMPLETION_TIMEOUT: 1 });
  errors = readErrors(config.space);
  assert.deepEqual([errors.uncorrectable, errors.first, errors.headerLog], [[], undefined, [0, 0, 0, 0]]);
  config.recordError({ error: "COMPLETER_ABORT", header: [9] });
  assert.equal(readErrors(config.space).first, "COMPLETER_ABORT");
});

test("several headers are kept only once software asks for it", () => {
  const config = reporting({ headers: 4 });
  config.recordError({ error: "COMPLETION_TIMEOUT", header: [1] });
  config.recordError({ error: "COMPLETION_TIMEOUT", header: [2] });
  assert.deepEqual(readErrors(config.space).correctable, ["HEADER_LOG_OVERFLOW"]);
  config.space.write(Aer.UNCORRECTABLE_ERROR_STATUS, { COMPLETION_TIMEOUT: 1 });
  assert.deepEqual(readErrors(config.space).uncorrectable, []);
});

test("with multiple header recording the next header comes up when the first error is cleared", () => {
  const kinds: readonly UncorrectableError[] = ["COMPLETION_TIMEOUT", "POISONED_TLP_RECEIVED", "COMPLETER_ABORT"];
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...kinds), { maxLength: 12 }),
      fc.integer({ min: 2, max: 8 }),
      (errors, headers) => {
        const config = reporting({ headers });
        config.space.write(Aer.CAPABILITIES_AND_CONTROL, { MULTIPLE_HEADER_RECORDING_ENABLE: 1 });
        for (const [index, error] of errors.entries()) config.recordError({ error, header: [index + 1] });
        // The function may move to another process in between.
        const twin = reporting({ headers });
        twin.restore(config.save());
        const seen: number[] = [];
        for (;;) {
          const { first, headerLog } = readErrors(twin.space);
          if (first === undefined) break;
          seen.push(headerLog[0] ?? 0);
          twin.space.write(Aer.UNCORRECTABLE_ERROR_STATUS, { [first as UncorrectableError]: 1 });
        }
        assert.deepEqual(
          seen,
          errors.slice(0, headers).map((_, index) => index + 1),
        );
      },
    ),
  );
});

test("prefixes are logged where the function logs them", () => {
  const config = reporting({ prefixLog: true });
  config.recordError({ error: "MALFORMED_TLP", header: [1], prefix: [0x91_00_00_00, 5] });
  assert.equal(config.space.read(Aer.CAPABILITIES_AND_CONTROL).TLP_PREFIX_LOG_PRESENT, 1);
  assert.equal(config.readRaw(Aer.TLP_PREFIX_LOG_0), 0x9100_0000);
  assert.equal(config.readRaw(Aer.TLP_PREFIX_LOG_1), 5);
  const without = reporting();
  without.recordError({ error: "MALFORMED_TLP", header: [1], prefix: [5] });
  assert.equal(without.space.read(Aer.CAPABILITIES_AND_CONTROL).TLP_PREFIX_LOG_PRESENT, 0);
});

test("status bits of the header tell too", () => {
  const config = reporting();
  config.recordError({ error: "POISONED_TLP_RECEIVED" });
  config.recordError({ error: "COMPLETER_ABORT" });
  const status = config.space.read(Header.STATUS);
  assert.deepEqual(
    [status.DETECTED_PARITY_ERROR, status.SIGNALED_TARGET_ABORT, status.SIGNALED_SYSTEM_ERROR],
    [1, 1, 0],
  );
});

test("errors that the function does not have are refused; without AER the device status tells", () => {
  assert.throws(() => reporting().recordError({ error: "SURPRISE_DOWN_ERROR" }), { code: "NOT_SUPPORTED" });
  assert.throws(() => reporting().recordError({ error: "NOPE" as "BAD_TLP" }), { code: "NOT_SUPPORTED" });
  const more = reporting({ errors: ["ACS_VIOLATION"] });
  more.recordError({ error: "ACS_VIOLATION" });
  assert.deepEqual(readErrors(more.space).uncorrectable, ["ACS_VIOLATION"]);

  const plain = new VirtualConfig({ ...base, capabilities: [virtual.pcie()] });
  plain.space.write(PciExpress.DEVICE_CONTROL, {
    NON_FATAL_ERROR_REPORTING_ENABLE: 1,
    FATAL_ERROR_REPORTING_ENABLE: 1,
  });
  assert.deepEqual(plain.recordError({ error: "COMPLETION_TIMEOUT" }), ["ERR_NONFATAL"]);
  assert.deepEqual(plain.recordError({ error: "MALFORMED_TLP" }), ["ERR_FATAL"]);
  assert.equal(plain.space.read(PciExpress.DEVICE_STATUS).FATAL_ERROR_DETECTED, 1);
  assert.deepEqual(new VirtualConfig(base).recordError({ error: "COMPLETION_TIMEOUT" }), []);
});

test("AER takes 1 to 32 headers", () => {
  for (const headers of [0, 33, 1.5]) assert.throws(() => virtual.aer({ headers }), { code: "DECLARATION_INVALID" });
});
