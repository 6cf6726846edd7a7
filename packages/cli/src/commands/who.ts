// ring3 who: who has a function, the kernel's driver and whatever uses it there, or processes that have it open.
import { type Command, command } from "../command.ts";
import { columns } from "../text.ts";

export const who: Command = command({
  summary: "show who has a function: driver, uses of the machine, processes",
  description:
    "A process has a function when it has its node open, or that of its group. Ordinary users see their own processes " +
    "only, and are told so.",
  operands: [{ name: "ADDRESS", description: "the function, as 0000:01:00.0 or 01:00.0" }],
  options: {},
  examples: [
    { command: "sudo ring3 who 01:00.0", text: "everybody" },
    { command: "ring3 who 01:00.0 --json | jq '.holders[].pid'", text: "the process ids for a script" },
  ],
  run: async ({ operands }, context) => {
    const [address = ""] = operands;
    const [host, { machine }] = await Promise.all([import("ring3/host"), import("../machine.ts")]);
    const here = machine(context);
    const { paths } = here;
    const fn = host.readFunction(address, paths);
    const { holders: found, complete } = host.holdersOf(fn.address, here);
    const holders = found.map((holder) => ({ ...holder, user: host.userName(holder.uid, paths) }));
    const uses = host.usesOf(fn.address, paths, here.operations);
    const group = fn.iommuGroup === undefined ? undefined : host.readGroup(fn.iommuGroup, paths);
    const others = group?.members.map(({ name }) => name).filter((name) => name !== fn.address) ?? [];
    const value = {
      address: fn.address,
      driver: fn.driver,
      iommuGroup: fn.iommuGroup,
      sharedWith: others,
      uses,
      holders,
      complete,
    };
    context.result(value, () => {
      const rows: string[][] = [["driver", fn.driver ?? "none"]];
      for (const use of uses) rows.push(["the machine", use]);
      for (const { pid, command: line, user, uid, path } of holders) {
        rows.push([`process ${pid}`, `${line} (${user ?? `uid ${uid}`}) has ${path} open`]);
      }
      if (holders.length > 0 && others.length > 0)
        rows.push(["group", `${fn.iommuGroup}, shared with ${others.join(", ")}`]);
      if (holders.length === 0) rows.push(["processes", complete ? "none has it open" : "none that you may see"]);
      if (!complete)
        rows.push(["", context.style.yellow("other users' processes are hidden; sudo ring3 who shows them")]);
      return `${context.style.bold(fn.address)}\n${columns(rows, { indent: 2 })}`;
    });
  },
});
