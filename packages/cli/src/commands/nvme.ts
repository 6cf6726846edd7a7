// ring3 nvme: the NVMe driver on the command line.
import { type CommandGroup, commandGroup } from "../command.ts";

export const nvme: CommandGroup = commandGroup("drive an NVMe controller from this process, past the kernel's driver", {
  identify: async () => (await import("./nvme/identify.ts")).identify,
  smart: async () => (await import("./nvme/smart.ts")).smart,
  read: async () => (await import("./nvme/read.ts")).read,
  write: async () => (await import("./nvme/write.ts")).write,
  flush: async () => (await import("./nvme/flush.ts")).flush,
  bench: async () => (await import("./nvme/bench.ts")).bench,
});
