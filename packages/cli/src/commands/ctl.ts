// ring3 ctl: the service ring3d, for its administrators.
import { type CommandGroup, commandGroup } from "../command.ts";

export const ctl: CommandGroup = commandGroup(
  "control the service ring3d: who has which function, kick, trace, reload, sleep",
  {
    status: async () => (await import("./ctl/status.ts")).status,
    users: async () => (await import("./ctl/users.ts")).users,
    kick: async () => (await import("./ctl/kick.ts")).kick,
    trace: async () => (await import("./ctl/trace.ts")).trace,
    reload: async () => (await import("./ctl/reload.ts")).reload,
    sleep: async () => (await import("./ctl/sleep.ts")).sleep,
    awake: async () => (await import("./ctl/awake.ts")).awake,
    events: async () => (await import("./ctl/events.ts")).events,
  },
);
