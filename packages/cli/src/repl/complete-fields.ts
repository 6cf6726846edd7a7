// Completion within PM.PMCSR.write({ POW: the fields of the register. Everything else Node completes by the names' values.
import type { REPLServer } from "node:repl";
import type { NamedRegister } from "./register-names.ts";

const WRITING = /\b(\w+)\.(\w+)\.write\(\s*\{(?:[^{}]*,)?\s*(\w*)$/;

/** The fields that a line may go on with, and what of it they stand for; `undefined` where it is about something else. */
export function fieldsFor(line: string, names: Readonly<Record<string, unknown>>): [string[], string] | undefined {
  const [, group = "", name = "", typed = ""] = WRITING.exec(line) ?? [];
  const registers = Object.hasOwn(names, group) ? (names[group] as Readonly<Record<string, NamedRegister>>) : undefined;
  const register = registers !== undefined && Object.hasOwn(registers, name) ? registers[name] : undefined;
  if (register?.fields === undefined) return undefined;
  const fields = register.fields.filter((field) => field.toLowerCase().startsWith(typed.toLowerCase()));
  return [fields.map((field) => `${field}: `), typed];
}

export function completeFields(server: REPLServer, names: Readonly<Record<string, unknown>>): void {
  const plain = server.completer;
  const completer: typeof plain = (
    line: string,
    callback: (error?: Error | null, found?: [string[], string]) => void,
  ) => {
    const found = fieldsFor(line, names);
    if (found === undefined) plain.call(server, line, callback);
    else callback(null, found);
  };
  Object.assign(server, { completer });
}
