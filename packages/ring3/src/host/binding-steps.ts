// The single changes of which binding, giving back and SR-IOV are made, each with its way back. A way back looks at the
// machine before it acts, since the step may have done nothing, half or all of its work when it failed.
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import { type BindingRecord, bindingRecordPath } from "./binding-records.ts";
import { currentDriver, currentOverride } from "./inventory.ts";
import type { Step } from "./journal.ts";
import { type HostOperations, linuxOperations } from "./operations.ts";
import { driverDirectory, functionDirectory, type HostPaths, thisMachine } from "./paths.ts";
import { present, readText } from "./sysfs.ts";

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

/** Puts a file of ring3's own back to what it held. */
export async function restoreFile(host: Host, path: string, before: string | undefined): Promise<void> {
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
