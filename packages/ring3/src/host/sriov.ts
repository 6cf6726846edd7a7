// Virtual functions: made with no kernel driver taking them, and removed again with the setting that was there before.
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import { type BindRequest, bindIn, requireRoot, unbindIn } from "./binding.ts";
import { readSriovRecord, sriovRecordPath } from "./binding-records.ts";
import { forgetStep, type Host } from "./binding-steps.ts";
import { type HostFunction, readFunction } from "./inventory.ts";
import { isVfioDriver } from "./iommu-groups.ts";
import { Journal, type Step } from "./journal.ts";
import { holdLock } from "./lock.ts";
import { functionDirectory } from "./paths.ts";

const VF_TIMEOUT_MS = 30_000;

/** Plans `count` virtual functions of `address`. Throws `SRIOV_UNAVAILABLE`, `TOO_MANY_VFS` or `VFS_EXIST`. */
export function planVfs(address: string, count: number, host: Host): readonly Step[] {
  const fn = readFunction(address, host.paths);
  const { sriov } = fn;
  if (sriov === undefined) {
    throw new Ring3Error(
      "SRIOV_UNAVAILABLE",
      `${fn.address} has no SR-IOV capability, so it cannot have virtual functions`,
    );
  }
  if (fn.driver === undefined || isVfioDriver(fn.driver)) {
    const why = fn.driver === undefined ? "it has no driver" : `it is bound to ${fn.driver}`;
    const text = `${why}: virtual functions of ${fn.address} are made by its kernel driver; give it back first (ring3 unbind)`;
    throw new Ring3Error("SRIOV_UNAVAILABLE", text);
  }
  if (!Number.isInteger(count) || count < 1 || count > sriov.totalVfs) {
    throw new Ring3Error(
      "TOO_MANY_VFS",
      `${fn.address} can have 1 to ${sriov.totalVfs} virtual functions, not ${count}`,
    );
  }
  if (sriov.enabledVfs === count) return [];
  if (sriov.enabledVfs > 0) {
    const text = `${fn.address} already has ${sriov.enabledVfs} virtual functions; remove them first: sudo ring3 unbind ${fn.address}`;
    throw new Ring3Error("VFS_EXIST", text);
  }
  const autoprobe = attribute(host, fn, "sriov_drivers_autoprobe");
  const numvfs = attribute(host, fn, "sriov_numvfs");
  const former = sriov.driversAutoprobe;
  const record = sriovRecordPath(host.paths, fn.address);
  return [
    {
      text: `note in ${record} that the virtual functions of ${fn.address} are ours`,
      command: undefined,
      run: async () => {
        const text = JSON.stringify({ address: fn.address, formerAutoprobe: former }, null, 2);
        await host.operations.save(record, `${text}\n`);
      },
      undo: async () => await host.operations.remove(record),
    },
    {
      text: `keep kernel drivers away from the virtual functions of ${fn.address}`,
      command: `echo 0 > ${autoprobe}`,
      run: async () => await host.operations.write(autoprobe, "0"),
      undo: async () => await host.operations.write(autoprobe, former ? "1" : "0"),
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

/** Makes virtual functions, all or nothing, and returns their addresses. Needs root. */
export async function createVfs(address: string, count: number, host: Host): Promise<readonly string[]> {
  requireRoot(host, `bind ${address} --vfs ${count}`);
  await using _lock = await holdLock(host);
  const journal = new Journal(host.signal, host.progress);
  return await journal.attempt(async () => {
    await journal.run(planVfs(address, count, host));
    return virtualFunctions(address, host);
  });
}

/** Makes virtual functions and binds them, as one change: {@link createVfs}, then `bind` of what came of it. */
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
    const bound = virtualFunctions(address, host).filter((name) => {
      const { driver } = readFunction(name, host.paths);
      return driver !== undefined && isVfioDriver(driver);
    });
    if (bound.length > 0) await unbindIn(journal, { addresses: bound, force: options.force }, host);
    const count = fn.sriov?.enabledVfs ?? 0;
    const autoprobe = attribute(host, fn, "sriov_drivers_autoprobe");
    const numvfs = attribute(host, fn, "sriov_numvfs");
    await journal.run([
      {
        text: `remove the ${count} virtual functions of ${fn.address}`,
        command: `echo 0 > ${numvfs}`,
        run: async () => await host.operations.write(numvfs, "0"),
        undo: async () => {
          if ((readFunction(fn.address, host.paths).sriov?.enabledVfs ?? 0) === 0) await makeVfs(host, fn, count);
        },
      },
      {
        text: `let drivers of the kernel take new virtual functions of ${fn.address} as before`,
        command: `echo ${record.formerAutoprobe ? 1 : 0} > ${autoprobe}`,
        run: async () => await host.operations.write(autoprobe, record.formerAutoprobe ? "1" : "0"),
        undo: async () => await host.operations.write(autoprobe, "0"),
      },
      forgetStep(host, sriovRecordPath(host.paths, fn.address)),
    ]);
  });
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
