// A guest without messages (`pci=nomsi`): every interrupt is the line, which QEMU unmasks after each, so the server must
// raise it again while the device still has something to say. The guest ends by a reboot.
import assert from "node:assert/strict";
import { test } from "node:test";
import { quickKernel } from "../guest/kernels.ts";
import { bootGuest } from "../guest/guest.ts";
import { readFiles, writeFiles } from "./ext4.ts";
import { addressBehind, interruptsIn, root } from "./root-shell.ts";
import { Served } from "./served.ts";
import { skipping } from "./skipping.ts";
import { talk } from "./two-cards.ts";

const NVME = addressBehind(1);
const BLOCK = addressBehind(2);
const NET = [addressBehind(3), addressBehind(4)] as const;

test("Linux without messages on served devices", (t) =>
  skipping(t, async () => {
    await using servers = new AsyncDisposableStack();
    const all = await Promise.all([
      Served.start(["nvme", "--memory", "32M"]),
      Served.start(["virtio-blk", "--memory", "32M", "--no-packed"]),
      Served.start(["virtio-net", "--no-packed"], 2),
    ]);
    for (const served of all) servers.use(served);
    const [nvme, block, net] = all;
    await using guest = await bootGuest({
      kernel: quickKernel(),
      bind: false,
      machine: {
        iommu: false,
        empty: true,
        sharedMemory: true,
        memoryMegabytes: 512,
        append: "pci=nomsi",
        args: [nvme.qemu("rp1"), block.qemu("rp2"), net.qemu("rp3"), net.qemu("rp4", 1)].flat(),
      },
      progress: (line) => t.diagnostic(line),
    });

    await root(
      guest,
      `bind ${NVME} nvme; bind ${BLOCK} virtio-pci; bind ${NET[0]} virtio-pci; bind ${NET[1]} virtio-pci
       until_there /dev/nvme0n1; until_there /dev/vda; until_there /sys/class/net/eth1`,
    );
    for (const [name, device, handler] of [
      ["NVMe", "/dev/nvme0n1", /nvme0q/],
      ["virtio-blk on split rings", "/dev/vda", /virtio/],
    ] as const) {
      await t.test(`${name}: ext4 over INTx`, async () => {
        const digests = await root(guest, writeFiles(device));
        assert.equal(await root(guest, readFiles(device)), digests);
        const text = await root(guest, "cat /proc/interrupts");
        assert.ok(interruptsIn(text, "IO-APIC", handler) > 0, text);
        assert.equal(interruptsIn(text, "PCI-MSIX?", /./), 0, text);
      });
    }

    await t.test("virtio-net on split rings: pings and a transfer over INTx", async () => {
      assert.match(await root(guest, talk(2)), /5 packets received/);
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
    });

    await t.test("reboot leaves the servers clean", async () => {
      await Promise.all([guest.ended(), guest.run(["reboot", "-f"], { uid: 0 }).catch(() => undefined)]);
      for (const served of all) {
        await served.isClean();
        assert.equal(await served.metric("faults_total"), 0, served.log);
      }
    });
  }));
