// Which functions a tool shall look at: from the words of its command line to access methods. PCI addresses are read from
// sysfs unless a back end is named; sockets are opened; dumps and trees are files.
import type { PciFunction } from "ring3";
import type { AccessedFunction, AccessMethod, PciAddress } from "ring3/pci";
import type { Context } from "./context.ts";
import { isSocketAddress, openFunction } from "./open-function.ts";
import { UsageError } from "./usage-error.ts";

/** Whether a word names functions, and not what to do with them. */
export function isSource(word: string, isAddress: boolean): boolean {
  return isAddress || isSocketAddress(word) || word.startsWith("dump:") || word.startsWith("tree:");
}

/** Operand of every command that looks at functions by an access method. */
export const SOURCE_OPERAND = {
  name: "ADDRESS",
  description: "functions, as 0000:01:00.0, 01:00.0, vfio-user:PATH, dump:FILE (as lspci -xxxx writes) or tree:DIR",
  variadic: true,
  optional: true,
} as const;

/** Options of every command that looks at functions by an access method. */
export const ACCESS_OPTIONS = {
  backend: {
    kind: "choice",
    short: "A",
    choices: ["sysfs", "proc", "ecam", "auto", "group", "iommufd"],
    initial: "sysfs",
    description:
      "how to reach a PCI address: sysfs, /proc/bus/pci, ECAM's memory (root), or opened through VFIO, a reset",
  },
  at: {
    kind: "texts",
    value: "ADDRESS",
    description:
      "the PCI address to show a vfio-user function at, in their order; else 00:00.0, 00:01.0, ... as is free",
  },
} as const;

export interface AccessChoice {
  readonly backend: string;
  readonly at: readonly string[];
}

/** The functions that were asked for; disposal closes what was opened for them. */
export interface Accessed extends AsyncDisposable {
  readonly functions: readonly AccessedFunction[];
}

/** Reaches the functions that `words` name, in their order; without words those of the machine. */
export async function accessFunctions(
  words: readonly string[],
  { backend, at }: AccessChoice,
  context: Context,
): Promise<Accessed> {
  const opened = new AsyncDisposableStack();
  try {
    return {
      functions: await reach(words, backend, at, context, opened),
      [Symbol.asyncDispose]: () => opened.disposeAsync(),
    };
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

async function reach(
  words: readonly string[],
  backend: string,
  at: readonly string[],
  context: Context,
  opened: AsyncDisposableStack,
): Promise<AccessedFunction[]> {
  const { PciAddress, accessFunction, freeAddresses, parseDump } = await import("ring3/pci");
  const { treeAccess } = await import("ring3/host");
  if (words.length === 0) return [...opened.use(await machineAccess(backend, context)).functions];
  const sockets = words.filter(isSocketAddress);
  if (at.length > sockets.length) {
    throw new UsageError(`--at ${at.at(-1)} is for a vfio-user address, and there are ${sockets.length} of them`);
  }
  const found: (AccessedFunction | { readonly socket: PciFunction })[] = [];
  for (const word of words) {
    if (isSocketAddress(word)) {
      found.push({ socket: opened.use(await openFunction(word, { backend: "auto" }, context)) });
    } else if (word.startsWith("dump:")) {
      found.push(...parseDump(await readDump(word.slice("dump:".length), context)));
    } else if (word.startsWith("tree:")) {
      found.push(...opened.use(treeAccess(word.slice("tree:".length))).functions);
    } else if (backend === "auto" || backend === "group" || backend === "iommufd") {
      found.push(accessFunction(opened.use(await openFunction(word, { backend }, context))));
    } else {
      found.push(...opened.use(await machineAccess(backend, context, [PciAddress.parse(word)])).functions);
    }
  }
  const wished = at.map((text) => PciAddress.parse(text));
  const taken = [...wished, ...found.flatMap((fn) => ("socket" in fn ? [] : [fn.address]))];
  const places: PciAddress[] = [...wished, ...freeAddresses(sockets.length - wished.length, taken)];
  return found.map((fn) => ("socket" in fn ? accessFunction(fn.socket, places.shift()) : fn));
}

/** The machine's functions, without opening any. */
async function machineAccess(
  backend: string,
  context: Context,
  addresses?: readonly PciAddress[],
): Promise<AccessMethod> {
  const host = await import("ring3/host");
  const { machinePaths } = await import("./machine.ts");
  const where = { paths: machinePaths(context), ...(addresses === undefined ? {} : { addresses }) };
  if (backend === "proc") return host.procAccess(where);
  if (backend === "ecam") return await host.ecamAccess(where);
  if (backend === "sysfs") return host.sysfsAccess(where);
  throw new UsageError(`--backend ${backend} opens functions: name each by its ADDRESS`);
}

async function readDump(path: string, { streams }: Context): Promise<Uint8Array> {
  if (path === "-") {
    const { buffer } = await import("node:stream/consumers");
    return await buffer(streams.stdin);
  }
  const { readFile } = await import("node:fs/promises");
  return await readFile(path);
}
