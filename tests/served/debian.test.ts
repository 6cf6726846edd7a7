// The kernel that people have, with its own drivers, on devices that `ring3 serve` serves: one guest for everything.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { bootGuest } from "../guest/guest.ts";
import { complaints, lspci } from "../guest/lspci.ts";
import { checkImage, readFiles, writeFiles } from "./ext4.ts";
import { addressBehind, interruptsIn, root } from "./root-shell.ts";
import { Served } from "./served.ts";
import { skipping } from "./skipping.ts";
import { talk } from "./two-cards.ts";

const NVME = addressBehind(1);
const NVME_MSI = addressBehind(2);
const BLOCK = addressBehind(3);
const NET = [addressBehind(4), addressBehind(5)] as const;
const EDU = addressBehind(6);
const REBINDS = 10;

/** VIRTIO_F_RING_PACKED. */
const RING_PACKED = 34;

test("Debian's kernel on served devices", (t) =>
  skipping(t, async () => {
    const progress = (line: string): void => t.diagnostic(line);
    const directory = mkdtempSync(join(tmpdir(), "ring3-images-"));
    t.after(() => rmSync(directory, { recursive: true }));
    const nvmeImage = join(directory, "nvme.img");
    const blockImage = join(directory, "block.img");
    const withMsi = join(import.meta.dirname, "nvme-with-msi.ts");

    await using servers = new AsyncDisposableStack();
    const [nvme, nvmeMsi, block, net, edu] = await Promise.all([
      Served.start(["nvme", "--file", nvmeImage, "--create", "64M"]),
      Served.start([withMsi]),
      Served.start(["virtio-blk", "--file", blockImage, "--create", "64M", "--queues", "2"]),
      Served.start(["virtio-net"], 2),
      Served.start(["edu"]),
    ]);
    const all = [nvme, nvmeMsi, block, net, edu];
    for (const served of all) servers.use(served);
    await using guest = await bootGuest({
      kernel: "debian",
      bind: false,
      machine: {
        iommu: false,
        empty: true,
        sharedMemory: true,
        memoryMegabytes: 768,
        args: [nvme.qemu("rp1"), nvmeMsi.qemu("rp2"), block.qemu("rp3"), net.qemu("rp4"), net.qemu("rp5", 1)]
          .concat(edu.qemu("rp6"))
          .flat(),
      },
      progress,
    });
    progress(`Linux ${guest.release}, up after ${(guest.bootTimes.readyMs / 1000).toFixed(1)} s`);
    const interrupts = async (kind: string, handler: RegExp): Promise<number> =>
      interruptsIn(await root(guest, "cat /proc/interrupts"), kind, handler);
    let nvmeDigests = "";
    let blockDigests = "";

    await t.test("the guest's memory is mapped in every server", () => {
      for (const served of all) assert.ok(served.foreignMemory().length > 0);
    });

    await t.test("its own drivers bind", async () => {
      await root(
        guest,
        `bind ${NVME} nvme; bind ${NVME_MSI} nvme; bind ${BLOCK} virtio-pci; bind ${NET[0]} virtio-pci
         bind ${NET[1]} virtio-pci; until_there /dev/nvme0n1; until_there /dev/nvme1n1; until_there /dev/vda
         until_there /sys/class/net/eth1`,
      );
    });

    await t.test("lspci finds nothing to complain about in what the guest sees", async () => {
      for (const address of [NVME, NVME_MSI, BLOCK, ...NET, EDU]) {
        const bytes = await root(guest, `hexdump -v -e '16/1 "%02x " "\\n"' /sys/bus/pci/devices/${address}/config`);
        const rows = bytes.trim().split("\n");
        const wide = rows.length > 16 ? 3 : 2;
        const dump = rows.map((row, index) => `${(16 * index).toString(16).padStart(wide, "0")}: ${row.trim()}`);
        const text = await lspci([`${address.slice(5)} Served function`, ...dump, ""].join("\n"), progress);
        // lspci has no name for virtio's window into BARs.
        assert.deepEqual(
          complaints(text).filter((line) => !line.includes("VirtIO: <unknown>")),
          [],
          text,
        );
      }
    });

    await t.test("NVMe: ext4 over MSI-X", async () => {
      nvmeDigests = await root(guest, writeFiles("/dev/nvme0n1"));
      assert.equal(await root(guest, readFiles("/dev/nvme0n1")), nvmeDigests);
      assert.ok((await interrupts("PCI-MSIX", /nvme0q[1-9]/)) > 0, await root(guest, "cat /proc/interrupts"));
    });

    await t.test("NVMe: ext4 over MSI", async () => {
      const digests = await root(guest, writeFiles("/dev/nvme1n1", 1));
      assert.equal(await root(guest, readFiles("/dev/nvme1n1")), digests);
      assert.ok((await interrupts("PCI-MSI", /nvme1q/)) > 0, await root(guest, "cat /proc/interrupts"));
    });

    await t.test("virtio-blk: ext4 on packed rings over MSI-X", async () => {
      const features = (await root(guest, "cat /sys/block/vda/device/features")).trim();
      assert.equal(features[RING_PACKED], "1", features);
      blockDigests = await root(guest, writeFiles("/dev/vda"));
      assert.equal(await root(guest, readFiles("/dev/vda")), blockDigests);
      assert.ok((await interrupts("PCI-MSIX", /req/)) > 0, await root(guest, "cat /proc/interrupts"));
    });

    await t.test("virtio-net: pings and a long transfer through the switch", async () => {
      const packed = `cut -c ${RING_PACKED + 1} /sys/class/net/eth0/device/features /sys/class/net/eth1/device/features`;
      assert.equal(await root(guest, packed), "1\n1\n");
      const output = await root(guest, talk(8));
      assert.match(output, /5 packets transmitted, 5 packets received, 0% packet loss/);
      assert.ok(Number(output.trim().split("\n").at(-1)) > 2 ** 23);
      assert.ok((await interrupts("PCI-MSIX", /virtio\d+-(input|output)/)) > 0);
    });

    await t.test(`drivers unbind and bind ${REBINDS} times, with I/O`, async () => {
      await root(
        guest,
        `for i in $(seq ${REBINDS}); do
           bind ${NVME} nvme; until_there /dev/nvme0n1
           dd if=/dev/nvme0n1 of=/dev/null bs=64k count=8 iflag=direct
           bind ${BLOCK} virtio-pci; until_there /dev/vda
           dd if=/dev/vda of=/dev/null bs=64k count=8 iflag=direct
           bind ${NET[0]} virtio-pci; until_there /sys/class/net/eth0
           ip link set eth0 up; ip link set eth0 down
         done`,
        180_000,
      );
      assert.equal(await root(guest, readFiles("/dev/nvme0n1")), nvmeDigests);
      assert.equal(await root(guest, readFiles("/dev/vda")), blockDigests);
    });

    await t.test("nothing went wrong on the way", async () => {
      for (const served of all) {
        assert.equal(await served.metric("faults_total"), 0, served.log);
        assert.equal(await served.metric("error_replies_total"), 0, served.log);
      }
    });

    await t.test("poweroff leaves the servers clean, and the images hold what the guest wrote", async () => {
      await Promise.all([guest.ended(), guest.run(["poweroff", "-f"], { uid: 0 }).catch(() => undefined)]);
      for (const served of all) await served.isClean();
      await checkImage(nvmeImage, nvmeDigests, progress);
      await checkImage(blockImage, blockDigests, progress);
      for (const served of all) assert.equal(await served.stop(), 0);
    });
  }));
