// The stack over igb's virtual functions, as uid 1000: they echo datagrams to each other, and with the kernel's own stack on the
// physical function that they belong to.
// timeout: 900
// kernels: any
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Stack } from "../../../packages/ring3/src/drivers/net/stack.ts";
import { echo, kernelEcho } from "../echo.ts";
import { asRoot, rootOutput } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";
import { withDevices } from "../net-devices.ts";

const DATAGRAMS = 1000;
const WHOLE = { good: DATAGRAMS, wrong: 0, twice: 0 };
const [KERNEL, FIRST, SECOND] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];

let parent = "";

before(async () => {
  parent = (await rootOutput(`ls /sys/bus/pci/devices/${FUNCTIONS.igb.address}/net`)).trim();
  await rootOutput(`ip link set ${parent} up; ip addr add ${KERNEL}/24 dev ${parent}`);
});
after(async () => {
  await asRoot(`ip addr flush dev ${parent}; ip link set ${parent} down`);
});

test("two virtual functions and the kernel's stack on their parent echo to each other", async (t) => {
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
    const rate = async (name: string, work: Promise<unknown>): Promise<unknown> => {
      const start = performance.now();
      const result = await work;
      t.diagnostic(`${name}: ${Math.round(DATAGRAMS / ((performance.now() - start) / 1000))} round trips a second`);
      return result;
    };
    assert.deepEqual(await rate("VF to VF", echo(left, { address: SECOND, port: 7 }, DATAGRAMS)), WHOLE);
    await using kernel = await kernelEcho(KERNEL);
    assert.deepEqual(await rate("VF to kernel", echo(right, kernel, DATAGRAMS)), WHOLE);
    for (const stack of [left, right]) assert.deepEqual(stack.statistics.malformed, {});
  });
});
