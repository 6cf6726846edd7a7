// What a user of a function can be told, and what it can say to it: the notices of the 2010 meta-driver, whose error
// notices are the stages of the kernel's recovery from PCI errors (Documentation/PCI/pci-error-recovery.rst).

/** Error notices, each answered by a vote. */
export const ERROR_STAGES = ["error-detected", "mmio-enabled", "link-reset", "slot-reset"] as const;
export type ErrorStage = (typeof ERROR_STAGES)[number];

/**
 * `remove` is answered by closing the function, `suspend` by consent or refusal, an {@link ErrorStage} by a vote;
 * `error-resume` and `power-resume` by nothing.
 */
export const NOTICE_KINDS = [
  "remove",
  "error-detected",
  "mmio-enabled",
  "link-reset",
  "slot-reset",
  "error-resume",
  "suspend",
  "power-resume",
] as const;
export type NoticeKind = (typeof NOTICE_KINDS)[number];

/** How a user can go on after an error, the worst first. */
export const ERROR_VOTES = ["need-reset", "disconnect", "can-recover", "recovered", "none"] as const;
export type ErrorVote = (typeof ERROR_VOTES)[number];

export const SUSPEND_ANSWERS = ["consent", "refuse"] as const;
export type SuspendAnswer = (typeof SUSPEND_ANSWERS)[number];

/** What a user can reply. */
export type NoticeAnswer = ErrorVote | SuspendAnswer;

/**
 * What several votes come to. As in the kernel's `merge_result`, a reset is tried before a function is given up, and who
 * has no opinion does not count.
 */
export function worstVote(votes: Iterable<ErrorVote>): ErrorVote {
  let worst = ERROR_VOTES.length - 1;
  for (const vote of votes) worst = Math.min(worst, ERROR_VOTES.indexOf(vote));
  return ERROR_VOTES[worst] ?? "none";
}

/** The answers that a notice takes; none where it wants no reply. */
export function answersOf(kind: NoticeKind): readonly NoticeAnswer[] {
  if (kind === "suspend") return SUSPEND_ANSWERS;
  return ERROR_STAGES.some((stage) => stage === kind) ? ERROR_VOTES : [];
}
