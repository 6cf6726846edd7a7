// ring3 permit: who may open functions that are bound already, now and after the next boot.
import { type Command, command } from "../command.ts";
import { UsageError } from "../usage-error.ts";
import { chosenUser, printPlan, refuseOtherMachine } from "./bind.ts";

export const permit: Command = command({
  summary: "let a user open functions that are bound to VFIO, or no longer",
  description:
    "Needs root. The nodes become the user's, or with --acl the user gets in beside their owner. --persist writes udev " +
    "rules that bind the functions at each boot (with the rest of their groups, and virtual functions made anew) and " +
    "let the user in; --revoke takes permissions and rules back and leaves the functions bound.",
  operands: [{ name: "ADDRESS", description: "functions, as 0000:01:00.0 or 01:00.0", variadic: true }],
  options: {
    user: {
      kind: "text",
      short: "u",
      value: "USER",
      description: "by name or uid (default: who called sudo; with --revoke everybody)",
    },
    acl: { kind: "flag", description: "by access list, so that whoever has the nodes keeps them" },
    persist: { kind: "flag", description: "also write udev rules, so that it lasts over boots" },
    revoke: { kind: "flag", description: "take permission and rules back" },
    "dry-run": { kind: "flag", short: "n", description: "print the steps, rules included, and change nothing" },
    force: { kind: "flag", description: "take nodes from another user who owns them" },
  },
  examples: [
    { command: "sudo ring3 permit 01:00.0 --user alice", text: "alice has it now, without binding it again" },
    { command: "sudo ring3 permit 01:00.0 --user bob --acl", text: "bob as well" },
    { command: "sudo ring3 permit 01:00.0 --persist", text: "bound and mine after every boot" },
    { command: "ring3 permit 01:00.0 --persist --user alice --dry-run", text: "the rules that would be written" },
    { command: "sudo ring3 permit 01:00.0 --revoke", text: "root's alone, and no rule" },
  ],
  run: async ({ operands, options }, context) => {
    const [host, { machine }] = await Promise.all([import("ring3/host"), import("../machine.ts")]);
    const here = machine(context);
    const { persist, force, acl } = options;
    const dryRun = options["dry-run"];
    if (!dryRun) refuseOtherMachine(context);
    if (options.revoke) {
      if (persist || acl || force) throw new UsageError("--revoke takes only ADDRESS and --user");
      const user = options.user === undefined ? undefined : host.lookUpUser(options.user, here.paths);
      const request = { addresses: operands, user };
      if (dryRun) return printPlan(context, (await host.planRevoke(request, here)).steps);
      const { addresses } = await host.revoke(request, here);
      const who = user === undefined ? "only root may" : `${user.name ?? `uid ${user.uid}`} may no longer`;
      return context.result({ revoked: addresses, user }, () =>
        addresses.map((name) => `${who} open ${name}`).join("\n"),
      );
    }
    const word = chosenUser(options.user, context);
    if (word === undefined) throw new UsageError("name the user who shall have it: --user NAME");
    const user = host.lookUpUser(word, here.paths);
    const handOver = acl ? ("list" as const) : ("owner" as const);
    const request = { addresses: operands, user, handOver, persist, force };
    if (dryRun) return printPlan(context, host.planPermit(request, here).steps);
    const { addresses } = await host.permit(request, here);
    const permitted = addresses.map((address) => {
      return { address, rules: host.findRules(here.paths, address).map(({ path }) => path) };
    });
    context.result({ permitted, user }, () => {
      const name = user.name ?? `uid ${user.uid}`;
      return permitted
        .map(
          ({ address, rules }) =>
            `${name} may open ${address}${rules.length === 0 ? "" : `, at each boot by ${rules.join(", ")}`}`,
        )
        .join("\n");
    });
  },
});
