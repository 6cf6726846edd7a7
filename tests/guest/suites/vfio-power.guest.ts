// Low power: the platform may switch the function off, so its BARs are out of reach until it is switched on again.
import assert from "node:assert/strict";
import { test } from "node:test";
import { rejectsCode, throwsCode } from "../../contract/fixture.ts";
import { backends, opened } from "../../contract/guest-functions.ts";
import { FUNCTIONS } from "../machine.ts";

for (const backend of backends) {
  test(`${backend}: low power on and off`, async (t) => {
    const fn = await opened(t, FUNCTIONS.nvme.address, { backend });
    const registers = fn.bar(0).registers();
    const version = registers.read32(8);
    await fn.power.enterLowPower();
    await fn.power.enterLowPower();
    assert.equal(fn.power.state, "unknown");
    throwsCode(() => registers.read32(8), "REGION_DISABLED");
    throwsCode(() => fn.bar(0).read32(8), "REGION_DISABLED");
    await rejectsCode(fn.power.set("D0"), "POWER_REFUSED");
    // Config space wakes it for as long as an access takes.
    assert.equal(fn.config.read16(0), fn.identity.vendorId);
    await fn.power.exitLowPower();
    await fn.power.exitLowPower();
    assert.equal(fn.power.state, "D0");
    assert.equal(registers.read32(8), version);
  });

  test(`${backend}: closing in low power or in D3hot does no harm`, async (t) => {
    const first = await opened(t, FUNCTIONS.nvme.address, { backend });
    first.bar(0).registers().read32(8);
    await first.power.enterLowPower();
    await first[Symbol.asyncDispose]();
    const second = await opened(t, FUNCTIONS.nvme.address, { backend });
    second.bar(0).registers().read32(8);
    await second.power.set("D3hot");
    await second[Symbol.asyncDispose]();
    const third = await opened(t, FUNCTIONS.nvme.address, { backend });
    assert.equal(third.power.state, "D0");
    assert.notEqual(third.bar(0).registers().read32(8), 0);
  });

  test(`${backend}: a reset by config space keeps windows alive`, async (t) => {
    const fn = await opened(t, FUNCTIONS.nvme.address, { backend });
    const registers = fn.bar(0).registers();
    const version = registers.read32(8);
    const express = fn.config.find(0x10);
    assert.ok(express !== undefined);
    fn.config.write16(express.offset + 8, fn.config.read16(express.offset + 8) | 0x8000);
    // The kernel resets within the write; QEMU's nvme keeps no register that would show it but its version.
    assert.equal(registers.read32(8), version);
    assert.equal(fn.bar(0).read32(8), version);
  });
}
