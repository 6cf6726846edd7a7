import assert from "node:assert/strict";
import { symlinkSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { isRing3Error } from "../binary/error.ts";
import { FakeMachine } from "./fake-machine.ts";
import { holdersOf, planReset, resetFunction } from "./reset.ts";

const DISK = { address: "0000:01:00.0", group: 11, driver: "vfio-pci" };
const OLD = { address: "0000:02:00.0", attributes: { reset_method: "" } };

function writes({ calls, root }: FakeMachine): string[] {
  return calls.map((call) => call.replace(`${root}/sys/bus/pci/devices/`, ""));
}

test("a reset goes through sysfs and tells its method; an asked one is set for the time", async () => {
  using machine = new FakeMachine([DISK]);
  assert.equal(await resetFunction({ address: "01:00.0" }, machine.host()), "flr");
  assert.deepEqual(writes(machine), ["write 0000:01:00.0/reset"]);
  machine.calls.length = 0;
  assert.equal(await resetFunction({ address: "01:00.0", method: "bus" }, machine.host()), "bus");
  const around = "write 0000:01:00.0/reset_method";
  assert.deepEqual(writes(machine), [around, "write 0000:01:00.0/reset", around]);
  const plan = planReset({ address: "01:00.0", method: "bus" }, machine.host());
  assert.match(
    plan.commands.join("\n"),
    /^echo bus > .*reset_method\necho 1 > .*reset\necho "flr bus" > .*reset_method$/,
  );
});

test("the methods come back even where the reset fails", async () => {
  using machine = new FakeMachine([DISK]);
  machine.failAt = { call: 1, when: "before" };
  await assert.rejects(resetFunction({ address: "01:00.0", method: "bus" }, machine.host()), /EIO/);
  assert.deepEqual(planReset({ address: "01:00.0" }, machine.host()).methods, ["flr", "bus"]);
});

test("what cannot be reset, or should not be, is refused with the reason", async () => {
  using machine = new FakeMachine([DISK, OLD]);
  const code = (wanted: string, message: RegExp) => (error: Error) =>
    isRing3Error(error, wanted) && message.test(error.message);
  const plan = (request: Parameters<typeof planReset>[0]) => () => planReset(request, machine.host());
  assert.throws(plan({ address: "02:00.0" }), code("RESET_UNAVAILABLE", /no FLR/));
  assert.throws(plan({ address: "01:00.0", method: "pm" }), code("RESET_UNAVAILABLE", /offers flr, bus/));
  machine.privileged = false;
  await assert.rejects(resetFunction({ address: "01:00.0" }, machine.host()), code("NOT_ROOT", /sudo ring3 reset/));
  symlinkSync(join(machine.paths.devRoot, "vfio/11"), join(machine.paths.procRoot, String(process.pid), "fd/7"));
  assert.equal(holdersOf("01:00.0", machine.host()).holders[0]?.pid, process.pid);
  assert.throws(plan({ address: "01:00.0" }), code("FUNCTION_HELD", new RegExp(`process ${process.pid} .*--force`)));
  assert.doesNotThrow(plan({ address: "01:00.0", force: true }));
});
