// Mediated functions over the kernel's VFIO: drivers through the socket and in process, resets by the user's own registers,
// users that die, and the rule set `linux` against the kernel (the long campaign: ../differential.ts).
// kernels: iommufd
// timeout: 600
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { EduDriver } from "../../../packages/ring3/src/drivers/edu/index.ts";
import { openNetDevice } from "../../../packages/ring3/src/drivers/net/open.ts";
import { NvmeDriver } from "../../../packages/ring3/src/drivers/nvme/index.ts";
import { open } from "../../../packages/ring3/src/index.ts";
import { linux, mediate, strict } from "../../../packages/ring3/src/mediation/index.ts";
import type { PciFunction } from "../../../packages/ring3/src/pci/function.ts";
import { Header, Header0 } from "../../../packages/ring3/src/pci/header.ts";
import { PciExpress } from "../../../packages/ring3/src/pci/capabilities/pci-express.ts";
import { PowerManagement } from "../../../packages/ring3/src/pci/capabilities/power-management.ts";
import { connect } from "../../../packages/ring3/src/vfio-user/index.ts";
import { inProcess } from "../../../packages/ring3/src/virtual/index.ts";
import { exchange } from "../frames.ts";
import { bind, rootOutput } from "../inside.ts";
import { counting, FUNCTIONS } from "../machine.ts";

interface Status {
  readonly direct: boolean;
  readonly lockedBytes: number;
  readonly user: string | null;
  readonly busMaster: boolean;
  readonly faults: readonly string[];
  readonly hits: readonly string[];
}

/** What the differential found on one function. */
interface Outcome {
  readonly address: string;
  readonly compared: number;
  readonly shown: readonly unknown[];
}

interface Server extends AsyncDisposable {
  readonly socket: string;
  ask(word: string): Promise<Status>;
}

const serverScript = new URL("./mediation-server.ts", import.meta.url).pathname;
const clientScript = new URL("./mediation-client.ts", import.meta.url).pathname;
const differentialScript = new URL("./mediation-differential.ts", import.meta.url).pathname;

async function served(address: string, options: object): Promise<Server> {
  const socket = `/tmp/mediated-${address.replaceAll(":", "-")}.sock`;
  const child = spawn(process.execPath, [serverScript, address, socket, JSON.stringify(options)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  assert.equal((await lines.next()).value, "ready");
  return {
    socket,
    ask: async (word) => {
      child.stdin.write(`${word}\n`);
      return JSON.parse((await lines.next()).value as string) as Status;
    },
    [Symbol.asyncDispose]: async () => {
      child.stdin.end();
      await ended(child);
    },
  };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

/** What a user's register writes do to its function, and how it has it back. */
const ways: readonly [string, (fn: PciFunction) => void | Promise<unknown>][] = [
  ["FLR", (fn) => fn.config.write(PciExpress.DEVICE_CONTROL, { INITIATE_FUNCTION_LEVEL_RESET: 1 })],
  [
    "D3hot and back",
    (fn) => {
      fn.config.write(PowerManagement.PMCSR, { POWER_STATE: 3 });
      assert.throws(() => fn.bar(0).read32(0), { code: "REGION_DISABLED" });
      fn.config.write(PowerManagement.PMCSR, { POWER_STATE: 0 });
    },
  ],
  ["a reset of its own", (fn) => fn.reset()],
];

const barsOf = (fn: PciFunction): number[] =>
  [Header0.BAR0, Header0.BAR1, Header0.BAR4].map((register) => fn.config.readRaw(register));

const LOCKED = 2 ** 24;
const FRAMES = 100;
const WHOLE = { count: FRAMES, damaged: 0, duplicated: 0, disordered: 0 };
const server = await served(FUNCTIONS.nvme.address, { lockedBytes: LOCKED });

test("nvme through the socket: right data, by MSI-X that the kernel raises for the client", async () => {
  {
    await using fn = await connect(server.socket);
    await using nvme = await NvmeDriver.start(fn, { completion: "interrupt" });
    assert.equal(nvme.queues.interrupts, "msix");
    for (const first of [0, 1000]) {
      assert.deepEqual(Buffer.from(await nvme.namespace(1).read(first, 8)), Buffer.from(counting(first * 512, 4096)));
    }
    const status = await server.ask("status");
    assert.equal(status.direct, true);
    assert.ok(status.lockedBytes > 0);
    assert.equal(status.busMaster, true);
    assert.deepEqual(status.faults, []);
    // More than is allowed is refused, and the device gets none of it.
    assert.throws(() => fn.dma.allocate(2 * LOCKED), { errno: "ENOMEM" });
    assert.equal((await server.ask("status")).lockedBytes, status.lockedBytes);
  }
  const after = await server.ask("settle");
  assert.equal(after.lockedBytes, 0);
  assert.equal(after.busMaster, false);
  assert.equal(after.user, null);
});

test("FLR and power by registers, through the socket: BARs as before, and the driver comes back", async () => {
  await using fn = await connect(server.socket);
  const before = barsOf(fn);
  for (const [name, way] of ways) {
    await way(fn);
    fn.config.write(Header.COMMAND, { IO: 1, MEMORY: 1 });
    assert.deepEqual(barsOf(fn), before, name);
    await using nvme = await NvmeDriver.start(fn, { completion: "interrupt" });
    assert.deepEqual(Buffer.from(await nvme.namespace(1).read(9, 1)), Buffer.from(counting(9 * 512, 512)));
  }
  assert.deepEqual((await server.ask("status")).faults, []);
});

test("a user killed in the middle of its reads is cleaned up, and the next reads right data", async () => {
  const client = spawn(process.execPath, [clientScript, server.socket], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(client.stdout, "data");
  client.kill("SIGKILL");
  await ended(client);
  const after = await server.ask("settle");
  assert.deepEqual([after.lockedBytes, after.busMaster], [0, false]);
  {
    await using fn = await connect(server.socket);
    await using nvme = await NvmeDriver.start(fn);
    assert.deepEqual(Buffer.from(await nvme.namespace(1).read(64, 1)), Buffer.from(counting(64 * 512, 512)));
  }
  await server[Symbol.asyncDispose]();
});

for (const rules of [linux, strict]) {
  test(`${rules.name}: FLR, power and reset by the user's registers lose nothing, and the device's own pages are mapped`, async () => {
    await using neighbour = await open(FUNCTIONS.edu.address);
    await using edu = await EduDriver.start(neighbour, { completion: "msi" });
    await using real = await open(FUNCTIONS.nvme.address);
    await using mediated = await mediate(real, { rules });
    await using fn = inProcess(mediated);
    const before = [barsOf(fn), barsOf(real)];
    const drive = async (): Promise<void> => {
      await using nvme = await NvmeDriver.start(fn, { completion: "interrupt" });
      assert.deepEqual(Buffer.from(await nvme.namespace(1).read(9, 1)), Buffer.from(counting(9 * 512, 512)));
      assert.notEqual(fn.bar(0).registers({ offset: 0, size: 4096 }).arenaOffset, undefined);
    };
    await drive();
    for (const [name, way] of ways) {
      await way(fn);
      fn.config.write(Header.COMMAND, { IO: 1, MEMORY: 1 });
      assert.deepEqual([barsOf(fn), barsOf(real)], before, name);
      await drive();
      assert.equal(await edu.factorial(5), 120);
    }
  });
}

test("a bus reset, of a function that has nothing better", async () => {
  await using neighbour = await open(FUNCTIONS.nvme.address);
  await using nvme = await NvmeDriver.start(neighbour, { completion: "interrupt" });
  await using real = await open(FUNCTIONS.edu.address);
  await using mediated = await mediate(real);
  await using fn = inProcess(mediated);
  const before = [barsOf(fn), barsOf(real)];
  for (let round = 0; round < 2; round++) {
    await using edu = await EduDriver.start(fn, { completion: "intx" });
    assert.equal(await edu.factorial(4), 24);
    await edu[Symbol.asyncDispose]();
    await fn.reset();
    assert.deepEqual([barsOf(fn), barsOf(real)], before);
    assert.deepEqual(Buffer.from(await nvme.namespace(1).read(9, 1)), Buffer.from(counting(9 * 512, 512)));
  }
});

test("the FLR of a virtual function, by its user's register, leaves the one beside it alone", async () => {
  const { igb, igbVf0, igbVf1 } = FUNCTIONS;
  const name = (await rootOutput(`ls /sys/bus/pci/devices/${igb.address}/net`)).trim();
  await rootOutput(`ip link set ${name} up`);
  await using real = await open(igbVf0.address);
  await using mediated = await mediate(real);
  await using user = inProcess(mediated);
  const identity = user.config.read32(0);
  await using neighbour = await open(igbVf1.address);
  await using beside = await openNetDevice(neighbour, {});
  const resets: string[] = [];
  using _resets = beside.events.on("reset", ({ reason }) => resets.push(reason));
  for (let round = 0; round < 2; round++) {
    await using own = await openNetDevice(user, {});
    for (const device of [own, beside]) await device.waitForLink({ timeoutMs: 20_000 });
    assert.deepEqual(await exchange(own, beside, { frames: FRAMES }), WHOLE);
    assert.deepEqual(await exchange(beside, own, { frames: FRAMES }), WHOLE);
    await own[Symbol.asyncDispose]();
    user.config.write(PciExpress.DEVICE_CONTROL, { INITIATE_FUNCTION_LEVEL_RESET: 1 });
    assert.equal(user.config.read32(0), identity);
    assert.equal(beside.link.up, true);
  }
  assert.deepEqual(resets, []);
  await rootOutput(`ip link set ${name} down`);
});

test("the rules linux give the bytes of the kernel, on every function of the machine", async () => {
  const { igb } = FUNCTIONS;
  const names = ["nvme", "edu", "testdev", "virtioBlk", "e1000e", "xhci", "igbVf0", "igb"] as const;
  const first = names.slice(0, -1).map((name) => FUNCTIONS[name].address);
  const differential = async (addresses: readonly string[]): Promise<void> => {
    const output = await rootOutput(`node ${differentialScript} 600 1 ${addresses.join(" ")}`);
    const outcomes = output
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Outcome);
    assert.equal(outcomes.length, addresses.length);
    for (const { address, compared, shown } of outcomes) {
      assert.deepEqual(shown, [], address);
      assert.ok(compared > 300);
    }
  };
  await differential(first);
  // The physical function only once it has no virtual ones.
  await rootOutput(`echo 0 > /sys/bus/pci/devices/${igb.address}/sriov_numvfs`);
  await bind(igb.address, "vfio-pci");
  await differential([igb.address]);
});
