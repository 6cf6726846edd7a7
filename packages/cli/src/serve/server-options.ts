// The options that every `ring3 serve` shares: where the socket is, who may connect, and what is written down.
import type { FaultPlan } from "ring3/faults";
import type { Context } from "../context.ts";
import { machinePaths } from "../machine.ts";
import { UsageError } from "../usage-error.ts";

export const SERVER_OPTIONS = {
  socket: { kind: "text", short: "s", value: "PATH", description: "the UNIX socket to serve at (required)" },
  mode: { kind: "text", value: "OCTAL", description: "permissions of the socket (default 0600)" },
  owner: { kind: "text", value: "USER[:GROUP]", description: "who owns the socket, by name or number; needs root" },
  "allow-uid": {
    kind: "texts",
    value: "USER[,USER...]",
    description: "only these may connect, by name or uid, whatever the socket's permissions say",
  },
  openings: {
    kind: "integer",
    value: "N",
    minimum: 1n,
    maximum: 1000n,
    initial: 1n,
    description: "clients that may have the device at a time, all of one user",
  },
  queue: {
    kind: "integer",
    value: "N",
    minimum: 0n,
    maximum: 1000n,
    initial: 0n,
    description: "clients that may wait while others have the device; whoever finds no place is refused",
  },
  state: {
    kind: "text",
    value: "FILE",
    description: "keep the device's state in FILE, so that clients reconnect to a server that was started again",
  },
  "keep-state": {
    kind: "flag",
    description: "the device stays as it is when a client leaves, and the next one goes on",
  },
  "no-twin-socket": {
    kind: "flag",
    description: "no second socket for messages to the client, even where it offers one",
  },
  "trust-unsealed-memory": {
    kind: "flag",
    description: "map memory that the client could truncate, which would then kill this server",
  },
  log: { kind: "text", value: "FILE", description: "append what happens to FILE, a JSON object a line; - is stderr" },
  "log-messages": { kind: "flag", description: "log every message as well, which makes the server slower" },
  trace: {
    kind: "text",
    value: "FILE",
    description: "record every access of the client, and every interrupt, in FILE (see ring3 trace)",
  },
  faults: {
    kind: "text",
    value: "PLAN",
    description: "let happen to clients what the YAML file PLAN says (docs/faults.md)",
  },
  metrics: { kind: "text", value: "PATH", description: "give metrics to Prometheus at the UNIX socket PATH" },
} as const;

/** What the server's options say, checked. */
export interface ServerSettings {
  readonly mode: number | undefined;
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
  readonly allowUids: readonly number[] | undefined;
  readonly openings: number;
  readonly queue: number;
  readonly state: string | undefined;
  readonly keepState: boolean;
  readonly twinSocket: boolean;
  readonly trustUnsealedMemory: boolean;
  readonly log: string | undefined;
  readonly logMessages: boolean;
  readonly trace: string | undefined;
  readonly faults: FaultPlan | undefined;
  readonly metrics: string | undefined;
}

/** The options as the parser gives them. */
export interface ServerInput {
  readonly mode: string | undefined;
  readonly owner: string | undefined;
  readonly "allow-uid": readonly string[];
  readonly openings: bigint;
  readonly queue: bigint;
  readonly state: string | undefined;
  readonly "keep-state": boolean;
  readonly "no-twin-socket": boolean;
  readonly "trust-unsealed-memory": boolean;
  readonly log: string | undefined;
  readonly "log-messages": boolean;
  readonly trace: string | undefined;
  readonly faults: string | undefined;
  readonly metrics: string | undefined;
}

export async function serverSettings(input: ServerInput, context: Context): Promise<ServerSettings> {
  if (input["log-messages"] && input.log === undefined)
    throw new UsageError("--log-messages writes to the log: add --log FILE, or --log -");
  return {
    mode: input.mode === undefined ? undefined : parseMode(input.mode),
    owner: input.owner === undefined ? undefined : await lookUpOwner(input.owner, context),
    allowUids: input["allow-uid"].length === 0 ? undefined : await lookUpUids(input["allow-uid"], context),
    openings: Number(input.openings),
    queue: Number(input.queue),
    state: input.state,
    keepState: input["keep-state"],
    twinSocket: !input["no-twin-socket"],
    trustUnsealedMemory: input["trust-unsealed-memory"],
    log: input.log,
    logMessages: input["log-messages"],
    trace: input.trace,
    faults: input.faults === undefined ? undefined : await faultPlan(input.faults),
    metrics: input.metrics,
  };
}

async function faultPlan(path: string): Promise<FaultPlan> {
  const { readFaultPlan } = await import("../faults/plan-file.ts");
  return await readFaultPlan(path);
}

/** The socket's path, which is the one option that cannot be left out. */
export function socketPath(path: string | undefined): string {
  if (path === undefined || path === "") {
    throw new UsageError("--socket is missing: say where to serve, as in --socket /run/user/1000/disk.sock");
  }
  return path;
}

function parseMode(text: string): number {
  if (/^0?[0-7]{3}$/.test(text)) return Number.parseInt(text, 8);
  throw new UsageError(`--mode takes three octal digits, as in 0660, not "${text}"`);
}

async function lookUpOwner(text: string, context: Context): Promise<{ uid: number; gid: number }> {
  const { lookUpGroup, lookUpUser } = await import("ring3/host");
  const [userText = "", groupText, more] = text.split(":");
  if (userText === "" || groupText === "" || more !== undefined) {
    throw new UsageError(`--owner takes USER or USER:GROUP, not "${text}"`);
  }
  const paths = machinePaths(context);
  const user = lookUpUser(userText, paths);
  const gid = groupText === undefined ? (user.gids[0] ?? user.uid) : lookUpGroup(groupText, paths);
  return { uid: user.uid, gid };
}

async function lookUpUids(texts: readonly string[], context: Context): Promise<number[]> {
  const { lookUpUser } = await import("ring3/host");
  const names = texts.flatMap((text) => text.split(","));
  if (names.includes(""))
    throw new UsageError("--allow-uid takes users, separated by commas, as in --allow-uid 1000,alice");
  return [...new Set(names.map((name) => lookUpUser(name, machinePaths(context)).uid))];
}
