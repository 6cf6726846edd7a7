// A guest with an IOMMU, which maps and unmaps for each transfer: under the kernel's NVMe driver, and under ring3's own
// drivers over the guest's VFIO, on devices that ring3 serves.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { quickKernel } from "../guest/kernels.ts";
import { bootGuest } from "../guest/guest.ts";
import { runSuite } from "../guest/run.ts";
import { readFiles, writeFiles } from "./ext4.ts";
import { BLOCK_SIZE, BLOCKS, KERNEL_NVME, SERVED_AF, SERVED_EDU, SERVED_NVME } from "./inside/places.ts";
import { root } from "./root-shell.ts";
import { Served } from "./served.ts";
import { skipping } from "./skipping.ts";

const SUITE_TIMEOUT_MS = 240_000;
const USER = 1000;

test("served devices behind a guest's IOMMU", (t) =>
  skipping(t, async () => {
    await using servers = new AsyncDisposableStack();
    const all = await Promise.all([
      Served.start(["edu"]),
      Served.start(["nvme", "--memory", String(BLOCK_SIZE * BLOCKS), "--block-size", String(BLOCK_SIZE)]),
      Served.start(["nvme", "--memory", "32M"]),
      Served.start([join(import.meta.dirname, "edu-with-af.ts")]),
    ]);
    for (const served of all) servers.use(served);
    const [edu, vfioNvme, kernelNvme, eduWithAf] = all;
    const kernel = quickKernel();
    await using guest = await bootGuest({
      kernel,
      bind: false,
      machine: {
        empty: true,
        sharedMemory: true,
        // Unmapped at once, not in batches.
        append: "iommu.strict=1",
        args: [edu.qemu("rp1"), vfioNvme.qemu("rp2"), kernelNvme.qemu("rp3"), eduWithAf.qemu("rp4")].flat(),
      },
      progress: (line) => t.diagnostic(line),
    });

    await t.test("the kernel's NVMe driver, a map for each transfer", async () => {
      await root(guest, `unbind ${SERVED_NVME}; bind ${KERNEL_NVME} nvme; until_there /dev/nvme0n1`);
      const before = await kernelNvme.metric("dma_maps_made_total");
      const digests = await root(guest, writeFiles("/dev/nvme0n1"));
      assert.equal(await root(guest, readFiles("/dev/nvme0n1")), digests);
      assert.ok((await kernelNvme.metric("dma_maps_made_total")) > before + 50);
      assert.ok((await kernelNvme.metric("dma_maps")) < 200);
      assert.equal(await kernelNvme.metric("faults_total"), 0, kernelNvme.log);
    });

    await t.test("the function's own driver comes back after vfio-pci had it", async () => {
      await root(
        guest,
        `bind ${KERNEL_NVME} vfio-pci; bind ${KERNEL_NVME} nvme
         until_there /dev/nvme0n1; dd if=/dev/nvme0n1 of=/dev/null bs=64k count=8 iflag=direct`,
      );
    });

    await t.test("ring3's drivers over the guest's VFIO", async (inner) => {
      await root(
        guest,
        `for function in ${SERVED_EDU} ${SERVED_NVME} ${SERVED_AF}; do bind $function vfio-pci; done
         chown -R ${USER}:${USER} /dev/vfio/[0-9]*; for node in /dev/vfio/devices /dev/iommu; do
           [ ! -e $node ] || chown -R ${USER}:${USER} $node
         done`,
      );
      await runSuite(inner, guest, kernel, {
        name: "kernel-vfio",
        path: "/ring3/tests/served/inside/kernel-vfio.guest.js",
        timeoutMs: SUITE_TIMEOUT_MS,
      });
      // The contract makes devices reach where they must not; only that it does not end in a failure of the model matters.
      for (const served of [edu, vfioNvme, eduWithAf]) assert.deepEqual(served.events("error"), []);
    });

    await t.test("poweroff leaves the servers clean", async () => {
      await Promise.all([guest.ended(), guest.run(["poweroff", "-f"], { uid: 0 }).catch(() => undefined)]);
      for (const served of all) await served.isClean();
    });
  }));
