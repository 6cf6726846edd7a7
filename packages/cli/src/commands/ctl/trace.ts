// ring3 ctl trace: switches a function's trace on and off while it is in use.
import { type Command, type CommandGroup, command, commandGroup } from "../../command.ts";
import type { TraceResult } from "../../ring3d/control-protocol.ts";
import { connectService, FUNCTION_NAME, SERVICE_OPTIONS } from "./service.ts";

export const trace: CommandGroup = commandGroup("write down what the user of a function does to it, or stop that", {
  on: () => Promise.resolve(switched(true)),
  off: () => Promise.resolve(switched(false)),
});

function switched(on: boolean): Command {
  return command({
    summary: on ? "begin a trace of a function in a new file, and say which" : "end the trace of a function",
    description: on
      ? "The file is in the directory `traces` of the configuration; ring3 trace view shows it. Accesses to BARs are in it as " +
        "far as the configuration traps them (trap)."
      : "The file stays; ring3 trace view shows it.",
    operands: [{ name: "FUNCTION", description: FUNCTION_NAME }],
    options: SERVICE_OPTIONS,
    examples: [{ command: `sudo ring3 ctl trace ${on ? "on" : "off"} disk`, text: on ? "from now on" : "until now" }],
    run: async ({ operands, options }, context) => {
      const [name = ""] = operands;
      using service = await connectService(options.socket, context);
      const result = await service.ask<TraceResult>({ request: "trace", function: name, on });
      context.result(result, () => {
        if (result.file === null) return `${name} was not being traced`;
        return on ? `${name} is traced to ${result.file}` : `the trace of ${name} is in ${result.file}`;
      });
    },
  });
}
