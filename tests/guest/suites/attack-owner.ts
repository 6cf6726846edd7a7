// Root's eyes while a ring3d is attacked: the service by its control socket, the functions by sysfs, the kernel's log, and memory
// of the host's own that no device may touch. Words: the folder of the service's sockets, its pid, and the socket to ask at; a
// question and its answer are a line of JSON each (attack-places.ts).
import assert from "node:assert/strict";
import { chmodSync, closeSync, constants, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { FileDescriptor, MappedMemory } from "../../../packages/ring3/src/linux/index.ts";
import { addressOfView } from "../../../packages/ring3/src/linux/native.ts";
import { ServiceOwner } from "../../hostile/attacks/service-owner.ts";
import { msixPlaces } from "../../hostile/attacks/wire.ts";
import { HOST_CONTENT, type MachineView, type OwnerQuestion } from "../attack-places.ts";

const PAGE = 4096;
const HOST_PAGES = 256;
const FRAME_MASK = 2n ** 55n - 1n;
const ENTRY_WORDS = 4;

const [place = "", pid = "", path = ""] = process.argv.slice(2);
const owner = new ServiceOwner({
  control: `${place}/control.sock`,
  metrics: `${place}/metrics.sock`,
  pid: Number(pid),
});

const host = MappedMemory.anonymous(HOST_PAGES * PAGE).bytes;
const hostWords = new Uint32Array(host.buffer);
hostWords.fill(HOST_CONTENT);

/** The lowest physical address of the memory's pages: devices with few address bits reach it, if any. */
function lowestAddress(): number {
  const file = openSync("/proc/self/pagemap", "r");
  try {
    const entries = new BigUint64Array(HOST_PAGES);
    readSync(file, new Uint8Array(entries.buffer), 0, entries.byteLength, (addressOfView(host) / PAGE) * 8);
    const addresses = Array.from(entries, (entry) => Number(entry & FRAME_MASK) * PAGE);
    return Math.min(...addresses.filter((address) => address > 0));
  } finally {
    closeSync(file);
  }
}

/** The kernel's log, a record at a time, from now on. */
const kmsg = openSync("/dev/kmsg", constants.O_RDONLY | constants.O_NONBLOCK);
const record = new Uint8Array(8192);
function log(): string[] {
  const lines: string[] = [];
  for (;;) {
    try {
      const size = readSync(kmsg, record);
      lines.push(new TextDecoder().decode(record.subarray(0, size)).split("\n")[0]?.split(";")[1] ?? "");
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EAGAIN") return lines;
      // Records were overwritten before they were read.
      if (code !== "EPIPE") throw error;
    }
  }
}

/** The first entry of the hardware's own MSI-X table, where there is one and the kernel lets root look at it. */
function tableEntry(device: string, config: Uint8Array): number[] | undefined {
  let words: Uint32Array;
  try {
    const { bar, offset } = msixPlaces(config).table;
    using file = new FileDescriptor(openSync(`${device}/resource${bar}`, "r+"));
    using mapped = MappedMemory.file(file, Math.floor(offset / PAGE) * PAGE, PAGE, { mayShrink: "accept" });
    words = new Uint32Array(mapped.bytes.buffer, offset % PAGE, ENTRY_WORDS).slice();
  } catch {
    return undefined;
  }
  return Array.from(new Uint8Array(words.buffer));
}

async function answer({ ask, name, address }: OwnerQuestion): Promise<object> {
  if (ask === "kick") {
    await owner.kick(name);
    return {};
  }
  const device = `/sys/bus/pci/devices/${address}`;
  const config = new Uint8Array(readFileSync(`${device}/config`));
  const machine: MachineView = {
    hostAddress: lowestAddress(),
    hostIntact: hostWords.every((word) => word === HOST_CONTENT),
    log: log(),
  };
  return {
    ...(await owner.view(name)),
    config: Array.from(config),
    tableEntry: tableEntry(device, config),
    ...machine,
  };
}

log();
assert.ok(lowestAddress() > 0);
const server = createServer((socket) => {
  socket.on("error", () => undefined);
  const lines = createInterface({ input: socket });
  lines.on("line", (line) => {
    answer(JSON.parse(line) as OwnerQuestion)
      .catch((error: unknown) => ({ error: String(error) }))
      .then((said) => socket.write(`${JSON.stringify(said)}\n`))
      .catch(() => socket.destroy());
  });
});
rmSync(path, { force: true });
server.listen(path, () => {
  chmodSync(path, 0o777);
  console.log("ready");
});
