// ring3 ctl events: what happens in the service, as it happens. Ctrl-C is how it is meant to end: that is no failure.
import { Ring3Error } from "ring3";
import { type Command, command } from "../../command.ts";
import type { Style } from "../../text.ts";
import { connectService, FUNCTION_NAME, personText, SERVICE_OPTIONS } from "./service.ts";

export const events: Command = command({
  summary: "show opens, refusals, rule hits and resets as they happen",
  description:
    "--json prints one object a line, as the audit log has them (docs/ring3d-audit.schema.json). Of a flood some are shown, " +
    "and how many were left out.",
  operands: [
    {
      name: "FUNCTION",
      description: `only what concerns these, each ${FUNCTION_NAME}`,
      variadic: true,
      optional: true,
    },
  ],
  options: {
    ...SERVICE_OPTIONS,
    count: { kind: "integer", short: "c", value: "N", minimum: 1n, description: "end after N events" },
  },
  examples: [
    { command: "sudo ring3 ctl events", text: "everything, until Ctrl-C" },
    { command: "sudo ring3 ctl events disk --json | jq 'select(.event == \"refused\")'", text: "who is turned away" },
  ],
  run: async ({ operands, options }, context) => {
    using service = await connectService(options.socket, context);
    let left = options.count ?? -1n;
    try {
      await service.ask({ request: "events", functions: operands.length === 0 ? undefined : operands });
      for await (const event of service.events()) {
        context.line(event, () => eventText(event, context.style));
        if (--left === 0n) return;
      }
    } catch (error) {
      if (context.signal.aborted) return;
      throw error;
    }
    if (!context.signal.aborted)
      throw new Ring3Error("SERVICE_ENDED", "ring3d has ended, or dropped us: start this again");
  },
});

type Facts = Readonly<Record<string, unknown>>;
const RED: ReadonlySet<unknown> = new Set(["failed", "refused", "fault", "dma-refused", "reload-refused", "kicked"]);
const YELLOW: ReadonlySet<unknown> = new Set(["rule", "notice", "left-out", "closed", "stopped"]);

/** Time, function, event, who, and the rest of the facts. */
function eventText(facts: Facts, style: Style): string {
  const { time, event, function: fn, pid, uid, user, gid: _gid, ...rest } = facts;
  const colour = RED.has(event) ? "red" : YELLOW.has(event) ? "yellow" : "green";
  const who = typeof pid === "number" && typeof uid === "number" ? [personText({ pid, uid, user: textOf(user) })] : [];
  const others = Object.entries(rest).flatMap(([key, value]) => {
    const words = valueText(key, value);
    return words === "" ? [] : [`${key} ${words}`];
  });
  const clock = style.dim(new Date(String(time)).toTimeString().slice(0, 8));
  const name = typeof fn === "string" ? [style.bold(fn)] : [];
  return [clock, ...name, style[colour](String(event).replaceAll("-", " ")), [...who, ...others].join(", ")]
    .join(" ")
    .trimEnd();
}

function valueText(key: string, value: unknown): string {
  if (Array.isArray(value)) return value.map((item) => valueText(key, item)).join(", ");
  if (typeof value === "object" && value !== null) {
    const { pid, uid, user } = value as Facts;
    if (typeof pid === "number" && typeof uid === "number") return personText({ pid, uid, user: textOf(user) });
  }
  if (typeof value === "number" && (key === "iova" || key === "size")) return `0x${value.toString(16)}`;
  // What a user has a part in must not steer an administrator's terminal.
  return (typeof value === "string" ? value : (JSON.stringify(value) ?? "")).replaceAll(/\p{Cc}/gu, "?");
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
