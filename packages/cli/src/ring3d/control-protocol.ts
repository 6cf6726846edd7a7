// What administrators say to ring3d and what it answers: a line of JSON each. A request is `{"request": "kick", "function":
// "disk"}`, with an `id` where the caller wants one; its answer is `{"id", "result"}` or `{"id", "error": {"code", "message"}}`.
// After `events`, lines `{"event": {...}}` follow as docs/ring3d-audit.schema.json has them.
import type { FunctionUser } from "ring3/notices";
import { nearest } from "../parse.ts";
import { UsageError } from "../usage-error.ts";
import type { FunctionStatus, UserSession } from "./service-interface.ts";

/** Grows when something means something else; keys and requests may be added without that. */
export const CONTROL_PROTOCOL = 1;
/** A line of a client that is longer comes from nobody who controls. */
export const MAXIMUM_REQUEST_BYTES = 16_384;
export const DEFAULT_CONTROL_PATH: string = "/run/ring3/control.sock";

export type ControlRequest =
  | { readonly request: "status" }
  | { readonly request: "users" }
  | { readonly request: "kick"; readonly function: string; readonly reason?: string | undefined }
  | { readonly request: "trace"; readonly function: string; readonly on: boolean }
  | { readonly request: "reload" }
  | { readonly request: "sleep" }
  | { readonly request: "awake" }
  | { readonly request: "events"; readonly functions?: readonly string[] | undefined };

export type RequestId = string | number;

/** What went wrong with a request: a code of `UsageError` or `Ring3Error`, and a sentence. */
export interface ControlError {
  readonly code: string;
  readonly message: string;
}

/** Somebody who uses a function, by name. */
export interface NamedSession extends UserSession {
  readonly function: string;
  readonly user: string | undefined;
}

/** Answer to `status`. */
export interface StatusResult {
  readonly protocol: typeof CONTROL_PROTOCOL;
  readonly version: string;
  readonly pid: number;
  readonly functions: readonly FunctionStatus[];
}

/** Answers by request. `reload` answers with a {@link ReloadOutcome}, `awake` with an empty object. */
export interface UsersResult {
  readonly users: readonly NamedSession[];
}
export interface TraceResult {
  /** The file that is being written now, or was until now; `null` where there was no trace to end. */
  readonly file: string | null;
}

/** Answer to `sleep` where nobody vetoes it; else the error is `SLEEP_VETOED`. */
export interface SleepResult {
  /** Who was asked and consents. */
  readonly consented: readonly FunctionUser[];
}

type Check = (value: unknown) => boolean;
const isText: Check = (value) => typeof value === "string" && value !== "";
const optional = (check: Check): Check => {
  return (value) => value === undefined || check(value);
};

const FUNCTION = { check: isText, words: "a function's name" };
/** What each request takes besides `id`. */
const KEYS: {
  readonly [R in ControlRequest["request"]]: Readonly<
    Record<string, { readonly check: Check; readonly words: string }>
  >;
} = {
  status: {},
  users: {},
  kick: { function: FUNCTION, reason: { check: optional(isText), words: "a sentence" } },
  trace: { function: FUNCTION, on: { check: (value) => typeof value === "boolean", words: "true or false" } },
  reload: {},
  sleep: {},
  awake: {},
  events: {
    functions: {
      check: optional((value) => Array.isArray(value) && value.every(isText)),
      words: "a list of functions' names",
    },
  },
};

/** The id of a request that may be malformed otherwise, so that its error finds its caller. */
export function requestId(value: unknown): RequestId | undefined {
  const id = isObject(value) ? value["id"] : undefined;
  return typeof id === "number" || (typeof id === "string" && id.length <= 64) ? id : undefined;
}

/** Checks a request. Throws `UsageError` with what is wrong. */
export function parseRequest(value: unknown): ControlRequest {
  if (!isObject(value)) throw new UsageError('a request is an object, as {"request":"status"}');
  const { id: _id, request, ...given } = value;
  const known = Object.keys(KEYS);
  if (typeof request !== "string" || !Object.hasOwn(KEYS, request)) {
    const near = typeof request === "string" ? nearest(request, known) : undefined;
    const meant = near === undefined ? `they are ${known.join(", ")}` : `did you mean ${near}?`;
    throw new UsageError(`there is no request ${shown(request)}; ${meant}`);
  }
  const keys = KEYS[request as ControlRequest["request"]];
  for (const key of Object.keys(given)) {
    if (!Object.hasOwn(keys, key)) {
      const takes = Object.keys(keys).join(", ") || "nothing";
      throw new UsageError(`${request} takes no ${shown(key)}; it takes ${takes}`);
    }
  }
  for (const [key, { check, words }] of Object.entries(keys)) {
    if (!check(given[key])) throw new UsageError(`${key} of ${request} has to be ${words}, not ${shown(given[key])}`);
  }
  return { request, ...given } as ControlRequest;
}

/** What somebody sent, as much of it as a message has room for. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "absent";
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
