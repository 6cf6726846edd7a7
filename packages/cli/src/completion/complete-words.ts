// What the last word of a command line may become, from the command table: names of commands, options and their values,
// arguments by the name of their declaration. Shells call it for each Tab, so nothing is loaded but what is asked for.
import type { Command, CommandGroup, CommandTable, OperandDeclaration, OptionDeclaration } from "../command.ts";
import { sharedOptions } from "../help.ts";
import type { CandidateSources } from "./candidates.ts";

/** A word to offer, and what it is for. A shell adds no blank where the word goes on: after `/`, `:`, `.` and `+`. */
export interface Candidate {
  readonly word: string;
  readonly text?: string | undefined;
}

/** Offers for the last of `words`, which stand behind the program's name. Unknown commands get none; it never throws. */
export async function completeWords(
  words: readonly string[],
  table: CommandTable,
  sources: CandidateSources,
): Promise<Candidate[]> {
  const current = words.at(-1) ?? "";
  const before = words.slice(0, -1);
  let commands = table;
  let otherwise: CommandGroup["otherwise"];
  for (let at = 0; ; at++) {
    const word = before[at];
    if (word === undefined) return await fitting(current, commandNames(commands, otherwise, current, sources));
    if (word.startsWith("-")) continue;
    const load = Object.hasOwn(commands, word) ? commands[word] : undefined;
    const found = load === undefined && otherwise?.accepts(word) === true ? await otherwise.load() : await load?.();
    if (found === undefined) return [];
    if (found.kind === "group") {
      ({ commands, otherwise } = found);
      continue;
    }
    const given = load === undefined ? before.slice(at) : before.slice(at + 1);
    return await fitting(current, commandWords(found, given, current, sources, table));
  }
}

async function commandNames(
  commands: CommandTable,
  otherwise: CommandGroup["otherwise"],
  current: string,
  sources: CandidateSources,
): Promise<Candidate[]> {
  if (current.startsWith("-")) return ["--help", "--version"].map((word) => ({ word }));
  const files = otherwise === undefined || current === "" ? [] : await sources.files(current);
  const names = Object.entries(commands).map(async ([word, load]) => ({ word, text: (await load()).summary }));
  return [...(await Promise.all(names)), ...files];
}

async function commandWords(
  command: Command,
  given: readonly string[],
  current: string,
  sources: CandidateSources,
  table: CommandTable,
): Promise<Candidate[]> {
  const options: Readonly<Record<string, OptionDeclaration>> = { ...sharedOptions(command), ...command.options };
  const operands: string[] = [];
  let onlyOperands = false;
  let waiting: OptionDeclaration | undefined;
  for (const word of given) {
    if (waiting !== undefined) waiting = undefined;
    else if (onlyOperands || !word.startsWith("-") || word === "-") operands.push(word);
    else if (word === "--") onlyOperands = true;
    else waiting = word.includes("=") ? undefined : takesValue(optionOf(options, word));
  }
  const context = { operands, table, sources };
  if (waiting !== undefined) return await optionValues(waiting, current, context);
  const [, name, value] = /^--([\w-]+)=(.*)$/.exec(current) ?? [];
  if (!onlyOperands && name !== undefined && value !== undefined) {
    const option = takesValue(options[name]);
    const values = option === undefined ? [] : await optionValues(option, value, context);
    return values.map(({ word, text }) => ({ word: `--${name}=${word}`, text }));
  }
  if (!onlyOperands && current.startsWith("-")) {
    return Object.entries(options)
      .filter(([option, { kind }]) => kind === "texts" || kind === "integers" || !given.includes(`--${option}`))
      .map(([option, { description }]) => ({ word: `--${option}`, text: description }));
  }
  const last = command.operands.at(-1);
  const operand = command.operands[operands.length] ?? (last?.variadic === true ? last : undefined);
  return operand === undefined ? [] : await operandWords(operand, current, context);
}

interface Given {
  /** Arguments before the word. */
  readonly operands: readonly string[];
  readonly table: CommandTable;
  readonly sources: CandidateSources;
}

function optionOf(options: Readonly<Record<string, OptionDeclaration>>, word: string): OptionDeclaration | undefined {
  if (word.startsWith("--")) return options[word.slice(2)];
  // Of letters in one word only the last can wait for a value.
  const letter = word.at(-1);
  return Object.values(options).find(({ short }) => short === letter);
}

function takesValue(option: OptionDeclaration | undefined): OptionDeclaration | undefined {
  return option?.kind === "flag" ? undefined : option;
}

async function optionValues(option: OptionDeclaration, current: string, { sources }: Given): Promise<Candidate[]> {
  if (option.kind === "choice") return option.choices.map((word) => ({ word }));
  const name = option.kind === "flag" ? "" : option.value;
  if (/ADDRESS|SLOT/.test(name)) return sources.addresses();
  if (/USER|OWNER/.test(name)) return sources.users();
  if (/DIR/.test(name)) return await sources.directories(current);
  return /FILE|PATH|SOCKET/.test(name) ? await sources.files(current) : [];
}

async function operandWords(
  { name, description, choices }: OperandDeclaration,
  current: string,
  { operands, table, sources }: Given,
): Promise<Candidate[]> {
  if (choices !== undefined) return choices.map((word) => ({ word }));
  const prefixed = ["vfio-user:", "dump:", "tree:"].filter((prefix) => description.includes(prefix));
  const prefix = prefixed.find((text) => current.startsWith(text));
  if (prefix !== undefined) {
    const files = await sources.files(current.slice(prefix.length));
    return files.map(({ word, text }) => ({ word: `${prefix}${word}`, text }));
  }
  const places = (): Candidate[] => [...sources.addresses(), ...prefixed.map((word) => ({ word }))];
  switch (name) {
    case "ADDRESS":
      return places();
    case "WORD":
      return operands.length === 0 ? places() : [...(await sources.registers(current)), ...places()];
    case "PLACE":
      return await sources.places(operands[0]);
    case "COMMAND": {
      const [first] = operands;
      const found = first === undefined ? undefined : await table[first]?.();
      const names =
        first === undefined ? Object.keys(table) : found?.kind === "group" ? Object.keys(found.commands) : [];
      return names.map((word) => ({ word }));
    }
    case "DIR":
      return await sources.directories(current);
    case "FILE":
    case "PATH":
    case "SOCKET":
      return await sources.files(current);
    default:
      return [];
  }
}

async function fitting(current: string, candidates: Promise<Candidate[]>): Promise<Candidate[]> {
  const lower = current.toLowerCase();
  const seen = new Set<string>();
  return (await candidates).filter(({ word }) => {
    if (!word.toLowerCase().startsWith(lower) || seen.has(word)) return false;
    seen.add(word);
    return true;
  });
}
