// ring3 ls: the functions of the machine, their groups and drivers, and who may open them.
import { type Command, command } from "../command.ts";
import type { Context } from "../context.ts";
import type { DescribedFunction } from "../ls/describe-functions.ts";
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
    const { describeFunctions } = await import("../ls/describe-functions.ts");
    const functions = describeFunctions(context, operands, options.user);
    const shown = options.bound ? functions.filter(({ bound }) => bound) : functions;
    context.result({ functions: shown }, () => table(shown, context));
  },
});

function table(functions: readonly DescribedFunction[], { style }: Context): string {
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

function whoMayOpen({ bound, access, group }: DescribedFunction): string {
  if (!bound) return "-";
  const owners = access.owners.map(({ uid, name }) => name ?? `uid ${uid}`).join(", ");
  if (group !== undefined && !group.viable) return `nobody: ${access.reason ?? "the group is not viable"}`;
  if (!access.open)
    return owners === "" ? `nobody: ${access.reason ?? ""}` : `${owners} (not ${access.user.name ?? access.user.uid})`;
  const asked = access.user.name ?? `uid ${access.user.uid}`;
  return owners === asked ? owners : `${asked}, owner ${owners}`;
}
