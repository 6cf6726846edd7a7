import assert from "node:assert/strict";
import test from "node:test";
import type { Uevent, UeventNotice } from "../linux/uevents.ts";
import { HostEvents, hostEvent, watchHost } from "./uevents.ts";

const event = (action: string, subsystem: string, devpath: string, properties: Record<string, string> = {}): Uevent => {
  return { action, subsystem, devpath, properties };
};
const device = "/devices/pci0000:00/0000:00:03.0/0000:01:00.0";
const slot = { PCI_SLOT_NAME: "0000:01:00.0" };

test("kernel events become what they mean", () => {
  const address = "0000:01:00.0";
  assert.deepEqual(hostEvent(event("add", "pci", device, slot)), { type: "added", address });
  assert.deepEqual(hostEvent(event("remove", "pci", device)), { type: "removed", address });
  assert.deepEqual(hostEvent(event("bind", "pci", device, { ...slot, DRIVER: "vfio-pci" })), {
    type: "bound",
    address,
    driver: "vfio-pci",
  });
  assert.deepEqual(hostEvent(event("unbind", "pci", device, slot)), { type: "unbound", address });
  assert.deepEqual(hostEvent(event("change", "pci", device, { ...slot, ERROR_EVENT: "BEGIN_RECOVERY" })), {
    type: "error",
    address,
    phase: "BEGIN_RECOVERY",
  });
  assert.equal(hostEvent(event("change", "pci", device, slot)), undefined);
  assert.equal(hostEvent(event("add", "block", `${device}/nvme/nvme0/nvme0n1`)), undefined);
  assert.equal(hostEvent(event("add", "pci", "/devices/pci0000:00")), undefined);
  assert.deepEqual(hostEvent(event("add", "vfio", "/devices/virtual/vfio/14", { DEVNAME: "vfio/14" })), {
    type: "node-added",
    node: "/dev/vfio/14",
    address: undefined,
  });
  assert.deepEqual(
    hostEvent(event("remove", "vfio-dev", `${device}/vfio-dev/vfio0`, { DEVNAME: "vfio/devices/vfio0" })),
    { type: "node-removed", node: "/dev/vfio/devices/vfio0", address },
  );
});

test("the stream gives what concerns PCI and VFIO, and ends with its source", async () => {
  let disposed = false;
  async function* notices(): AsyncGenerator<UeventNotice> {
    yield { type: "event", event: event("add", "net", "/devices/virtual/net/lo") };
    yield { type: "overflow" };
    yield { type: "event", event: event("add", "pci", device, slot) };
  }
  const source = Object.assign(notices(), {
    [Symbol.dispose]: () => {
      disposed = true;
    },
  });
  const seen: string[] = [];
  using events = new HostEvents(source);
  for await (const { type } of events) seen.push(type);
  assert.deepEqual(seen, ["overflow", "added"]);
  assert.equal(disposed, false);
  await events.return();
  assert.equal(disposed, true);
});

test("the real socket opens without privilege and closes again", async () => {
  const events = await watchHost();
  const next = events.next();
  events[Symbol.dispose]();
  assert.deepEqual(await next, { done: true, value: undefined });
});
