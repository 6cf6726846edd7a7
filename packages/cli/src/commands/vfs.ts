// ring3 vfs: how many virtual functions a physical function has.
import { type Command, command } from "../command.ts";
import { UsageError } from "../usage-error.ts";
import { printPlan, refuseOtherMachine } from "./bind.ts";

export const vfs: Command = command({
  summary: "make virtual functions of a physical function, or remove them",
  description:
    "Needs root. N virtual functions, none with 0; without N it shows those that exist. Drivers of the kernel are kept away " +
    "from them, unless --probe lets them in; the machine's own setting comes back when they are removed. Virtual functions " +
    "that the machine uses or a process has open are not removed without --force.",
  operands: [
    { name: "ADDRESS", description: "the physical function, as 0000:03:00.0 or 03:00.0" },
    { name: "N", description: "how many virtual functions it shall have", optional: true },
  ],
  options: {
    probe: { kind: "flag", description: "let drivers of the kernel take them" },
    "dry-run": { kind: "flag", short: "n", description: "print the steps and change nothing" },
    force: { kind: "flag", description: "remove virtual functions even while they are used" },
  },
  examples: [
    { command: "ring3 vfs 03:00.0", text: "how many there are, and can be" },
    { command: "sudo ring3 vfs 03:00.0 4", text: "four of them, with no driver; sudo ring3 bind gives them to users" },
    { command: "sudo ring3 vfs 03:00.0 0", text: "none any more" },
  ],
  run: async ({ operands, options }, context) => {
    const [address = "", number] = operands;
    const [host, { machine }] = await Promise.all([import("ring3/host"), import("../machine.ts")]);
    const { isRing3Error, Ring3Error } = await import("ring3");
    const here = machine(context);
    const fn = host.readFunction(address, here.paths);
    const show = (): void => {
      const { sriov } = host.readFunction(fn.address, here.paths);
      if (sriov === undefined) {
        const text = `${fn.address} has no SR-IOV capability, so it cannot have virtual functions`;
        throw new Ring3Error("SRIOV_UNAVAILABLE", text);
      }
      const { enabledVfs, totalVfs, virtualFunctions, driversAutoprobe } = sriov;
      const described = virtualFunctions.map((name) => ({ address: name, driver: driverOf(name) }));
      const value = {
        address: fn.address,
        count: enabledVfs,
        total: totalVfs,
        driversAutoprobe,
        virtualFunctions: described,
      };
      context.result(value, () => {
        const lines = described.map(({ address: name, driver }) => `  ${name}  ${driver ?? "no driver"}`);
        return [`${fn.address} has ${enabledVfs} of ${totalVfs} virtual functions`, ...lines].join("\n");
      });
    };
    const driverOf = (name: string): string | undefined => {
      try {
        return host.readFunction(name, here.paths).driver;
      } catch (error) {
        if (!isRing3Error(error, "FUNCTION_NOT_FOUND")) throw error;
        return undefined;
      }
    };
    if (number === undefined) return show();
    if (!/^\d{1,5}$/.test(number)) throw new UsageError(`N is a number of virtual functions, not "${number}"`);
    const { probe, force } = options;
    const request = { address: fn.address, count: Number(number), probe, force };
    if (options["dry-run"]) return printPlan(context, host.planSetVfs(request, here).steps);
    refuseOtherMachine(context);
    await host.setVfs(request, here);
    show();
  },
});
