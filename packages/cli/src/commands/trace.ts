// ring3 trace: what was recorded with --trace.
import { type CommandGroup, commandGroup } from "../command.ts";

export const trace: CommandGroup = commandGroup("look at a trace that --trace recorded", {
  view: async () => (await import("./trace/view.ts")).view,
  convert: async () => (await import("./trace/convert.ts")).convert,
  stat: async () => (await import("./trace/stat.ts")).stat,
});
