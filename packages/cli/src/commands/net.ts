// ring3 net: what a network device is and counts.
import { type CommandGroup, commandGroup } from "../command.ts";

export const net: CommandGroup = commandGroup("look at a network device past the kernel's driver", {
  info: async () => (await import("./net/info.ts")).info,
  stats: async () => (await import("./net/stats.ts")).stats,
});
