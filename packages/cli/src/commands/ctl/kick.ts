// ring3 ctl kick: takes a function from whoever has it.
import { type Command, command } from "../../command.ts";
import type { UsersResult } from "../../ring3d/control-protocol.ts";
import { connectService, FUNCTION_NAME, personText, SERVICE_OPTIONS } from "./service.ts";

export const kick: Command = command({
  summary: "take a function from its users; it is reset and free for the next",
  description:
    "Its users' connections end, their memory is unmapped and the function is reset before this returns. They may open it " +
    "again as long as the configuration names them: take them out of it first (ring3 ctl reload) where they are to stay away.",
  operands: [{ name: "FUNCTION", description: FUNCTION_NAME }],
  options: {
    ...SERVICE_OPTIONS,
    reason: { kind: "text", short: "r", value: "TEXT", description: "why, for its users and the audit log" },
  },
  examples: [{ command: "sudo ring3 ctl kick disk --reason maintenance", text: "and say why" }],
  run: async ({ operands, options }, context) => {
    const [name = ""] = operands;
    using service = await connectService(options.socket, context);
    const result = await service.ask<UsersResult>({ request: "kick", function: name, reason: options.reason });
    context.result(result, () => {
      if (result.users.length === 0) return `nobody had ${name}`;
      return `${name} was taken from ${result.users.map(personText).join(", ")}`;
    });
  },
});
