// ring3 ctl sleep: whether the users of functions let the machine sleep; ring3d-sleep.service asks before every sleep.
import { type Command, command } from "../../command.ts";
import type { SleepResult } from "../../ring3d/control-protocol.ts";
import { connectService, SERVICE_OPTIONS } from "./service.ts";

export const sleep: Command = command({
  summary: "ask the users of functions whether the machine may sleep; one refusal is an error",
  description:
    "Who has a function open is asked, and has 5 s to consent. A refusal, silence, or a user that cannot be asked ends it with " +
    "exit status 5, says who that was, and all others hear that the machine stays awake. Otherwise they are ready for the sleep " +
    "until ring3 ctl awake, or until logind says that it is over. Where logind has announced the sleep already, its users are " +
    "not asked twice. The unit ring3d-sleep.service does both.",
  operands: [],
  options: SERVICE_OPTIONS,
  examples: [
    { command: "sudo ring3 ctl sleep && sudo rtcwake -m mem -s 60; sudo ring3 ctl awake", text: "without systemd" },
  ],
  run: async ({ options }, context) => {
    using service = await connectService(options.socket, context);
    const result = await service.ask<SleepResult>({ request: "sleep" });
    context.result(result, () => {
      if (result.consented.length === 0) return "nobody has a function of the service";
      return result.consented.map((user) => `${user.function}: process ${user.pid} consents`).join("\n");
    });
  },
});
