// ring3 reset: resets a function, through VFIO or a socket where the caller may open it, else through sysfs as root.
import { type Command, command } from "../command.ts";
import type { Context } from "../context.ts";
import { isSocketAddress, OPEN_OPTIONS, type Opening, openFunction } from "../open-function.ts";
import { UsageError } from "../usage-error.ts";
import { printPlan, refuseOtherMachine } from "./bind.ts";

export const reset: Command = command({
  summary: "reset a function and say how it was done",
  description:
    "Through VFIO where the function is bound to it, else through sysfs, which takes root. What the machine uses, or a " +
    "process has open, is refused. Afterwards the device knows nothing of its driver.",
  operands: [{ name: "ADDRESS", description: "the function, as 0000:01:00.0, 01:00.0 or vfio-user:PATH" }],
  options: {
    method: {
      kind: "choice",
      choices: ["flr", "af_flr", "pm", "bus", "device_specific", "acpi", "cxl_bus"],
      description: "through sysfs, by this method alone (default: the first that works)",
    },
    "dry-run": { kind: "flag", short: "n", description: "print what would be done and change nothing" },
    force: { kind: "flag", description: "even if the machine uses it or a process has it open" },
    trace: OPEN_OPTIONS.trace,
  },
  examples: [
    { command: "ring3 reset 01:00.0", text: "a function of mine, through VFIO" },
    { command: "sudo ring3 reset 01:00.0 --method flr", text: "through sysfs, by function level reset" },
    { command: "ring3 reset 01:00.0 --dry-run", text: "the methods, and the shell commands for one" },
  ],
  run: async ({ operands, options }, context) => {
    const [address = ""] = operands;
    const dryRun = options["dry-run"];
    const opening = { ...options, backend: "auto" };
    if (isSocketAddress(address)) {
      if (options.method !== undefined)
        throw new UsageError("--method is for sysfs; a socket's server chooses by itself");
      return dryRun
        ? context.result({ steps: [] }, () => "reset it through its socket")
        : await resetOpen(address, opening, context);
    }
    const [host, { machine }] = await Promise.all([import("ring3/host"), import("../machine.ts")]);
    const here = machine(context);
    const request = { address, method: options.method, force: options.force };
    const plan = host.planReset(request, here);
    const fn = host.readFunction(address, here.paths);
    const viaVfio = options.method === undefined && fn.driver !== undefined && host.isVfioDriver(fn.driver);
    const may = viaVfio && host.functionAccess(fn, host.currentUser(here.paths), here.paths).open;
    if (dryRun) {
      const text = may
        ? `reset ${plan.address} through VFIO`
        : `reset ${plan.address} by ${plan.methods.join(", else ")}`;
      return printPlan(
        context,
        may ? [{ text, command: undefined }] : plan.commands.map((line) => ({ text, command: line })),
      );
    }
    refuseOtherMachine(context);
    if (may) return await resetOpen(plan.address, opening, context);
    report(context, plan.address, "sysfs", await host.resetFunction(request, here));
  },
});

async function resetOpen(address: string, options: Opening, context: Context): Promise<void> {
  await using fn = await openFunction(address, options, context);
  const method = await context.unlessAborted(fn.reset());
  report(context, address, fn.identity.backend, method);
}

function report(context: Context, address: string, via: string, method: string): void {
  context.result({ address, via, method }, () => `${address} was reset through ${via} by ${method}`);
}
