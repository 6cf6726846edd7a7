// ring3 watch over real events: hotplug and binding, AER with the packet behind it, power; as an ordinary user and as root.
// kernels: any
// seconds: 37
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { openVfio } from "../../../packages/ring3/src/vfio/open.ts";
import { asRoot, awaitFunction, bind, monitor, qmp, rootOutput } from "../inside.ts";
import { FUNCTIONS, HOTPLUG } from "../machine.ts";

const RING3 = new URL("../../../packages/cli/src/main.ts", import.meta.url).pathname;
const [slot] = HOTPLUG;
const { address, id } = FUNCTIONS.virtioBlk;

/** A watch as uid 1000; it is listening once this resolves. */
async function watching(t: TestContext, ...words: string[]) {
  const child = spawn(process.execPath, [RING3, "watch", "--json", "--interval", "100", ...words]);
  t.after(() => child.kill("SIGKILL"));
  const closed = once(child, "close") as Promise<[number | null]>;
  const events: any[] = [];
  const arrivals = new EventTarget();
  createInterface({ input: child.stdout }).on("line", (line) => {
    events.push(JSON.parse(line));
    arrivals.dispatchEvent(new Event("line"));
  });
  let stderr = "";
  child.stderr.setEncoding("utf8");
  for await (const text of child.stderr) {
    stderr += text as string;
    if (stderr.includes("watching")) break;
  }
  const find = async (wanted: (event: any) => boolean): Promise<any> => {
    for (;;) {
      const found = events.find(wanted);
      if (found !== undefined) return found;
      // A hang would say nothing of what came instead.
      const signal = AbortSignal.timeout(60_000);
      await once(arrivals, "line", { signal }).catch(() => assert.fail(`only ${JSON.stringify(events)} ${stderr}`));
    }
  };
  const stop = async (): Promise<number | null> => {
    child.kill("SIGINT");
    return (await closed)[0];
  };
  return { events, find, stop, stderr };
}

test("hotplug, binding and nodes, in the order in which they came", async (t) => {
  const seen = await watching(t);
  await asRoot("echo 0 > /sys/bus/pci/drivers_autoprobe");
  await qmp("device_add", { driver: "edu", bus: slot.port, id: "watched" });
  await awaitFunction(slot.address, true);
  await bind(slot.address, "vfio-pci");
  await seen.find(({ type, address: at }) => type === "bound" && at === slot.address);
  await qmp("device_del", { id: "watched" });
  await seen.find(({ type, address: at }) => type === "removed" && at === slot.address);
  await awaitFunction(slot.address, false);
  const types = seen.events.filter((event) => event.address === slot.address).map(({ type }) => type);
  assert.deepEqual(
    types.filter((type) => !type.startsWith("node-")),
    ["added", "bound", "unbound", "removed"],
  );
  const nodes = seen.events.filter(({ type }) => type === "node-added").map(({ node }) => node as string);
  assert.ok(
    nodes.some((node) => node.startsWith("/dev/vfio/")),
    nodes.join(),
  );
  assert.match(seen.events[0].time, /^\d{4}-\d\d-\d\dT/);
  assert.equal(await seen.stop(), 0);
});

test("an injected error: counted for everybody, with its packet for root; power when it is opened", async (t) => {
  const file = "/tmp/root-watch";
  const command = `node ${RING3} watch ${address} --json --interval 100 --for 60 > ${file} 2> ${file}.log & echo $!`;
  const pid = (await rootOutput(command)).trim();
  t.after(async () => void (await asRoot(`kill ${pid}`)));
  const seen = await watching(t, address);
  await rootOutput(`timeout 60 sh -c 'until grep -q watching ${file}.log; do usleep 20000; done'`);
  await using fn = await openVfio(address);
  await seen.find(({ type, state }) => type === "power" && state === "D0");
  // QEMU keeps a header's bytes in the order of memory, hardware in that of a number.
  await monitor(`pcie_aer_inject_error ${id} POISON_TLP 0x01000040 0x0f000005 0x0010e0fe 0x0`);
  const counted = await seen.find(({ type }) => type === "aer");
  assert.deepEqual([counted.severity, counted.errors], ["nonfatal", { POISONED_TLP_RECEIVED: 1 }]);
  await seen.find(({ type, phase }) => type === "error" && (phase as string).endsWith("RECOVERY"));
  await monitor(`pcie_aer_inject_error ${id} RCVR`);
  const corrected = await seen.find(({ severity }) => severity === "correctable");
  assert.deepEqual(corrected.errors, { RECEIVER_ERROR: 1 });
  assert.equal(await seen.stop(), 0);
  let packet: any;
  while (packet === undefined) {
    const lines = readFileSync(file, "utf8").split("\n").slice(0, -1);
    packet = lines
      .map((line) => JSON.parse(line))
      .find((event) => event.type === "aer" && event.packet !== null)?.packet;
    await delay(50);
  }
  assert.deepEqual(packet.dwords, [0x40000001, 0x0500000f, 0xfee01000, 0]);
  assert.deepEqual(
    [packet.source, packet.header.type, packet.header.requester, packet.header.address],
    ["kernel-log", "MWr", "05:00.0", 0xfee01000],
  );
  assert.equal(fn.config.read16(0), fn.identity.vendorId);
});
