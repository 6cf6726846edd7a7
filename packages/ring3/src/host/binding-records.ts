// What ring3 will give back, written before anything is changed, so that another process, or the same command after a
// crash, still knows the former driver. The files live in /run, and so end with the bindings at the next boot.
import { join } from "node:path";
import { PciAddress } from "../pci/address.ts";
import type { NodeOwner } from "./operations.ts";
import { functionDirectory, type HostPaths } from "./paths.ts";
import { listNames, present, readText } from "./sysfs.ts";

export interface BindingRecord {
  readonly address: string;
  /** The VFIO driver that it was bound to; `null` for a bridge that was only taken from its driver to free its group. */
  readonly driver: string | null;
  /** What it is given back to; `null` for none. */
  readonly formerDriver: string | null;
  readonly formerOverride: string | null;
  /** Who was given the nodes; `null` where they stayed root's. */
  readonly uid: number | null;
}

export interface SriovRecord {
  readonly address: string;
  readonly formerAutoprobe: boolean;
}

/** Nodes that all users of an interface share, with the owner that they had before the first binding. */
export type SharedNodeRecord = Readonly<Record<string, NodeOwner>>;

export function bindingRecordPath(paths: HostPaths, address: string): string {
  return join(paths.runRoot, "ring3/bindings", `${address}.json`);
}

export function sriovRecordPath(paths: HostPaths, address: string): string {
  return join(paths.runRoot, "ring3/sriov", `${address}.json`);
}

export function sharedNodesPath(paths: HostPaths): string {
  return join(paths.runRoot, "ring3/shared-nodes.json");
}

/** The record of `address`; `undefined` where there is none or it cannot be understood. */
export function readBindingRecord(paths: HostPaths, address: string): BindingRecord | undefined {
  const value = parse(bindingRecordPath(paths, address));
  if (value?.["address"] !== address || !isNameOrNull(value["driver"])) return undefined;
  const { driver, formerDriver, formerOverride, uid } = value;
  if (!isNameOrNull(formerDriver) || !isNameOrNull(formerOverride)) return undefined;
  if (uid !== null && !Number.isInteger(uid)) return undefined;
  return { address, driver, formerDriver, formerOverride, uid: uid as number | null };
}

export function readSriovRecord(paths: HostPaths, address: string): SriovRecord | undefined {
  const value = parse(sriovRecordPath(paths, address));
  if (value?.["address"] !== address || typeof value["formerAutoprobe"] !== "boolean") return undefined;
  return { address, formerAutoprobe: value["formerAutoprobe"] };
}

export function readSharedNodes(paths: HostPaths): SharedNodeRecord {
  const value = parse(sharedNodesPath(paths)) ?? {};
  const entries = Object.entries(value).filter((entry): entry is [string, NodeOwner] => isOwner(entry[1]));
  return Object.fromEntries(entries);
}

/** Addresses of the functions that ring3 has bound and not given back, those that were unplugged meanwhile included. */
export function recordedAddresses(paths: HostPaths): string[] {
  const names = listNames(join(paths.runRoot, "ring3/bindings"));
  const addresses = names.filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -".json".length));
  return addresses.filter((address) => PciAddress.accepts(address));
}

/** Addresses of the functions that ring3 has bound and not given back, as far as they are still there. */
export function boundAddresses(paths: HostPaths): string[] {
  return recordedAddresses(paths).filter((address) => present(functionDirectory(paths, address)));
}

function parse(path: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(readText(path) ?? "");
    return typeof value === "object" && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

/** Names go into paths below /sys: a slash must not come through. */
function isName(value: unknown): value is string {
  return typeof value === "string" && /^[^/\0\n]+$/.test(value) && value !== "." && value !== "..";
}

function isNameOrNull(value: unknown): value is string | null {
  return value === null || isName(value);
}

function isOwner(value: unknown): value is NodeOwner {
  if (typeof value !== "object" || value === null) return false;
  const { uid, gid, mode, accessList } = value as Record<string, unknown>;
  if (accessList !== undefined && accessList !== null) {
    if (typeof accessList !== "string" || !/^(?:[0-9a-f]{2})+$/.test(accessList)) return false;
  }
  return [uid, gid, mode].every((part) => Number.isInteger(part));
}
