// The main job on real input: boots a guest with an NVMe disk made on the spot; inside, root hands the disk to uid 1000,
// whose unprivileged process drives it through the kernel's VFIO; afterwards the host checks the bytes of the disk image.
import { mkdtempSync, openSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bootGuest, type Guest } from "../tests/guest/guest.ts";
import { iommufdKernel } from "../tests/guest/kernels.ts";
import { HOTPLUG } from "../tests/guest/machine.ts";

const DISK_BYTES = 64 * 1024 * 1024;
const BLOCK_BYTES = 512;
const FIRST_BLOCK = 8;
const BLOCKS = 8;
const { port, address } = HOTPLUG[0];

const startedAt = performance.now();
function say(line: string): void {
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(6);
  for (const part of line.trimEnd().split("\n")) console.log(`${seconds} s  ${part}`);
}

/** Runs a program in the guest, showing its output line by line; throws where it fails. */
async function show(guest: Guest, uid: number, argv: readonly string[]): Promise<void> {
  say(`${uid === 0 ? "root" : `uid ${uid}`} in the guest: ${argv.join(" ")}`);
  let rest = "";
  const { code, signal, stderr } = await guest.run(argv, {
    uid,
    cwd: "/ring3",
    timeoutMs: 300_000,
    onOutput: (text, stream) => {
      if (stream !== "stdout") return;
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) say(`  | ${line}`);
    },
  });
  if (code !== 0) throw new Error(`${argv[0]} ended with ${signal ?? code}:\n${stderr}\n${guest.consoleTail()}`);
}

/** What the guest should have left in the image: the text again and again in its blocks, the former bytes around them. */
function checkImage(path: string, text: string, former: Uint8Array): void {
  const image = new Uint8Array(DISK_BYTES);
  const fd = openSync(path, "r");
  for (let at = 0; at < image.length; ) {
    const count = readSync(fd, image, at, image.length - at, at);
    if (count === 0) throw new Error(`the image ends at byte ${at}`);
    at += count;
  }
  const wanted = former.slice();
  const words = new TextEncoder().encode(`${text}\n`);
  for (let i = 0; i < BLOCKS * BLOCK_BYTES; i++) wanted[FIRST_BLOCK * BLOCK_BYTES + i] = words[i % words.length] ?? 0;
  const wrong = image.findIndex((byte, i) => byte !== wanted[i]);
  if (wrong !== -1) throw new Error(`byte ${wrong} of the image is ${image[wrong]}, expected ${wanted[wrong]}`);
}

const directory = mkdtempSync(join(tmpdir(), "ring3-start-"));
process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
const disk = join(directory, "disk.img");
const former = new Uint8Array(DISK_BYTES);
new Uint32Array(former.buffer).forEach((_, i, words) => {
  words[i] = i;
});
writeFileSync(disk, former);
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
say(`the host finds the same bytes in the image: blocks ${FIRST_BLOCK} to ${FIRST_BLOCK + BLOCKS - 1} say "${text}"`);
say("every other byte is as it was. Done.");
say('next: "npm run guest" gives a shell in that guest; "npm test" runs everything');
