// The stack over igb's virtual functions, as uid 1000: they echo datagrams to each other, and with the kernel's own stack on the
// physical function that they belong to.
// timeout: 900
// timeout-full: 14400
// kernels: any
// seconds: 16
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import { Stack } from "../../../packages/ring3/src/drivers/net/stack.ts";
import { echo, kernelEcho } from "../echo.ts";
import { asRoot, rootOutput } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";
import { withDevices } from "../net-devices.ts";

const FULL = process.env["RING3_GUEST_FULL"] === "1";
/** Round trips each way; a million with RING3_GUEST_FULL=1. */
const DATAGRAMS = FULL ? 1_000_000 : 1000;
const WINDOW = 64;
const [KERNEL, FIRST, SECOND] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];

let parent = "";

before(async () => {
  parent = (await rootOutput(`ls /sys/bus/pci/devices/${FUNCTIONS.igb.address}/net`)).trim();
  await rootOutput(`ip link set ${parent} up; ip addr add ${KERNEL}/24 dev ${parent}`);
  await rootOutput("echo 8388608 > /proc/sys/net/core/rmem_max");
});
after(async () => {
  await asRoot(`ip addr flush dev ${parent}; ip link set ${parent} down`);
});

/** Echoes with a service and says how fast; what did not come back must be in `losses`, by where it was lost. */
async function rally(
  t: TestContext,
  name: string,
  stack: Stack,
  service: { readonly address: string; readonly port: number },
  losses: () => Promise<Readonly<Record<string, number>>>,
): Promise<void> {
  const before = await losses();
  const start = performance.now();
  const progress = (good: number): void => console.log(`${name}: ${good} are back`);
  const { good, wrong, twice } = await echo(stack, service, DATAGRAMS, { window: WINDOW, progress });
  const rate = Math.round(DATAGRAMS / ((performance.now() - start) / 1000));
  const after = await losses();
  const found = Object.entries(after).flatMap(([where, count]) => {
    const lost = count - (before[where] ?? 0);
    return lost === 0 ? [] : [[where, lost] as const];
  });
  const lost = DATAGRAMS - good;
  const story = `${lost} lost: ${found.map(([where, count]) => `${count} ${where}`).join(", ") || "nothing counted"}`;
  t.diagnostic(
    `${name}: ${DATAGRAMS} datagrams, ${rate} round trips a second, ${wrong} wrong, ${twice} twice, ${story}`,
  );
  assert.deepEqual({ wrong, twice }, { wrong: 0, twice: 0 });
  assert.ok(lost <= found.reduce((sum, [, count]) => sum + count, 0), story);
}

/** What a stack and its device dropped, by their counters. */
function dropped(name: string, { statistics, device }: Stack): Record<string, number> {
  const { rx_missed_errors, rx_dropped, tx_dropped } = device.statistics();
  const { ringFull, noBuffer, unresolved } = statistics;
  const counts = { rx_missed_errors, rx_dropped, tx_dropped, ringFull, noBuffer, unresolved };
  return Object.fromEntries(Object.entries(counts).map(([key, count]) => [`${key} of ${name}`, count]));
}

/** The same for the kernel's stack. */
async function kernelDropped(): Promise<Record<string, number>> {
  const names = ["rx_missed_errors", "rx_dropped", "tx_dropped"];
  const files = names.map((file) => `/sys/class/net/${parent}/statistics/${file}`);
  const text = await rootOutput(`cat ${files.join(" ")}; grep ^Udp: /proc/net/snmp`);
  const lines = text.trim().split("\n");
  const counts = names.map((file, i) => [`${file} of the kernel`, Number(lines[i])] as const);
  const [heads = [], values = []] = lines.slice(names.length).map((line) => line.split(" "));
  const errors = ["InErrors", "SndbufErrors"].map((head) => {
    return [`Udp ${head} of the kernel`, Number(values[heads.indexOf(head)])] as const;
  });
  return Object.fromEntries([...counts, ...errors]);
}

test(`two virtual functions and the kernel's stack on their parent echo ${DATAGRAMS} datagrams`, async (t) => {
  assert.equal(process.getuid?.(), 1000);
  const { igbVf0, igbVf1 } = FUNCTIONS;
  await withDevices([igbVf0.address, igbVf1.address], {}, async (a, b) => {
    await using left = await Stack.start(a, { address: `${FIRST}/24` });
    await using right = await Stack.start(b, { address: `${SECOND}/24` });
    using service = right.udp.bind(7, {
      listener: (bytes, at, length, address, port) => service.sendFrom(bytes, at, length, address, port),
    });
    for (const target of [SECOND, KERNEL]) {
      assert.equal((await left.ping(target, { timeoutMs: 10_000, payloadBytes: 4000 })).payloadBytes, 4000);
    }
    const ours = (): Record<string, number> => ({ ...dropped("the first", left), ...dropped("the second", right) });
    await rally(t, "VF to VF", left, { address: SECOND, port: 7 }, () => Promise.resolve(ours()));
    await using kernel = await kernelEcho(KERNEL);
    await rally(t, "VF to kernel", right, kernel, async () => ({ ...ours(), ...(await kernelDropped()) }));
    for (const stack of [left, right]) assert.deepEqual(stack.statistics.malformed, {});
  });
});
