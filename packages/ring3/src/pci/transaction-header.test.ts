import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { decodeTransactionHeader, transactionHeaderText } from "./transaction-header.ts";

const text = (...dwords: number[]): string => {
  const header = decodeTransactionHeader(dwords);
  return header === undefined ? "empty" : transactionHeaderText(header);
};

test("headers of each kind, bit for bit as in PCIe 6.0, sections 2.2.7 to 2.2.9", () => {
  assert.equal(
    text(0x00000001, 0x0100000f, 0xfee00000, 0),
    "MRd (memory read) from 01:00.0, address 0xfee00000, 1 dword",
  );
  assert.equal(
    text(0x60000000, 0x051a07ff, 0x00000012, 0x34567890),
    "MWr (memory write) from 05:03.2, address 0x1234567890, 1024 dwords",
  );
  assert.equal(
    text(0x04000001, 0x0000000f, 0x01000034, 0),
    "CfgRd0 (configuration read, type 0) from 00:00.0 to 01:00.0 register 0x34",
  );
  assert.equal(
    text(0x45000001, 0x0018010f, 0x0ab10ffc, 0),
    "CfgWr1 (configuration write, type 1) from 00:03.0 to 0a:16.1 register 0xffc",
  );
  assert.equal(text(0x42000001, 0x0000000f, 0x0000cf8, 0), "IOWr (I/O write) from 00:00.0, address 0xcf8, 1 dword");
  assert.equal(
    text(0x0a000000, 0x01002004, 0x00000500, 0),
    "Cpl (completion without data) by 01:00.0 for 00:00.0, unsupported request",
  );
  assert.equal(
    text(0x4a004001, 0x01000004, 0x02080940, 0),
    "CplD (completion with data) by 01:00.0 for 02:01.0, successful completion, poisoned",
  );
  assert.equal(text(0x30000000, 0x01000033, 0, 0), "Msg (message) ERR_FATAL from 01:00.0");
  assert.equal(text(0x74000000, 0x010000aa, 0, 0), "MsgD (message with data) code 0xaa from 01:00.0");
  assert.equal(
    text(0x4c000001, 0x0100000f, 0x1000, 0),
    "FetchAdd (atomic fetch and add) from 01:00.0, address 0x1000, 1 dword",
  );
  assert.equal(text(0x80000000, 1, 2, 3), "Prfx (local prefix)");
  assert.equal(text(0xe0000000, 1, 2, 3), "a packet of a reserved format");
  assert.equal(text(0x0f000000, 1, 2, 3), "a packet of a reserved type");
});

test("tags of ten bits, traffic class", () => {
  const header = decodeTransactionHeader([0x00d80001, 0x0100ff0f, 0x1000, 0]);
  assert.deepEqual([header?.tag, header?.trafficClass, header?.type], [0x3ff, 5, "MRd"]);
});

test("an empty log is no header", () => {
  assert.equal(text(0, 0, 0, 0), "empty");
  assert.equal(text(), "empty");
  assert.equal(text(0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff), "empty");
});

test("whatever a device logs is decoded without complaint", () => {
  const dword = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  fc.assert(
    fc.property(fc.array(dword, { maxLength: 5 }), (dwords) => {
      const header = decodeTransactionHeader(dwords);
      if (header === undefined) return;
      assert.doesNotMatch(transactionHeaderText(header).replace("end-to-end", ""), /undefined|NaN|-/);
      assert.ok(
        header.address === undefined ||
          (header.address >= 0n && header.address < 2n ** 64n && header.address % 4n === 0n),
      );
    }),
  );
});
