// The gigabit drivers on QEMU's igb and e1000e over the kernel's VFIO, as uid 1000: frames both ways, checked byte by byte, by
// interrupt and polled; the virtual functions under the kernel's igb driver.
// timeout: 600
// kernels: any
// seconds: 18
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { NetDevice, NetDeviceOptions } from "../../../packages/ring3/src/drivers/net/device.ts";
import { Packets, PacketWord } from "../../../packages/ring3/src/drivers/net/packets.ts";
import { arpRequest, checksum, echoRequest, exchange } from "../frames.ts";
import { rootOutput } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";
import { withDevices } from "../net-devices.ts";

const FRAMES = 1000;
const WHOLE = { count: FRAMES, damaged: 0, duplicated: 0, disordered: 0 };

const parent = (): Promise<string> => rootOutput(`ls /sys/bus/pci/devices/${FUNCTIONS.igb.address}/net`);

before(async () => {
  await rootOutput(`ip link set ${(await parent()).trim()} up`);
});
after(async () => {
  await rootOutput(`ip link set ${(await parent()).trim()} down`);
});

const modes: readonly NetDeviceOptions[] = [
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

test("the kernel's stack on the physical function answers a virtual one, byte by byte", async () => {
  const name = (await parent()).trim();
  await rootOutput(`ip addr add 10.9.0.2/24 dev ${name}`);
  try {
    await withDevices([FUNCTIONS.igbVf0.address], {}, async (vf) => {
      const kernel = Uint8Array.from(
        (await rootOutput(`cat /sys/class/net/${name}/address`))
          .trim()
          .split(":")
          .map((byte) => Number.parseInt(byte, 16)),
      );
      // The kernel learns our address from our question, and answers it.
      const arp = arpRequest(vf.mac, [10, 9, 0, 1], [10, 9, 0, 2]);
      const [answer] = await ask(vf, [arp], (frame) => frame[12] === 8 && frame[13] === 6 && frame[21] === 2);
      assert.deepEqual(answer?.subarray(22, 28), kernel);
      const requests = Array.from({ length: ECHOES }, (_, i) => echoRequest(kernel, vf.mac, i, 20 + ((i * 37) % 1400)));
      const replies = await ask(vf, requests, (frame) => frame[12] === 8 && frame[13] === 0 && frame[34] === 0);
      assert.equal(replies.length, ECHOES);
      for (const [i, reply] of replies.entries()) {
        const request = requests[i] as Uint8Array;
        assert.deepEqual(reply.subarray(38, request.length), request.subarray(38));
        assert.equal(checksum(reply.subarray(34, request.length)), 0);
      }
    });
  } finally {
    await rootOutput(`ip addr del 10.9.0.2/24 dev ${name}`);
  }
});

const ECHOES = 200;

/** Sends each frame, and returns the first frame after it that fits. */
async function ask(
  device: NetDevice,
  frames: readonly Uint8Array[],
  fits: (frame: Uint8Array) => boolean,
): Promise<Uint8Array[]> {
  using packets = new Packets(device.pool.arena, 8);
  const answers: Uint8Array[] = [];
  for (const frame of frames) {
    device.pool.takeAll(packets, 1);
    device.pool.bytes.set(frame, packets.words[PacketWord.PLACE]);
    packets.words[PacketWord.LENGTH] = frame.length;
    assert.equal(device.txBurst(0, packets, 1), 1);
    const before = answers.length;
    while (answers.length === before && (await device.receivable(0, { timeoutMs: 2000 }))) {
      const count = device.rxBurst(0, packets);
      for (let i = 0; i < count; i++) {
        const received = device.pool.frame(packets, i).slice();
        if (fits(received)) answers.push(received);
      }
      device.pool.giveAll(packets, count);
    }
  }
  return answers;
}

test("the physical function goes down and comes up under two virtual ones, which go on with all their settings", async () => {
  const name = (await parent()).trim();
  await withDevices([FUNCTIONS.igbVf0.address, FUNCTIONS.igbVf1.address], {}, async (a, b) => {
    const group = Uint8Array.of(1, 0, 0x5e, 1, 2, 3);
    await b.setMulticast([group]);
    const own = b.mac;
    for (let round = 0; round < 2; round++) {
      const resets: string[] = [];
      using _first = a.events.on("reset", ({ reason }) => resets.push(`a ${reason}`));
      using _second = b.events.on("reset", ({ reason }) => resets.push(`b ${reason}`));
      await rootOutput(`ip link set ${name} down`);
      while (a.link.up || b.link.up) await a.receivable(0, { timeoutMs: 20 }).catch(() => {});
      await rootOutput(`ip link set ${name} up`);
      for (const device of [a, b]) await device.waitForLink({ timeoutMs: 20_000 });
      assert.ok(resets.length >= 2, resets.join(", "));
      assert.deepEqual(b.mac, own);
      assert.deepEqual(await exchange(a, b, { frames: FRAMES }), WHOLE);
      assert.deepEqual(await exchange(a, b, { frames: 50, to: group }), { ...WHOLE, count: 50 });
    }
  });
});
