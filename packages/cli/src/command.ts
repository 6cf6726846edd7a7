// How a command is declared: once, as data, from which come its parsing, its help and its place in the table.
// Declarations are light; what a command needs to work it imports when it runs.
import type { Context } from "./context.ts";

/** An option of a command. */
export type OptionDeclaration = { readonly description: string; readonly short?: string } & (
  | { readonly kind: "flag" }
  | { readonly kind: "text"; readonly value: string }
  /** Text that may be given several times. */
  | { readonly kind: "texts"; readonly value: string }
  | { readonly kind: "choice"; readonly choices: readonly string[]; readonly initial?: string }
  | ({ readonly kind: "integer"; readonly initial?: bigint } & IntegerBounds)
  /** An integer that may be given several times. */
  | ({ readonly kind: "integers" } & IntegerBounds)
);
/** An integer is decimal, `0x` hexadecimal, or has the suffix K, M, G or T (powers of 1024). */
export interface IntegerBounds {
  readonly value: string;
  readonly minimum?: bigint;
  readonly maximum?: bigint;
}
export type OptionDeclarations = Readonly<Record<string, OptionDeclaration>>;

/** An argument by position. */
export interface OperandDeclaration {
  /** In capitals, as the help shows it. */
  readonly name: string;
  readonly description: string;
  /** One or more; only for the last. */
  readonly variadic?: boolean;
  /** May be left out. */
  readonly optional?: boolean;
  /** The only words that it may be. */
  readonly choices?: readonly string[];
}

type OptionValue<D extends OptionDeclaration> = D extends { kind: "flag" }
  ? boolean
  : D extends { kind: "texts" }
    ? readonly string[]
    : D extends { kind: "integers" }
      ? readonly bigint[]
      : SingleValue<D>;
type SingleValue<D extends OptionDeclaration> = D extends { kind: "integer"; initial: bigint }
  ? bigint
  : D extends { kind: "integer" }
    ? bigint | undefined
    : D extends { kind: "choice"; initial: string }
      ? string
      : string | undefined;

/** What a command gets from its command line. */
export interface Input<O extends OptionDeclarations = OptionDeclarations> {
  readonly operands: readonly string[];
  readonly options: { readonly [K in keyof O]: OptionValue<O[K]> };
  /** Operands and options in the order in which they were written, for commands where it counts. */
  readonly order: readonly GivenWord[];
}

/** An operand (`option` is absent), or an option by its long name; flags have no value. */
export interface GivenWord {
  readonly option: string | undefined;
  readonly value: string | undefined;
}

interface Example {
  readonly command: string;
  readonly text: string;
}

export interface Command {
  readonly kind: "command";
  readonly summary: string;
  /** Further sentences for the help. */
  readonly description?: string;
  readonly operands: readonly OperandDeclaration[];
  readonly options: OptionDeclarations;
  readonly examples: readonly Example[];
  readonly run: (input: Input, context: Context) => Promise<void>;
}

/** A word that takes a further word, as in `ring3 nvme read`. */
export interface CommandGroup {
  readonly kind: "group";
  readonly summary: string;
  readonly commands: CommandTable;
  /** Takes words that are no command's name, as `ring3 serve ./device.ts` does; the word is its first operand. */
  readonly otherwise?: Otherwise;
}

export interface Otherwise {
  /** How the help calls such a word. */
  readonly name: string;
  readonly accepts: (word: string) => boolean;
  readonly load: () => Promise<Command>;
}

/** Commands by name, each loaded when it is needed. */
export type CommandTable = Readonly<Record<string, () => Promise<Command | CommandGroup>>>;

/** Declares a command; its `run` sees each option by its kind. */
export function command<const O extends OptionDeclarations>(
  declaration: Omit<Command, "kind" | "options" | "run"> & {
    readonly options: O;
    readonly run: (input: Input<O>, context: Context) => Promise<void>;
  },
): Command {
  return { ...declaration, kind: "command", run: declaration.run as Command["run"] };
}

/** Declares a group of commands. */
export function commandGroup(summary: string, commands: CommandTable, otherwise?: Otherwise): CommandGroup {
  return { kind: "group", summary, commands, ...(otherwise === undefined ? {} : { otherwise }) };
}

/** Options that every command takes. */
export const GLOBAL_OPTIONS = {
  json: { kind: "flag", description: "print the result as JSON on stdout, and an error as JSON on stderr" },
  quiet: { kind: "flag", short: "q", description: "no progress and no remarks on stderr, only errors" },
  verbose: {
    kind: "flag",
    short: "v",
    description: "show on stderr what is done, call by call; and of an error its call, errno and causes",
  },
  root: { kind: "text", value: "DIR", description: "look at the machine whose file system lies below DIR" },
  help: { kind: "flag", short: "h", description: "show help" },
} as const;
