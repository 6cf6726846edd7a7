// A user resets its function by the function's own registers: the function forgets what the user did to it, keeps what the
// owner of the machine programmed, and drivers go on, this user's and the neighbour's.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EduDevice } from "../devices/edu/device.ts";
import { EduDriver } from "../drivers/edu/driver.ts";
import { AdvancedFeatures } from "../pci/capabilities/advanced-features.ts";
import { PciExpress } from "../pci/capabilities/pci-express.ts";
import { PowerManagement } from "../pci/capabilities/power-management.ts";
import type { PciFunction } from "../pci/function.ts";
import { Header, Header0 } from "../pci/header.ts";
import { inProcess } from "../virtual/in-process.ts";
import { af, type CapabilityBuilder, pcie, pm } from "../virtual/index.ts";
import { linux, mediate, type RuleSet, strict, vfio2010 } from "./index.ts";

interface Way {
  readonly name: string;
  readonly capability: CapabilityBuilder;
  reset(fn: PciFunction): void;
}

const ways: readonly Way[] = [
  {
    name: "PCI Express' FLR",
    capability: pcie(),
    reset: (fn) => fn.config.write(PciExpress.DEVICE_CONTROL, { INITIATE_FUNCTION_LEVEL_RESET: 1 }),
  },
  {
    name: "the FLR of advanced features",
    capability: af(),
    reset: (fn) => fn.config.write(AdvancedFeatures.CONTROL, { INITIATE_FLR: 1 }),
  },
  {
    name: "D3hot and back",
    capability: pm(),
    reset: (fn) => {
      fn.config.write(PowerManagement.PMCSR, { POWER_STATE: 3 });
      fn.config.write(PowerManagement.PMCSR, { POWER_STATE: 0 });
    },
  },
];

/** Where the owner of the machine put the function's BAR. */
const PLACE = 0xfe00_0000;

/** What a reset of this user's must leave alone: BARs that it sees, BARs that the function has. */
function bars(...functions: readonly PciFunction[]): number[] {
  return functions.map((fn) => fn.config.readRaw(Header0.BAR0));
}

async function survives(way: Way, rules: RuleSet, real: PciFunction, user: PciFunction): Promise<void> {
  await using neighbour = inProcess(new EduDevice());
  await using other = await mediate(neighbour, { rules });
  await using theirs = inProcess(other);
  await using neighbouring = await EduDriver.start(theirs, { completion: "msi" });
  await neighbouring.store(0, Uint8Array.of(7, 7, 7, 7));

  const before = bars(user, real);
  assert.equal(before[1], PLACE);
  {
    await using edu = await EduDriver.start(user, { completion: "msi" });
    await edu.store(0, Uint8Array.of(1, 2, 3, 4));
    assert.deepEqual(await edu.load(0, 4), Uint8Array.of(1, 2, 3, 4));
    assert.equal(real.config.read(Header.COMMAND).BUS_MASTER, 1);
    way.reset(user);
    assert.deepEqual(bars(user, real), before, "BARs as before");
    user.config.write(Header.COMMAND, { MEMORY: 1, BUS_MASTER: 1 });
    // Interrupts that were connected still are.
    assert.equal(await edu.factorial(5), 120);
    assert.deepEqual(await edu.load(0, 4), new Uint8Array(4), "what the user wrote is gone");
  }
  await using again = await EduDriver.start(user, { completion: "msi" });
  assert.equal(await again.factorial(6), 720);
  assert.deepEqual(await neighbouring.load(0, 4), Uint8Array.of(7, 7, 7, 7));
}

for (const way of ways) {
  for (const rules of [strict, linux, vfio2010]) {
    test(`${way.name}, rules ${rules.name}: BARs as before, the driver comes back, the neighbour notices nothing`, async () => {
      await using real = inProcess(new EduDevice({ capabilities: [way.capability] }));
      real.config.writeRaw(Header0.BAR0, PLACE);
      await using mediated = await mediate(real, { rules });
      await using user = inProcess(mediated);
      await survives(way, rules, real, user);
    });
  }
}

test("a link that the platform has reset: interrupts that were connected still are", async () => {
  await using real = inProcess(new EduDevice({ capabilities: [pcie()] }));
  await using mediated = await mediate(real);
  const told: unknown[] = [];
  mediated.observe({ notice: ({ kind, reset }) => told.push([kind, reset]) });
  await using user = inProcess(mediated);
  await using edu = await EduDriver.start(user, { completion: "msi" });
  assert.equal(await edu.factorial(5), 120);
  await real.reset();
  real.config.write(Header.COMMAND, { MEMORY: 1 });
  real.events.emit("recovered", { description: "the link was reset", reset: "bus" });
  assert.deepEqual(told, [["recovered", "bus"]]);
  user.config.write(Header.COMMAND, { MEMORY: 1, BUS_MASTER: 1 });
  assert.equal(await edu.factorial(6), 720);
});

test("what a user made of the registers that are the machine's is not the next one's", async () => {
  await using real = inProcess(new EduDevice({ capabilities: [pcie()] }));
  // As a kernel's reset has it, which gives back what it found.
  const reset = real.reset.bind(real);
  real.reset = async () => {
    const found = real.config.readRaw(PciExpress.DEVICE_CONTROL);
    const method = await reset();
    real.config.writeRaw(PciExpress.DEVICE_CONTROL, found);
    return method;
  };
  real.config.write(PciExpress.DEVICE_CONTROL, { FATAL_ERROR_REPORTING_ENABLE: 1 });
  await using mediated = await mediate(real, { rules: linux });
  {
    await using user = inProcess(mediated);
    user.config.write(PciExpress.DEVICE_CONTROL, { FATAL_ERROR_REPORTING_ENABLE: 0, EXTENDED_TAG_FIELD_ENABLE: 1 });
    assert.equal(real.config.read(PciExpress.DEVICE_CONTROL).FATAL_ERROR_REPORTING_ENABLE, 0);
  }
  await mediated.settling;
  const { FATAL_ERROR_REPORTING_ENABLE, EXTENDED_TAG_FIELD_ENABLE } = real.config.read(PciExpress.DEVICE_CONTROL);
  assert.deepEqual([FATAL_ERROR_REPORTING_ENABLE, EXTENDED_TAG_FIELD_ENABLE], [1, 0]);
});
