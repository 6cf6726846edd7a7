// The prompt of `ring3 repl`: node:repl with TypeScript, our errors, completion of fields, and a history.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type REPLServer, start } from "node:repl";
import type { PciFunction } from "ring3";
import type { Context } from "../context.ts";
import { columns } from "../text.ts";
import { completeFields } from "./complete-fields.ts";
import { takeNames } from "./run-code.ts";
import { evaluateTypeScript } from "./typescript-eval.ts";

export interface PromptRequest {
  readonly fn: PciFunction;
  readonly names: Readonly<Record<string, unknown>>;
  readonly help: readonly (readonly [string, string])[];
  readonly history: boolean;
}

/** Ends with Ctrl-D, `.exit`, a signal, or when the function is taken away. */
export async function prompt({ fn, names, help, history }: PromptRequest, context: Context): Promise<void> {
  const { streams, environment, signal, style } = context;
  const listing = `${columns(
    help.map(([name, text]) => [style.bold(name), text]),
    { indent: 2 },
  )}\n`;
  streams.stdout.write(
    `${style.bold(fn.identity.address)} through ${fn.identity.backend}; .names lists what is here\n`,
  );
  const server = start({
    prompt: "ring3> ",
    input: streams.stdin,
    output: streams.stdout,
    useColors: style.bold("") !== "",
    useGlobal: true,
    ignoreUndefined: true,
    // A preview evaluates what is being typed, and a read of a register may act.
    preview: false,
  });
  using _taken = takeNames(names);
  evaluateTypeScript(server, (error) => {
    const message = error instanceof Error ? errorText(error) : `thrown: ${String(error)}`;
    streams.stdout.write(`${style.red("ring3:")} ${message}\n`);
  });
  completeFields(server, names);
  server.defineCommand("names", {
    help: "Show what is here by name",
    action() {
      streams.stdout.write(listing);
      this.displayPrompt();
    },
  });
  if (history) await keepHistory(server, environment);
  const gone = (): void => {
    streams.stdout.write(`\n${style.yellow("the function is gone")}\n`);
    server.close();
  };
  const close = (): void => server.close();
  fn.gone.addEventListener("abort", gone, { once: true });
  signal.addEventListener("abort", close, { once: true });
  await new Promise<void>((resolve) => server.once("exit", resolve));
  fn.gone.removeEventListener("abort", gone);
  signal.removeEventListener("abort", close);
}

/** Our errors are sentences; of others the name tells what kind of mistake it was. */
function errorText(error: Error): string {
  return error.name === "Ring3Error" ? error.message : `${error.name}: ${error.message}`;
}

async function keepHistory(server: REPLServer, environment: Context["environment"]): Promise<void> {
  const { XDG_STATE_HOME, HOME } = environment;
  const state = XDG_STATE_HOME || (HOME ? join(HOME, ".local/state") : undefined);
  if (state === undefined) return;
  try {
    mkdirSync(join(state, "ring3"), { recursive: true, mode: 0o700 });
  } catch {
    // A home that cannot be written to: there is no history then.
    return;
  }
  await new Promise<void>((resolve) => server.setupHistory(join(state, "ring3/repl_history"), () => resolve()));
}
