// Binding functions to VFIO and giving them back to the drivers that had them: planned first, refused while the machine
// itself needs them, then done all or nothing.
import { Ring3Error } from "../binary/error.ts";
import { bindingRecordPath, readBindingRecord } from "./binding-records.ts";
import {
  attachStep,
  detachStep,
  forgetStep,
  type Host,
  loadDriverStep,
  overrideStep,
  probeStep,
  recordStep,
} from "./binding-steps.ts";
import { describeHolders, findHolders } from "./holders.ts";
import { usesOf } from "./in-use.ts";
import { type HostFunction, readFunction, sysfsAddress } from "./inventory.ts";
import { isVfioDriver, notViable, readGroup } from "./iommu-groups.ts";
import { Journal, type Step } from "./journal.ts";
import { holdLock } from "./lock.ts";
import { type HandOver, handOverStep, NodeKeeper, restoreSharedNodesStep } from "./node-steps.ts";
import { deviceNode, groupNode } from "./nodes.ts";
import { driverDirectory, functionDirectory } from "./paths.ts";
import { present } from "./sysfs.ts";
import type { User } from "./users.ts";

const DEFAULT_DRIVER = "vfio-pci";

export interface BindRequest {
  readonly addresses: readonly string[];
  /** Who gets the nodes; without one they stay root's. */
  readonly user?: User | undefined;
  /** How the user gets them: as their `owner` (default), or by their access `list`. */
  readonly handOver?: HandOver | undefined;
  /** Binds every other endpoint of the IOMMU groups as well. */
  readonly wholeGroup?: boolean | undefined;
  /** `vfio-pci`, or a variant driver of VFIO. */
  readonly driver?: string | undefined;
  /** Also binds what the machine is using. */
  readonly force?: boolean | undefined;
}

export interface UnbindRequest {
  readonly addresses: readonly string[];
  /** Also takes functions that a process holds open: the kernel asks it to let go, and waits. */
  readonly force?: boolean | undefined;
}

/** What will be done, in order; nothing has happened yet. */
export interface BindingPlan {
  /** The functions concerned, those that the group brought in included. */
  readonly addresses: readonly string[];
  readonly steps: readonly Step[];
}

/**
 * Plans a binding. Throws what {@link bind} would refuse: `BRIDGE`, `NO_IOMMU_GROUP`, `FUNCTION_IN_USE`,
 * `GROUP_NOT_VIABLE`, `NODE_OWNED`. Changes nothing and needs no privilege.
 */
export function planBind(request: BindRequest, host: Host): BindingPlan {
  const driver = request.driver ?? DEFAULT_DRIVER;
  if (!isVfioDriver(driver)) {
    const text = `${driver} is no VFIO driver: use vfio-pci, or a variant such as mlx5_vfio_pci`;
    throw new Ring3Error("DRIVER_INVALID", text);
  }
  const { functions, bridges } = chosen(request, host);
  for (const fn of functions) refuse(fn, request, host);
  refuseGroups([...functions, ...bridges], request, host);

  const moving = functions.filter((fn) => fn.driver !== driver);
  const steps: Step[] = [];
  const uid = request.user?.uid ?? null;
  if (moving.length > 0 && !present(driverDirectory(host.paths, driver))) steps.push(loadDriverStep(host, driver));
  for (const fn of functions) {
    const known = readBindingRecord(host.paths, fn.address);
    // A function that is half way (a crash left a record) or bound by hand still goes back where it came from.
    const former = fn.driver !== undefined && !isVfioDriver(fn.driver) ? fn.driver : known?.formerDriver;
    const override = known === undefined ? fn.driverOverride : known.formerOverride;
    const record = {
      address: fn.address,
      driver,
      formerDriver: former ?? null,
      formerOverride: override === driver ? null : (override ?? null),
      uid,
    };
    steps.push(recordStep(host, record));
  }
  for (const { address, driver: former, driverOverride } of bridges) {
    const formerDriver = former ?? null;
    steps.push(recordStep(host, { address, driver: null, formerDriver, formerOverride: driverOverride ?? null, uid }));
    if (former !== undefined) steps.push(detachStep(host, address, former));
  }
  for (const fn of moving) if (fn.driver !== undefined) steps.push(detachStep(host, fn.address, fn.driver));
  for (const fn of moving) steps.push(overrideStep(host, fn.address, driver), probeStep(host, fn.address, driver));
  for (const fn of functions) steps.push(handOverStep(host, fn.address, request.user, request.handOver));
  return { addresses: functions.map(({ address }) => address), steps };
}

/**
 * Binds functions to VFIO and hands their nodes to a user; when anything fails, or the host's signal aborts, everything is
 * as before. Needs root. Returns what was done.
 */
export async function bind(request: BindRequest, host: Host): Promise<BindingPlan> {
  requireRoot(host, `bind ${request.addresses.join(" ")}`);
  await using _lock = await holdLock(host);
  const journal = new Journal(host.signal, host.progress);
  return await journal.attempt(async () => await bindIn(journal, request, host));
}

/** Binding as a part of a larger change, which owns the journal. */
export async function bindIn(journal: Journal, request: BindRequest, host: Host): Promise<BindingPlan> {
  const plan = planBind(request, host);
  await journal.run(plan.steps);
  return plan;
}

/** Plans giving functions back. Throws `NOT_BOUND` and `FUNCTION_HELD`. */
export function planUnbind(request: UnbindRequest, host: Host): BindingPlan {
  const addresses = unique(request.addresses);
  // What was unplugged while it was bound has left its record.
  const gone = addresses.filter((address) => {
    return !present(functionDirectory(host.paths, address)) && readBindingRecord(host.paths, address) !== undefined;
  });
  const functions = withBridges(
    addresses.filter((address) => !gone.includes(address)),
    host,
  );
  const steps: Step[] = gone.map((address) => forgetStep(host, bindingRecordPath(host.paths, address)));
  for (const fn of functions) {
    const record = readBindingRecord(host.paths, fn.address);
    const bound = fn.driver !== undefined && isVfioDriver(fn.driver) ? fn.driver : undefined;
    if (record === undefined && bound === undefined) {
      const now = fn.driver === undefined ? "it has no driver" : `${fn.driver} has it`;
      throw new Ring3Error("NOT_BOUND", `${fn.address} is not bound to VFIO, there is nothing to give back: ${now}`);
    }
    if (bound !== undefined) {
      if (request.force !== true) refuseHeld(fn, host);
      steps.push(reclaimStep(fn.address, bound, host));
    }
    steps.push(overrideStep(host, fn.address, record?.formerOverride ?? undefined));
    const former = record?.formerDriver ?? undefined;
    const settled = fn.driver !== undefined && bound === undefined;
    if (former !== undefined && !settled) steps.push(attachStep(host, fn.address, former));
    if (record !== undefined) steps.push(forgetStep(host, bindingRecordPath(host.paths, fn.address)));
  }
  steps.push(restoreSharedNodesStep(host));
  return { addresses: [...functions.map(({ address }) => address), ...gone], steps };
}

/** Gives functions back to the drivers that they had before {@link bind}, all or nothing. Needs root. */
export async function unbind(request: UnbindRequest, host: Host): Promise<BindingPlan> {
  requireRoot(host, `unbind ${request.addresses.join(" ")}`);
  await using _lock = await holdLock(host);
  const journal = new Journal(host.signal, host.progress);
  return await journal.attempt(async () => {
    const plan = planUnbind(request, host);
    await journal.run(plan.steps);
    return plan;
  });
}

/** Throws `NOT_ROOT` with the command to run. */
export function requireRoot(host: Host, command: string): void {
  if (host.operations.privileged) return;
  throw new Ring3Error(
    "NOT_ROOT",
    `only root may change which driver has a function; run: sudo ring3 ${command} (once; using the function then needs no root)`,
  );
}

/** Detaching from VFIO whose way back also gives the new nodes to whoever had them. */
function reclaimStep(address: string, driver: string, host: Host): Step {
  const nodes = new NodeKeeper(host, address);
  const detach = detachStep(host, address, driver);
  return {
    ...detach,
    run: async () => {
      await nodes.note();
      await detach.run();
    },
    undo: async () => {
      await detach.undo?.();
      await nodes.restore();
    },
  };
}

/**
 * The functions to bind, and the bridges of their groups whose driver does DMA of its own (shpchp): those are only taken
 * from it, as VFIO drives no bridge.
 */
function chosen(request: BindRequest, host: Host): { functions: HostFunction[]; bridges: HostFunction[] } {
  const addresses = unique(request.addresses);
  if (addresses.length === 0) throw new Ring3Error("ADDRESS_INVALID", "name at least one function");
  const functions = addresses.map((address) => readFunction(address, host.paths));
  if (request.wholeGroup !== true) return { functions, bridges: [] };
  const bridges = new Map<string, HostFunction>();
  const all = new Map(functions.map((fn) => [fn.address, fn]));
  for (const { address, iommuGroup } of functions) {
    if (iommuGroup === undefined) continue;
    for (const member of readGroup(iommuGroup, host.paths).members) {
      if (all.has(member.name) || member.role === "harmless") continue;
      if (!/^[0-9a-f]+:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/.test(member.name)) {
        if (member.role !== "blocking") continue;
        throw notViable(address, readGroup(iommuGroup, host.paths));
      }
      const fn = readFunction(member.name, host.paths);
      if (!fn.bridge) all.set(fn.address, fn);
      else if (member.role === "blocking") bridges.set(fn.address, fn);
    }
  }
  return { functions: [...all.values()], bridges: [...bridges.values()] };
}

/** The functions to give back, and last the bridges that were taken from their drivers for groups nothing else uses. */
function withBridges(addresses: readonly string[], host: Host): HostFunction[] {
  const leaving = new Set(addresses);
  const isBridge = (address: string): boolean => readBindingRecord(host.paths, address)?.driver === null;
  const functions = addresses
    .filter((address) => !isBridge(address))
    .map((address) => readFunction(address, host.paths));
  const bridges = new Set(addresses.filter(isBridge));
  for (const { iommuGroup } of functions) {
    if (iommuGroup === undefined) continue;
    const members = readGroup(iommuGroup, host.paths).members.filter(({ name }) => !leaving.has(name));
    if (members.some(({ role }) => role === "vfio")) continue;
    for (const { name } of members) if (isBridge(name)) bridges.add(name);
  }
  return [...functions, ...[...bridges].map((address) => readFunction(address, host.paths))];
}

function refuse(fn: HostFunction, request: BindRequest, host: Host): void {
  if (fn.bridge) {
    const text = `${fn.address} is a bridge: VFIO drives none, and a bridge in a group is no obstacle; name the endpoint only`;
    throw new Ring3Error("BRIDGE", text);
  }
  if (request.force === true) return;
  if (fn.iommuGroup === undefined) {
    throw new Ring3Error(
      "NO_IOMMU_GROUP",
      `${fn.address} is in no IOMMU group: switch the IOMMU on in the firmware (VT-d, AMD-Vi) and, on Intel, boot with intel_iommu=on`,
    );
  }
  if (fn.driver !== undefined && isVfioDriver(fn.driver)) {
    if (fn.driver !== (request.driver ?? DEFAULT_DRIVER)) refuseHeld(fn, host);
    return;
  }
  const uses = usesOf(fn.address, host.paths, host.operations);
  if (uses.length === 0) return;
  throw new Ring3Error(
    "FUNCTION_IN_USE",
    `${fn.address} is in use by this machine: ${uses.join("; ")}. Stop that use first, or pass --force to take it anyway`,
  );
}

function refuseGroups(functions: readonly HostFunction[], request: BindRequest, host: Host): void {
  const moving = new Set(functions.map(({ address }) => address));
  for (const fn of functions) {
    if (fn.iommuGroup === undefined || request.force === true) continue;
    const group = readGroup(fn.iommuGroup, host.paths);
    const blockers = group.blockers.filter(({ name }) => !moving.has(name));
    if (blockers.length > 0) throw notViable(fn.address, { ...group, blockers });
    const owner = group.node?.uid ?? 0;
    if (request.user !== undefined && owner !== 0 && owner !== request.user.uid) {
      throw new Ring3Error(
        "NODE_OWNED",
        `IOMMU group ${group.id} of ${fn.address} already belongs to uid ${owner}: unbind it first, or pass --force`,
      );
    }
  }
}

function refuseHeld(fn: HostFunction, host: Host): void {
  const group = fn.iommuGroup === undefined ? undefined : groupNode(fn.iommuGroup, host.paths);
  const device = fn.vfioDevice === undefined ? undefined : deviceNode(fn.vfioDevice, host.paths);
  const nodes = [group, device].filter((node) => node !== undefined).map(({ path }) => path);
  const { holders } = findHolders(nodes, [fn.address], host.paths);
  // A service that may not look into processes of others would wait in the kernel, where no signal ends it.
  if (holders.length === 0 && (group === undefined || !host.operations.opened(group.path))) return;
  const who = holders.length === 0 ? "a process that is hidden from this one" : describeHolders(holders);
  throw new Ring3Error(
    "FUNCTION_HELD",
    `${fn.address} is open in ${who}: end it first, or pass --force to ask it to let go and wait`,
  );
}

function unique(addresses: readonly string[]): string[] {
  return [...new Set(addresses.map(sysfsAddress))];
}
