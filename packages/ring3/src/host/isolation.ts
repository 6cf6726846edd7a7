// Why functions share an IOMMU group. The kernel groups what it cannot tell apart or keep apart: requests that carry a
// bridge's id, functions of one device that may talk among themselves, and everything below a port that lets requests turn
// around. It judges by PCIe's access control services (ACS), which only root can read here, so "unknown" is an answer.

import { PciAddress } from "../pci/address.ts";
import { AccessControlServices } from "../pci/capabilities/access-control-services.ts";
import { PciExpress } from "../pci/capabilities/pci-express.ts";
import { ConfigSpace } from "../pci/config-space.ts";
import { Header } from "../pci/header.ts";
import type { HostFunction } from "./inventory.ts";
import type { IommuGroup } from "./iommu-groups.ts";
import { type HostPaths, thisMachine } from "./paths.ts";
import { sysfsAccess } from "./sysfs-access.ts";

/** The four services that the kernel asks for, by the letters of lspci and the kernel's documentation. */
const SERVICES = [
  ["SV", "SOURCE_VALIDATION", "SOURCE_VALIDATION_ENABLE"],
  ["RR", "P2P_REQUEST_REDIRECT", "P2P_REQUEST_REDIRECT_ENABLE"],
  ["CR", "P2P_COMPLETION_REDIRECT", "P2P_COMPLETION_REDIRECT_ENABLE"],
  ["UF", "UPSTREAM_FORWARDING", "UPSTREAM_FORWARDING_ENABLE"],
] as const;

/** How a function keeps requests apart. */
export interface Isolation {
  /**
   * `isolating`: the services are on, or it is alone in its device and needs none. `open`: requests may turn around in it.
   * `unknown`: its config space beyond the header could not be read.
   */
  readonly state: "isolating" | "open" | "unknown";
  /** A phrase: `ACS SV RR CR UF on`, `no ACS`, ... */
  readonly text: string;
  /** What the device is made of, by the kernel's distinction. */
  readonly kind: "root port" | "downstream port" | "upstream port" | "conventional bridge" | "endpoint" | "unknown";
}

const NOT_READ: Isolation = { state: "unknown", text: "ACS not visible: only root reads it", kind: "unknown" };

/** Judges one function as the kernel does, without its list of quirks. PCIe 6.0, sections 6.12 and 7.7.11. */
export function judgeIsolation(config: ConfigSpace): Isolation {
  if (config.size <= 128) return NOT_READ;
  const { LAYOUT, MULTI_FUNCTION } = config.read(Header.HEADER_TYPE);
  const bridge = LAYOUT === 1 || LAYOUT === 2;
  const express = config.find(PciExpress);
  if (express === undefined) {
    const kind = bridge ? "conventional bridge" : "endpoint";
    return { state: "open", text: "conventional PCI has no ACS", kind };
  }
  const type = config.read(PciExpress.CAPABILITIES, express).DEVICE_PORT_TYPE;
  if (type === 7 || type === 8) {
    return { state: "open", text: "requests from below carry the bridge's id", kind: "conventional bridge" };
  }
  const kind = type === 4 ? "root port" : type === 6 ? "downstream port" : type === 5 ? "upstream port" : "endpoint";
  if (type === 10) return { state: "open", text: "an event collector has no ACS", kind: "endpoint" };
  const port = type === 4 || type === 6;
  if (!port && MULTI_FUNCTION === 0) return { state: "isolating", text: "the only function of its device", kind };
  if (!config.has(AccessControlServices.CONTROL)) return { state: "open", text: "no ACS", kind };
  const able = config.read(AccessControlServices.CAPABILITY);
  const on = config.read(AccessControlServices.CONTROL);
  // What a device cannot do at all counts as done: there is no path on which it would matter.
  const missing = SERVICES.filter(([, capability, enable]) => able[capability] === 1 && on[enable] === 0);
  const letters = (services: readonly (readonly [string, string, string])[]): string =>
    services.map(([name]) => name).join(" ");
  if (missing.length > 0) return { state: "open", text: `ACS ${letters(missing)} off`, kind };
  const running = SERVICES.filter(([, capability]) => able[capability] === 1);
  return {
    state: "isolating",
    text: running.length === 0 ? "ACS without services" : `ACS ${letters(running)} on`,
    kind,
  };
}

/** A function of a group, with what it does for isolation. */
export interface GroupIsolation {
  readonly isolation: ReadonlyMap<string, Isolation>;
  /** A sentence for each cause that keeps several functions in one group; empty for a group of one. */
  readonly reasons: readonly string[];
}

/** Explains a group from the config space of its members and of the bridges above them. */
export function explainGroup(
  group: IommuGroup,
  functions: readonly HostFunction[],
  paths: HostPaths = thisMachine,
): GroupIsolation {
  const byAddress = new Map(functions.map((fn) => [fn.address, fn]));
  const members = group.members.map(({ name }) => name).filter((name) => byAddress.has(name));
  const chains = new Map(members.map((name) => [name, bridgesAbove(name, byAddress)]));
  const interesting = new Set([...members, ...[...chains.values()].flat()]);
  const isolation = readIsolation([...interesting], paths);
  if (members.length < 2) return { isolation, reasons: [] };
  return { isolation, reasons: reasonsOf(members, chains, isolation) };
}

function readIsolation(addresses: readonly string[], paths: HostPaths): Map<string, Isolation> {
  const found = new Map<string, Isolation>();
  for (const address of addresses) {
    try {
      using access = sysfsAccess({ paths, addresses: [PciAddress.parse(address)] });
      const [fn] = access.functions;
      found.set(address, fn === undefined ? NOT_READ : judgeIsolation(new ConfigSpace(fn.config)));
    } catch {
      // Removed meanwhile, or not to be read at all.
      found.set(address, NOT_READ);
    }
  }
  return found;
}

/** From the nearest bridge up to the root port. */
function bridgesAbove(address: string, functions: ReadonlyMap<string, HostFunction>): string[] {
  const chain: string[] = [];
  let next = functions.get(address)?.parent;
  while (next !== undefined && !chain.includes(next)) {
    chain.push(next);
    next = functions.get(next)?.parent;
  }
  return chain;
}

function reasonsOf(
  members: readonly string[],
  chains: ReadonlyMap<string, readonly string[]>,
  isolation: ReadonlyMap<string, Isolation>,
): string[] {
  const reasons: string[] = [];
  const unknown = members.some((name) => isolation.get(name)?.state === "unknown");
  for (const [device, functions] of byDevice(members)) {
    const open = functions.filter((name) => isolation.get(name)?.state === "open");
    if (functions.length > 1 && open.length > 0) {
      const text = isolation.get(open[0] ?? "")?.text ?? "";
      reasons.push(
        `${functions.map((name) => name.slice(-1)).join(", ")} are functions of one device, ${device}, which does not keep ` +
          `them apart (${open[0]}: ${text})`,
      );
    }
  }
  const bridges = new Set(members.flatMap((name) => chains.get(name) ?? []));
  for (const bridge of bridges) {
    const judged = isolation.get(bridge);
    if (judged?.state !== "open" || judged.kind === "upstream port") continue;
    const below = members.filter((name) => name !== bridge && chains.get(name)?.includes(bridge) === true);
    if (below.length === 0 || (below.length === 1 && !members.includes(bridge))) continue;
    const why =
      judged.kind === "conventional bridge"
        ? `requests of what is below it carry its own id`
        : `requests may turn around in it (${judged.text})`;
    reasons.push(
      `${below.join(" and ")} ${below.length === 1 ? "is" : "are"} below the ${judged.kind} ${bridge}: ${why}`,
    );
  }
  if (reasons.length > 0) return reasons;
  if (unknown) return ["ACS of its members is not visible; sudo ring3 groups tells more"];
  return ["nothing in their config space says why: the kernel has a rule for this device, or it uses another one's id"];
}

function byDevice(members: readonly string[]): Map<string, string[]> {
  const devices = new Map<string, string[]>();
  for (const name of members) {
    const device = name.slice(0, -2);
    devices.set(device, [...(devices.get(device) ?? []), name]);
  }
  return devices;
}
