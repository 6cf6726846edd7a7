// The single changes of which binding, giving back and SR-IOV are made, each with its way back. A way back looks at the
// machine before it acts, since the step may have done nothing, half or all of its work when it failed.
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import {
  type BindingRecord,
  bindingRecordPath,
  boundAddresses,
  readSharedNodes,
  sharedNodesPath,
} from "./binding-records.ts";
import { currentDriver, currentOverride } from "./inventory.ts";
import type { Step } from "./journal.ts";
import { deviceNode, groupNode, iommufdNode, mayOpen, type VfioNode } from "./nodes.ts";
import { type HostOperations, linuxOperations, type NodeOwner } from "./operations.ts";
import { driverDirectory, functionDirectory, type HostPaths, thisMachine } from "./paths.ts";
import { listNames, present, readLinkName, readText } from "./sysfs.ts";
import type { User } from "./users.ts";

/** The machine to work on, and how. */
export interface Host {
  readonly paths: HostPaths;
  readonly operations: HostOperations;
  /** Aborting stops before the next step and puts everything back. */
  readonly signal?: AbortSignal | undefined;
  /** Told of each step as it starts. */
  readonly progress?: ((text: string) => void) | undefined;
  /** How long the node of a freshly bound function may take to appear; 10 s by default. */
  readonly nodeTimeoutMs?: number | undefined;
}

/** This machine, with options on how to work. */
export function thisHost(options: Pick<Host, "signal" | "progress" | "nodeTimeoutMs"> = {}): Host {
  return { paths: thisMachine, operations: linuxOperations(), ...options };
}

const DEFAULT_NODE_TIMEOUT_MS = 10_000;

export function loadDriverStep(host: Host, driver: string): Step {
  return {
    text: `load the module ${driver}`,
    command: `modprobe ${driver}`,
    run: async () => {
      await host.operations.loadModule(driver);
      if (!present(driverDirectory(host.paths, driver))) {
        const text = `the module ${driver} was loaded, but no PCI driver of that name registered`;
        throw new Ring3Error("MODULE_MISSING", text);
      }
    },
  };
}

/** Notes what will be given back, before anything changes. */
export function recordStep(host: Host, record: BindingRecord): Step {
  const path = bindingRecordPath(host.paths, record.address);
  const before = readText(path);
  return {
    text: `note in ${path} what ${record.address} is given back to (${record.formerDriver ?? "no driver"})`,
    command: undefined,
    run: async () => await host.operations.save(path, `${JSON.stringify(record, null, 2)}\n`),
    undo: async () => await restoreFile(host, path, before),
  };
}

export function forgetStep(host: Host, path: string): Step {
  const before = readText(path);
  return {
    text: `forget ${path}`,
    command: `rm ${path}`,
    run: async () => await host.operations.remove(path),
    undo: async () => await restoreFile(host, path, before),
  };
}

async function restoreFile(host: Host, path: string, before: string | undefined): Promise<void> {
  if (before === undefined) await host.operations.remove(path);
  else await host.operations.save(path, `${before}\n`);
}

/** Takes the function from the driver that has it. The way back binds that driver again. */
export function detachStep(host: Host, address: string, driver: string): Step {
  const path = join(driverDirectory(host.paths, driver), "unbind");
  return {
    text: `take ${address} from ${driver}`,
    command: `echo ${address} > ${path}`,
    run: async () => await host.operations.write(path, address),
    undo: async () => await attach(host, address, driver),
  };
}

/** Says which driver alone may bind; `undefined` lifts the restriction. */
export function overrideStep(host: Host, address: string, driver: string | undefined): Step {
  const path = join(functionDirectory(host.paths, address), "driver_override");
  const before = currentOverride(host.paths, address);
  // A lone line feed clears the attribute; an empty write would not reach the kernel.
  const set = async (value: string | undefined): Promise<void> => {
    if (currentOverride(host.paths, address) !== value) await host.operations.write(path, `${value ?? ""}\n`);
  };
  return {
    text: driver === undefined ? `let any driver bind ${address} again` : `let only ${driver} bind ${address}`,
    command: `echo ${driver ?? '""'} > ${path}`,
    run: async () => await set(driver),
    undo: async () => await set(before),
  };
}

/** Asks the kernel to find the driver, which the override has decided. */
export function probeStep(host: Host, address: string, driver: string): Step {
  const path = join(host.paths.sysfsRoot, "bus/pci/drivers_probe");
  return {
    text: `bind ${address} to ${driver}`,
    command: `echo ${address} > ${path}`,
    run: async () => {
      await host.operations.write(path, address);
      requireDriver(host, address, driver);
    },
    undo: async () => {
      if (currentDriver(host.paths, address) !== driver) return;
      await host.operations.write(join(driverDirectory(host.paths, driver), "unbind"), address);
    },
  };
}

/** Binds the function to exactly `driver`, whatever other drivers would match. */
export function attachStep(host: Host, address: string, driver: string): Step {
  return {
    text: `give ${address} back to ${driver}`,
    command: `echo ${address} > ${join(driverDirectory(host.paths, driver), "bind")}`,
    run: async () => await attach(host, address, driver),
    undo: async () => {
      if (currentDriver(host.paths, address) !== driver) return;
      await host.operations.write(join(driverDirectory(host.paths, driver), "unbind"), address);
    },
  };
}

async function attach(host: Host, address: string, driver: string): Promise<void> {
  if (currentDriver(host.paths, address) === driver) return;
  const directory = driverDirectory(host.paths, driver);
  if (!present(directory)) await host.operations.loadModule(driver);
  // Loading the module may have bound the function already.
  if (currentDriver(host.paths, address) === driver) return;
  await host.operations.write(join(directory, "bind"), address);
  requireDriver(host, address, driver);
}

function requireDriver(host: Host, address: string, driver: string): void {
  const now = currentDriver(host.paths, address);
  if (now === driver) return;
  throw new Ring3Error(
    "BIND_FAILED",
    `${address} did not bind to ${driver} but ${now === undefined ? "has no driver" : `to ${now}`}; the kernel log (dmesg) says why`,
  );
}

/**
 * Waits for the nodes of a bound function and gives them to `user` (mode 0600), with /dev/iommu where the kernel has it.
 * The nodes are made anew at each binding, as root's.
 */
export function handOverStep(host: Host, address: string, user: User | undefined): Step {
  const before = new Map<string, NodeOwner>();
  let noted: { readonly before: string | undefined } | undefined;
  const name = user === undefined ? undefined : (user.name ?? `uid ${user.uid}`);
  const group = readLinkName(join(functionDirectory(host.paths, address), "iommu_group"));
  const set = async (node: VfioNode, owner: NodeOwner): Promise<void> => {
    if (!before.has(node.path)) before.set(node.path, { uid: node.uid, gid: node.gid, mode: node.mode });
    await host.operations.setOwner(node.path, owner);
  };
  const shown = `${host.paths.devRoot}/vfio/${group ?? "N"}`;
  return {
    text: name === undefined ? `wait for the node of ${address}` : `give the nodes of ${address} (${shown}) to ${name}`,
    command: user === undefined ? undefined : `chown ${user.uid} ${shown}`,
    run: async () => {
      const nodes = await waitForNodes(host, address);
      if (user === undefined) return;
      await host.operations.settle();
      for (const node of nodes) await set(node, { uid: user.uid, gid: node.gid, mode: 0o600 });
      const shared = nodes.some(({ kind }) => kind === "device") ? iommufdNode(host.paths) : undefined;
      if (shared === undefined || mayOpen(shared, user)) return;
      noted = { before: readText(sharedNodesPath(host.paths)) };
      await noteSharedNode(host, shared);
      // An iommufd alone reaches no device. So a second user gets in by mode, as everybody may open /dev/vfio/vfio.
      await set(shared, shared.uid === 0 ? { ...shared, uid: user.uid } : { ...shared, mode: shared.mode | 0o666 });
    },
    undo: async () => {
      for (const [path, owner] of before) if (present(path)) await host.operations.setOwner(path, owner);
      if (noted !== undefined) await restoreFile(host, sharedNodesPath(host.paths), noted.before);
    },
  };
}

/** Puts /dev/iommu back to its first owner once the last binding is gone. */
export function restoreSharedNodesStep(host: Host): Step {
  const restored = new Map<string, NodeOwner>();
  const records = readSharedNodes(host.paths);
  const path = sharedNodesPath(host.paths);
  const before = readText(path);
  return {
    text: "put the shared nodes back to their first owner, if nothing is bound any more",
    command: undefined,
    run: async () => {
      const node = iommufdNode(host.paths);
      if (boundAddresses(host.paths).length > 0 || before === undefined) return;
      const owner = node === undefined ? undefined : records[node.path];
      if (node !== undefined && owner !== undefined) {
        restored.set(node.path, { uid: node.uid, gid: node.gid, mode: node.mode });
        await host.operations.setOwner(node.path, owner);
      }
      await host.operations.remove(path);
    },
    undo: async () => {
      for (const [name, owner] of restored) await host.operations.setOwner(name, owner);
      await restoreFile(host, path, before);
    },
  };
}

async function noteSharedNode(host: Host, { path, uid, gid, mode }: VfioNode): Promise<void> {
  const records = readSharedNodes(host.paths);
  if (records[path] !== undefined) return;
  const text = JSON.stringify({ ...records, [path]: { uid, gid, mode } }, null, 2);
  await host.operations.save(sharedNodesPath(host.paths), `${text}\n`);
}

/** The nodes that the kernel announced for a bound function, once all of them exist. */
async function waitForNodes(host: Host, address: string): Promise<VfioNode[]> {
  const { paths } = host;
  const look = (): (VfioNode | undefined)[] => {
    const directory = functionDirectory(paths, address);
    const group = readLinkName(join(directory, "iommu_group"));
    const names = [group, `noiommu-${group}`].filter((name) =>
      present(join(paths.sysfsRoot, "class/vfio", name ?? "-")),
    );
    // `vfio-dev/vfioN` exists with every kernel; its `dev` only where it has a character device.
    const devices = listNames(join(directory, "vfio-dev")).filter((name) =>
      present(join(directory, "vfio-dev", name, "dev")),
    );
    return [...names.map(() => groupNode(Number(group), paths)), ...devices.map((name) => deviceNode(name, paths))];
  };
  const ready = (): boolean => {
    const nodes = look();
    return nodes.length > 0 && nodes.every((node) => node !== undefined);
  };
  const timeoutMs = host.nodeTimeoutMs ?? DEFAULT_NODE_TIMEOUT_MS;
  if (await host.operations.waitUntil(join(paths.devRoot, "vfio"), ready, timeoutMs)) {
    return look().filter((node) => node !== undefined);
  }
  throw new Ring3Error(
    "NODE_MISSING",
    `${address} is bound, but no node appeared in ${paths.devRoot}/vfio within ${timeoutMs / 1000} s: ` +
      "is /dev a devtmpfs, or a container's own /dev without the host's nodes?",
  );
}
