/** The command line is wrong: exit status 2, and the message says what to write instead. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly code = "USAGE";
}
