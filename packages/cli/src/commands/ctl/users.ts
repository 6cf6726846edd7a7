// ring3 ctl users: who has a function now, and since when.
import { type Command, command } from "../../command.ts";
import type { UsersResult } from "../../ring3d/control-protocol.ts";
import { columns } from "../../text.ts";
import { connectService, SERVICE_OPTIONS } from "./service.ts";

export const users: Command = command({
  summary: "show who has functions of the service, and since when",
  operands: [],
  options: SERVICE_OPTIONS,
  examples: [{ command: "sudo ring3 ctl users", text: "one user of a function a line" }],
  run: async ({ options }, context) => {
    using service = await connectService(options.socket, context);
    const result = await service.ask<UsersResult>({ request: "users" });
    context.result(result, () => {
      if (result.users.length === 0) return "nobody has a function of the service";
      const rows = result.users.map(({ function: name, user, uid, pid, sinceMs }) => [
        name,
        user ?? "-",
        String(uid),
        String(pid),
        new Date(sinceMs).toISOString().replace(/\.\d+Z$/, "Z"),
      ]);
      const heading = ["FUNCTION", "USER", "UID", "PID", "SINCE"].map((text) => context.style.bold(text));
      return columns([heading, ...rows]);
    });
  },
});
