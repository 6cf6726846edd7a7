// The main job on real input, three ways: `npm start` has two processes and a socket, `-- --qemu` a guest with the disk that
// ring3 serves, `-- --guest` a guest whose kernel hands a disk to an ordinary user through VFIO.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const DEMONSTRATIONS: Readonly<Record<string, () => Promise<(directory: string) => Promise<void>>>> = {
  "": async () => (await import("./start/processes.ts")).processDemonstration,
  "--guest": async () => (await import("./start/guest.ts")).guestDemonstration,
  "--qemu": async () => (await import("./start/qemu.ts")).qemuDemonstration,
};

const [word = "", ...rest] = process.argv.slice(2);
const load = Object.hasOwn(DEMONSTRATIONS, word) ? DEMONSTRATIONS[word] : undefined;
if (load === undefined || rest.length > 0) {
  console.error("usage: npm start [-- --guest | --qemu]");
  process.exit(2);
}
const directory = mkdtempSync(join(tmpdir(), "ring3-start-"));
process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const) {
  process.once(signal, () => process.exit(code));
}
await (await load())(directory);
