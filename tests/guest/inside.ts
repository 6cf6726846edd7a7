// What a test that runs in the guest as uid 1000 can ask of the rig: a command as root, QEMU's machine protocol,
// another driver for a function, and the log of every access that QEMU's devices saw.
import { connect } from "node:net";
import { type InsideRequest, SOCKET } from "./protocol.ts";

/** Whether long tests are run as well. */
export const FULL: boolean = process.env["RING3_GUEST_FULL"] === "1";
/** For tests that only such a run has. */
export const SKIP_UNLESS_FULL: false | string = FULL ? false : "RING3_GUEST_FULL=1 runs it";

/** How a root command ended. */
export interface RootResult {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** One access to a device's registers, as QEMU saw it. */
export interface MmioAccess {
  readonly kind: "read" | "write";
  /** The name of the memory region, such as `nvme` or `edu-mmio`. */
  readonly region: string;
  /** The guest-physical address: the BAR's address plus the offset. */
  readonly address: bigint;
  readonly value: bigint;
  readonly sizeBytes: number;
}

/** Runs a shell command as root and returns how it ended. */
export async function asRoot(command: string, input = ""): Promise<RootResult> {
  return (await ask({ kind: "root", command, input })) as RootResult;
}

/** Runs a shell command as root and returns its output; it must succeed. */
export async function rootOutput(command: string): Promise<string> {
  const { code, signal, stdout, stderr } = await asRoot(command);
  if (code !== 0) throw new Error(`as root: ${command}: ended with ${signal ?? code}\n${stderr}`);
  return stdout;
}

/**
 * The shell words that run a program of a suite's packages (`// packages: NAME`) with the packages' own libraries. A suspend to
 * RAM ends the share, and it.
 */
export function packageProgram(name: string, path: string): string {
  const libraries = packageFiles(name, "/usr/lib/x86_64-linux-gnu");
  return `${libraries}/ld-linux-x86-64.so.2 --library-path ${libraries} ${packageFiles(name, path)}`;
}

/** Where a file of a suite's packages lies in the guest. */
export function packageFiles(name: string, path: string): string {
  return `/share/${name}${path}`;
}

/** Runs one QMP command on the host. */
export async function qmp(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
  return await ask({ kind: "qmp", command, args });
}

/** Runs one command of QEMU's human monitor, such as `pcie_aer_inject_error`; returns what it printed. */
export async function monitor(commandLine: string): Promise<string> {
  return (await qmp("human-monitor-command", { "command-line": commandLine })) as string;
}

/** Binds a function to a driver (`none`: to no driver); with `vfio-pci`, its nodes belong to `uid`. */
export async function bind(address: string, driver: string, uid = 1000): Promise<void> {
  await ask({ kind: "bind", address, driver, uid });
}

/** Brings all functions back to the drivers of machine.ts; returns what could not be done. */
export async function bindStandard(): Promise<readonly string[]> {
  return (await ask({ kind: "standard" })) as readonly string[];
}

/** Waits until a function has appeared (`present`) or is gone. */
export async function awaitFunction(address: string, present: boolean): Promise<void> {
  await ask({ kind: "await", address, present });
}

/** Waits until QEMU has forgotten the device `id`: it does so a moment after the function is gone, and its name is free then. */
export async function awaitDeletion(id: string): Promise<void> {
  for (;;) {
    const devices = (await qmp("qom-list", { path: "/machine/peripheral" })) as { readonly name: string }[];
    if (!devices.some(({ name }) => name === id)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/**
 * Suspends the guest to RAM until the host wakes it some seconds later. Every process is frozen meanwhile, devices lose
 * their registers, and the 9p share is dead afterwards.
 */
export async function suspend(): Promise<void> {
  await rootOutput("echo mem > /sys/power/state");
}

/** Runs `action` and returns the accesses to the memory regions of that name meanwhile, with their widths. */
export async function traceMmio(region: string, action: () => void | Promise<void>): Promise<MmioAccess[]> {
  await ask({ kind: "trace-start", events: ["memory_region_ops_read", "memory_region_ops_write"] });
  let log: string;
  try {
    await action();
  } finally {
    log = (await ask({ kind: "trace-stop", filter: `name '${region}'` })) as string;
  }
  const pattern = /memory_region_ops_(read|write).* addr (0x[0-9a-f]+) value (0x[0-9a-f]+) size (\d+) name '([^']*)'/;
  return log.split("\n").flatMap((line) => {
    const [, kind, address = "0", value = "0", size, name = ""] = pattern.exec(line) ?? [];
    if (kind !== "read" && kind !== "write") return [];
    return [{ kind, region: name, address: BigInt(address), value: BigInt(value), sizeBytes: Number(size) }];
  });
}

function ask(request: InsideRequest): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connect(SOCKET);
    let text = "";
    socket.setEncoding("utf8");
    socket.once("error", reject);
    socket.on("data", (data: string) => (text += data));
    socket.once("close", () => {
      if (text === "") return reject(new Error("the rig gave no answer"));
      const { value, error } = JSON.parse(text) as { value?: unknown; error?: string };
      if (error === undefined) resolve(value);
      else reject(new Error(error));
    });
    socket.write(`${JSON.stringify(request)}\n`);
  });
}
