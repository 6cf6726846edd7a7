// ring3 ctl awake: the end of what ring3 ctl sleep began.
import { type Command, command } from "../../command.ts";
import { connectService, SERVICE_OPTIONS } from "./service.ts";

export const awake: Command = command({
  summary: "tell the users of functions that the machine is awake again, after ring3 ctl sleep",
  operands: [],
  options: SERVICE_OPTIONS,
  examples: [{ command: "sudo ring3 ctl awake", text: "they go on with their functions" }],
  run: async ({ options }, context) => {
    using service = await connectService(options.socket, context);
    const result = await service.ask<object>({ request: "awake" });
    context.result(result, () => "");
  },
});
