// `npm run guest`: a shell in the guest on this terminal. `exit` ends the guest, Ctrl-A x ends it by force, and
// Ctrl-A c reaches QEMU's monitor.
import { parseArgs } from "node:util";
import { bootGuest } from "./guest.ts";
import { VARIATIONS, type VariationName } from "./machine.ts";

const USAGE = `usage: npm run guest -- [options]
  --kernel debian|iommufd  which kernel (default: debian)
  --machine NAME           ${Object.keys(VARIATIONS).join(", ")} (default: standard)
  --root                   a shell as root; else as uid 1000
  -e, --execute COMMAND    runs the command instead of a shell and ends with its exit code`;

/** No time-out: the longest that a timer takes. */
const FOREVER_MS = 2 ** 31 - 1;

const { values } = parseArgs({
  options: {
    kernel: { type: "string", default: "debian" },
    machine: { type: "string", default: "standard" },
    root: { type: "boolean", default: false },
    execute: { type: "string", short: "e" },
    help: { type: "boolean", short: "h", default: false },
  },
});
const { kernel, machine, root, execute, help } = values;
if (help || (kernel !== "debian" && kernel !== "iommufd") || !Object.hasOwn(VARIATIONS, machine)) {
  console.error(USAGE);
  process.exit(help ? 0 : 2);
}

const uid = root ? 0 : 1000;
const shell = { uid, cwd: "/ring3", timeoutMs: FOREVER_MS };
const guest = await bootGuest({
  kernel,
  machine: VARIATIONS[machine as VariationName],
  interactive: execute === undefined,
  progress: (line) => console.error(line),
});
console.error(`Linux ${guest.release}, up after ${(guest.bootTimes.readyMs / 1000).toFixed(1)} s`);
if (execute === undefined) await interact();
else await run(execute);

/** Runs a shell on the console; the agent made it a session leader, so opening the terminal makes it its own. */
async function interact(): Promise<void> {
  const { rows, columns } = process.stdout.isTTY ? process.stdout : { rows: 24, columns: 80 };
  await guest.run(["sh", "-c", `stty rows ${rows} cols ${columns} < /dev/ttyS0; chown ${uid} /dev/ttyS0`], { uid: 0 });
  try {
    await guest.run(["sh", "-c", "exec sh -i < /dev/ttyS0 > /dev/ttyS0 2>&1"], shell);
    // Ending by itself, QEMU leaves the terminal as it was.
    await Promise.all([guest.ended(), guest.qmp("quit").catch(() => undefined)]);
  } catch {
    // Ctrl-A x.
  } finally {
    await guest[Symbol.asyncDispose]();
  }
}

async function run(command: string): Promise<void> {
  const onOutput = (text: string, stream: "stdout" | "stderr"): void => void process[stream].write(text);
  try {
    const { code } = await guest.run(["sh", "-c", command], { ...shell, onOutput });
    process.exitCode = code ?? 1;
  } finally {
    await guest[Symbol.asyncDispose]();
  }
}
