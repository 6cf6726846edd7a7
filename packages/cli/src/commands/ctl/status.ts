// ring3 ctl status: every function of the service, and whether one has failed.
import { type Command, command } from "../../command.ts";
import type { Context } from "../../context.ts";
import { ExitCode } from "../../exit-codes.ts";
import type { StatusResult, UsersResult } from "../../ring3d/control-protocol.ts";
import type { FunctionState, FunctionStatus } from "../../ring3d/service-interface.ts";
import { binarySize, columns, hex, type Style } from "../../text.ts";
import { UsageError } from "../../usage-error.ts";
import { connectService, FUNCTION_NAME, personText, SERVICE_OPTIONS } from "./service.ts";

export const status: Command = command({
  summary: "show the functions of the service: state, users, what they have locked",
  description: "Exit status 7 where a function has failed, so that a script notices.",
  operands: [{ name: "FUNCTION", description: `only these, each ${FUNCTION_NAME}`, variadic: true, optional: true }],
  options: SERVICE_OPTIONS,
  examples: [
    { command: "sudo ring3 ctl status", text: "everything, one function a line" },
    {
      command: "sudo ring3 ctl status --json | jq -r '.functions[] | select(.state == \"failed\").reason'",
      text: "why functions have failed",
    },
  ],
  run: async ({ operands, options }, context) => {
    using service = await connectService(options.socket, context);
    const all = await service.ask<StatusResult>({ request: "status" });
    const { users } = await service.ask<UsersResult>({ request: "users" });
    const functions = chosen(all.functions, operands);
    context.result({ ...all, functions }, () => table(functions, users, context));
    if (functions.some(({ state }) => state === "failed")) context.exitCode = ExitCode.FAULTS;
  },
});

function chosen(functions: readonly FunctionStatus[], names: readonly string[]): readonly FunctionStatus[] {
  const known = functions.map(({ name }) => name);
  const wrong = names.find((name) => !known.includes(name));
  if (wrong !== undefined) throw new UsageError(`there is no function "${wrong}"; there are ${known.join(", ")}`);
  return names.length === 0 ? functions : functions.filter(({ name }) => names.includes(name));
}

function table(functions: readonly FunctionStatus[], users: UsersResult["users"], { style }: Context): string {
  if (functions.length === 0) return "the service has no function: its configuration names none";
  const rows = functions.map((fn) => [
    fn.name,
    fn.address,
    fn.ids === null || fn.ids === undefined ? "-" : `${hex(fn.ids.vendorId, 4)}:${hex(fn.ids.deviceId, 4)}`,
    stateText(fn.state, style),
    fn.rules,
    fn.waiting === 0 ? "-" : String(fn.waiting),
    lockedText(fn),
    fn.trace ?? "-",
    lastColumn(fn, users),
  ]);
  const heading = ["FUNCTION", "ADDRESS", "ID", "STATE", "RULES", "WAITING", "LOCKED", "TRACE", "USERS"];
  return columns([heading.map((text) => style.bold(text)), ...rows]);
}

const PAINT: { readonly [S in FunctionState]: keyof Style } = {
  starting: "yellow",
  ready: "green",
  used: "green",
  resetting: "yellow",
  failed: "red",
  removed: "red",
  stopping: "yellow",
};

/** A service of a later version may have states that are new. */
function stateText(state: FunctionState, style: Style): string {
  return style[Object.hasOwn(PAINT, state) ? PAINT[state] : "bold"](state);
}

function lockedText({ lockedBytes, lockLimit }: FunctionStatus): string {
  const limit = lockLimit === null || lockLimit === undefined ? "" : ` of ${binarySize(lockLimit)}`;
  return lockedBytes === 0 ? "-" : `${binarySize(lockedBytes)}${limit}`;
}

function lastColumn({ name, reason }: FunctionStatus, users: UsersResult["users"]): string {
  if (reason !== null && reason !== undefined) return reason;
  const own = users.filter((user) => user.function === name);
  return own.length === 0 ? "-" : own.map(personText).join(", ");
}
