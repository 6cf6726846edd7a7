// ring3 unbind: gives functions back to the drivers that they had before ring3 bind.
import { type Command, command } from "../command.ts";
import { printPlan, refuseOtherMachine } from "./bind.ts";

export const unbind: Command = command({
  summary: "give functions back to the drivers that they had",
  description:
    "Needs root. Either everything is given back or nothing changes. Given the physical function of virtual ones that " +
    "ring3 bind --vfs made, it removes those. Without ADDRESS, everything that ring3 bound is given back.",
  operands: [
    {
      name: "ADDRESS",
      description: "functions to give back (default: all that ring3 bound)",
      variadic: true,
      optional: true,
    },
  ],
  options: {
    "dry-run": { kind: "flag", short: "n", description: "print the steps and change nothing" },
    force: { kind: "flag", description: "also take functions that a process has open: it is asked to let go" },
  },
  examples: [
    { command: "sudo ring3 unbind 01:00.0", text: "the kernel's nvme driver has its disk again" },
    { command: "sudo ring3 unbind", text: "everything back" },
    { command: "ring3 unbind 01:00.0 --dry-run", text: "what would be done" },
  ],
  run: async ({ operands, options }, context) => {
    const [host, { machine }] = await Promise.all([import("ring3/host"), import("../machine.ts")]);
    const here = machine(context);
    const parents = new Set<string>();
    const plain: string[] = [];
    const recorded = new Set(host.recordedAddresses(here.paths));
    for (const address of operands.length > 0 ? operands : recorded) {
      // What was unplugged while it was bound has only a record to give back.
      const name = host.sysfsAddress(address);
      if (recorded.has(name) && !host.boundAddresses(here.paths).includes(name)) {
        plain.push(name);
        continue;
      }
      const { physicalFunction, address: full } = host.readFunction(address, here.paths);
      // Without arguments, virtual functions of ours go together with their physical one.
      if (host.ownsVfs(full, here)) parents.add(full);
      else if (operands.length === 0 && physicalFunction !== undefined && host.ownsVfs(physicalFunction, here)) {
        parents.add(physicalFunction);
      } else plain.push(full);
    }
    const { force } = options;
    if (options["dry-run"]) {
      const steps =
        plain.length === 0 && operands.length > 0 ? [] : host.planUnbind({ addresses: plain, force }, here).steps;
      const further = [...parents].map((address) => `give back and remove the virtual functions of ${address}`);
      return printPlan(context, steps, further);
    }
    refuseOtherMachine(context);
    // Without arguments, what a dead binding left of shared nodes goes back too.
    if (plain.length > 0 || operands.length === 0) await host.unbind({ addresses: plain, force }, here);
    for (const address of parents) await host.removeVfs(address, { force }, here);
    const there = new Map(host.listFunctions(here.paths).map((fn) => [fn.address, fn]));
    const unbound = [...plain, ...parents].map((address) => {
      const rules = host.findRules(here.paths, address).map(({ path }) => path);
      return { address, present: there.has(address), driver: there.get(address)?.driver, rules };
    });
    context.result({ unbound }, () => {
      if (unbound.length === 0) return "ring3 has bound nothing";
      return unbound.map(unboundText).join("\n");
    });
  },
});

interface Unbound {
  readonly address: string;
  readonly present: boolean;
  readonly driver: string | undefined;
  readonly rules: readonly string[];
}

function unboundText({ address, present, driver, rules }: Unbound): string {
  if (!present) return `${address} is gone, and forgotten`;
  const lasting =
    rules.length === 0 ? "" : `; ${rules.join(", ")} binds it again at boot: sudo ring3 permit ${address} --revoke`;
  return `${address} is back with ${driver ?? "no driver"}${lasting}`;
}
