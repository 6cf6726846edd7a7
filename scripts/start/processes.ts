// Two processes and a socket, no guest and no kernel driver: one serves an NVMe disk from a file, the other, of another user
// where this one is root, drives it. This process stands between them, draws what crosses, and checks the file at the end.
import { chmodSync, chownSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { checkoutFor } from "./checkout.ts";
import { checkImage, DISK_BYTES, makeImage, WRITTEN } from "./disk-image.ts";
import { Picture } from "./picture.ts";
import { run, start } from "./programs.ts";
import { say } from "./say.ts";
import { tapWire } from "./wire-tap.ts";

/** Users without a name or a file, as systemd's DynamicUser= takes them. */
const DEVICE_UID = 61_184;
const DRIVER_UID = 61_185;
const BENCH_SECONDS = 2;
const BENCH_DEPTH = 32;

export async function processDemonstration(directory: string): Promise<void> {
  const isRoot = process.geteuid?.() === 0;
  const [deviceUid, driverUid] = isRoot ? [DEVICE_UID, DRIVER_UID] : [undefined, undefined];
  chmodSync(directory, 0o711);
  const checkout = checkoutFor(driverUid, directory);
  if (checkout.copied)
    say("other users may not enter this checkout: what they need was copied to a temporary directory");
  const own = process.getuid?.() ?? 0;
  say(
    isRoot
      ? `the device runs as uid ${deviceUid}, the driver as uid ${driverUid}: neither is root, nor may either see the other's files`
      : `device and driver both run as uid ${own}, since only root can start a process of another user`,
  );

  const place = join(directory, "device");
  mkdirSync(place, { mode: 0o700 });
  const disk = join(place, "disk.img");
  const former = makeImage(disk);
  say(`made a disk image of ${DISK_BYTES / 2 ** 20} MiB, each word its own index`);
  const socket = join(place, "disk.sock");
  const seen = join(directory, "driver.sock");
  if (deviceUid !== undefined) for (const path of [place, disk]) chownSync(path, deviceUid, deviceUid);

  await using device = start(["serve", "nvme", "--file", disk, "--socket", socket], {
    checkout,
    uid: deviceUid,
    show: (line) => say(`device: ${line}`),
  });
  await device.saidSomething;
  const picture = new Picture((line) => say(`  ${line}`));
  using _tap = tapWire(seen, socket, (from, message) => picture.show(from, message));
  if (driverUid !== undefined) chownSync(seen, driverUid, driverUid);
  chmodSync(seen, 0o600);

  const driver = {
    checkout,
    uid: driverUid,
    show: (line: string) => {
      picture.settle();
      say(`driver: ${line}`);
    },
  };
  const text = `ring3 was here on ${new Date().toISOString()}`;
  picture.head(`driver, uid ${driverUid ?? own}`, `device, uid ${deviceUid ?? own}`);
  await run([checkout.example, `vfio-user:${seen}`, text], driver);
  picture.settle();
  say(
    `so much for the start and ${2 * WRITTEN.blocks} blocks; now ${BENCH_SECONDS} s of reads, ${BENCH_DEPTH} at a time, only counted`,
  );
  picture.takeCounts();
  picture.drawing = false;
  const bench = [
    "nvme",
    "bench",
    `vfio-user:${seen}`,
    "--depth",
    String(BENCH_DEPTH),
    "--seconds",
    String(BENCH_SECONDS),
  ];
  await run([checkout.command, ...bench, "--quiet"], driver);
  const counts = [...picture.takeCounts()].toSorted(([, a], [, b]) => b - a).slice(0, 6);
  say(
    `what crossed as messages meanwhile, start and end included: ${counts.map(([name, count]) => `${name} ${count}`).join(", ")}`,
  );
  say("data needs none: queues and data are memory that both share, the device reads and writes it by itself");

  say("ending the device; it removes its socket");
  await device.stop();
  checkImage(disk, text, former);
  const last = WRITTEN.firstBlock + WRITTEN.blocks - 1;
  say(`this process finds the same bytes in the file: blocks ${WRITTEN.firstBlock} to ${last} say "${text}"`);
  say("every other byte is as it was. Done.");
  say(
    'next: "npm start -- --qemu" boots Linux on such a disk; "npm start -- --guest" drives one through the kernel\'s VFIO',
  );
}
