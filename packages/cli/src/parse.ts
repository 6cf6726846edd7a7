// From the words of a command line to the typed input of a command. Every mistake is a UsageError that says what to write.
import { parseArgs } from "node:util";
import type { Command, GivenWord, Input, IntegerBounds, OptionDeclaration, OptionDeclarations } from "./command.ts";
import { GLOBAL_OPTIONS } from "./command.ts";
import { UsageError } from "./usage-error.ts";

type Value = string | boolean | bigint | readonly string[] | readonly bigint[] | undefined;
type Given = string | boolean | readonly string[] | undefined;

export interface ParsedCommand {
  readonly input: Input;
  readonly global: Input<typeof GLOBAL_OPTIONS>["options"];
}

/** Parses what follows the command's name. `--help` is noticed before anything else is checked. */
export function parseCommand(declared: Command, words: readonly string[]): ParsedCommand {
  const all: OptionDeclarations = { ...GLOBAL_OPTIONS, ...declared.options };
  const { values, positionals, order } = parseWords(all, words);
  const read = (names: OptionDeclarations): Record<string, Value> => {
    return Object.fromEntries(
      Object.entries(names).map(([name, option]) => [name, valueOf(name, option, values[name])]),
    );
  };
  const global = read(GLOBAL_OPTIONS) as ParsedCommand["global"];
  if (global.help) return { input: { operands: [], options: {}, order }, global };
  checkOperands(declared, positionals);
  return { input: { operands: positionals, options: read(declared.options), order }, global };
}

function parseWords(
  options: OptionDeclarations,
  words: readonly string[],
): { values: Record<string, Given>; positionals: string[]; order: GivenWord[] } {
  const entries = Object.entries(options).map(([name, { kind, short }]) => {
    const type: "boolean" | "string" = kind === "flag" ? "boolean" : "string";
    const multiple = kind === "texts" || kind === "integers";
    return [name, { type, multiple, ...(short === undefined ? {} : { short }) }] as const;
  });
  try {
    const { values, positionals, tokens } = parseArgs({
      args: [...words],
      options: Object.fromEntries(entries),
      allowPositionals: true,
      strict: true,
      tokens: true,
    });
    const order = tokens.flatMap((token): GivenWord[] => {
      if (token.kind === "positional") return [{ option: undefined, value: token.value }];
      return token.kind === "option" ? [{ option: token.name, value: token.value }] : [];
    });
    return { values: values as Record<string, Given>, positionals, order };
  } catch (error) {
    throw new UsageError(explain(error, options), { cause: error });
  }
}

/** Node's message names the option; what helps is the one that was meant. */
function explain(error: unknown, options: OptionDeclarations): string {
  const message = error instanceof Error ? error.message : String(error);
  const unknown = /^Unknown option '(-[^']+)'/.exec(message)?.[1];
  if (unknown === undefined) return message.split(". To specify")[0] ?? message;
  const near = nearest(unknown.replace(/^-+/, ""), Object.keys(options));
  return `unknown option ${unknown}${near === undefined ? "" : `; did you mean --${near}?`}`;
}

function valueOf(name: string, option: OptionDeclaration, given: Given): Value {
  if (option.kind === "flag") return given === true;
  if (option.kind === "text") return given;
  if (option.kind === "texts") return listed(given);
  if (option.kind === "integers") return listed(given).map((text) => integerOf(name, option, text));
  if (given === undefined) return option.initial;
  const text = String(given);
  if (option.kind === "integer") return integerOf(name, option, text);
  if (option.choices.includes(text)) return text;
  throw new UsageError(`--${name} takes one of ${option.choices.join(", ")}, not "${text}"`);
}

function listed(given: Given): readonly string[] {
  return given === undefined ? [] : (given as readonly string[]);
}

function integerOf(name: string, { minimum = 0n, maximum = 2n ** 64n - 1n }: IntegerBounds, text: string): bigint {
  const value = parseInteger(text);
  if (value !== undefined && value >= minimum && value <= maximum) return value;
  throw new UsageError(`--${name} takes an integer from ${minimum} to ${maximum}, not "${text}"`);
}

/** `4096`, `0x1000` and `4K` are the same; `undefined` for anything else. */
export function parseInteger(text: string): bigint | undefined {
  const [, digits, suffix = ""] = /^(0x[0-9a-f]+|\d+)([kmgt]?)$/i.exec(text) ?? [];
  if (digits === undefined) return undefined;
  const shift = { "": 0n, k: 10n, m: 20n, g: 30n, t: 40n }[suffix.toLowerCase()] ?? 0n;
  return BigInt(digits) << shift;
}

function checkOperands({ operands }: Command, given: readonly string[]): void {
  const required = operands.filter(({ optional }) => optional !== true);
  const missing = required[given.length];
  if (missing !== undefined) throw new UsageError(`${missing.name} is missing: ${missing.description}`);
  const extra = given[operands.length];
  for (const [index, { name, choices }] of operands.entries()) {
    const word = given[index];
    if (word !== undefined && choices !== undefined && !choices.includes(word))
      throw new UsageError(`${name} is one of ${choices.join(", ")}, not "${word}"`);
  }
  if (extra !== undefined && operands.at(-1)?.variadic !== true)
    throw new UsageError(`"${extra}" is one argument too many`);
}

/** The candidate that a mistyped word most likely means, if any is near. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const scored = candidates.map((name) => ({ name, distance: name.startsWith(word) ? 1 : editDistance(word, name) }));
  const best = scored.toSorted((a, b) => a.distance - b.distance)[0];
  return best !== undefined && best.distance <= Math.max(1, Math.floor(word.length / 3)) ? best.name : undefined;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replace, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
