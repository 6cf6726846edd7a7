// ring3 setpci: reads and writes config space in setpci's words, or by the names of the specification, over every access
// method. The order of the words counts: selectors begin a group, and the operations behind them are for what they select.
import type { AccessedFunction, FieldOperation, FieldOutcome, SetpciOperation, SetpciOutcome } from "ring3/pci";
import { ACCESS_OPTIONS, type Accessed, accessFunctions, isSource } from "../access-functions.ts";
import { type Command, command, type GivenWord } from "../command.ts";
import type { Context } from "../context.ts";
import { UsageError } from "../usage-error.ts";

export const setpci: Command = command({
  summary: "read and write config space, in setpci's words or by field names",
  description:
    "WORDS are selectors (an address, -s, -d), each followed by operations on what it selects: those of setpci " +
    "(BASE[+OFFSET][.B|.W|.L][@N][=VALUE[:MASK],...], hexadecimal), and registers and fields by the names of the " +
    "specification (GROUP.REGISTER.FIELD=VALUE, decimal or 0x; case and underscores do not count, beginnings are " +
    "enough). A field is changed alone: its neighbours keep their value, and bits that clear by writing one stay. " +
    "A function that has to be opened (VFIO, a socket) is reset when it is closed, so there a change lasts for the command.",
  operands: [
    {
      name: "WORD",
      description:
        "selects: 0000:01:00.0, 01:00.0, vfio-user:PATH, dump:FILE or tree:DIR; operates: COMMAND, 4.w, CAP_PM+4.w=3:3, " +
        "ECAP_AER+8.l, command.busMaster=1, PM.PMCSR.POWER_STATE",
      variadic: true,
      optional: true,
    },
  ],
  options: {
    slot: { kind: "texts", short: "s", value: "SLOT", description: "select by [[[domain]:]bus:][device][.[function]]" },
    id: { kind: "texts", short: "d", value: "ID", description: "select by [vendor]:[device][:class[:interface]]" },
    "dry-run": { kind: "flag", short: "D", description: "show what would change and write nothing" },
    force: { kind: "flag", short: "f", description: "do not complain where nothing is selected" },
    verbose: { kind: "flag", short: "v", description: "show each access" },
    raw: { kind: "flag", short: "r", description: "as in setpci: no scan of the bus (ring3 never needs one)" },
    dumpregs: { kind: "flag", description: "list the names of registers and capabilities" },
    ...ACCESS_OPTIONS,
  },
  examples: [
    { command: "ring3 setpci 01:00.0 COMMAND STATUS CAP_PM+4.w", text: "three registers, a line each" },
    { command: "sudo ring3 setpci -v -s 01:00.0 COMMAND=4:4", text: "bus master on, as setpci does it" },
    {
      command: "sudo ring3 setpci 01:00.0 express.deviceControl.maxReadRequest=4096",
      text: "a field by name, in bytes",
    },
    { command: "ring3 setpci vfio-user:/run/disk.sock PM.PMCSR.POWER_STATE", text: "a function that a socket serves" },
  ],
  run: async ({ options, order }, context) => {
    if (options.dumpregs) {
      const { formatRegisterNames, registerNames } = await import("ring3/pci");
      return context.result({ registers: registerNames }, formatRegisterNames);
    }
    const groups = await parseGroups(order, context);
    const results: Result[] = [];
    // A function stays open over all groups: closing resets it.
    await using opened = new AsyncDisposableStack();
    const known = new Map<string, Accessed>();
    for (const [index, group] of groups.entries()) {
      const key = group.sources.join("\n");
      const accessed = known.get(key) ?? opened.use(await accessFunctions(group.sources, options, context));
      known.set(key, accessed);
      const chosen = await select(accessed.functions, group);
      if (chosen.length === 0 && !options.force) warn(context, `operation group ${index + 1} selects no function`);
      for (const fn of chosen) {
        for (const operation of group.operations) {
          const result = await perform(fn, operation, options["dry-run"], context);
          results.push(result);
          // What was read stands on stdout even where a later operation fails.
          if (!context.json) context.result(undefined, () => textOf(result, options.verbose).join("\n"));
        }
      }
    }
    if (context.json) context.result({ dryRun: options["dry-run"], operations: results.map(toValue) }, () => "");
  },
});

type Operation = SetpciOperation | FieldOperation;

interface Group {
  /** What access methods take: addresses, sockets, dumps, trees; the machine where empty. */
  readonly sources: string[];
  slot: string | undefined;
  id: string | undefined;
  readonly operations: Operation[];
}

async function parseGroups(order: readonly GivenWord[], context: Context): Promise<Group[]> {
  const { parseSetpciWord, PciAddress } = await import("ring3/pci");
  const groups: Group[] = [];
  let container: string | undefined;
  const selecting = (): Group => {
    const last = groups.at(-1);
    if (last !== undefined && last.operations.length === 0) return last;
    const group: Group = { sources: [], slot: undefined, id: undefined, operations: [] };
    groups.push(group);
    return group;
  };
  for (const { option, value = "" } of order) {
    if (option === "slot" || option === "id") {
      const group = selecting();
      const name = option === "slot" ? "-s" : "-d";
      if (group[option] !== undefined)
        warn(context, `several ${name} options select for one group; the last one counts`);
      group[option] = value.replace(/^=/, "");
      // A dump or a tree that was named before holds until another one is.
      if (group.sources.length === 0 && container !== undefined) group.sources.push(container);
    } else if (option === undefined && isSource(value, PciAddress.accepts(value))) {
      if (!PciAddress.accepts(value)) container = value.startsWith("vfio-user:") ? undefined : value;
      selecting().sources.push(value);
    } else if (option === undefined) {
      const group = groups.at(-1);
      if (group === undefined) {
        throw new UsageError(`"${value}" operates on nothing yet: select a function first, as 01:00.0 or -s 01:00.0`);
      }
      group.operations.push(parseSetpciWord(value));
    }
  }
  if (groups.length === 0)
    throw new UsageError("nothing to do: select a function and name a register, or ask --dumpregs");
  return groups;
}

async function select(functions: readonly AccessedFunction[], { slot, id }: Group): Promise<AccessedFunction[]> {
  const { matchesFilter, parseIdFilter, parseSlotFilter } = await import("ring3/pci");
  const filter = {
    ...(slot === undefined ? {} : parseSlotFilter(slot)),
    ...(id === undefined ? {} : parseIdFilter(id)),
  };
  return functions.filter(({ address, config, facts }) =>
    matchesFilter(filter, address, () => ({
      vendorId: facts.vendorId ?? config.read(0, 2),
      deviceId: facts.deviceId ?? config.read(2, 2),
      classCode: facts.classCode ?? config.read(8, 4) >>> 8,
    })),
  );
}

type Result =
  | {
      readonly fn: AccessedFunction;
      readonly operation: SetpciOperation;
      readonly outcome: SetpciOutcome;
      readonly trace: string;
    }
  | { readonly fn: AccessedFunction; readonly operation: FieldOperation; readonly outcome: FieldOutcome };

async function perform(fn: AccessedFunction, operation: Operation, dryRun: boolean, context: Context): Promise<Result> {
  const { beyondReach, ConfigSpace, runFieldOperation, runSetpciOperation, traceSetpci } = await import("ring3/pci");
  const config = new ConfigSpace(fn.config);
  if (operation.kind === "field") return { fn, operation, outcome: runFieldOperation(config, operation, { dryRun }) };
  const outcome = runSetpciOperation(config, operation, { dryRun });
  if (outcome.beyond)
    warn(context, `${fn.address.toString()}: ${beyondReach(config, outcome.offset)}; it reads as ones`);
  return { fn, operation, outcome, trace: traceSetpci(fn.address, outcome) };
}

function textOf(result: Result, verbose: boolean): string[] {
  const { fn } = result;
  if ("trace" in result) {
    const { value, width } = result.outcome;
    if (verbose) return [result.trace];
    return value === undefined ? [] : [value.toString(16).padStart(width * 2, "0")];
  }
  const { register, field, raw, written, value, meaning, offset } = result.outcome;
  const hex = (number: number): string => number.toString(16).padStart(register.width * 2, "0");
  const place = `${fn.address.toString()} ${register.group.name}.${register.name}${field === undefined ? "" : `.${field}`} @${offset.toString(16).padStart(2, "0")}`;
  if (written !== undefined) return verbose ? [`${place} ${hex(raw)}->${hex(written)}`] : [];
  const shown = field === undefined ? `${hex(raw)} ${fieldsOf(result.outcome)}` : (meaning ?? String(value));
  return [verbose ? `${place} = ${shown}` : shown];
}

function fieldsOf({ register, raw }: FieldOutcome): string {
  return Object.entries(register.fields)
    .map(([name, field]) => `${name}=${field.get(raw)}`)
    .join(" ");
}

function toValue({ fn, operation, outcome }: Result): object {
  const base = { address: fn.address, method: fn.method, operation: operation.text, offset: outcome.offset };
  if ("register" in outcome) {
    const { register, field, raw, written, value, meaning } = outcome;
    return {
      ...base,
      width: register.width,
      register: `${register.group.name}.${register.name}`,
      field,
      raw,
      written,
      value,
      meaning,
    };
  }
  const { width, value, writes, capability } = outcome;
  return { ...base, width, capability, value, writes };
}

function warn({ progress }: Context, text: string): void {
  progress.step(`warning: ${text}`);
}
