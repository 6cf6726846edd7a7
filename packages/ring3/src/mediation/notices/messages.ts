// The wire format of the users' socket: a JSON object a line, requests and their answers by number, and notices in between.
// Both sides check what comes; docs/ring3d-notices.md says it for people, docs/ring3d-notices.schema.json for programs.
import { Ring3Error } from "../../binary/error.ts";
import type { Notice } from "./book.ts";
import { ERROR_VOTES, NOTICE_KINDS, type NoticeAnswer, type NoticeKind, SUSPEND_ANSWERS } from "./kinds.ts";

/** Bytes of a request at most, its end not counted. */
export const REQUEST_BYTES = 4096;
/** Bytes of what the service says at most, its end not counted. */
export const MESSAGE_BYTES = 262_144;
const NAME_LENGTH = 128;
const REASON_LENGTH = 256;

/** What a user asks for. `id` is its own number for it, and comes back with the answer. */
export type UserRequest =
  | { readonly id: number; readonly request: "functions" }
  | {
      readonly id: number;
      readonly request: "register";
      readonly function: string;
      readonly notices: readonly NoticeKind[];
      readonly pid?: number;
    }
  | {
      readonly id: number;
      readonly request: "reply";
      readonly notice: number;
      readonly answer: NoticeAnswer;
      readonly reason?: string;
    }
  | { readonly id: number; readonly request: "open"; readonly function: string };

/** What the service says. `id` is `null` where a request's own could not be read. */
export type ServiceMessage =
  | { readonly id: number; readonly result: Readonly<Record<string, unknown>> }
  | { readonly id: number | null; readonly error: { readonly code: string; readonly message: string } }
  | Notice;

type Fields = Readonly<Record<string, unknown>>;
type Check = (value: unknown) => boolean;

const count: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const text =
  (longest: number): Check =>
  (value) =>
    typeof value === "string" && value !== "" && value.length <= longest;
const oneOf =
  (choices: readonly string[]): Check =>
  (value) =>
    choices.some((choice) => choice === value);
const kinds: Check = (value) =>
  Array.isArray(value) &&
  value.length <= NOTICE_KINDS.length &&
  value.every(oneOf(NOTICE_KINDS)) &&
  new Set(value).size === value.length;

const answers = [...ERROR_VOTES, ...SUSPEND_ANSWERS];
const name = { check: text(NAME_LENGTH), says: `a function's name (1 to ${NAME_LENGTH} characters)` };
const number = { check: count, says: "a whole number from 0 on" };

interface Field {
  readonly check: Check;
  readonly says: string;
  readonly optional?: true;
}

/** The fields of each request, besides `id` and `request`. */
const REQUESTS: Readonly<Record<UserRequest["request"], Readonly<Record<string, Field>>>> = {
  functions: {},
  register: {
    function: name,
    notices: { check: kinds, says: `an array of some of ${NOTICE_KINDS.join(", ")}, each once` },
    pid: { ...number, optional: true },
  },
  reply: {
    notice: number,
    answer: { check: oneOf(answers), says: `one of ${answers.join(", ")}` },
    reason: { check: text(REASON_LENGTH), says: `a text of 1 to ${REASON_LENGTH} characters`, optional: true },
  },
  open: { function: name },
};

/** The number of a request that is wrong otherwise, so that its sender learns which one it was. */
export function requestId(line: string): number | null {
  try {
    const { id } = objectOf(line);
    return count(id) ? (id as number) : null;
  } catch {
    return null;
  }
}

/** Reads a request. Throws `REQUEST_INVALID`, which says what is wrong. */
export function parseRequest(line: string): UserRequest {
  const fields = objectOf(line);
  if (!count(fields["id"])) throw invalid(`"id" takes ${number.says}`);
  const kind = fields["request"];
  const known = Object.keys(REQUESTS);
  if (typeof kind !== "string" || !known.includes(kind)) throw invalid(`"request" takes one of ${known.join(", ")}`);
  const wanted = REQUESTS[kind as UserRequest["request"]];
  for (const [key, { check, says, optional }] of Object.entries(wanted)) {
    const value = fields[key];
    if (value === undefined ? optional !== true : !check(value)) throw invalid(`"${key}" takes ${says}`);
  }
  const strange = Object.keys(fields).find((key) => key !== "id" && key !== "request" && !Object.hasOwn(wanted, key));
  if (strange !== undefined) throw invalid(`${kind} has no field ${JSON.stringify(strange.slice(0, NAME_LENGTH))}`);
  return fields as unknown as UserRequest;
}

/** Reads what the service says; fields that this version does not know are left in. Throws `MESSAGE_INVALID`. */
export function parseMessage(line: string): ServiceMessage {
  let fields: Fields;
  try {
    fields = objectOf(line);
  } catch (error) {
    throw new Ring3Error("MESSAGE_INVALID", "what the service says is no JSON object", { cause: error });
  }
  if (isNotice(fields) || isAnswer(fields)) return fields as unknown as ServiceMessage;
  throw new Ring3Error(
    "MESSAGE_INVALID",
    "what the service says is neither an answer nor a notice; is this the users' socket of ring3d?",
  );
}

export function isNoticeMessage(message: ServiceMessage): message is Notice {
  return "notice" in message;
}

function isAnswer({ id, result, error }: Fields): boolean {
  if (error === undefined) return count(id) && isObject(result);
  return (
    (id === null || count(id)) &&
    isObject(error) &&
    typeof error["code"] === "string" &&
    typeof error["message"] === "string"
  );
}

function isNotice({
  notice,
  kind,
  function: fn,
  description,
  answers: choices,
  replyWithinMs,
  graceMs,
}: Fields): boolean {
  const time = (value: unknown): boolean => value === undefined || count(value);
  return (
    count(notice) &&
    oneOf(NOTICE_KINDS)(kind) &&
    typeof fn === "string" &&
    typeof description === "string" &&
    (choices === undefined || (Array.isArray(choices) && choices.every(oneOf(answers)))) &&
    time(replyWithinMs) &&
    time(graceMs)
  );
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function objectOf(line: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new Ring3Error("REQUEST_INVALID", "a request is one JSON object on one line", { cause: error });
  }
  if (!isObject(value)) throw invalid("a request is one JSON object on one line");
  return value;
}

function invalid(what: string): Ring3Error {
  return new Ring3Error("REQUEST_INVALID", what);
}
