// ring3 lspci: the options of lspci with its text, from every access method; and the same as JSON.
import type { LspciOptions } from "ring3/lspci";
import { ACCESS_OPTIONS, accessFunctions, SOURCE_OPERAND } from "../access-functions.ts";
import { type Command, command, type GivenWord } from "../command.ts";
import type { Context } from "../context.ts";
import { UsageError } from "../usage-error.ts";

export const lspciCommand: Command = command({
  summary: "list functions as lspci does, byte for byte, or as JSON",
  description:
    "Prints what lspci of pciutils 3.15 prints for the same options and the same function, also for functions that only " +
    "VFIO, a socket or a dump reaches. --json has every decoded register by its name in the specification.",
  operands: [SOURCE_OPERAND],
  options: {
    verbose: { kind: "flag", short: "v", description: "show details; -vv shows registers, -vvv everything" },
    numeric: { kind: "flag", short: "n", description: "show ids instead of names; -nn shows both" },
    kernel: { kind: "flag", short: "k", description: "show the kernel's driver and modules" },
    domains: { kind: "flag", short: "D", description: "always show domains" },
    path: { kind: "flag", short: "P", description: "show the way through the bridges; -PP with bus numbers" },
    tree: { kind: "flag", short: "t", description: "show the tree of buses" },
    slot: {
      kind: "text",
      short: "s",
      value: "SLOT",
      description: "only functions at [[[DOMAIN:]BUS:][DEVICE][.[FUNCTION]]",
    },
    device: {
      kind: "text",
      short: "d",
      value: "IDS",
      description: "only functions with [VENDOR]:[DEVICE][:CLASS[:PROG-IF]]; x in a class stands for any digit",
    },
    file: { kind: "text", short: "F", value: "FILE", description: "read a dump that lspci -x wrote" },
    hex: { kind: "flag", short: "x", description: "show the header as bytes; -xxx 256 bytes, -xxxx all" },
    machine: { kind: "flag", short: "m", description: "for programs; -mm is the newer form" },
    ids: { kind: "text", short: "i", value: "FILE", description: "take names from FILE instead of pci.ids" },
    "bus-centric": { kind: "flag", short: "b", description: "addresses and interrupts as the bus sees them" },
    schema: { kind: "flag", description: "print the JSON Schema of --json and exit" },
    ...ACCESS_OPTIONS,
  },
  examples: [
    { command: "ring3 lspci -nnk", text: "names, ids and drivers" },
    { command: "sudo ring3 lspci -vvv -s 01:00.0", text: "everything about one function" },
    { command: "ring3 lspci -tv", text: "the tree of buses" },
    { command: "ring3 lspci -F machine.txt -vvv", text: "of a machine that is elsewhere" },
    {
      command: "ring3 lspci --json | jq '.functions[].capabilities[] | {name, offset}'",
      text: "registers and fields for a script",
    },
  ],
  run: async ({ operands, options, order }, context) => {
    const { FilterError, LSPCI_JSON_SCHEMA, LspciFilter } = await import("ring3/lspci");
    if (options.schema) {
      context.streams.stdout.write(`${JSON.stringify(LSPCI_JSON_SCHEMA, undefined, 2)}\n`);
      return;
    }
    if (options.file !== undefined && operands.length > 0) {
      throw new UsageError("-F reads functions from a dump: leave the addresses out, or choose among them with -s");
    }
    let filter: InstanceType<typeof LspciFilter>;
    try {
      filter = LspciFilter.parse({ slot: options.slot, ids: options.device });
    } catch (error) {
      throw error instanceof FilterError ? new UsageError(error.message, { cause: error }) : error;
    }
    const times = (name: string): number => order.filter(({ option }: GivenWord) => option === name).length;
    const sources = options.file === undefined ? operands : [`dump:${options.file}`];
    await using accessed = await accessFunctions(sources, options, context);
    const { readNames } = await import("./lspci/name-list.ts");
    const { moduleFinder } = await import("./lspci/kernel-modules.ts");
    const shared: LspciOptions = {
      verbose: Math.min(3, times("verbose")),
      numeric: Math.min(2, times("numeric")) as 0 | 1 | 2,
      kernel: options.kernel,
      domains: options.domains,
      path: times("path"),
      tree: options.tree,
      hex: times("hex"),
      machine: times("machine"),
      busCentric: options["bus-centric"],
      filter: options.slot === undefined && options.device === undefined ? undefined : filter,
      ids: readNames(options.ids, context.json ? "utf8" : "latin1"),
      modules: moduleFinder(context.root),
    };
    if (context.json) await printJson(accessed.functions, shared, context);
    else await printText(accessed.functions, shared, context);
  },
});

type Functions = Parameters<typeof import("ring3/lspci").lspci>[0];

/** Bytes go through as they are: names come as latin1 and leave so. */
async function printText(functions: Functions, options: LspciOptions, context: Context): Promise<void> {
  const { lspci } = await import("ring3/lspci");
  const texts: string[] = [];
  try {
    lspci(functions, options, (text) => texts.push(text));
  } finally {
    context.progress.clear();
    await context.write(Buffer.from(texts.join(""), "latin1"));
  }
}

async function printJson(functions: Functions, options: LspciOptions, context: Context): Promise<void> {
  const { describeFunction, IdNames, LSPCI_SCHEMA_VERSION, LspciFunction } = await import("ring3/lspci");
  const { PciAddress } = await import("ring3/pci");
  const names = new IdNames(options.ids, 0);
  const shown = functions
    .filter((fn) => options.filter?.matches(new LspciFunction(fn)) ?? true)
    .toSorted((a, b) => PciAddress.compare(a.address, b.address));
  const described = shown.map((fn) => {
    const { modalias } = fn.facts;
    return describeFunction(fn, { names, modules: modalias === undefined ? [] : (options.modules?.(modalias) ?? []) });
  });
  context.result({ schemaVersion: LSPCI_SCHEMA_VERSION, functions: described }, () => "");
}
