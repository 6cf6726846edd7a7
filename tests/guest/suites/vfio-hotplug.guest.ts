// Somebody wants the function back: unplugged while open. The driver is told and lets go, or the library does after the
// grace time; nothing hangs, and the kernel gets its device.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { VfioFunction } from "../../../packages/ring3/src/vfio/function.ts";
import { openVfio } from "../../../packages/ring3/src/vfio/open.ts";
import { rejectsCode, throwsCode } from "../../contract/fixture.ts";
import { backends } from "../../contract/guest-functions.ts";
import { asRoot, awaitFunction, bind, qmp } from "../inside.ts";
import { FUNCTIONS, HOTPLUG } from "../machine.ts";

const [slot] = HOTPLUG;

/** Whether QEMU still has the device; it takes seconds to forget one that was unplugged. */
async function known(id: string): Promise<boolean> {
  const devices = (await qmp("qom-list", { path: "/machine/peripheral" })) as { readonly name: string }[];
  return devices.some(({ name }) => name === id);
}

async function plugged(backend: "group" | "iommufd", removalGraceMs: number): Promise<VfioFunction> {
  while (await known("plugged")) await delay(100);
  await asRoot("echo 0 > /sys/bus/pci/drivers_autoprobe");
  await qmp("device_add", { driver: "edu", bus: slot.port, id: "plugged" });
  await awaitFunction(slot.address, true);
  await bind(slot.address, "vfio-pci");
  return await openVfio(slot.address, { backend, removalGraceMs });
}

for (const backend of backends) {
  test(`${backend}: a driver that lets go when asked`, async () => {
    const fn = await plugged(backend, 60_000);
    const asked = new Promise<number>((resolve) =>
      fn.events.on("removal-requested", ({ graceMs }) => resolve(graceMs)),
    );
    const [interrupt] = fn.interrupts.msi(1);
    assert.ok(interrupt !== undefined);
    const pending = rejectsCode(interrupt.next(), "FUNCTION_REMOVED");
    await qmp("device_del", { id: "plugged" });
    assert.equal(await asked, 60_000);
    // It still answers, so a driver can stop it in good order.
    assert.equal(fn.bar(0).registers().read32(0), 0x0100_00ed);
    await fn[Symbol.asyncDispose]();
    await pending;
    await awaitFunction(slot.address, false);
  });

  test(`${backend}: a driver that does not care loses the function after the grace time`, async () => {
    const fn = await plugged(backend, 200);
    const registers = fn.bar(0).registers();
    using buffer = fn.dma.allocate(4096);
    const [interrupt] = fn.interrupts.msi(1);
    assert.ok(interrupt !== undefined);
    const pending = rejectsCode(interrupt.next(), "FUNCTION_REMOVED");
    const removed = new Promise<string>((resolve) => fn.events.on("removed", ({ reason }) => resolve(reason)));
    // The grace timer does not keep the process alive by itself.
    const alive = setInterval(() => undefined, 1000);
    const gone = once(fn.gone, "abort");
    await qmp("device_del", { id: "plugged" });
    assert.match(await removed, /unplug/);
    await gone;
    clearInterval(alive);
    await pending;
    assert.equal((fn.gone.reason as { code: string }).code, "FUNCTION_REMOVED");
    throwsCode(() => registers.read32(0), "REGION_REVOKED");
    throwsCode(() => fn.bar(0).read32(0), "FUNCTION_REMOVED");
    throwsCode(() => fn.config.read16(0), "FUNCTION_REMOVED");
    throwsCode(() => fn.dma.allocate(4096), "FUNCTION_REMOVED");
    throwsCode(() => buffer.bytes, "DMA_UNMAPPED");
    await fn[Symbol.asyncDispose]();
    await awaitFunction(slot.address, false);
  });

  test(`${backend}: unbinding asks too, and waits until the driver lets go`, async () => {
    const { address } = FUNCTIONS.e1000e;
    const fn = await openVfio(address, { backend, removalGraceMs: 60_000 });
    const asked = new Promise<void>((resolve) => fn.events.on("removal-requested", () => resolve()));
    const unbinding = bind(address, "none");
    await asked;
    await fn[Symbol.asyncDispose]();
    await unbinding;
    await bind(address, "vfio-pci");
  });
}
