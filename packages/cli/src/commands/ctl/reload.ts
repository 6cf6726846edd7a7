// ring3 ctl reload: the service reads its configuration again.
import { type Command, command } from "../../command.ts";
import type { ReloadOutcome } from "../../ring3d/service-interface.ts";
import { columns } from "../../text.ts";
import { connectService, SERVICE_OPTIONS } from "./service.ts";

const WORDS: readonly (readonly [key: keyof ReloadOutcome, words: string])[] = [
  ["added", "added"],
  ["removed", "given back"],
  ["changed", "changed"],
  ["deferred", "changed once its user has left"],
];

export const reload: Command = command({
  summary: "have the service read its configuration again; users of functions that stay do so",
  description: "A configuration with a mistake changes nothing, and this says what is wrong with it.",
  operands: [],
  options: SERVICE_OPTIONS,
  examples: [{ command: "sudo ring3 ctl reload", text: "after the file was edited, or the audit log was renamed" }],
  run: async ({ options }, context) => {
    using service = await connectService(options.socket, context);
    const outcome = await service.ask<ReloadOutcome>({ request: "reload" });
    context.result(outcome, () => {
      const rows = WORDS.flatMap(([key, words]) => outcome[key].map((name) => [name, words]));
      return rows.length === 0 ? "no function has changed" : columns(rows);
    });
  },
});
