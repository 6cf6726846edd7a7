import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { bytesConfigAccess, ConfigSpace } from "../pci/config-space.ts";
import { FakeMachine } from "./fake-machine.ts";
import { listFunctions } from "./inventory.ts";
import { readGroup } from "./iommu-groups.ts";
import { explainGroup, judgeIsolation } from "./isolation.ts";

interface Shape {
  /** DEVICE_PORT_TYPE; absent for conventional PCI. */
  readonly type?: number;
  readonly bridge?: boolean;
  readonly multi?: boolean;
  /** Capability and control of ACS. */
  readonly acs?: readonly [capability: number, control: number];
}

function configOf({ type, bridge, multi, acs }: Shape): Uint8Array {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x1234_8086, true);
  bytes[0x0e] = (bridge === true ? 1 : 0) | (multi === true ? 0x80 : 0);
  if (type !== undefined) {
    bytes[0x06] = 0x10;
    bytes[0x34] = 0x40;
    view.setUint16(0x40, 0x10, true);
    view.setUint16(0x42, (type << 4) | 2, true);
  }
  if (acs !== undefined) {
    view.setUint32(0x100, 0x1_000d, true);
    view.setUint16(0x104, acs[0], true);
    view.setUint16(0x106, acs[1], true);
  }
  return bytes;
}

function judge(shape: Shape): [state: string, kind: string, text: string] {
  const { state, kind, text } = judgeIsolation(new ConfigSpace(bytesConfigAccess(configOf(shape))));
  return [state, kind, text];
}

test("a function is judged as the kernel judges it", () => {
  assert.deepEqual(judge({ type: 4, bridge: true }), ["open", "root port", "no ACS"]);
  assert.deepEqual(judge({ type: 4, bridge: true, acs: [0x1d, 0x1d] }), [
    "isolating",
    "root port",
    "ACS SV RR CR UF on",
  ]);
  assert.deepEqual(judge({ type: 6, bridge: true, acs: [0x1d, 0x11] }), ["open", "downstream port", "ACS RR CR off"]);
  assert.deepEqual(judge({ type: 0 }), ["isolating", "endpoint", "the only function of its device"]);
  assert.deepEqual(judge({ type: 0, multi: true }), ["open", "endpoint", "no ACS"]);
  assert.deepEqual(judge({ type: 0, multi: true, acs: [0, 0] }), ["isolating", "endpoint", "ACS without services"]);
  assert.deepEqual(judge({ type: 0, multi: true, acs: [0x0c, 0x0c] }), ["isolating", "endpoint", "ACS RR CR on"]);
  assert.equal(judge({ type: 7, bridge: true })[1], "conventional bridge");
  assert.equal(judge({ bridge: true })[1], "conventional bridge");
  assert.equal(judge({})[2], "conventional PCI has no ACS");
  const header = new ConfigSpace(bytesConfigAccess(configOf({ type: 0 }).slice(0, 64)));
  assert.equal(judgeIsolation(header).state, "unknown");
});

function reasonsOf(
  functions: readonly (Shape & { address: string; parent?: string })[],
  visible = true,
): readonly string[] {
  const shared = functions.filter(({ address }) => !address.startsWith("0000:00:1f"));
  using machine = new FakeMachine(
    functions.map((fn) => ({
      address: fn.address,
      ...(fn.parent === undefined ? {} : { parent: fn.parent }),
      ...(shared.includes(fn) ? { group: 1 } : {}),
      ...(fn.bridge === true ? { classCode: 0x060400 } : {}),
    })),
  );
  for (const fn of functions) {
    const bytes = configOf(fn);
    const place = join(machine.paths.sysfsRoot, "bus/pci/devices", fn.address, "config");
    writeFileSync(place, visible ? bytes : bytes.slice(0, 64));
  }
  return explainGroup(readGroup(1, machine.paths), listFunctions(machine.paths), machine.paths).reasons;
}

test("why functions share a group", () => {
  const port = { address: "0000:00:01.0", type: 4, bridge: true };
  const card = { address: "0000:00:02.0", type: 0, multi: true };
  assert.deepEqual(reasonsOf([card]), [], "alone");
  const twins = reasonsOf([card, { ...card, address: "0000:00:02.1" }]);
  assert.match(
    twins[0] ?? "",
    /^0, 1 are functions of one device, 0000:00:02, which does not keep them apart .*no ACS/,
  );
  const below = reasonsOf([port, { address: "0000:01:00.0", type: 0, parent: port.address }]);
  assert.deepEqual(below.length, 1);
  assert.match(below[0] ?? "", /0000:01:00\.0 is below the root port 0000:00:01\.0: .*turn around in it \(no ACS\)/);
  // The bridge itself may be in another group, or in none that we look at.
  const bridge = { address: "0000:00:1f.0", type: 7, bridge: true };
  const conventional = reasonsOf([
    bridge,
    { address: "0000:02:01.0", parent: bridge.address },
    { address: "0000:02:02.0", parent: bridge.address },
  ]);
  assert.match(conventional[0] ?? "", /0000:02:01\.0 and 0000:02:02\.0 are below the conventional bridge .*its own id/);
  const apart = { type: 0, acs: [0x1d, 0x1d], multi: true } as const;
  const quirk = reasonsOf([
    { ...apart, address: "0000:00:02.0" },
    { ...apart, address: "0000:00:02.1" },
  ]);
  assert.match(quirk[0] ?? "", /the kernel has a rule/);
});

test("an ordinary user is told that the reason is hidden, and how to see it", () => {
  const twins = [
    { address: "0000:00:02.0", type: 0, multi: true },
    { address: "0000:00:02.1", type: 0, multi: true },
  ];
  assert.match(reasonsOf(twins, false)[0] ?? "", /sudo ring3 groups/);
});
