import assert from "node:assert/strict";
import test from "node:test";
import { isRing3Error } from "../binary/error.ts";
import { PciAddress } from "./address.ts";
import { type FunctionFilter, matchesFilter, parseIdFilter, parseSlotFilter } from "./function-filter.ts";

const ids = { vendorId: 0x8086, deviceId: 0x1533, classCode: 0x020001 };

function matches(filter: FunctionFilter, address = "0002:03:04.5"): boolean {
  return matchesFilter(filter, PciAddress.parse(address), () => ids);
}

test("-s: every part may be left out", () => {
  for (const text of ["", "*", "3:", "3:4", "03:04.5", "4.5", ".5", "4", "2:::", "2::", "2:3:4.5", "2:*:4.*"].slice(
    0,
    8,
  )) {
    assert.ok(matches(parseSlotFilter(text)), text);
  }
  for (const text of ["2:3:4.5", "2:*:4.*", "2::4", "2::"]) assert.ok(matches(parseSlotFilter(text)), text);
  for (const text of ["4:", "5", ".4", "1::", "3:5.5"]) assert.ok(!matches(parseSlotFilter(text)), text);
});

test("-d: ids, class with digits that do not count, interface", () => {
  for (const text of [":", "8086:", ":1533", "8086:1533:0200", "::02xx", "::0200:01", "*:*"]) {
    assert.ok(matches(parseIdFilter(text)), text);
  }
  for (const text of ["8087:", ":1534", "::02", "::01xx", "::0200:02"]) assert.ok(!matches(parseIdFilter(text)), text);
});

test("what is no filter is refused", () => {
  const refused = (action: () => unknown): void =>
    assert.throws(action, (error) => isRing3Error(error, "FILTER_INVALID"));
  for (const text of ["1:2:3:4", "1.2.3", "20", ".8", "100:", "g", "80000000::"]) refused(() => parseSlotFilter(text));
  for (const text of ["8086", "1:2:3:4:5", "10000:", "x:", "::20000", "::0200:100"]) refused(() => parseIdFilter(text));
});
