// Help texts, made from the declarations.
import {
  type Command,
  type CommandGroup,
  type CommandTable,
  GLOBAL_OPTIONS,
  type OptionDeclaration,
  type OptionDeclarations,
  type Otherwise,
} from "./command.ts";
import { EXIT_CODES } from "./exit-codes.ts";
import { columns, type Style, wrap } from "./text.ts";

/** `path` is how the command is called: `ring3 nvme read`. */
export function commandHelp(path: string, command: Command, style: Style): string {
  const { operands, options, examples } = command;
  const sections = [`${style.bold("Usage:")} ${usage(path, command)}`, wrap(sentence(command), 100)];
  if (operands.length > 0) {
    sections.push(
      section(
        "Arguments",
        operands.map(({ name, description }) => [name, description]),
        style,
      ),
    );
  }
  if (Object.keys(options).length > 0) sections.push(section("Options", optionRows(options), style));
  sections.push(section("Options of every command", optionRows(sharedOptions(command)), style));
  const shown = examples.map(({ command: line, text }) => `  ${style.dim(`# ${text}`)}\n  ${line}`);
  sections.push([style.bold("Examples:"), ...shown].join("\n"));
  return `${sections.join("\n\n")}\n`;
}

/** The options of every command, without those that this one has in a meaning of its own. */
export function sharedOptions({ options }: Command): OptionDeclarations {
  return Object.fromEntries(Object.entries(GLOBAL_OPTIONS).filter(([name]) => !Object.hasOwn(options, name)));
}

/** Help for `ring3` itself and for words like `ring3 nvme`. */
export async function tableHelp(
  path: string,
  summary: string,
  table: CommandTable,
  otherwise: Otherwise | undefined,
  style: Style,
): Promise<string> {
  const rows: [string, string][] = [];
  for (const [name, load] of Object.entries(table)) rows.push([name, (await load()).summary]);
  if (otherwise !== undefined) rows.push([otherwise.name, (await otherwise.load()).summary]);
  const sections = [
    `${style.bold("Usage:")} ${path} COMMAND [ARGUMENT...] [OPTION...]`,
    wrap(summary, 100),
    section("Commands", rows, style),
    section("Options of every command", optionRows(GLOBAL_OPTIONS), style),
  ];
  if (path === "ring3") {
    const option: [string, string] = ["-V, --version", "print the version"];
    sections.push(section("Alone", [option], style), section("Exit status", EXIT_CODES, style));
  }
  sections.push(`${path} COMMAND --help shows a command's arguments, options and examples.`);
  return `${sections.join("\n\n")}\n`;
}

export function groupSummary(group: CommandGroup): string {
  return `${group.summary[0]?.toUpperCase() ?? ""}${group.summary.slice(1)}.`;
}

/** What a command does, as sentences. */
export function sentence({ summary, description }: Command): string {
  const first = `${summary[0]?.toUpperCase() ?? ""}${summary.slice(1)}.`;
  return description === undefined ? first : `${first} ${description}`;
}

/** How it is called, in one line. */
export function usage(path: string, { operands, options }: Command): string {
  const words = operands.map(({ name, variadic, optional }) => {
    const word = variadic === true ? `${name}...` : name;
    return optional === true ? `[${word}]` : word;
  });
  return [path, ...words, ...(Object.keys(options).length > 0 ? ["[OPTION...]"] : [])].join(" ");
}

/** Options as they are written, and what they do. */
export function optionRows(options: OptionDeclarations): [string, string][] {
  return Object.entries(options).map(([name, option]) => {
    const short = option.short === undefined ? "" : `-${option.short}, `;
    return [`${short}--${name}${placeholder(option)}`, `${option.description}${repeated(option)}${initial(option)}`];
  });
}

function placeholder(option: OptionDeclaration): string {
  if (option.kind === "flag") return "";
  return option.kind === "choice" ? ` ${option.choices.join("|")}` : ` ${option.value}`;
}

function repeated({ kind }: OptionDeclaration): string {
  return kind === "texts" || kind === "integers" ? " (may be repeated)" : "";
}

function initial(option: OptionDeclaration): string {
  return "initial" in option && option.initial !== undefined ? ` (default ${option.initial})` : "";
}

function section(title: string, rows: readonly (readonly [string, string])[], style: Style): string {
  return `${style.bold(`${title}:`)}\n${columns(rows, { indent: 2 })}`;
}
