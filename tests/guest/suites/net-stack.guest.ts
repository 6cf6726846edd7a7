// The stack over igb's virtual functions, as uid 1000: they echo datagrams to each other, and with the kernel's own stack on the
// physical function that they belong to.
// timeout: 900
// timeout-full: 14400
// kernels: any
// seconds: 16
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Stack } from "../../../packages/ring3/src/drivers/net/stack.ts";
import { kernelEcho } from "../echo.ts";
import { asRoot, FULL, rootOutput } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";
import { withDevices } from "../net-devices.ts";
import { dropped, kernelDropped, rally } from "../rally.ts";

/** Round trips each way; a million with RING3_GUEST_FULL=1. */
const DATAGRAMS = FULL ? 1_000_000 : 1000;
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
    const peer = { address: SECOND, port: 7 };
    await rally(t, left, { name: "VF to VF", service: peer, datagrams: DATAGRAMS, losses: ours });
    await using kernel = await kernelEcho(KERNEL);
    const losses = async (): Promise<Record<string, number>> => ({ ...ours(), ...(await kernelDropped(parent)) });
    await rally(t, right, { name: "VF to kernel", service: kernel, datagrams: DATAGRAMS, losses });
    for (const stack of [left, right]) assert.deepEqual(stack.statistics.malformed, {});
  });
});
