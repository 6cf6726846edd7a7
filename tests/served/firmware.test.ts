// SeaBIOS boots from served disks: its own drivers read the boot sector and the next one, and write the third.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { bootableDisk, FAILED, RUNNING, WRITTEN, writtenSector } from "./boot-sector.ts";
import { Firmware, PORT } from "./firmware.ts";
import { Served } from "./served.ts";
import { skipping } from "./skipping.ts";

const DISK_BYTES = 1 << 20;

for (const device of ["nvme", "virtio-blk"]) {
  test(`SeaBIOS boots from a served ${device} disk, and again after a reset`, (t) =>
    skipping(t, async () => {
      const directory = mkdtempSync(join(tmpdir(), "ring3-boot-"));
      t.after(() => rmSync(directory, { recursive: true }));
      const image = join(directory, "disk.img");
      const text = `this came from ${device}`;
      writeFileSync(image, bootableDisk(DISK_BYTES, text));
      await using served = await Served.start([device, "--file", image]);
      {
        await using machine = await Firmware.start(served.qemu(PORT), (line) => t.diagnostic(line));
        await machine.says(WRITTEN);
        await machine.reset();
        await machine.says(WRITTEN, 2);
        assert.equal(machine.output.split(RUNNING).length, 3);
        assert.equal(machine.output.split(text).length, 3);
        assert.ok(!machine.output.includes(FAILED));
      }
      const disk = readFileSync(image);
      assert.equal(new TextDecoder().decode(writtenSector(disk)).replace(/\0+$/, ""), `${text}\r\n`);
      await served.isClean();
      assert.equal(await served.stop(), 0);
    }));
}
