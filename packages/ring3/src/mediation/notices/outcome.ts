// What a notice came to, with the names of those who stood in its way.
import type { ErrorStage, ErrorVote } from "./kinds.ts";

/** Somebody at a socket, as the kernel says who it is. */
export interface NoticeUser {
  readonly pid: number;
  readonly uid: number;
}

/** One user of one function. */
export interface FunctionUser extends NoticeUser {
  readonly function: string;
}

export interface ErrorOutcome {
  readonly kind: ErrorStage;
  readonly function: string;
  /** What the votes come to; see `worstVote`. */
  readonly vote: ErrorVote;
  readonly votes: readonly (FunctionUser & { readonly vote: ErrorVote; readonly reason: string | undefined })[];
  /** Asked, and said nothing in time or hung up: they count as `none`. */
  readonly silent: readonly FunctionUser[];
  /** Have the function open and are not registered for this notice. */
  readonly unasked: readonly FunctionUser[];
}

/** Everybody consented, or one who refused, was silent or could not be asked was enough to end it. */
export interface SuspendOutcome {
  readonly kind: "suspend";
  readonly functions: readonly string[];
  readonly allowed: boolean;
  readonly consented: readonly FunctionUser[];
  readonly refused: readonly (FunctionUser & { readonly reason: string | undefined })[];
  readonly silent: readonly FunctionUser[];
  /** Have a function open and are not registered for this notice, or opened it while the others were asked. */
  readonly unasked: readonly FunctionUser[];
}

export interface RemovalOutcome {
  readonly kind: "remove";
  readonly function: string;
  /** Had it open still when the grace time was over. */
  readonly forced: readonly FunctionUser[];
}

export type NoticeOutcome = ErrorOutcome | SuspendOutcome | RemovalOutcome;

/** The outcome in words, for logs. */
export function outcomeText(outcome: NoticeOutcome): string {
  const parts: string[] = [];
  const add = (what: string, users: readonly (FunctionUser & { readonly reason?: string | undefined })[]): void => {
    if (users.length > 0) parts.push(`${what} ${users.map(userText).join(", ")}`);
  };
  if (outcome.kind === "remove") {
    add("taken by force:", outcome.forced);
    return parts[0] ?? "closed by all users";
  }
  if (outcome.kind === "suspend") {
    parts.push(outcome.allowed ? "allowed" : "vetoed");
    add("refused by", outcome.refused);
  } else {
    parts.push(outcome.vote);
    for (const vote of outcome.votes) parts.push(`${vote.vote} from ${userText(vote)}`);
  }
  add("no answer:", outcome.silent);
  add("not registered:", outcome.unasked);
  return parts.join("; ");
}

function userText(user: FunctionUser & { readonly reason?: string | undefined }): string {
  const reason = user.reason === undefined ? "" : ` (${user.reason})`;
  return `process ${user.pid} of uid ${user.uid} at ${user.function}${reason}`;
}
