// ring3 info: everything that an open function shows; and where it cannot be opened, what sysfs says and why not.
import type { BarIndex, PciFunction } from "ring3";
import type { HostFunction } from "ring3/host";
import type { ConfigSpace } from "ring3/pci";
import { type Command, command } from "../command.ts";
import type { Context } from "../context.ts";
import { OPEN_OPTIONS, isSocketAddress, type Opening, openFunction } from "../open-function.ts";
import { binarySize, columns, hex } from "../text.ts";
import { UsageError } from "../usage-error.ts";

export const info: Command = command({
  summary: "show everything about a function",
  description:
    "Opens the function where the caller may, which resets it if nobody else has it; else shows what sysfs tells, with " +
    "the reason and the fix.",
  operands: [{ name: "ADDRESS", description: "the function, as 0000:01:00.0, 01:00.0 or vfio-user:PATH" }],
  options: {
    ...OPEN_OPTIONS,
    closed: { kind: "flag", description: "do not open it, show only what sysfs tells" },
  },
  examples: [
    { command: "ring3 info 01:00.0", text: "identity, BARs, interrupts, DMA, reset, capabilities, power" },
    { command: "ring3 info 01:00.0 --json | jq .bars", text: "the BARs for a script" },
    { command: "ring3 info 01:00.0 --closed", text: "without touching it" },
    { command: "ring3 info vfio-user:/run/disk.sock", text: "one that is served at a socket" },
  ],
  run: async ({ operands, options }, context) => {
    const [address = ""] = operands;
    if (isSocketAddress(address)) return await showServed(address, options, context);
    const [host, { machinePaths }] = await Promise.all([import("ring3/host"), import("../machine.ts")]);
    const paths = machinePaths(context);
    const fn = host.readFunction(address, paths);
    const known = { ...fn, ...(await namesOf(fn)) };
    const { opened, reason } =
      options.closed || context.root !== "/"
        ? { opened: undefined, reason: "not opened, as asked for" }
        : await lookInside(fn.address, options, context);
    const capabilities = opened?.capabilities ?? (await readClosedCapabilities(fn.address, context));
    const value: Shown = {
      address: fn.address,
      opened: opened !== undefined,
      reason,
      host: known,
      ...UNKNOWN,
      ...opened,
      capabilities,
    };
    context.result(value, () => render(value, context));
  },
});

/** A function behind a socket: all that is known of it is what it shows once it is open. */
async function showServed(
  address: string,
  options: Opening & { readonly closed: boolean },
  context: Context,
): Promise<void> {
  if (options.closed)
    throw new UsageError("--closed shows what the machine knows of its functions; a socket has to be opened");
  await using fn = await openFunction(address, options, context);
  const opened = await describeOpened(fn);
  const names = await namesOf(fn.identity);
  const value: Shown = { address, opened: true, reason: undefined, host: undefined, ...opened };
  context.result(value, () => render(value, context, names));
}

interface Names {
  readonly className: string;
  readonly vendorName: string | undefined;
  readonly deviceName: string | undefined;
}

async function namesOf(ids: Pick<HostFunction, "classCode" | "vendorId" | "deviceId">): Promise<Names> {
  const { FunctionNames } = await import("ring3/host");
  const names = new FunctionNames();
  return {
    className: names.class(ids.classCode),
    vendorName: names.vendor(ids.vendorId),
    deviceName: names.device(ids.vendorId, ids.deviceId),
  };
}

interface CapabilityLine {
  readonly kind: "standard" | "extended";
  readonly id: number;
  readonly name: string | undefined;
  readonly version: number;
  readonly offset: number;
}
type Opened = Awaited<ReturnType<typeof describeOpened>>;
type OpenedKey = Exclude<keyof Opened, "capabilities">;
type Shown = { readonly [K in OpenedKey]: Opened[K] | undefined } & {
  readonly address: string;
  readonly opened: boolean;
  readonly reason: string | undefined;
  /** What the machine knows of it; nothing for a function behind a socket. */
  readonly host: Described | undefined;
  readonly capabilities: readonly CapabilityLine[];
};
type Described = HostFunction & Names;

/** The keys of an open function are there even where it could not be opened. */
const UNKNOWN: { readonly [K in OpenedKey]: undefined } = {
  identity: undefined,
  bars: undefined,
  romBytes: undefined,
  interrupts: undefined,
  dma: undefined,
  resetMethods: undefined,
  power: undefined,
};

async function lookInside(
  address: string,
  options: Opening,
  context: Context,
): Promise<{ opened: Opened | undefined; reason: string | undefined }> {
  const { isRing3Error } = await import("ring3");
  try {
    await using fn = await openFunction(address, options, context);
    return { opened: await describeOpened(fn), reason: undefined };
  } catch (error) {
    if (!isRing3Error(error)) throw error;
    return { opened: undefined, reason: error.message };
  }
}

async function describeOpened(fn: PciFunction) {
  const indexes: readonly BarIndex[] = [0, 1, 2, 3, 4, 5];
  const bars = indexes.map((index) => fn.bar(index)).filter(({ size }) => size > 0);
  return {
    identity: fn.identity,
    bars: bars.map(({ index, kind, size, prefetchable, mappable }) => ({ index, kind, size, prefetchable, mappable })),
    romBytes: fn.rom?.size,
    interrupts: { ...fn.interrupts.available, growable: fn.interrupts.growable },
    dma: fn.dma.limits(),
    resetMethods: fn.resetMethods,
    power: fn.power.state,
    capabilities: await listCapabilities(fn.config),
  };
}

async function listCapabilities(config: ConfigSpace): Promise<CapabilityLine[]> {
  const { capabilityName } = await import("ring3/pci");
  return [...config.capabilities(), ...config.extendedCapabilities()].map(({ kind, id, version, offset }) => {
    return { kind, id, name: capabilityName({ kind, id }), version, offset };
  });
}

/** The `config` file: its first 64 bytes for anybody, all of it for root. */
async function readClosedCapabilities(address: string, context: Context): Promise<CapabilityLine[]> {
  const [fs, path, { bytesConfigAccess, ConfigSpace }] = await Promise.all([
    import("node:fs"),
    import("node:path"),
    import("ring3/pci"),
  ]);
  try {
    const bytes = fs.readFileSync(path.join(context.root, "sys/bus/pci/devices", address, "config"));
    return await listCapabilities(new ConfigSpace(bytesConfigAccess(new Uint8Array(bytes))));
  } catch {
    return [];
  }
}

function render(shown: Shown, { style }: Context, names: Names | undefined = shown.host): string {
  const { host, identity, capabilities } = shown;
  const ids = host ?? identity;
  if (ids === undefined || names === undefined) throw new Error("neither the machine nor the function says what it is");
  const heading = `${style.bold(shown.address)} ${names.deviceName ?? names.className} [${hex(ids.vendorId, 4)}:${hex(ids.deviceId, 4)}]`;
  const rows: [string, string][] = [
    ["class", `${hex(ids.classCode, 6)} ${names.className}`],
    ["subsystem", `${hex(ids.subsystemVendorId, 4)}:${hex(ids.subsystemId, 4)}, revision ${hex(ids.revision, 2)}`],
  ];
  if (host !== undefined) {
    rows.push(["driver", host.driver ?? "none"]);
    rows.push(["IOMMU group", host.iommuGroup === undefined ? "none: the IOMMU is off" : String(host.iommuGroup)]);
  }
  if (identity?.modelVersion !== undefined) rows.push(["model version", String(identity.modelVersion)]);
  rows.push(
    ["opened", shown.opened ? style.green(`through ${identity?.backend}`) : style.yellow(`no: ${shown.reason}`)],
    ["power", shown.power ?? host?.powerState ?? "unknown"],
    ["reset", (shown.resetMethods ?? host?.resetMethods ?? []).join(", ") || "not possible"],
    ...(host === undefined ? [] : hostRows(host)),
    ...barRows(shown),
  );
  if (shown.romBytes !== undefined) rows.push(["ROM", binarySize(shown.romBytes)]);
  if (shown.interrupts !== undefined) {
    const { intx, msi, msix, growable } = shown.interrupts;
    rows.push(["interrupts", `INTx ${intx}, MSI ${msi}, MSI-X ${msix}${growable ? " (can grow)" : ""}`]);
  }
  if (shown.dma !== undefined) rows.push(...dmaRows(shown.dma));
  for (const [index, { kind, id, name, offset }] of capabilities.entries()) {
    const mark = kind === "extended" ? "extended " : "";
    rows.push([
      index === 0 ? "capabilities" : "",
      `${hex(offset, kind === "extended" ? 3 : 2)} ${mark}${hex(id, 2)} ${name ?? "unknown"}`,
    ]);
  }
  return `${heading}\n${columns(rows, { indent: 2 })}`;
}

function hostRows(host: Described): [string, string][] {
  const rows = linkRow(host);
  if (host.numaNode !== undefined) rows.push(["NUMA node", String(host.numaNode)]);
  if (host.physicalFunction !== undefined) rows.push(["virtual function of", host.physicalFunction]);
  if (host.sriov !== undefined) {
    const { enabledVfs, totalVfs, virtualFunctions } = host.sriov;
    rows.push(["virtual functions", `${enabledVfs} of ${totalVfs} ${virtualFunctions.join(" ")}`.trim()]);
  }
  return rows;
}

function linkRow({ link }: HostFunction): [string, string][] {
  if (link === undefined) return [];
  const { currentSpeed, currentWidth, maxSpeed, maxWidth } = link;
  return [["link", `${currentSpeed ?? "?"} x${currentWidth ?? "?"} (at most ${maxSpeed ?? "?"} x${maxWidth ?? "?"})`]];
}

function barRows({ bars, host }: Shown): [string, string][] {
  if (bars === undefined) {
    return (host?.resources ?? []).map(({ index, sizeBytes, kind }) => [
      index === 6 ? "ROM" : `BAR ${index}`,
      `${kind}, ${binarySize(sizeBytes)}`,
    ]);
  }
  return bars.map(({ index, kind, size, prefetchable, mappable }) => {
    const areas = mappable.map((range) => `${hex(range.offset)}-${hex(range.offset + range.size - 1)}`).join(" ");
    const mapped = areas === "" ? "not mappable" : `mappable ${areas}`;
    return [`BAR ${index}`, `${kind}, ${binarySize(size)}${prefetchable ? ", prefetchable" : ""}, ${mapped}`];
  });
}

function dmaRows({ ranges, pageSizes, mappingsLeft, lockableBytes }: NonNullable<Shown["dma"]>): [string, string][] {
  const spans = ranges.map(({ first, last }) => `${hex(first)}-${hex(last)}`).join(" ");
  return [
    ["DMA addresses", spans],
    ["DMA pages", pageSizes.map(binarySize).join(", ")],
    ["DMA mappings left", mappingsLeft === undefined ? "not said" : String(mappingsLeft)],
    ["lockable memory", lockableBytes === undefined ? "no limit" : binarySize(lockableBytes)],
  ];
}
