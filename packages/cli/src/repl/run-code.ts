// Code for `ring3 repl --eval` and from stdin: run as at the prompt, its values printed, the first error thrown.
import { PassThrough } from "node:stream";
import { start } from "node:repl";
import { inspect } from "node:util";
import type { Context } from "../context.ts";
import { evaluateTypeScript } from "./typescript-eval.ts";

export async function runCode(
  pieces: readonly string[],
  names: Readonly<Record<string, unknown>>,
  context: Context,
): Promise<void> {
  const server = start({
    prompt: "",
    input: new PassThrough(),
    output: new PassThrough(),
    terminal: false,
    useGlobal: true,
  });
  let fail: (error: unknown) => void = () => undefined;
  evaluateTypeScript(server, (error) => fail(error));
  const taken = takeNames(names);
  try {
    const values: unknown[] = [];
    for (const piece of pieces) {
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      fail = reject;
      server.eval(`${piece}\n`, server.context, "eval", (error, result: unknown) => {
        if (error === null) resolve(result);
        else reject("err" in error && error.err instanceof Error ? error.err : error);
      });
      const value = await keptAlive(context.unlessAborted(promise));
      values.push(value);
      if (!context.json && value !== undefined) {
        const colors = context.style.bold("") !== "";
        context.result(undefined, () => (typeof value === "string" ? value : inspect(value, { colors, depth: 4 })));
      }
    }
    if (context.json) context.result({ values }, () => "");
  } finally {
    taken[Symbol.dispose]();
    server.close();
  }
}

/** What an open function waits for keeps no process alive. */
async function keptAlive<T>(promise: Promise<T>): Promise<T> {
  const alive = setInterval(() => undefined, 60_000);
  try {
    return await promise;
  } finally {
    clearInterval(alive);
  }
}

/** Puts names among the globals; disposal puts back what was there. */
export function takeNames(names: Readonly<Record<string, unknown>>): Disposable {
  const former = Object.keys(names).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)] as const);
  for (const [name, value] of Object.entries(names)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, enumerable: true, writable: true });
  }
  return {
    [Symbol.dispose]: () => {
      for (const [name, descriptor] of former) {
        if (descriptor === undefined) delete (globalThis as Record<string, unknown>)[name];
        else Object.defineProperty(globalThis, name, descriptor);
      }
    },
  };
}
