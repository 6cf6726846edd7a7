// Virtual functions: made with no kernel driver taking them, and removed again with the setting that was there before.
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import { type BindingPlan, type BindRequest, bindIn, planUnbind, requireRoot } from "./binding.ts";
import { readBindingRecord, readSriovRecord, sriovRecordPath } from "./binding-records.ts";
import { forgetStep, type Host, restoreFile } from "./binding-steps.ts";
import { type HostFunction, type HostSriov, readFunction } from "./inventory.ts";
import { isVfioDriver } from "./iommu-groups.ts";
import { Journal, type Step } from "./journal.ts";
import { holdLock } from "./lock.ts";
import { functionDirectory } from "./paths.ts";
import { refuseUsed } from "./reset.ts";
import { readText } from "./sysfs.ts";

const VF_TIMEOUT_MS = 30_000;

/** Plans `count` virtual functions of `address`. Throws `SRIOV_UNAVAILABLE`, `TOO_MANY_VFS` or `VFS_EXIST`. */
export function planVfs(address: string, count: number, host: Host): readonly Step[] {
  const fn = readFunction(address, host.paths);
  const sriov = requireSriov(fn);
  requireKernelDriver(fn);
  if (!Number.isInteger(count) || count < 1 || count > sriov.totalVfs) throw tooMany(fn, sriov.totalVfs, 1, count);
  if (sriov.enabledVfs === count) return [];
  if (sriov.enabledVfs > 0) {
    const text = `${fn.address} already has ${sriov.enabledVfs} virtual functions; remove them first: sudo ring3 vfs ${fn.address} 0`;
    throw new Ring3Error("VFS_EXIST", text);
  }
  return creationSteps(fn, count, false, host);
}

export interface VfsRequest {
  /** The physical function. */
  readonly address: string;
  /** How many virtual functions it shall have; 0 removes them. */
  readonly count: number;
  /** Lets drivers of the kernel take them; by default none does. */
  readonly probe?: boolean | undefined;
  /** Also removes virtual functions that the machine uses or a process has open. */
  readonly force?: boolean | undefined;
}

/**
 * Plans another number of virtual functions. A number can only be changed by way of none, so those that exist go first.
 * Throws `SRIOV_UNAVAILABLE`, `TOO_MANY_VFS`, and `FUNCTION_IN_USE` or `FUNCTION_HELD` for those that would go.
 */
export function planSetVfs({ address, count, probe = false, force = false }: VfsRequest, host: Host): BindingPlan {
  const fn = readFunction(address, host.paths);
  const sriov = requireSriov(fn);
  if (!Number.isInteger(count) || count < 0 || count > sriov.totalVfs) throw tooMany(fn, sriov.totalVfs, 0, count);
  const steps: Step[] = [];
  // A removal that was cut off may have left none, but its record.
  const cutOff = count === 0 && readSriovRecord(host.paths, fn.address) !== undefined;
  if (count === sriov.enabledVfs && !cutOff) return { addresses: [fn.address], steps };
  if (sriov.enabledVfs > 0 || cutOff) {
    if (!force) for (const vf of sriov.virtualFunctions) refuseUsed(vf, "removing it", host);
    steps.push(...removalSteps(fn, count === 0, force, host));
  }
  if (count > 0) {
    requireKernelDriver(fn);
    steps.push(...creationSteps(fn, count, probe, host));
  }
  return { addresses: [fn.address], steps };
}

/** Gives a physical function `count` virtual functions, all or nothing, and returns their addresses. Needs root. */
export async function setVfs(request: VfsRequest, host: Host): Promise<readonly string[]> {
  requireRoot(host, `vfs ${request.address} ${request.count}`);
  await using _lock = await holdLock(host);
  const journal = new Journal(host.signal, host.progress);
  return await journal.attempt(async () => {
    await journal.run(planSetVfs(request, host).steps);
    return virtualFunctions(request.address, host);
  });
}

/** Makes virtual functions and binds them, as one change: {@link setVfs}, then `bind` of what came of it. */
export async function bindVfs(
  address: string,
  count: number,
  request: Omit<BindRequest, "addresses">,
  host: Host,
): Promise<readonly string[]> {
  requireRoot(host, `bind ${address} --vfs ${count}`);
  await using _lock = await holdLock(host);
  const journal = new Journal(host.signal, host.progress);
  return await journal.attempt(async () => {
    await journal.run(planVfs(address, count, host));
    const addresses = virtualFunctions(address, host);
    await bindIn(journal, { ...request, addresses }, host);
    return addresses;
  });
}

/** Whether ring3 made the virtual functions of `address`, so that giving it back removes them. */
export function ownsVfs(address: string, host: Host): boolean {
  return readSriovRecord(host.paths, readFunction(address, host.paths).address) !== undefined;
}

/** Gives the virtual functions back and removes them, all or nothing. Needs root. */
export async function removeVfs(address: string, options: { readonly force?: boolean }, host: Host): Promise<void> {
  requireRoot(host, `unbind ${address}`);
  await using _lock = await holdLock(host);
  const journal = new Journal(host.signal, host.progress);
  await journal.attempt(async () => {
    const fn = readFunction(address, host.paths);
    const record = readSriovRecord(host.paths, fn.address);
    if (record === undefined) {
      throw new Ring3Error("NOT_BOUND", `ring3 made no virtual functions of ${fn.address}, so it removes none`);
    }
    await journal.run(removalSteps(fn, true, options.force ?? false, host));
  });
}

/** Makes virtual functions, with drivers of the kernel kept away or let in. */
function creationSteps(fn: HostFunction, count: number, probe: boolean, host: Host): Step[] {
  const path = sriovRecordPath(host.paths, fn.address);
  const autoprobe = attribute(host, fn, "sriov_drivers_autoprobe");
  const numvfs = attribute(host, fn, "sriov_numvfs");
  const before = readText(path);
  const now = fn.sriov?.driversAutoprobe ?? true;
  // What is on record was true before a change that was cut off.
  const former = readSriovRecord(host.paths, fn.address)?.formerAutoprobe ?? now;
  return [
    {
      text: `note in ${path} that the virtual functions of ${fn.address} are ours`,
      command: undefined,
      run: async () => {
        const text = JSON.stringify({ address: fn.address, formerAutoprobe: former }, null, 2);
        await host.operations.save(path, `${text}\n`);
      },
      undo: async () => await restoreFile(host, path, before),
    },
    {
      text: probe
        ? `let drivers of the kernel take the virtual functions of ${fn.address}`
        : `keep kernel drivers away from the virtual functions of ${fn.address}`,
      command: `echo ${probe ? 1 : 0} > ${autoprobe}`,
      run: async () => await host.operations.write(autoprobe, probe ? "1" : "0"),
      undo: async () => await host.operations.write(autoprobe, now ? "1" : "0"),
    },
    {
      text: `make ${count} virtual functions of ${fn.address}`,
      command: `echo ${count} > ${numvfs}`,
      run: async () => await makeVfs(host, fn, count),
      undo: async () => {
        if ((readFunction(fn.address, host.paths).sriov?.enabledVfs ?? 0) > 0) await host.operations.write(numvfs, "0");
      },
    },
  ];
}

/** Gives back what VFIO has of the virtual functions and removes them all; with `settle`, the setting goes back as well. */
function removalSteps(fn: HostFunction, settle: boolean, force: boolean, host: Host): Step[] {
  const record = readSriovRecord(host.paths, fn.address);
  // One with a record may be half-way to VFIO or back.
  const bound = (fn.sriov?.virtualFunctions ?? []).filter((name) => {
    const { driver } = readFunction(name, host.paths);
    return (driver !== undefined && isVfioDriver(driver)) || readBindingRecord(host.paths, name) !== undefined;
  });
  const count = fn.sriov?.enabledVfs ?? 0;
  const autoprobe = attribute(host, fn, "sriov_drivers_autoprobe");
  const numvfs = attribute(host, fn, "sriov_numvfs");
  const now = fn.sriov?.driversAutoprobe ?? true;
  const steps: Step[] = [...planUnbind({ addresses: bound, force }, host).steps];
  if (count > 0) {
    steps.push({
      text: `remove the ${count} virtual functions of ${fn.address}`,
      command: `echo 0 > ${numvfs}`,
      run: async () => await host.operations.write(numvfs, "0"),
      undo: async () => {
        if ((readFunction(fn.address, host.paths).sriov?.enabledVfs ?? 0) === 0) await makeVfs(host, fn, count);
      },
    });
  }
  if (record === undefined || !settle) return steps;
  steps.push({
    text: `let drivers of the kernel take new virtual functions of ${fn.address} as before`,
    command: `echo ${record.formerAutoprobe ? 1 : 0} > ${autoprobe}`,
    run: async () => await host.operations.write(autoprobe, record.formerAutoprobe ? "1" : "0"),
    undo: async () => await host.operations.write(autoprobe, now ? "1" : "0"),
  });
  return [...steps, forgetStep(host, sriovRecordPath(host.paths, fn.address))];
}

function requireSriov(fn: HostFunction): HostSriov {
  if (fn.sriov !== undefined) return fn.sriov;
  const text = `${fn.address} has no SR-IOV capability, so it cannot have virtual functions`;
  throw new Ring3Error("SRIOV_UNAVAILABLE", text);
}

function requireKernelDriver(fn: HostFunction): void {
  if (fn.driver !== undefined && !isVfioDriver(fn.driver)) return;
  const why = fn.driver === undefined ? "it has no driver" : `it is bound to ${fn.driver}`;
  const text = `${why}: virtual functions of ${fn.address} are made by its kernel driver; give it back first (ring3 unbind)`;
  throw new Ring3Error("SRIOV_UNAVAILABLE", text);
}

function tooMany(fn: HostFunction, total: number, least: number, count: number): Ring3Error {
  const text = `${fn.address} can have ${least} to ${total} virtual functions, not ${count}`;
  return new Ring3Error("TOO_MANY_VFS", text);
}

function virtualFunctions(address: string, host: Host): readonly string[] {
  return readFunction(address, host.paths).sriov?.virtualFunctions ?? [];
}

async function makeVfs(host: Host, fn: HostFunction, count: number): Promise<void> {
  const directory = functionDirectory(host.paths, fn.address);
  await host.operations.write(attribute(host, fn, "sriov_numvfs"), String(count));
  const ready = (): boolean => virtualFunctions(fn.address, host).length === count;
  if (await host.operations.waitUntil(directory, ready, VF_TIMEOUT_MS)) return;
  const made = virtualFunctions(fn.address, host).length;
  throw new Ring3Error(
    "VFS_MISSING",
    `only ${made} of ${count} virtual functions of ${fn.address} appeared: see dmesg`,
  );
}

function attribute(host: Host, fn: HostFunction, name: string): string {
  return join(functionDirectory(host.paths, fn.address), name);
}
