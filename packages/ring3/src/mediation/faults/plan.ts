// What is to go wrong, as plain data: kinds of faults, where and when. A plan comes from a file that people write, so every
// mistake is found before anything runs, and said with the place where it stands.
import { Ring3Error } from "../../binary/error.ts";

/** Which accesses: all of a BAR, a register by name, or a range. Without any of it, every BAR access. */
export interface FaultPlace {
  /** `bar` by default. */
  readonly space?: "bar" | "config";
  readonly bar?: number;
  /** A register by name; `*` stands for any characters. */
  readonly register?: string;
  readonly offset?: number;
  /** Bytes from `offset` on; 4 by default. */
  readonly size?: number;
  readonly op?: "read" | "write";
}

/** When, among the occasions that fit: the first one by default, and once. */
export interface FaultTiming {
  /** The first occasion that counts, from 1 on. */
  readonly at?: number;
  /** How many occasions from there on; 0 for all that come. */
  readonly times?: number;
  /** Each of these occasions only with this probability. */
  readonly probability?: number;
}

interface At extends FaultTiming {
  readonly where?: FaultPlace;
}

export type Fault =
  /** Reads give all ones. */
  | ({ readonly kind: "all-ones" } & At)
  /** Bits of what is read are always one, or always zero. */
  | ({ readonly kind: "stuck-bits"; readonly set?: number; readonly clear?: number } & At)
  /** Writes do not arrive. */
  | ({ readonly kind: "lost-write" } & At)
  /** Signals do not arrive. */
  | ({ readonly kind: "lost-interrupt"; readonly vector?: number } & FaultTiming)
  | ({ readonly kind: "late-interrupt"; readonly vector?: number; readonly delayMs: number } & FaultTiming)
  /** A signal that the device did not send comes after an access. */
  | ({ readonly kind: "spurious-interrupt"; readonly vector?: number } & At)
  /** An entry of a completion queue is wrong. Occasions are completions, of one queue or of all. */
  | ({
      readonly kind: "bad-completion";
      readonly field: "status" | "identifier" | "phase" | "queue" | "head";
      readonly queue?: number;
      /** What stands there; something impossible by default, and for the status an internal error (6). */
      readonly value?: number;
    } & FaultTiming)
  /** Bits of what the device writes to memory flip. Occasions are runs of bytes. */
  | ({
      readonly kind: "dma-corruption";
      /** The mapping, counted from 0 in the order in which they are made. */
      readonly map?: number;
      /** Runs of at least so many bytes. */
      readonly least?: number;
      /** How many bits; 1 by default. */
      readonly bits?: number;
    } & FaultTiming)
  /** Reads give ones and writes are lost for a time; then the function was reset, and says that it is back. */
  | ({ readonly kind: "link-down"; readonly forMs: number } & At)
  /** The function vanishes: reads give ones, and after `noticedMs` (0 by default) it is known to be gone. */
  | ({ readonly kind: "removal"; readonly noticedMs?: number } & At)
  /** The platform reports an error; a fatal one resets the function. It says that it is back after `recoverMs`. */
  | ({ readonly kind: "aer"; readonly severity?: "non-fatal" | "fatal"; readonly recoverMs?: number } & At);

export type FaultKind = Fault["kind"];

export interface FaultPlan {
  /** Of the random numbers; 1 by default. The same seed gives the same faults at the same occasions. */
  readonly seed?: number;
  readonly faults: readonly Fault[];
}

/** What is wrong with a plan, and where: keys and indexes from the top. */
export interface PlanProblem {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

type Check = (value: unknown) => string | undefined;

const whole =
  (least: number, most = Number.MAX_SAFE_INTEGER): Check =>
  (value) =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most
      ? undefined
      : `takes a whole number from ${least}${most === Number.MAX_SAFE_INTEGER ? "" : ` to ${most}`}`;
const word = whole(0, 0xffff_ffff);
const oneOf =
  (...choices: readonly string[]): Check =>
  (value) =>
    choices.includes(value as string) ? undefined : `takes one of ${choices.join(", ")}`;
const name: Check = (value) => (typeof value === "string" && value !== "" ? undefined : "takes a name");
const milliseconds: Check = (value) =>
  typeof value === "number" && value >= 0 && value <= 2 ** 31 - 1 ? undefined : "takes a time in milliseconds";
const probability: Check = (value) =>
  typeof value === "number" && value > 0 && value <= 1 ? undefined : "takes a number above 0, and 1 at most";

const timing = { at: whole(1), times: whole(0), probability } as const;
const place: Readonly<Record<string, Check>> = {
  space: oneOf("bar", "config"),
  bar: whole(0, 5),
  register: name,
  offset: whole(0),
  size: whole(1),
  op: oneOf("read", "write"),
};
const vector = whole(0, 2047);

interface KindSchema {
  readonly members: Readonly<Record<string, Check>>;
  readonly required?: readonly string[];
  /** Whether it has a `where`. */
  readonly placed: boolean;
}

const kinds: Readonly<Record<FaultKind, KindSchema>> = {
  "all-ones": { members: {}, placed: true },
  "stuck-bits": { members: { set: word, clear: word }, placed: true },
  "lost-write": { members: {}, placed: true },
  "lost-interrupt": { members: { vector }, placed: false },
  "late-interrupt": { members: { vector, delayMs: milliseconds }, required: ["delayMs"], placed: false },
  "spurious-interrupt": { members: { vector }, placed: true },
  "bad-completion": {
    members: {
      field: oneOf("status", "identifier", "phase", "queue", "head"),
      queue: whole(0, 65535),
      value: whole(0, 65535),
    },
    required: ["field"],
    placed: false,
  },
  "dma-corruption": { members: { map: whole(0), least: whole(1), bits: whole(1, 64) }, placed: false },
  "link-down": { members: { forMs: milliseconds }, required: ["forMs"], placed: true },
  removal: { members: { noticedMs: milliseconds }, placed: true },
  aer: { members: { severity: oneOf("non-fatal", "fatal"), recoverMs: milliseconds }, placed: true },
};

/** The kinds of faults there are. */
export const faultKinds: readonly FaultKind[] = Object.keys(kinds) as FaultKind[];

/** Everything that is wrong with `value` as a plan; nothing where it is one. */
export function faultPlanProblems(value: unknown): readonly PlanProblem[] {
  const problems: PlanProblem[] = [];
  if (!isRecord(value)) return [{ path: [], message: "a plan is a mapping with the key faults" }];
  for (const key of Object.keys(value)) {
    if (key !== "seed" && key !== "faults")
      problems.push({ path: [key], message: "a plan has seed and faults, not this" });
  }
  const { seed, faults } = value;
  const wrong = seed === undefined ? undefined : word(seed);
  if (wrong !== undefined) problems.push({ path: ["seed"], message: `seed ${wrong}` });
  if (!Array.isArray(faults)) {
    problems.push({ path: faults === undefined ? [] : ["faults"], message: "faults takes a list" });
  } else for (const [index, fault] of faults.entries()) problems.push(...faultProblems(fault, ["faults", index]));
  return problems;
}

/** `value` as a plan. Throws `FAULT_PLAN` with the first thing that is wrong and how many more there are. */
export function checkFaultPlan(value: unknown): FaultPlan {
  const [first, ...more] = faultPlanProblems(value);
  if (first === undefined) return value as FaultPlan;
  const where = first.path.length === 0 ? "the plan" : first.path.join(".");
  const others = more.length === 0 ? "" : ` (and ${more.length} more)`;
  throw new Ring3Error("FAULT_PLAN", `${where}: ${first.message}${others}`);
}

function faultProblems(fault: unknown, path: readonly (string | number)[]): PlanProblem[] {
  if (!isRecord(fault)) return [{ path, message: "a fault is a mapping with the key kind" }];
  const kind = fault["kind"];
  const schema = typeof kind === "string" && Object.hasOwn(kinds, kind) ? kinds[kind as FaultKind] : undefined;
  if (schema === undefined) {
    return [
      { path: kind === undefined ? path : [...path, "kind"], message: `kind takes one of ${faultKinds.join(", ")}` },
    ];
  }
  const members: Record<string, Check> = { kind: () => undefined, ...timing, ...schema.members };
  const problems = memberProblems(fault, { ...members, ...(schema.placed ? { where: () => undefined } : {}) }, path);
  for (const key of schema.required ?? []) {
    if (fault[key] === undefined) problems.push({ path, message: `${String(kind)} needs ${key}` });
  }
  if (kind === "stuck-bits" && fault["set"] === undefined && fault["clear"] === undefined) {
    problems.push({ path, message: "stuck-bits needs set or clear: a mask of the bits" });
  }
  const where = fault["where"];
  if (schema.placed && where !== undefined) {
    const at = [...path, "where"];
    if (!isRecord(where))
      problems.push({ path: at, message: "where is a mapping with bar, register, offset, size, op" });
    else {
      problems.push(...memberProblems(where, place, at));
      if (where["register"] !== undefined && where["offset"] !== undefined) {
        problems.push({ path: at, message: "a place is given by register or by offset, not by both" });
      }
    }
  }
  return problems;
}

function memberProblems(
  value: Readonly<Record<string, unknown>>,
  members: Readonly<Record<string, Check>>,
  path: readonly (string | number)[],
): PlanProblem[] {
  return Object.entries(value).flatMap(([key, member]): PlanProblem[] => {
    const check = Object.hasOwn(members, key) ? members[key] : undefined;
    if (check === undefined) {
      return [
        { path: [...path, key], message: `there is no ${key} here; there is ${Object.keys(members).join(", ")}` },
      ];
    }
    const wrong = check(member);
    return wrong === undefined ? [] : [{ path: [...path, key], message: `${key} ${wrong}, not ${shown(member)}` }];
  });
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 40 ? `${text.slice(0, 40)}...` : text;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
