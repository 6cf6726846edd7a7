// Who may open a function that is bound already: gives its nodes to a user, lets one in beside the owner, takes them back,
// and makes that last over the next boot.
import { Ring3Error } from "../binary/error.ts";
import { namedUsers } from "./access-list.ts";
import { type BindingPlan, requireRoot } from "./binding.ts";
import { forgetStep, type Host, restoreFile } from "./binding-steps.ts";
import { type HostFunction, readFunction, sysfsAddress } from "./inventory.ts";
import { isVfioDriver, readGroup } from "./iommu-groups.ts";
import { Journal, type Step } from "./journal.ts";
import { holdLock } from "./lock.ts";
import { accessListOf, type HandOver, handOverStep, takeBackStep } from "./node-steps.ts";
import { deviceNode, groupNode, type VfioNode } from "./nodes.ts";
import { functionDirectory } from "./paths.ts";
import { present, readText } from "./sysfs.ts";
import { findRules, rulesFor, rulesPath } from "./udev-rules.ts";
import { type User, userName } from "./users.ts";

export interface PermitRequest {
  readonly addresses: readonly string[];
  readonly user: User;
  /** `owner` (default): the nodes become the user's alone. `list`: the user may open them beside their owner. */
  readonly handOver?: HandOver | undefined;
  /** Writes udev rules, so that binding and permission come back at each boot. */
  readonly persist?: boolean | undefined;
  /** Also takes nodes that another user owns. */
  readonly force?: boolean | undefined;
}

export interface RevokeRequest {
  readonly addresses: readonly string[];
  /** Whose permission ends; by default everybody's but root's. */
  readonly user?: User | undefined;
}

/** Plans {@link permit}. Throws `NOT_BOUND`, `NODE_OWNED`, and for `persist` `NO_UDEV` and `NO_SETFACL`. */
export function planPermit(request: PermitRequest, host: Host): BindingPlan {
  const { user, handOver = "owner", persist = false, force = false } = request;
  const functions = chosen(request.addresses, host);
  const steps: Step[] = [];
  for (const fn of functions) {
    if (fn.driver === undefined || !isVfioDriver(fn.driver)) {
      const now = fn.driver === undefined ? "no driver has it" : `${fn.driver} has it`;
      const command = `sudo ring3 bind ${fn.address} --user ${user.name ?? user.uid}`;
      throw new Ring3Error(
        "NOT_BOUND",
        `${fn.address} is not bound to VFIO, so it has no node to give away: ${now}. Bind it: ${command}`,
      );
    }
    const owner = ownNodes(fn, host).find(({ uid }) => uid !== 0 && uid !== user.uid);
    if (owner !== undefined && handOver === "owner" && !force) {
      throw new Ring3Error(
        "NODE_OWNED",
        `${owner.path} belongs to ${userName(owner.uid, host.paths) ?? `uid ${owner.uid}`}: share it with --acl, or take it with --force`,
      );
    }
    steps.push(handOverStep(host, fn.address, user, handOver));
    if (persist) steps.push(rulesStep(fn, user, handOver, host));
  }
  return { addresses: functions.map(({ address }) => address), steps };
}

/** Lets a user open functions that are bound to VFIO, all or nothing. Needs root. */
export async function permit(request: PermitRequest, host: Host): Promise<BindingPlan> {
  requireRoot(host, `permit ${request.addresses.join(" ")} --user ${request.user.name ?? request.user.uid}`);
  await using _lock = await holdLock(host);
  const journal = new Journal(host.signal, host.progress);
  return await journal.attempt(async () => {
    const plan = planPermit(request, host);
    await journal.run(plan.steps);
    return plan;
  });
}

/** Plans {@link revoke}. Throws `NOTHING_TO_REVOKE` where there is neither a node nor a rule to take back. */
export async function planRevoke({ addresses, user }: RevokeRequest, host: Host): Promise<BindingPlan> {
  const steps: Step[] = [];
  const names = [...new Set(addresses.map(sysfsAddress))];
  for (const address of names) {
    const rules = findRules(host.paths, address).filter(({ uid }) => user === undefined || user.uid === uid);
    // Rules outlive their function.
    const there = rules.length === 0 || present(functionDirectory(host.paths, address));
    const fn = there ? readFunction(address, host.paths) : undefined;
    const granted = fn !== undefined && (await hasPermission(fn, user, host));
    if (granted) steps.push(takeBackStep(host, address, user));
    for (const { path } of rules) steps.push(forgetStep(host, path));
    if (granted || rules.length > 0) continue;
    const who = user === undefined ? "nobody but root" : (user.name ?? `uid ${user.uid}`);
    const text =
      user === undefined ? `${who} may open ${address}` : `${who} has no permission of its own for ${address}`;
    throw new Ring3Error("NOTHING_TO_REVOKE", `${text}, and no rule gives one at boot: there is nothing to take back`);
  }
  return { addresses: names, steps };
}

/** Takes permissions and rules back, all or nothing; the functions stay bound. Needs root. */
export async function revoke(request: RevokeRequest, host: Host): Promise<BindingPlan> {
  requireRoot(host, `permit ${request.addresses.join(" ")} --revoke`);
  await using _lock = await holdLock(host);
  const journal = new Journal(host.signal, host.progress);
  return await journal.attempt(async () => {
    const plan = await planRevoke(request, host);
    await journal.run(plan.steps);
    return plan;
  });
}

function chosen(addresses: readonly string[], host: Host): HostFunction[] {
  if (addresses.length === 0) throw new Ring3Error("ADDRESS_INVALID", "name at least one function");
  const functions = addresses.map((address) => readFunction(address, host.paths));
  return [...new Map(functions.map((fn) => [fn.address, fn])).values()];
}

function ownNodes(fn: HostFunction, { paths }: Host): VfioNode[] {
  const group = fn.iommuGroup === undefined ? undefined : groupNode(fn.iommuGroup, paths);
  const device = fn.vfioDevice === undefined ? undefined : deviceNode(fn.vfioDevice, paths);
  return [group, device].filter((node) => node !== undefined);
}

/** Whether there is anything to take back: by owner, mode or list. */
async function hasPermission(fn: HostFunction, user: User | undefined, host: Host): Promise<boolean> {
  for (const node of ownNodes(fn, host)) {
    const listed = namedUsers((await accessListOf(host, node.path)) ?? []);
    if (user === undefined && (node.uid !== 0 || listed.length > 0 || (node.mode & 0o077) !== 0)) return true;
    if (user !== undefined && (node.uid === user.uid || listed.includes(user.uid))) return true;
  }
  return false;
}

function rulesStep(fn: HostFunction, user: User, how: HandOver, host: Host): Step {
  const group = fn.iommuGroup === undefined ? undefined : readGroup(fn.iommuGroup, host.paths);
  const others = (group?.members ?? []).filter(({ name, role }) => role === "vfio" && name !== fn.address);
  const members = [fn, ...others.map(({ name }) => readFunction(name, host.paths))];
  const text = rulesFor(fn, members, user, how, host.paths);
  const path = rulesPath(host.paths, fn.address, user.uid);
  const before = readText(path);
  return {
    text: `write ${path}, which binds ${fn.address} at boot and lets the user open it`,
    command: `tee ${path} <<'RULES'\n${text}RULES`,
    run: async () => await host.operations.save(path, text),
    undo: async () => await restoreFile(host, path, before),
  };
}
