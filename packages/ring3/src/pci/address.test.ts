import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { PciAddress } from "./address.ts";

const address = fc
  .tuple(fc.integer({ min: 0, max: 0xffff_ffff }), fc.nat(255), fc.nat(31), fc.nat(7))
  .map((parts) => new PciAddress(...parts));

test("what is written is read back, and its order is that of the numbers", () => {
  fc.assert(
    fc.property(address, address, (a, b) => {
      assert.deepEqual(PciAddress.parse(a.toString()), a);
      assert.ok(PciAddress.accepts(a.toString()));
      assert.deepEqual(PciAddress.fromRoutingId(a.domain, a.routingId), a);
      assert.equal(Math.sign(PciAddress.compare(a, b)), -Math.sign(PciAddress.compare(b, a)));
      assert.equal(a.equals(b), a.toString() === b.toString());
    }),
  );
});

test("the forms that people write", () => {
  assert.equal(PciAddress.parse("01:00.0").toString(), "0000:01:00.0");
  assert.equal(PciAddress.parse("1:2.3").toString(), "0000:01:02.3");
  assert.equal(PciAddress.parse("0000:FF:1F.7").toString(), "0000:ff:1f.7");
  assert.equal(PciAddress.parse("10001:02:00.0").toString(), "10001:02:00.0");
  assert.equal(JSON.stringify(PciAddress.parse("02:10.1")), '"0000:02:10.1"');
  assert.equal(PciAddress.parse("02:10.1").routingId, 0x0281);
});

test("what is no address is refused with how to write one", () => {
  for (const text of [
    "",
    "01:00",
    "01:20.0",
    "01:00.8",
    "100:00.0.0",
    "0000:01:00.0 ",
    "g1:00.0",
    "123456789:01:00.0",
  ]) {
    assert.throws(() => PciAddress.parse(text), { code: "ADDRESS_INVALID" }, text);
    assert.equal(PciAddress.accepts(text), false, text);
  }
  assert.throws(() => new PciAddress(2 ** 32, 0, 0, 0), { code: "ADDRESS_INVALID" });
  assert.throws(() => new PciAddress(0, 0, 32, 0), { code: "ADDRESS_INVALID" });
  assert.throws(() => PciAddress.fromRoutingId(0, 0x10000), { code: "ADDRESS_INVALID" });
});
