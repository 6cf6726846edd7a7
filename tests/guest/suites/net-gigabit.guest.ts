// The gigabit drivers on QEMU's igb and e1000e over the kernel's VFIO, as uid 1000: frames both ways, checked byte by byte, by
// interrupt and polled; the virtual functions under the kernel's igb driver.
// timeout: 600
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { GigabitOptions } from "../../../packages/ring3/src/drivers/gigabit/settings.ts";
import { exchange } from "../frames.ts";
import { rootOutput } from "../inside.ts";
import { withDevices } from "../net-devices.ts";
import { FUNCTIONS } from "../machine.ts";

const FRAMES = 1000;
const WHOLE = { count: FRAMES, damaged: 0, duplicated: 0, disordered: 0 };

const parent = (): Promise<string> => rootOutput(`ls /sys/bus/pci/devices/${FUNCTIONS.igb.address}/net`);

before(async () => {
  await rootOutput(`ip link set ${(await parent()).trim()} up`);
});
after(async () => {
  await rootOutput(`ip link set ${(await parent()).trim()} down`);
});

const modes: readonly GigabitOptions[] = [
  { receiveMode: "polled" },
  { receiveMode: "interrupt" },
  { receiveMode: "adaptive", loops: "typescript" },
];

for (const mode of modes) {
  test(`two virtual functions, both ways, ${JSON.stringify(mode)}`, async () => {
    assert.equal(process.getuid?.(), 1000);
    const { igbVf0, igbVf1 } = FUNCTIONS;
    await withDevices([igbVf0.address, igbVf1.address], mode, async (a, b) => {
      assert.deepEqual(await exchange(a, b, { frames: FRAMES }), WHOLE);
      assert.deepEqual(await exchange(b, a, { frames: FRAMES }), WHOLE);
    });
  });

  test(`a virtual function and e1000e over the wire, ${JSON.stringify(mode)}`, async () => {
    const { igbVf0, e1000e } = FUNCTIONS;
    await withDevices([igbVf0.address, e1000e.address], mode, async (vf, wire) => {
      assert.deepEqual(await exchange(vf, wire, { frames: FRAMES }), WHOLE);
      assert.deepEqual(await exchange(wire, vf, { frames: FRAMES }), WHOLE);
    });
  });
}
