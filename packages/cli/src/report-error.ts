// One message for any error: a sentence with the fix for people, the same as JSON for programs, and the exit status.
import type { Surroundings } from "./context.ts";
import { exitCodeOf } from "./exit-codes.ts";
import { Interruption } from "./interruption.ts";
import { styleFor, toJson } from "./text.ts";

/** Prints `error` to stderr and returns the exit status that it means. */
export function reportError(error: unknown, surroundings: Surroundings, json: boolean): number {
  const interruption = interruptionOf(error, surroundings.signal);
  // What was cut off and failed on its way out is a failure, even where nobody reads any more.
  if (error === interruption && interruption?.exitCode === 0) return 0;
  const { code, errno, call } = parts(error);
  const message = error instanceof Error ? error.message : String(error);
  const exitCode = interruption?.exitCode || exitCodeOf(code, errno);
  const { stderr, environment } = surroundings;
  if (json) {
    stderr.write(`${toJson({ error: { code: code ?? "INTERNAL", message, errno, call, exitCode } })}\n`);
  } else {
    stderr.write(`${styleFor(stderr.isTTY === true, environment).red("ring3:")} ${message}\n`);
    if (code === "USAGE") stderr.write("ring3 --help lists the commands; with --help each explains itself\n");
  }
  // An error without a code is our mistake or Node's: its place helps, but only whoever asks for it.
  if (environment["RING3_DEBUG"] !== undefined && error instanceof Error) stderr.write(`${error.stack}\n`);
  return exitCode;
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
