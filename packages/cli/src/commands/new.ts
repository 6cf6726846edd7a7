// ring3 new: a starting point that runs.
import { type CommandGroup, commandGroup } from "../command.ts";

export const newGroup: CommandGroup = commandGroup("write a starting point that runs: a device or a driver", {
  device: async () => (await import("./new/device.ts")).device,
  driver: async () => (await import("./new/driver.ts")).driver,
});
