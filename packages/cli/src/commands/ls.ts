// ring3 ls: the functions of the machine, their groups and drivers, and who may open them.
import { type Command, command } from "../command.ts";
import type { Context } from "../context.ts";
import { columns, hex } from "../text.ts";

export const ls: Command = command({
  summary: "list PCI functions with IOMMU group, driver and who may open them",
  description: "Needs no privilege and touches no device.",
  operands: [
    {
      name: "ADDRESS",
      description: "only these functions, as 0000:01:00.0 or 01:00.0",
      variadic: true,
      optional: true,
    },
  ],
  options: {
    bound: { kind: "flag", description: "only functions that are bound to VFIO" },
    user: { kind: "text", short: "u", value: "USER", description: "judge for this user instead of the calling one" },
  },
  examples: [
    { command: "ring3 ls", text: "everything, one function a line" },
    { command: "ring3 ls --bound --user alice", text: "what VFIO has, and whether alice may open it" },
    {
      command: "ring3 ls --json | jq -r '.functions[] | select(.access.open).address'",
      text: "what I may open, for a script",
    },
  ],
  run: async ({ operands, options }, context) => {
    const functions = await describeFunctions(context, operands, options.user);
    const shown = options.bound ? functions.filter(({ bound }) => bound) : functions;
    context.result({ functions: shown }, () => table(shown, context));
  },
});

/** A function as `ls --json` prints it. */
type Described = Awaited<ReturnType<typeof describeFunctions>>[number];

async function describeFunctions(context: Context, addresses: readonly string[], userName_: string | undefined) {
  const [host, { machinePaths }] = await Promise.all([import("ring3/host"), import("../machine.ts")]);
  const paths = machinePaths(context);
  const user = userName_ === undefined ? host.currentUser(paths) : host.lookUpUser(userName_, paths);
  const names = new host.FunctionNames();
  const functions =
    addresses.length === 0 ? host.listFunctions(paths) : addresses.map((address) => host.readFunction(address, paths));
  return functions.map((fn) => {
    const access = host.functionAccess(fn, user, paths);
    const group = fn.iommuGroup === undefined ? undefined : host.readGroup(fn.iommuGroup, paths);
    return {
      ...fn,
      className: names.class(fn.classCode),
      vendorName: names.vendor(fn.vendorId),
      deviceName: names.device(fn.vendorId, fn.deviceId),
      bound: fn.driver !== undefined && (host.isVfioDriver(fn.driver) || fn.vfioDevice !== undefined),
      group:
        group === undefined
          ? undefined
          : { id: group.id, type: group.type, viable: group.viable, members: group.members.map(({ name }) => name) },
      access: {
        user: { name: user.name, uid: user.uid },
        open: access.open,
        owners: access.owners.map((uid) => ({ uid, name: host.userName(uid, paths) })),
        reason: access.reason,
        interfaces: access.paths.map((path) => {
          return { interface: path.interface, open: path.open, nodes: path.nodes.map((node) => node.path) };
        }),
      },
    };
  });
}

function table(functions: readonly Described[], { style }: Context): string {
  if (functions.length === 0) return "no PCI function here matches";
  const rows = functions.map((fn) => [
    fn.address,
    `${hex(fn.vendorId, 4)}:${hex(fn.deviceId, 4)}`,
    fn.deviceName ?? fn.className,
    fn.driver ?? "-",
    fn.iommuGroup === undefined ? "-" : `${fn.iommuGroup}`,
    fn.access.open ? style.green(whoMayOpen(fn)) : fn.bound ? style.yellow(whoMayOpen(fn)) : style.dim(whoMayOpen(fn)),
  ]);
  const heading = ["ADDRESS", "ID", "FUNCTION", "DRIVER", "GROUP", "WHO MAY OPEN IT"].map((text) => style.bold(text));
  return columns([heading, ...rows]);
}

function whoMayOpen({ bound, access, group }: Described): string {
  if (!bound) return "-";
  const owners = access.owners.map(({ uid, name }) => name ?? `uid ${uid}`).join(", ");
  if (group !== undefined && !group.viable) return `nobody: ${access.reason ?? "the group is not viable"}`;
  if (!access.open)
    return owners === "" ? `nobody: ${access.reason ?? ""}` : `${owners} (not ${access.user.name ?? access.user.uid})`;
  const asked = access.user.name ?? `uid ${access.user.uid}`;
  return owners === asked ? owners : `${asked}, owner ${owners}`;
}
