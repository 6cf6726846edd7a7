// A guest on a disk that ring3 serves: Linux's own nvme driver makes a file system on it and writes a file, and the host
// finds the bytes in the disk image.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bootGuest, type Guest } from "../../tests/guest/guest.ts";
import { checkoutFor } from "./checkout.ts";
import { DISK_BYTES } from "./disk-image.ts";
import { sizeText } from "./message-text.ts";
import { start } from "./programs.ts";
import { byLine, say } from "./say.ts";

/** The first root port of a machine that has nothing else, and where the guest sees what is behind it. */
const PORT = "rp1";
const ADDRESS = "0000:01:00.0";

export async function qemuDemonstration(directory: string): Promise<void> {
  const place = join(directory, "device");
  mkdirSync(place);
  const disk = join(place, "disk.img");
  writeFileSync(disk, new Uint8Array(DISK_BYTES));
  const socket = join(place, "disk.sock");
  const text = `ring3 was here on ${new Date().toISOString()}`;
  say(`made an empty disk image of ${DISK_BYTES / 2 ** 20} MiB`);
  await using device = start(
    [
      "serve",
      "nvme",
      "--file",
      disk,
      "--socket",
      socket,
      "--log",
      "-",
      ...(process.env["TRACE"] ? ["--log-messages"] : []),
    ],
    {
      checkout: checkoutFor(undefined, directory),
      uid: undefined,
      show: (line) => say(`device: ${eventText(line)}`),
    },
  );
  await device.saidSomething;
  {
    say(
      "booting a guest in QEMU (emulated: no KVM, no root needed) with that disk, and memory that the device may map",
    );
    await using guest = await bootGuest({
      kernel: "debian",
      bind: false,
      progress: say,
      machine: {
        iommu: false,
        empty: true,
        sharedMemory: true,
        args: [
          "-device",
          JSON.stringify({ driver: "vfio-user-pci", bus: PORT, socket: { type: "unix", path: socket } }),
        ],
      },
    });
    say(`Linux ${guest.release} is up`);
    const pci = "/sys/bus/pci";
    const node = `/dev/$(ls ${pci}/devices/${ADDRESS}/nvme/nvme*/ | grep -o 'nvme[0-9]*n1$')`;
    const steps: readonly (readonly [what: string, script: string])[] = [
      [
        "the kernel's nvme driver takes the function",
        `echo nvme > ${pci}/devices/${ADDRESS}/driver_override
         echo ${ADDRESS} > ${pci}/drivers_probe
         until [ -b ${node} ]; do sleep 0.2; done 2> /dev/null
         ls -l ${node}`,
      ],
      ["a file system is made on it", `/e2fs/mke2fs -q -t ext4 ${node}`],
      ["it is mounted", `mount -t ext4 ${node} /mnt && df -h /mnt`],
      ["a file is written", `echo '${text}' > /mnt/note && cat /mnt/note`],
      ["it is unmounted", "umount /mnt"],
      ["the file system is checked", `/e2fs/e2fsck -fn ${node} 2> /dev/null`],
      ["the driver lets it go", `echo ${ADDRESS} > ${pci}/drivers/nvme/unbind`],
    ];
    for (const [what, script] of steps) await step(guest, what, script);
    say("ending the guest");
  }
  say("ending the device");
  await device.stop();
  const image = readFileSync(disk);
  if (image.readUInt16LE(1024 + 56) !== 0xef53) throw new Error("the image holds no ext4 file system");
  const at = image.indexOf(text);
  if (at === -1) throw new Error(`the image does not hold "${text}"`);
  say(`the host finds an ext4 file system in ${disk}, and "${text}" at byte ${at}. Done.`);
}

/** Runs a script as root in the guest, showing what it prints; throws where it fails. */
async function step(guest: Guest, what: string, script: string): Promise<void> {
  say(`guest: ${what}`);
  const show = byLine((line) => say(`  | ${line.trimEnd()}`));
  const { code, stderr } = await guest.run(["sh", "-e", "-c", script], {
    uid: 0,
    onOutput: (output, stream) => {
      if (stream === "stdout") show(output);
    },
  });
  if (code !== 0) throw new Error(`that ended with ${code}:\n${stderr}\n${guest.consoleTail()}`);
}

/** A line of the server's log in a few words; any other line as it is. */
function eventText(line: string): string {
  if (!line.startsWith("{")) return line;
  const {
    time: _,
    socket: _socket,
    functions: _functions,
    event,
    ...facts
  } = JSON.parse(line) as Record<string, unknown>;
  const words = Object.entries(facts).map(([name, value]) => {
    if (name === "iova") return `0x${Number(value).toString(16)}`;
    return name === "size" ? sizeText(BigInt(Number(value))) : `${name} ${String(value)}`;
  });
  return [String(event), ...words].join(", ");
}
