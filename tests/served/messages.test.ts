// A guest whose memory nobody shares: the device reaches it by messages, which QEMU's main loop answers while a processor of
// the guest may be waiting for a register, of the same device or of another one of the same server. Then the server is killed
// under the running guest.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { NvmeDriver } from "../../packages/ring3/src/drivers/nvme/index.ts";
import { connect } from "../../packages/ring3/src/vfio-user/index.ts";
import { quickKernel } from "../guest/kernels.ts";
import { bootGuest } from "../guest/guest.ts";
import { readFiles, writeFiles } from "./ext4.ts";
import { probingIn } from "./probing.ts";
import { addressBehind, root } from "./root-shell.ts";
import { Served } from "./served.ts";
import { skipping } from "./skipping.ts";
import { talk } from "./two-cards.ts";

const NVME = addressBehind(1);
const BLOCK = addressBehind(2);
const NET = [addressBehind(3), addressBehind(4)] as const;

test("a guest whose memory is not shared", (t) =>
  skipping(t, async () => {
    await using servers = new AsyncDisposableStack();
    const directory = mkdtempSync(join(tmpdir(), "ring3-trace-"));
    t.after(() => rmSync(directory, { recursive: true }));
    const trace = join(directory, "nvme.jsonl");
    const words = ["nvme", "--memory", "32M", "--trace", trace];
    const all = await Promise.all([
      Served.start(words),
      Served.start(["virtio-blk", "--memory", "32M"]),
      Served.start(["virtio-net"], 2),
    ]);
    for (const served of all) servers.use(served);
    const [nvme, block, net] = all;
    await using guest = await bootGuest({
      kernel: quickKernel(),
      bind: false,
      machine: {
        iommu: false,
        empty: true,
        memoryMegabytes: 512,
        args: [nvme.qemu("rp1"), block.qemu("rp2"), net.qemu("rp3"), net.qemu("rp4", 1)].flat(),
      },
      progress: (line) => t.diagnostic(line),
    });
    await root(
      guest,
      `bind ${NVME} nvme; bind ${BLOCK} virtio-pci; bind ${NET[0]} virtio-pci; bind ${NET[1]} virtio-pci
       until_there /dev/nvme0n1; until_there /dev/vda; until_there /sys/class/net/eth1`,
    );

    await t.test("the trace reads like the probing of Linux's driver, in JSON lines and in tshark", async () => {
      await probingIn(trace, t);
    });

    for (const [name, served, device] of [
      ["NVMe", nvme, "/dev/nvme0n1"],
      ["virtio-blk on packed rings", block, "/dev/vda"],
    ] as const) {
      await t.test(`${name}: ext4 by messages`, async () => {
        const digests = await root(guest, writeFiles(device, 2));
        assert.equal(await root(guest, readFiles(device)), digests);
        assert.ok((await served.command("dma_read")) > 50);
        assert.ok((await served.command("dma_write")) > 50);
        assert.deepEqual(served.foreignMemory(), []);
      });
    }

    await t.test("two cards of one server talk to each other", async () => {
      assert.match(await root(guest, talk(2)), /5 packets received/);
      assert.equal(await net.metric("faults_total"), 0, net.log);
      assert.deepEqual(net.foreignMemory(), []);
      assert.equal(net.events("disconnected").length, 0, net.log);
    });

    await t.test("drivers unbind and bind", async () => {
      await root(
        guest,
        `for i in 1 2 3; do
           bind ${NVME} nvme; until_there /dev/nvme0n1
           dd if=/dev/nvme0n1 of=/dev/null bs=64k count=8 iflag=direct
           bind ${BLOCK} virtio-pci; until_there /dev/vda
           dd if=/dev/vda of=/dev/null bs=64k count=8 iflag=direct
         done`,
      );
      for (const served of all) {
        assert.equal(await served.metric("faults_total"), 0, served.log);
        assert.equal(served.events("disconnected").length, 0, served.log);
      }
    });

    await t.test("kill -9 of a server: the guest goes on, and the next server takes the path", async () => {
      // Without a command under way: QEMU 11.1 aborts over one that it cannot report as failed.
      await nvme.stop("SIGKILL");
      // The guest's processors live, read ones where the disk was, and reach the other devices.
      const config = `hexdump -n 4 -e '"%08x"' /sys/bus/pci/devices/${NVME}/config`;
      assert.equal(await root(guest, config), "ffffffff");
      await root(
        guest,
        `(dd if=/dev/nvme0n1 of=/dev/null bs=64k count=1 iflag=direct &) > /dev/null 2>&1
         dd if=/dev/vda of=/dev/null bs=64k count=8 iflag=direct`,
      );
      await using next = await Served.start(words, 1, nvme);
      {
        await using fn = await connect(next.socket);
        await using driver = await NvmeDriver.start(fn);
        assert.deepEqual(await driver.namespace(1).read(0n, 1), new Uint8Array(512));
      }
      await next.isClean();
    });

    await t.test("poweroff leaves the other servers clean", async () => {
      await Promise.all([guest.ended(), guest.run(["poweroff", "-f"], { uid: 0 }).catch(() => undefined)]);
      await block.isClean();
      await net.isClean();
    });
  }));
