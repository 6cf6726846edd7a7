import assert from "node:assert/strict";
import { test } from "node:test";
import type { Uevent } from "../linux/uevents.ts";
import { recoveryOutcome } from "./signals.ts";

const address = "0000:05:00.0";

function event(properties: Record<string, string>, subsystem = "pci"): Uevent {
  return { action: "change", devpath: `/devices/pci0000:00/${address}`, subsystem, properties };
}

test("the end of error recovery is told apart from its beginning, and from other functions'", () => {
  const of = (ERROR_EVENT: string, slot = address): boolean | undefined =>
    recoveryOutcome(event({ PCI_SLOT_NAME: slot, ERROR_EVENT }), address);
  assert.equal(of("SUCCESSFUL_RECOVERY"), true);
  assert.equal(of("FAILED_RECOVERY"), false);
  assert.equal(of("BEGIN_RECOVERY"), undefined);
  assert.equal(of("SUCCESSFUL_RECOVERY", "0000:06:00.0"), undefined);
  assert.equal(recoveryOutcome(event({ PCI_SLOT_NAME: address }), address), undefined);
  assert.equal(
    recoveryOutcome(event({ PCI_SLOT_NAME: address, ERROR_EVENT: "FAILED_RECOVERY" }, "block"), address),
    undefined,
  );
});
