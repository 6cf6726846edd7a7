// ring3 groups: the IOMMU groups as a tree, with all that decides over who may use them, and why functions share one.
import type { Isolation } from "ring3/host";
import { type Command, command } from "../command.ts";
import type { Context } from "../context.ts";
import { columns, hex } from "../text.ts";

export const groups: Command = command({
  summary: "show IOMMU groups: drivers, nodes, owners, reset methods, isolation",
  description:
    "A group is the smallest set of functions that the IOMMU can tell apart: VFIO gives it away as a whole. Needs no " +
    "privilege; as root it also tells, from access control services (ACS), why functions share a group.",
  operands: [
    { name: "GROUP", description: "a group's number, or the address of a member", variadic: true, optional: true },
  ],
  options: {
    shared: { kind: "flag", description: "only groups of several functions" },
  },
  examples: [
    { command: "ring3 groups", text: "all of them" },
    { command: "sudo ring3 groups 03:00.0", text: "the group of a graphics card, and why its audio function is in it" },
    {
      command: "ring3 groups --json | jq '.groups[] | select(.viable | not).id'",
      text: "groups that VFIO cannot use now",
    },
  ],
  run: async ({ operands, options }, context) => {
    const described = await describeGroups(context, operands);
    const shown = options.shared ? described.filter(({ members }) => members.length > 1) : described;
    context.result({ groups: shown }, () => {
      if (shown.length > 0) return shown.map((group) => tree(group, context)).join("\n");
      return described.length > 0
        ? "no group has several functions"
        : "no IOMMU group: the IOMMU is off (intel_iommu=on, or in the firmware), or the machine has none";
    });
  },
});

type Described = Awaited<ReturnType<typeof describeGroups>>[number];
type DescribedMember = Described["members"][number];

async function describeGroups(context: Context, chosen: readonly string[]) {
  const [host, { machinePaths }] = await Promise.all([import("ring3/host"), import("../machine.ts")]);
  const { Ring3Error } = await import("ring3");
  const paths = machinePaths(context);
  const names = new host.FunctionNames();
  const functions = host.listFunctions(paths);
  const all = host.listGroups(paths);
  const wanted = chosen.map((text) => {
    const id = /^\d+$/.test(text) ? Number(text) : host.readFunction(text, paths).iommuGroup;
    const group = all.find((candidate) => candidate.id === id);
    if (group !== undefined) return group;
    if (id !== undefined)
      throw new Ring3Error("GROUP_UNKNOWN", `there is no IOMMU group ${id}; ring3 groups lists them`);
    throw new Ring3Error(
      "NO_IOMMU_GROUP",
      `${text} is in no IOMMU group: switch the IOMMU on (intel_iommu=on, or in the firmware)`,
    );
  });
  return (wanted.length > 0 ? wanted : all).map((group) => {
    const { isolation, reasons } = host.explainGroup(group, functions, paths);
    const members = group.members.map((member) => {
      const fn = functions.find(({ address }) => address === member.name);
      const device = fn?.vfioDevice === undefined ? undefined : node(host.deviceNode(fn.vfioDevice, paths));
      return {
        ...member,
        vendorId: fn?.vendorId,
        deviceId: fn?.deviceId,
        className: fn === undefined ? undefined : names.class(fn.classCode),
        deviceName: fn === undefined ? undefined : names.device(fn.vendorId, fn.deviceId),
        parent: fn?.parent,
        resetMethods: fn?.resetMethods ?? [],
        isolation: isolation.get(member.name),
        node: device,
      };
    });
    const above = [...isolation].filter(([address]) => !members.some(({ name }) => name === address));
    return {
      id: group.id,
      type: group.type,
      viable: group.viable,
      blockers: group.blockers.map(({ name }) => name),
      node: node(group.node),
      members,
      bridgesAbove: above.map(([address, judged]) => ({ address, isolation: judged })),
      reasons,
    };
  });

  function node(found: { readonly path: string; readonly uid: number; readonly mode: number } | undefined) {
    if (found === undefined) return undefined;
    const { path, uid, mode } = found;
    return { path, uid, owner: host.userName(uid, paths), mode: `0${mode.toString(8)}` };
  }
}

function tree(group: Described, { style }: Context): string {
  const state = group.viable
    ? style.green(group.members.some(({ role }) => role === "vfio") ? "in the hands of VFIO" : "free for VFIO")
    : style.red(`blocked by ${group.blockers.join(", ")}`);
  const heading = [style.bold(`group ${group.id}`), group.type, state, nodeText(group.node)].filter(
    (text) => text !== undefined,
  );
  const rows = group.members.map((member, index) => [
    `${index === group.members.length - 1 ? "└─" : "├─"} ${member.name}`,
    member.vendorId === undefined ? "" : `${hex(member.vendorId, 4)}:${hex(member.deviceId ?? 0, 4)}`,
    member.deviceName ?? member.className ?? "not a PCI function",
    driverText(member),
    `reset: ${member.resetMethods.join(", ") || "none"}`,
    [isolationText(member.isolation), nodeText(member.node)].filter((text) => text !== "").join(", "),
  ]);
  const why = group.reasons.map((reason) => `   ${style.yellow("together because")} ${reason}`);
  return [heading.join(", "), columns(rows), ...why].join("\n");
}

function driverText({ driver, role }: DescribedMember): string {
  if (driver === undefined) return "no driver";
  return role === "blocking" ? `${driver} (blocks)` : driver;
}

function nodeText(node: Described["node"]): string | undefined {
  if (node === undefined) return undefined;
  return `${node.path} of ${node.owner ?? `uid ${node.uid}`} ${node.mode}`;
}

function isolationText(isolation: Isolation | undefined): string {
  return isolation?.text ?? "";
}
