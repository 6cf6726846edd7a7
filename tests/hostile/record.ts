// Makes sessions.json anew: `node tests/hostile/record.ts`. SeaBIOS boots from a served NVMe and a served virtio disk;
// then Debian's kernel uses all devices. A proxy in front of each writes down what QEMU says. Takes about two minutes and
// needs what the guest tests need.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bootGuest } from "../guest/guest.ts";
import { RUNNING, WRITTEN } from "../served/boot-sector.ts";
import { Firmware, PORT } from "../served/firmware.ts";
import { addressBehind, root } from "../served/root-shell.ts";
import { RecordingProxy } from "./proxy.ts";
import { encodeRecording, RECORDING, type RecordedFrame, type RecordedSession } from "./recording.ts";
import { Serving } from "./serving.ts";

/** Of a long session: its beginning, its end, and of what is between the first of each kind. */
const HEAD_FRAMES = 700;
const TAIL_FRAMES = 150;

const ABOUT =
  "What QEMU said to served devices, written down by record.ts, which makes this file anew. A line is a message: " +
  "command[/flags] payload descriptors (m: memory, e: eventfd); zN. stands for N zero bytes, *N for the last N times more.";

function shortened(frames: readonly RecordedFrame[]): RecordedFrame[] {
  if (frames.length <= HEAD_FRAMES + TAIL_FRAMES) return [...frames];
  return [...frames.slice(0, HEAD_FRAMES), ...frames.slice(-TAIL_FRAMES)];
}

const say = (text: string): void => console.error(text);
const folder = mkdtempSync(join(tmpdir(), "ring3-record-"));
const sessions: RecordedSession[] = [];
try {
  await using serving = await Serving.start();
  const proxyFor = (device: string): RecordingProxy => new RecordingProxy(join(folder, device), serving.socket(device));
  const qemu = (device: string, bus: string): string[] => [
    "-device",
    JSON.stringify({ driver: "vfio-user-pci", bus, socket: { type: "unix", path: join(folder, device) } }),
  ];
  const keep = (name: string, device: string, proxy: RecordingProxy): void => {
    for (const frames of proxy.sessions) {
      say(`${name} ${device}: ${frames.length} messages`);
      sessions.push({ device, name, frames: shortened(frames) });
    }
  };
  for (const device of ["nvme", "virtio-blk"]) {
    using proxy = proxyFor(device);
    {
      await using machine = await Firmware.start(qemu(device, PORT), say);
      await machine.says(WRITTEN);
      await machine.reset();
      await machine.says(RUNNING, 2);
      await machine.says(WRITTEN, 2);
    }
    keep("SeaBIOS", device, proxy);
    proxy[Symbol.dispose]();
    rmSync(join(folder, device));
  }
  const devices = ["nvme", "virtio-blk", "virtio-net", "edu"];
  const proxies = devices.map(proxyFor);
  {
    await using guest = await bootGuest({
      kernel: "debian",
      bind: false,
      machine: {
        iommu: false,
        empty: true,
        sharedMemory: true,
        memoryMegabytes: 512,
        args: devices.flatMap((device, i) => qemu(device, `rp${i + 1}`)),
      },
      progress: say,
    });
    const [nvme, block, net] = [addressBehind(1), addressBehind(2), addressBehind(3)];
    await root(
      guest,
      `bind ${nvme} nvme; bind ${block} virtio-pci; bind ${net} virtio-pci
       until_there /dev/nvme0n1; until_there /dev/nvme0n2; until_there /dev/vda; until_there /sys/class/net/eth0
       for disk in nvme0n1 nvme0n2 vda; do
         dd if=/dev/zero of=/dev/$disk bs=64k count=4 oflag=direct 2> /dev/null
         dd if=/dev/$disk of=/dev/null bs=4k count=8 iflag=direct 2> /dev/null
       done
       ip link set eth0 up; ip addr add 10.9.0.1/24 dev eth0; ping -c 1 -W 1 10.9.0.2 > /dev/null || true
       ip link set eth0 down
       unbind ${nvme}; bind ${nvme} nvme; until_there /dev/nvme0n1
       unbind ${block}; unbind ${net}; unbind ${nvme}`,
      120_000,
    );
    await Promise.all([guest.ended(), guest.run(["poweroff", "-f"], { uid: 0 }).catch(() => undefined)]);
  }
  for (const [i, proxy] of proxies.entries()) {
    keep("Linux", devices[i] ?? "", proxy);
    proxy[Symbol.dispose]();
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
const text = encodeRecording(ABOUT, sessions);
writeFileSync(RECORDING, text);
say(`${RECORDING}: ${sessions.length} sessions, ${text.length} bytes`);
