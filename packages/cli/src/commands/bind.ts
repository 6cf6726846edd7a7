// ring3 bind: takes functions from their drivers and gives them to a user, all or nothing.
import { type Command, command } from "../command.ts";
import type { Context } from "../context.ts";
import { UsageError } from "../usage-error.ts";

export const bind: Command = command({
  summary: "hand functions over: bind them to VFIO and give their nodes to a user",
  description:
    "Needs root, once; the user then needs none. Either everything is done or nothing: a failure, or Ctrl-C, puts back " +
    "what was changed. What the machine itself uses (mounted disks, swap, network links that are up, the boot display) is " +
    "refused. ring3 unbind gives the functions back to the drivers that they had.",
  operands: [{ name: "ADDRESS", description: "functions to bind, as 0000:01:00.0 or 01:00.0", variadic: true }],
  options: {
    user: {
      kind: "text",
      short: "u",
      value: "USER",
      description: "who gets the nodes, by name or uid (default: who called sudo, else root keeps them)",
    },
    acl: { kind: "flag", description: "let the user in by access list, and leave the nodes to their owner" },
    group: { kind: "flag", short: "g", description: "bind every other endpoint of the IOMMU group as well" },
    driver: { kind: "text", value: "NAME", description: "the VFIO driver (default vfio-pci)" },
    vfs: {
      kind: "integer",
      value: "N",
      minimum: 1n,
      maximum: 65535n,
      description: "make N virtual functions of ADDRESS and bind those, not ADDRESS itself",
    },
    "dry-run": { kind: "flag", short: "n", description: "print the steps and change nothing" },
    force: { kind: "flag", description: "take functions even while the machine uses them" },
  },
  examples: [
    { command: "sudo ring3 bind 01:00.0", text: "give an NVMe disk to the user who calls sudo" },
    {
      command: "sudo ring3 bind 03:00.0 --group --user alice",
      text: "a graphics card with its audio function, to alice",
    },
    { command: "sudo ring3 bind 05:00.0 --vfs 2 --user alice", text: "two virtual functions of a network card" },
    { command: "ring3 bind 01:00.0 --dry-run", text: "what would be done, as shell commands" },
  ],
  run: async ({ operands, options }, context) => {
    const [host, { machine }] = await Promise.all([import("ring3/host"), import("../machine.ts")]);
    const here = machine(context);
    const user = chosenUser(options.user, context);
    const request = {
      addresses: operands,
      user: user === undefined ? undefined : host.lookUpUser(user, here.paths),
      handOver: options.acl ? ("list" as const) : ("owner" as const),
      wholeGroup: options.group,
      driver: options.driver,
      force: options.force,
    };
    if (options.acl && user === undefined) throw new UsageError("--acl lets a user in: say who with --user");
    const [first = ""] = operands;
    const count = options.vfs === undefined ? undefined : Number(options.vfs);
    if (count !== undefined && operands.length !== 1) throw new UsageError("--vfs takes exactly one ADDRESS");
    const dryRun = options["dry-run"];
    if (!dryRun) refuseOtherMachine(context);

    if (dryRun) {
      const steps = count === undefined ? host.planBind(request, here).steps : host.planVfs(first, count, here);
      const further = count === undefined ? [] : [`then bind the ${count} virtual functions and hand them over`];
      return printPlan(context, steps, further);
    }
    const addresses =
      count === undefined
        ? (await host.bind(request, here)).addresses
        : await host.bindVfs(first, count, request, here);
    const bound = addresses.map((address) => {
      const fn = host.readFunction(address, here.paths);
      const { paths } = host.functionAccess(fn, request.user ?? host.currentUser(here.paths), here.paths);
      const nodes = paths.flatMap((path) => path.nodes).map(({ path }) => path);
      return { address, driver: fn.driver, iommuGroup: fn.iommuGroup, nodes: [...new Set(nodes)] };
    });
    const name = request.user?.name ?? request.user?.uid ?? "root";
    context.result({ bound, user: request.user }, () => {
      return bound.map(({ address, driver }) => `${address} is bound to ${driver}; ${name} may open it`).join("\n");
    });
  },
});

/** Under sudo the nodes are for whoever typed the command. */
export function chosenUser(given: string | undefined, { environment }: Context): string | undefined {
  if (given !== undefined) return given;
  const { SUDO_UID } = environment;
  return SUDO_UID === undefined || SUDO_UID === "0" ? undefined : SUDO_UID;
}

export function refuseOtherMachine(context: Context): void {
  if (context.root === "/") return;
  throw new UsageError("--root shows files of another machine, where nothing can be bound: use it with --dry-run only");
}

export function printPlan(
  context: Context,
  steps: readonly { readonly text: string; readonly command: string | undefined }[],
  further: readonly string[] = [],
): void {
  const value = [
    ...steps.map(({ text, command: line }) => ({ text, command: line })),
    ...further.map((text) => ({ text, command: undefined })),
  ];
  context.result({ steps: value }, () => {
    const lines = value.map(({ text, command: line }) => {
      return line === undefined ? context.style.dim(`# ${text}`) : `${line}  ${context.style.dim(`# ${text}`)}`;
    });
    return lines.join("\n");
  });
}
