// lspci as a function from functions to text. Its output is what pciutils 3.15 prints for the same input and options.
import type { AccessedFunction } from "../access.ts";
import { PciAddress } from "../address.ts";
import type { PciIds } from "../ids.ts";
import type { LspciFilter } from "./filter.ts";
import { LspciFunction } from "./function.ts";
import { showTerse, showVerbose } from "./header-text.ts";
import { hex } from "./layout.ts";
import { IdNames, type NumericIds } from "./names.ts";
import { Printer } from "./printer.ts";
import { BusTree } from "./tree.ts";

export interface LspciOptions {
  /** How many `-v`: 0 to 3. */
  readonly verbose?: number;
  /** `-n` is 1, `-nn` 2. */
  readonly numeric?: NumericIds;
  /** `-k`. */
  readonly kernel?: boolean;
  /** `-D`. */
  readonly domains?: boolean;
  /** `-P` is 1, `-PP` 2. */
  readonly path?: number;
  /** `-t`. */
  readonly tree?: boolean;
  /** How many `-x`: 1 the header, 3 the standard part, 4 everything. */
  readonly hex?: number;
  /** `-m` is 1, `-mm` 2. */
  readonly machine?: number;
  /** `-b`. */
  readonly busCentric?: boolean;
  /** `-s` and `-d`. */
  readonly filter?: LspciFilter | undefined;
  /** `-i`; without it nothing has a name. */
  readonly ids?: PciIds | undefined;
  /** Kernel modules that could drive a function: asked with its modalias where they are shown. */
  readonly modules?: (modalias: string) => readonly string[];
}

/**
 * Writes what `lspci` prints, one function after the other. Throws `UnfetchedByteError` where the real one stops since it
 * would look at a byte that it never read; what came before has been written by then.
 */
export function lspci(
  functions: readonly AccessedFunction[],
  options: LspciOptions,
  write: (text: string) => void,
): void {
  const { verbose = 0, hex: hexLevel = 0, machine = 0, kernel = false, filter, busCentric = false } = options;
  const names = new IdNames(options.ids, options.numeric ?? 0);
  const sorted = functions.toSorted((a, b) => PciAddress.compare(a.address, b.address));
  const look = (fn: AccessedFunction): LspciFunction => new LspciFunction(fn, { busCentric });
  const all = options.tree === true || (options.path ?? 0) > 0 ? sorted.map(look) : undefined;
  const tree = all === undefined ? undefined : new BusTree(all);
  if (options.tree === true) {
    write(tree?.render(filter, verbose > 0 ? names : undefined) ?? "");
    return;
  }
  const hasDomains = sorted.some(({ address }) => address.domain !== 0);
  for (const [index, accessed] of sorted.entries()) {
    // One after the other: the memory of thousands is not held at a time.
    const fn = all?.[index] ?? look(accessed);
    if (filter?.matches(fn) === false) continue;
    const printer = new Printer(fn, { verbose, names, busCentric });
    const { domain } = fn.address;
    const asked = options.domains === true;
    const withDomain = machine > 0 ? domain !== 0 || asked : hasDomains || asked;
    const slot = `${withDomain ? `${hex(domain, 4)}:` : ""}${slotPath(fn, tree, options.path ?? 0)}`;
    const modules = kernel || verbose > 0 ? (options.modules?.(fn.facts.modalias ?? "") ?? []) : [];
    try {
      if (machine > 0) showMachine(printer, slot, options, modules);
      else {
        if (verbose > 0) showVerbose(printer, slot);
        else showTerse(printer, slot, kernel);
        if (kernel || verbose > 0) showKernel(printer, modules);
      }
      if (hexLevel > 0) showHex(printer, hexLevel);
      if (verbose > 0 || hexLevel > 0) printer.print("\n");
    } finally {
      write(printer.text);
    }
  }
}

function place({ address }: LspciFunction): string {
  return `${hex(address.bus, 2)}:${hex(address.device, 2)}.${address.function}`;
}

function slotPath(fn: LspciFunction, tree: BusTree | undefined, path: number): string {
  if (tree === undefined || path === 0) return place(fn);
  const [first, ...rest] = [...tree.path(fn), fn];
  const short = ({ address }: LspciFunction): string => `${hex(address.device, 2)}.${address.function}`;
  const further = rest.map((one) => `/${path > 1 ? place(one) : short(one)}`).join("");
  return `${place(first)}${further}`;
}

function showKernel(printer: Printer, modules: readonly string[]): void {
  const { driver } = printer.shown.facts;
  if (driver !== undefined) printer.print(`\tKernel driver in use: ${driver}\n`);
  if (modules.length > 0) printer.print(`\tKernel modules: ${modules.join(", ")}\n`);
}

function showMachine(printer: Printer, slot: string, options: LspciOptions, modules: readonly string[]): void {
  const { shown, names, verbose } = printer;
  const { vendorId, deviceId, subsystem, revision, programmingInterface, facts } = shown;
  const board =
    subsystem !== undefined && subsystem.vendorId !== 0 && subsystem.vendorId !== 0xffff ? subsystem : undefined;
  const identity = [names.class(shown.classCode), names.vendor(vendorId), names.device(vendorId, deviceId)];
  const boardNames =
    board === undefined
      ? undefined
      : [names.subsystemVendor(board.vendorId), names.subsystemDevice(vendorId, deviceId, board.vendorId, board.id)];
  if (verbose === 0) {
    const quoted = (text: string): string => ` "${text.replaceAll(/["\\]/g, "\\$&")}"`;
    const rev = revision === 0 ? "" : ` -r${hex(revision, 2)}`;
    const boards = (boardNames ?? ["", ""]).map(quoted).join("");
    printer.print(`${slot}${identity.map(quoted).join("")}${rev} -p${hex(programmingInterface, 2)}${boards}\n`);
    return;
  }
  const rows: (readonly [string, string | number | undefined])[] = [
    [(options.machine ?? 0) >= 2 ? "Slot" : "Device", slot],
    ["Class", identity[0]],
    ["Vendor", identity[1]],
    ["Device", identity[2]],
    ["SVendor", boardNames?.[0]],
    ["SDevice", boardNames?.[1]],
    ["PhySlot", facts.physicalSlot],
    ["Rev", revision === 0 ? undefined : hex(revision, 2)],
    ["ProgIf", hex(programmingInterface, 2)],
    ["Driver", options.kernel === true ? facts.driver : undefined],
    ...(options.kernel === true ? modules : []).map((name) => ["Module", name] as const),
    ["NUMANode", facts.numaNode === -1 ? undefined : facts.numaNode],
    ["DTNode", facts.deviceTreeNode],
    ["IOMMUGroup", facts.iommuGroup],
  ];
  for (const [name, value] of rows) if (value !== undefined) printer.print(`${name}:\t${value}\n`);
}

function showHex(printer: Printer, level: number): void {
  const { config } = printer;
  if (!config.isReadable) {
    printer.print("WARNING: Cannot show hex-dump of the config space\n");
    return;
  }
  let size = config.headerSize;
  if (level >= 3 && config.fetch(size, 256 - size)) {
    size = 256;
    if (level >= 4 && config.fetch(256, 4096 - 256)) size = 4096;
  }
  for (let at = 0; at < size; at += 16) {
    const row = Array.from({ length: 16 }, (_, index) => hex(config.byte(at + index), 2));
    printer.print(`${hex(at, 2)}: ${row.join(" ")}\n`);
  }
}
