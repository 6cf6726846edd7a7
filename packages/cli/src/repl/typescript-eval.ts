// node:repl with TypeScript: types are stripped, then Node's own evaluator does the rest, top-level await included. Hard
// part: input that is not finished yet must not look like a mistake, also where it has types.
import type { EventEmitter } from "node:events";
import { stripTypeScriptTypes } from "node:module";
import { Recoverable, type REPLEval, type REPLServer } from "node:repl";

/** What the stripper says of input that goes on. */
const UNFINISHED = /<eof>|unexpected eof|unterminated (?:template|block comment)/i;

/** Lets `server` take TypeScript, and gives each error that is one to `report` instead of Node's own text. */
export function evaluateTypeScript(server: REPLServer, report: (error: unknown) => void): void {
  silently(() => stripTypeScriptTypes(""));
  const plain: REPLEval = server.eval;
  const typed: REPLEval = function (code, context, file, callback) {
    const done = (error: Error | null, result: unknown): void => {
      if (error === null || error instanceof Recoverable) return callback(error, result);
      report(error);
      callback(null, undefined);
    };
    const { javaScript, unfinished } = strip(code);
    if (unfinished === undefined) return plain.call(this, javaScript, context, file, done);
    // As JavaScript it may be whole: an object literal, which the stripper takes for a block.
    plain.call(this, code, context, file, (error, result) => {
      if (error instanceof SyntaxError) callback(new Recoverable(unfinished), undefined);
      else done(error, result);
    });
  };
  Object.assign(server, { eval: typed });
  // What is thrown while code runs, or later by what it began, reaches the server's domain and not the callback.
  const inner = server as REPLServer & { readonly _domain?: EventEmitter; readonly closed: boolean };
  const { _domain: domain } = inner;
  domain?.removeAllListeners("error");
  domain?.on("error", (error: unknown) => {
    report(error);
    if (inner.closed) return;
    server.clearBufferedCommand();
    server.displayPrompt();
  });
}

function strip(code: string): { readonly javaScript: string; readonly unfinished?: Error } {
  try {
    return { javaScript: stripTypeScriptTypes(code) };
  } catch (error) {
    if (error instanceof Error && UNFINISHED.test(error.message)) return { javaScript: code, unfinished: error };
    // Node says what is wrong with it, or knows better: an object literal, for one.
    return { javaScript: code };
  }
}

/** Node calls the stripper experimental at its first use; that is nothing that its user could mend. */
function silently(action: () => void): void {
  const former = Object.getOwnPropertyDescriptor(process, "emitWarning");
  process.emitWarning = () => undefined;
  try {
    action();
  } finally {
    if (former !== undefined) Object.defineProperty(process, "emitWarning", former);
  }
}
