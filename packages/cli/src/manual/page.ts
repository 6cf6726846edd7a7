// Manual pages from the command table: the same declarations that give help and parsing. A page is data; roff.ts and
// help's style make text of it.
import type { Command, CommandTable, Otherwise } from "../command.ts";
import { GLOBAL_OPTIONS } from "../command.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { groupSummary, optionRows, sentence, sharedOptions, usage } from "../help.ts";

/** A term and what it means, or an example's command and what it is for. */
type Row = readonly [term: string, text: string];
type Block =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "terms" | "examples"; readonly rows: readonly Row[] };

export interface ManualPage {
  /** `ring3`, `ring3-nvme-read`: also its file, with `.1` behind it. */
  readonly name: string;
  readonly summary: string;
  readonly sections: readonly { readonly heading: string; readonly blocks: readonly Block[] }[];
}

const ENVIRONMENT: readonly Row[] = [
  ["NO_COLOR", "set to anything: no colours, also on a terminal. There are none elsewhere."],
  ["RING3_DEBUG", "set to anything: an error shows where in the program it came from."],
  ["SUDO_UID", "who called sudo: ring3 bind hands functions over to that user."],
  ["XDG_CACHE_HOME", "where compiled code is kept, in ring3/; ~/.cache by default."],
  ["XDG_STATE_HOME", "where ring3 repl keeps its history, in ring3/; ~/.local/state by default."],
];
const FILES: readonly Row[] = [
  ["/run/ring3", "what ring3 bind changed and ring3 unbind will put back."],
  ["/usr/share/misc/pci.ids", "names of vendors, devices and classes."],
];

/** The pages of `ring3` and of everything in `table`. */
export async function manualPages(table: CommandTable, summary: string): Promise<ManualPage[]> {
  return await tablePages("ring3", table, summary, undefined);
}

async function tablePages(
  path: string,
  table: CommandTable,
  summary: string,
  otherwise: Otherwise | undefined,
): Promise<ManualPage[]> {
  const rows: Row[] = [];
  const pages: ManualPage[] = [];
  for (const [name, load] of Object.entries(table)) {
    const found = await load();
    rows.push([name, upper(found.summary)]);
    const below = `${path} ${name}`;
    if (found.kind === "command") pages.push(commandPage(below, found));
    else pages.push(...(await tablePages(below, found.commands, groupSummary(found), found.otherwise)));
  }
  const other = await otherwise?.load();
  if (other !== undefined) rows.push([otherwise?.name ?? "", upper(other.summary)]);
  const own: ManualPage = {
    name: pageName(path),
    summary,
    sections: [
      section("SYNOPSIS", { kind: "text", text: `${path} COMMAND [ARGUMENT...] [OPTION...]` }),
      section("COMMANDS", { kind: "terms", rows }),
      ...(other === undefined ? [] : [section("OPTIONS", { kind: "terms", rows: optionRows(other.options) })]),
      section("OPTIONS OF EVERY COMMAND", { kind: "terms", rows: optionRows(GLOBAL_OPTIONS) }),
      ...closing(Object.keys(table).map((name) => `${path} ${name}`)),
    ],
  };
  return [own, ...pages];
}

function commandPage(path: string, command: Command): ManualPage {
  const { operands, options, examples } = command;
  const described = operands.map(({ name, description }): Row => [name, upper(description)]);
  return {
    name: pageName(path),
    summary: command.summary,
    sections: [
      section("SYNOPSIS", { kind: "text", text: usage(path, command) }),
      section("DESCRIPTION", { kind: "text", text: sentence(command) }),
      ...(described.length === 0 ? [] : [section("ARGUMENTS", { kind: "terms", rows: described })]),
      ...(Object.keys(options).length === 0 ? [] : [section("OPTIONS", { kind: "terms", rows: optionRows(options) })]),
      section("OPTIONS OF EVERY COMMAND", { kind: "terms", rows: optionRows(sharedOptions(command)) }),
      section("EXAMPLES", {
        kind: "examples",
        rows: examples.map(({ command: line, text }): Row => [line, upper(text)]),
      }),
      ...closing([path.split(" ").slice(0, -1).join(" ")]),
    ],
  };
}

function closing(others: readonly string[]): ManualPage["sections"] {
  return [
    section("EXIT STATUS", { kind: "terms", rows: EXIT_CODES.map(([code, meaning]): Row => [code, upper(meaning)]) }),
    section("ENVIRONMENT", { kind: "terms", rows: ENVIRONMENT }),
    section("FILES", { kind: "terms", rows: FILES }),
    section("SEE ALSO", { kind: "text", text: others.map((path) => `${pageName(path)}(1)`).join(", ") }),
  ];
}

function section(heading: string, ...blocks: Block[]): ManualPage["sections"][number] {
  return { heading, blocks };
}

function pageName(path: string): string {
  return path.replaceAll(" ", "-");
}

function upper(text: string): string {
  const sentence_ = `${text[0]?.toUpperCase() ?? ""}${text.slice(1)}`;
  return /[.!?)]$/.test(sentence_) ? sentence_ : `${sentence_}.`;
}
