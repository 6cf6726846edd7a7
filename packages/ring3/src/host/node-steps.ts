// The steps that decide who may open the nodes of a bound function: handing over to an owner or through an access list,
// taking back, and the nodes that all functions share. The kernel makes a function's nodes anew at each binding, as root's.
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import { type AccessList, decodeAccessList, encodeAccessList, withoutUser, withUser } from "./access-list.ts";
import { boundAddresses, readSharedNodes, sharedNodesPath } from "./binding-records.ts";
import { type Host, restoreFile } from "./binding-steps.ts";
import type { Step } from "./journal.ts";
import { deviceNode, groupNode, iommufdNode, mayOpen, type VfioNode } from "./nodes.ts";
import type { NodeOwner } from "./operations.ts";
import { functionDirectory } from "./paths.ts";
import { listNames, present, readLinkName, readText } from "./sysfs.ts";
import type { User } from "./users.ts";

const DEFAULT_NODE_TIMEOUT_MS = 10_000;

/** `owner`: the node becomes the user's alone. `list`: the user is added to its access list, and whoever had it keeps it. */
export type HandOver = "owner" | "list";

/** The node's owner, mode and access list, to be put back as they are. */
async function nodeOwner(host: Host, { path, uid, gid, mode }: VfioNode): Promise<NodeOwner> {
  return { uid, gid, mode, accessList: (await host.operations.accessList(path)) ?? null };
}

/** The node's access list, where it has one. */
export async function accessListOf(host: Pick<Host, "operations">, path: string): Promise<AccessList | undefined> {
  const text = await host.operations.accessList(path);
  return text === undefined ? undefined : decodeAccessList(Buffer.from(text, "hex"));
}

function listText(list: AccessList): string {
  return Buffer.from(encodeAccessList(list)).toString("hex");
}

/**
 * Waits for the nodes of a bound function and lets `user` open them, with /dev/iommu where the kernel has it. The nodes are
 * made anew at each binding, as root's.
 */
export function handOverStep(host: Host, address: string, user: User | undefined, how: HandOver = "owner"): Step {
  const before = new Map<string, NodeOwner>();
  let noted: { readonly before: string | undefined } | undefined;
  const name = user === undefined ? undefined : (user.name ?? `uid ${user.uid}`);
  const group = readLinkName(join(functionDirectory(host.paths, address), "iommu_group"));
  const set = async (node: VfioNode, owner: NodeOwner): Promise<void> => {
    if (!before.has(node.path)) before.set(node.path, await nodeOwner(host, node));
    await host.operations.setOwner(node.path, owner);
  };
  const allow = async (node: VfioNode, uid: number): Promise<NodeOwner> => {
    const list = withUser(await accessListOf(host, node.path), node.mode, uid);
    return { uid: node.uid, gid: node.gid, mode: node.mode, accessList: listText(list) };
  };
  const shown = `${host.paths.devRoot}/vfio/${group ?? "N"}`;
  const texts = {
    owner: [`give the nodes of ${address} (${shown}) to ${name}`, `chown ${user?.uid} ${shown}`],
    list: [`let ${name} open the nodes of ${address} (${shown}) as well`, `setfacl -m u:${user?.uid}:rw ${shown}`],
  } as const;
  return {
    text: name === undefined ? `wait for the node of ${address}` : texts[how][0],
    command: user === undefined ? undefined : texts[how][1],
    run: async () => {
      const nodes = await waitForNodes(host, address);
      if (user === undefined) return;
      await host.operations.settle();
      for (const node of nodes) {
        await set(node, how === "list" ? await allow(node, user.uid) : { uid: user.uid, gid: node.gid, mode: 0o600 });
      }
      const shared = nodes.some(({ kind }) => kind === "device") ? iommufdNode(host.paths) : undefined;
      if (shared === undefined || mayOpen(shared, user, await accessListOf(host, shared.path))) return;
      noted = { before: readText(sharedNodesPath(host.paths)) };
      await noteSharedNode(host, shared);
      if (how === "list") return await set(shared, await allow(shared, user.uid));
      // An iommufd alone reaches no device. So a second user gets in by mode, as everybody may open /dev/vfio/vfio.
      const { uid, gid, mode } = shared;
      await set(shared, uid === 0 ? { uid: user.uid, gid, mode } : { uid, gid, mode: mode | 0o666 });
    },
    undo: async () => {
      for (const [path, owner] of before) if (present(path)) await host.operations.setOwner(path, owner);
      if (noted !== undefined) await restoreFile(host, sharedNodesPath(host.paths), noted.before);
    },
  };
}

/** Takes the nodes of a bound function from `user`, or from everybody but root where none is named. */
export function takeBackStep(host: Host, address: string, user: User | undefined): Step {
  const before = new Map<string, NodeOwner>();
  const group = readLinkName(join(functionDirectory(host.paths, address), "iommu_group"));
  const shown = `${host.paths.devRoot}/vfio/${group ?? "N"}`;
  const name = user === undefined ? "everybody but root" : (user.name ?? `uid ${user.uid}`);
  return {
    text: `take the nodes of ${address} (${shown}) from ${name}`,
    command: user === undefined ? `setfacl -b ${shown}; chown root ${shown}` : `setfacl -x u:${user.uid} ${shown}`,
    run: async () => {
      for (const node of presentNodes(host, address)) {
        const former = await nodeOwner(host, node);
        const list = await accessListOf(host, node.path);
        const left = user === undefined || list === undefined ? undefined : withoutUser(list, user.uid);
        const uid = user === undefined || node.uid === user.uid ? 0 : node.uid;
        // Without a list the group's bits are the group's again, and not the mask.
        const mode = left === undefined ? node.mode & 0o700 : node.mode;
        before.set(node.path, former);
        const accessList = left === undefined ? null : listText(left);
        await host.operations.setOwner(node.path, { uid, gid: node.gid, mode, accessList });
      }
    },
    undo: async () => {
      for (const [path, owner] of before) if (present(path)) await host.operations.setOwner(path, owner);
    },
  };
}

/** Remembers who may open a function's nodes, and gives it to the new ones after another binding. */
export class NodeKeeper {
  readonly #host: Host;
  readonly #address: string;
  readonly #owners: { readonly kind: VfioNode["kind"]; readonly owner: NodeOwner }[] = [];

  constructor(host: Host, address: string) {
    this.#host = host;
    this.#address = address;
  }

  async note(): Promise<void> {
    for (const node of presentNodes(this.#host, this.#address)) {
      this.#owners.push({ kind: node.kind, owner: await nodeOwner(this.#host, node) });
    }
  }

  async restore(): Promise<void> {
    for (const node of await waitForNodes(this.#host, this.#address)) {
      const kept = this.#owners.find(({ kind }) => kind === node.kind);
      if (kept !== undefined) await this.#host.operations.setOwner(node.path, kept.owner);
    }
  }
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
        restored.set(node.path, await nodeOwner(host, node));
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

async function noteSharedNode(host: Host, node: VfioNode): Promise<void> {
  const records = readSharedNodes(host.paths);
  if (records[node.path] !== undefined) return;
  const text = JSON.stringify({ ...records, [node.path]: await nodeOwner(host, node) }, null, 2);
  await host.operations.save(sharedNodesPath(host.paths), `${text}\n`);
}

/** The nodes that the kernel announced for a bound function; `undefined` for one that does not exist yet. */
function announcedNodes({ paths }: Host, address: string): (VfioNode | undefined)[] {
  const directory = functionDirectory(paths, address);
  const group = readLinkName(join(directory, "iommu_group"));
  const names = [group, `noiommu-${group}`].filter((name) => {
    return present(join(paths.sysfsRoot, "class/vfio", name ?? "-"));
  });
  // `vfio-dev/vfioN` exists with every kernel; its `dev` only where it has a character device.
  const devices = listNames(join(directory, "vfio-dev")).filter((name) => {
    return present(join(directory, "vfio-dev", name, "dev"));
  });
  return [...names.map(() => groupNode(Number(group), paths)), ...devices.map((name) => deviceNode(name, paths))];
}

function presentNodes(host: Host, address: string): VfioNode[] {
  return announcedNodes(host, address).filter((node) => node !== undefined);
}

/** The nodes of a bound function, once all of them exist. */
async function waitForNodes(host: Host, address: string): Promise<VfioNode[]> {
  const { paths } = host;
  const ready = (): boolean => {
    const nodes = announcedNodes(host, address);
    return nodes.length > 0 && nodes.every((node) => node !== undefined);
  };
  const timeoutMs = host.nodeTimeoutMs ?? DEFAULT_NODE_TIMEOUT_MS;
  if (await host.operations.waitUntil(join(paths.devRoot, "vfio"), ready, timeoutMs)) {
    return presentNodes(host, address);
  }
  throw new Ring3Error(
    "NODE_MISSING",
    `${address} is bound, but no node appeared in ${paths.devRoot}/vfio within ${timeoutMs / 1000} s: ` +
      "is /dev a devtmpfs, or a container's own /dev without the host's nodes?",
  );
}
