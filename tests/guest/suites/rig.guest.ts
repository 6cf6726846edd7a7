// The rig itself, as a test sees it: the machine of machine.ts, the nodes of uid 1000, root commands and QMP.
import assert from "node:assert/strict";
import { accessSync, constants, existsSync, readFileSync, statSync } from "node:fs";
import { describe, test } from "node:test";
import { driverOf, vfioNodes } from "../bindings.ts";
import { asRoot, awaitFunction, bind, bindStandard, monitor, qmp, rootOutput, traceMmio } from "../inside.ts";
import { FUNCTIONS, type GuestFunction, HOTPLUG } from "../machine.ts";

const functions: [string, GuestFunction][] = Object.entries(FUNCTIONS);
const group = (address: string): string => vfioNodes(address)[0] ?? assert.fail(`${address} has no group node`);

test("runs as uid 1000 without a capability", () => {
  assert.equal(process.getuid?.(), 1000);
  assert.match(readFileSync("/proc/self/status", "utf8"), /^CapEff:\t0{16}$/m);
});

describe("functions", () => {
  for (const [name, { address, driver }] of functions) {
    test(`${name} at ${address} has ${driver}`, () => {
      assert.equal(driverOf(address), driver);
      if (driver !== "vfio-pci") return;
      const nodes = vfioNodes(address);
      assert.ok(nodes.length > 0);
      for (const node of nodes) {
        assert.equal(statSync(node).uid, 1000, node);
        accessSync(node, constants.R_OK | constants.W_OK);
      }
    });
  }

  test("each has its own group, but the two on the conventional bus", () => {
    const groups = new Set(
      functions.filter(([, { driver }]) => driver === "vfio-pci").map(([, f]) => group(f.address)),
    );
    assert.equal(group(FUNCTIONS.sharedA.address), group(FUNCTIONS.sharedB.address));
    assert.equal(groups.size, functions.filter(([, { driver }]) => driver === "vfio-pci").length - 1);
  });

  test("the kernel has IOMMUFD as its name says", () => {
    assert.equal(existsSync("/dev/iommu"), process.env["RING3_GUEST"] === "iommufd");
  });
});

describe("root", () => {
  test("a command says how it ended", async () => {
    const { code, stdout, stderr } = await asRoot("id -u; echo oops >&2; cat; exit 3", "input");
    assert.deepEqual({ code, stdout, stderr }, { code: 3, stdout: "0\ninput", stderr: "oops\n" });
  });

  test("binds another driver and comes back", async () => {
    const { address } = FUNCTIONS.e1000e;
    await bind(address, "none");
    assert.equal(driverOf(address), "none");
    assert.deepEqual(await bindStandard(), []);
    assert.equal(driverOf(address), "vfio-pci");
    assert.equal(statSync(group(address)).uid, 1000);
  });
});

describe("QEMU", () => {
  test("answers QMP, with errors as errors", async () => {
    assert.deepEqual(await qmp("query-status"), { running: true, status: "running" });
    await assert.rejects(qmp("device_del", { id: "nobody" }), /nobody/);
  });

  test("a long answer comes through", async () => {
    const list = (await qmp("qom-list-types")) as unknown[];
    assert.ok(JSON.stringify(list).length > 16 * 1024, "longer than one piece of the control line");
  });

  test("traces accesses with their widths", async () => {
    // The kernel's own nvme driver rings a doorbell for a read.
    const accesses = await traceMmio("nvme", async () => {
      const disk = `/dev/$(ls /sys/bus/pci/devices/${FUNCTIONS.peerNvme.address}/nvme/*/ | grep 'nvme[0-9]*n1')`;
      await rootOutput(`dd if=${disk} of=/dev/null bs=4096 count=1 iflag=direct`);
    });
    const bar = /^0x([0-9a-f]+)/.exec(
      readFileSync(`/sys/bus/pci/devices/${FUNCTIONS.peerNvme.address}/resource`, "utf8"),
    );
    const doorbells = BigInt(`0x${bar?.[1]}`) + 0x1000n;
    const rung = accesses.filter(({ address }) => address >= doorbells && address < doorbells + 0x1000n);
    assert.ok(rung.length >= 2, "a submission and a completion");
    for (const { kind, sizeBytes } of rung) assert.deepEqual({ kind, sizeBytes }, { kind: "write", sizeBytes: 4 });
  });

  test("AER errors can be injected", async () => {
    assert.match(await monitor("pcie_aer_inject_error -c vblk0 0x1"), /OK/);
  });

  test("a function can be added and removed", { timeout: 120_000 }, async () => {
    const { port, address } = HOTPLUG[0];
    const present = (): boolean => existsSync(`/sys/bus/pci/devices/${address}`);
    assert.equal(present(), false);
    await qmp("device_add", { driver: "edu", bus: port, id: "added" });
    await awaitFunction(address, true);
    await bind(address, "vfio-pci");
    assert.equal(statSync(group(address)).uid, 1000);
    await qmp("device_del", { id: "added" });
    await awaitFunction(address, false);
    assert.equal(present(), false);
  });
});
