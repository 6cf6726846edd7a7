// The kernel's VFIO on a machine without devices: boots a guest with an NVMe disk made on the spot; inside, root hands the
// disk to uid 1000, whose unprivileged process drives it; afterwards the host checks the bytes of the disk image.
import { join } from "node:path";
import { bootGuest, type Guest } from "../../tests/guest/guest.ts";
import { iommufdKernel } from "../../tests/guest/kernels.ts";
import { HOTPLUG } from "../../tests/guest/machine.ts";
import { checkImage, DISK_BYTES, makeImage, WRITTEN } from "./disk-image.ts";
import { byLine, say } from "./say.ts";

const { port, address } = HOTPLUG[0];

/** Runs a program in the guest, showing its output line by line; throws where it fails. */
async function show(guest: Guest, uid: number, argv: readonly string[]): Promise<void> {
  say(`${uid === 0 ? "root" : `uid ${uid}`} in the guest: ${argv.join(" ")}`);
  const lines = byLine((line) => say(`  | ${line}`));
  const { code, signal, stderr } = await guest.run(argv, {
    uid,
    cwd: "/ring3",
    timeoutMs: 300_000,
    onOutput: (text, stream) => {
      if (stream === "stdout") lines(text);
    },
  });
  if (code !== 0) throw new Error(`${argv[0]} ended with ${signal ?? code}:\n${stderr}\n${guest.consoleTail()}`);
}

export async function guestDemonstration(directory: string): Promise<void> {
  const disk = join(directory, "disk.img");
  const former = makeImage(disk);
  const text = `ring3 was here on ${new Date().toISOString()}`;
  say(`made a disk image of ${DISK_BYTES / 2 ** 20} MiB, each word its own index`);
  const kernel = iommufdKernel() === undefined ? "debian" : "iommufd";
  say("booting a guest with an IOMMU in QEMU (emulated: no KVM, no root needed)");
  {
    await using guest = await bootGuest({
      kernel,
      progress: say,
      machine: {
        args: [
          ...["-drive", `if=none,id=fresh,file=${disk},format=raw,cache=writethrough`],
          ...["-device", `nvme,id=fresh,serial=ring3-fresh,drive=fresh,bus=${port}`],
        ],
      },
    });
    say(`Linux ${guest.release} is up`);
    const ring3 = ["node", "/ring3/packages/cli/src/main.js"];
    await show(guest, 0, [...ring3, "bind", address, "--user", "user"]);
    await show(guest, 1000, [...ring3, "ls"]);
    await show(guest, 1000, ["node", "/ring3/examples/first-light.js", address, text]);
    await show(guest, 0, [...ring3, "unbind", address]);
    say("ending the guest");
  }
  checkImage(disk, text, former);
  const last = WRITTEN.firstBlock + WRITTEN.blocks - 1;
  say(`the host finds the same bytes in the image: blocks ${WRITTEN.firstBlock} to ${last} say "${text}"`);
  say("every other byte is as it was. Done.");
  say('next: "npm run guest" gives a shell in that guest; "npm test" runs everything');
}
