// One message for any error: a sentence with the fix for people, the same as JSON for programs, and the exit status.
import type { Surroundings } from "./context.ts";
import { exitCodeOf } from "./exit-codes.ts";
import { Interruption } from "./interruption.ts";
import { styleFor, toJson } from "./text.ts";

/** Prints `error` to stderr and returns the exit status that it means; `verbose` adds call, errno and causes. */
export function reportError(
  error: unknown,
  surroundings: Surroundings,
  { json, verbose }: { readonly json: boolean; readonly verbose: boolean },
): number {
  const interruption = interruptionOf(error, surroundings.signal);
  // What was cut off and failed on its way out is a failure, even where nobody reads any more.
  if (error === interruption && interruption?.exitCode === 0) return 0;
  const { code, errno, call } = parts(error);
  const message = error instanceof Error ? error.message : String(error);
  const exitCode = interruption?.exitCode || exitCodeOf(code, errno);
  const { stderr, environment } = surroundings;
  if (json) {
    const causes = verbose ? { causes: causesOf(error).map((cause) => cause.message) } : {};
    stderr.write(`${toJson({ error: { code: code ?? "INTERNAL", message, errno, call, exitCode, ...causes } })}\n`);
  } else {
    stderr.write(`${styleFor(stderr.isTTY === true, environment).red("ring3:")} ${message}\n`);
    if (code === "USAGE") stderr.write("ring3 --help lists the commands; with --help each explains itself\n");
    if (verbose) stderr.write(details(error, exitCode));
  }
  // An error without a code is our mistake or Node's: its place helps, but only whoever asks for it.
  if (environment["RING3_DEBUG"] !== undefined && error instanceof Error) stderr.write(`${error.stack}\n`);
  return exitCode;
}

/** Lines with what the message does not say. */
function details(error: unknown, exitCode: number): string {
  const { code, errno, call } = parts(error);
  const rows: [name: string, value: string | undefined][] = [
    ["code", code],
    ["call", call],
    ["errno", errno],
    ["exit status", String(exitCode)],
    ...causesOf(error).map((cause): [string, string] => ["caused by", cause.message]),
  ];
  return rows.flatMap(([name, value]) => (value === undefined ? [] : [`  ${name}: ${value}\n`])).join("");
}

/** What led to the error, nearest first; a chain that leads back to itself ends. */
function causesOf(error: unknown): Error[] {
  const causes: Error[] = [];
  let cause = error instanceof Error ? error.cause : undefined;
  while (cause instanceof Error && cause !== error && !causes.includes(cause)) {
    causes.push(cause);
    cause = cause.cause;
  }
  return causes;
}

function interruptionOf(error: unknown, signal: AbortSignal): Interruption | undefined {
  if (error instanceof Interruption) return error;
  // Work that was cut off may fail in its own words.
  if (!signal.aborted || !(signal.reason instanceof Interruption)) return undefined;
  return signal.reason;
}

function parts(error: unknown): { code?: string; errno?: string; call?: string } {
  if (typeof error !== "object" || error === null) return {};
  const { code, errno, call } = error as Record<string, unknown>;
  // Node's own errors put the errno's name into `code`.
  const system = typeof code === "string" && /^E[A-Z0-9]+$/.test(code);
  return {
    ...(typeof code === "string" ? { code } : {}),
    ...(typeof errno === "string" ? { errno } : system ? { errno: code } : {}),
    ...(typeof call === "string" ? { call } : {}),
  };
}
