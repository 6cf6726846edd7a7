// The stack's DHCP client and a real server, dnsmasq, on the kernel's side of igb: a lease, its renewal, its refusal, and that it
// is given back, from a virtual function of the same card and from e1000e over the wire.
// timeout: 600
// kernels: any
// seconds: 36
// packages: dnsmasq
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { type Clock, systemClock } from "../../../packages/ring3/src/drivers/clock.ts";
import { Stack } from "../../../packages/ring3/src/drivers/net/stack.ts";
import { asRoot, rootOutput, SKIP_UNLESS_FULL } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";
import { withDevices } from "../net-devices.ts";
import { type RootProgram, startRootProgram } from "../root-program.ts";

const SERVER = "192.0.2.1";
const LEASES = "/tmp/dnsmasq.leases";
/** The shortest that dnsmasq gives; its T1 is half of it. */
const LEASE_SECONDS = 120;

let parent = "";

before(async () => {
  parent = (await rootOutput(`ls /sys/bus/pci/devices/${FUNCTIONS.igb.address}/net`)).trim();
  await rootOutput(`ip link set ${parent} up; ip addr add ${SERVER}/24 dev ${parent}`);
});
after(async () => {
  await asRoot(`ip addr flush dev ${parent}; ip link set ${parent} down`);
});

/** dnsmasq with an empty list of leases, for addresses from .`first` on. */
async function dnsmasq(first: number, ...words: string[]): Promise<RootProgram> {
  await asRoot(`rm -f ${LEASES}`);
  const server = await startRootProgram("dnsmasq", "/usr/sbin/dnsmasq", [
    "--no-daemon --user=root --conf-file=/dev/null --port=0 --log-dhcp --no-ping",
    `--interface=${parent} --bind-interfaces --dhcp-leasefile=${LEASES}`,
    `--dhcp-range=192.0.2.${first},192.0.2.${first + 9},${LEASE_SECONDS} --dhcp-option=option:router,${SERVER}`,
    ...words,
  ]);
  await server.says(/DHCP, sockets bound|DHCP, IP range/);
  return server;
}

/** A clock that can be put forward. */
function adjustable(): { readonly clock: Clock; readonly forward: (seconds: number) => void } {
  let ahead = 0;
  return {
    clock: { ...systemClock, now: () => performance.now() + ahead },
    forward: (seconds) => {
      ahead += 1000 * seconds;
    },
  };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await delay(20);
}

/** How often the server said something about an address. */
const count = (text: string, kind: string, address: string): number =>
  text.match(new RegExp(`${kind}\\(\\S+\\) ${address.replaceAll(".", "\\.")} `, "g"))?.length ?? 0;

for (const [name, { address: slot }] of [
  ["a virtual function", FUNCTIONS.igbVf0],
  ["e1000e over the wire", FUNCTIONS.e1000e],
] as const) {
  test(`${name}: a lease, its renewal, and back`, async () => {
    assert.equal(process.getuid?.(), 1000);
    await using server = await dnsmasq(50);
    await withDevices([slot], {}, async (device) => {
      const { clock, forward } = adjustable();
      const stack = await Stack.start(device, { dhcp: { hostName: "ring3" }, clock });
      const { address = "", gateway, lease } = stack.configuration;
      assert.match(address, /^192\.0\.2\.5\d$/);
      assert.deepEqual([gateway, lease?.prefix, lease?.leaseSeconds], [SERVER, 24, LEASE_SECONDS]);
      assert.equal(lease?.renewalSeconds, LEASE_SECONDS / 2);
      assert.equal((await stack.ping(SERVER, { timeoutMs: 10_000 })).address, SERVER);
      assert.match(await rootOutput(`cat ${LEASES}`), new RegExp(`${address.replaceAll(".", "\\.")} ring3 `));

      forward(LEASE_SECONDS / 2 + 1);
      await until(() => stack.configuration.lease !== lease);
      assert.equal(stack.configuration.address, address);
      const said = await server.output();
      assert.deepEqual(
        ["DHCPREQUEST", "DHCPACK", "DHCPRELEASE"].map((kind) => count(said, kind, address)),
        [2, 2, 0],
        said,
      );
      assert.equal((await stack.ping(SERVER, { timeoutMs: 10_000 })).address, SERVER);

      await stack[Symbol.asyncDispose]();
      await server.says(new RegExp(`DHCPRELEASE\\(\\S+\\) ${address.replaceAll(".", "\\.")} `));
      assert.doesNotMatch(await rootOutput(`cat ${LEASES}`), /192\.0\.2/);
      assert.deepEqual([stack.statistics.addressConflicts, stack.statistics.malformed], [0, {}]);
    });
  });
}

test("a server that does not know the lease any more refuses it: the address goes, and another one comes", async () => {
  const former = await dnsmasq(50);
  await withDevices([FUNCTIONS.igbVf0.address], {}, async (device) => {
    const { clock, forward } = adjustable();
    await using stack = await Stack.start(device, { dhcp: true, clock });
    const { address = "" } = stack.configuration;
    await former[Symbol.asyncDispose]();
    await using server = await dnsmasq(150, "--dhcp-authoritative");
    forward(LEASE_SECONDS / 2 + 1);
    await until(() => stack.configuration.address !== address);
    await until(() => stack.configuration.address !== undefined);
    assert.match(stack.configuration.address ?? "", /^192\.0\.2\.15\d$/);
    assert.equal(count(await server.output(), "DHCPNAK", address), 1);
    assert.equal((await stack.ping(SERVER, { timeoutMs: 10_000 })).address, SERVER);
  });
});

test("ring3 ping --dhcp gives the address back", { skip: SKIP_UNLESS_FULL }, async () => {
  await using server = await dnsmasq(50);
  const { igbVf0 } = FUNCTIONS;
  const words = ["/ring3/packages/cli/src/main.js", "ping", igbVf0.address, SERVER, "--dhcp", "--count", "1", "--json"];
  const { stdout } = await promisify(execFile)(process.execPath, [...words, "--timeout", "10000"]);
  assert.equal((JSON.parse(stdout) as { received: number }).received, 1);
  await server.says(/DHCPRELEASE\(\S+\) 192\.0\.2\.5\d /);
});
