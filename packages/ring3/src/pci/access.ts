// Access methods: one shape for a function that tools look at, whoever reaches it (sysfs, a dump, an open VFIO device, a
// socket, a function in process). What is not known is absent, and is looked up when asked for and not before.
import type { PciAddress } from "./address.ts";
import type { ConfigAccess } from "./config-space.ts";

/** One line of sysfs `resource`: both ends included, and the flags that include/linux/ioport.h calls `IORESOURCE_*`. */
export interface FunctionResource {
  readonly start: bigint;
  readonly end: bigint;
  readonly flags: bigint;
}

/** Bits of {@link FunctionResource.flags}, from include/linux/ioport.h; the lowest four are those of the BAR itself. */
export const ResourceFlag = {
  IO: 0x100n,
  MEMORY: 0x200n,
  PREFETCH: 0x2000n,
  /** Decoded only while the ROM's enable bit is set. */
  READ_ONLY: 0x4000n,
  /** Aligned to its size, as BARs are. */
  SIZE_ALIGN: 0x40000n,
  MEMORY_64: 0x100000n,
} as const;

/** What is known of a function besides its config space: `undefined` where the method does not tell. */
export interface FunctionFacts {
  /** Ids and class as the kernel has them: it may have mended what a broken device says. */
  readonly vendorId?: number | undefined;
  readonly deviceId?: number | undefined;
  /** 24 bits: base class, subclass, programming interface. */
  readonly classCode?: number | undefined;
  readonly revision?: number | undefined;
  readonly subsystemVendorId?: number | undefined;
  readonly subsystemId?: number | undefined;
  /** BARs 0 to 5, the ROM as 6, and whatever follows (VF BARs, bridge windows), by index; empty ones are all 0. */
  readonly resources?: readonly FunctionResource[] | undefined;
  /** The interrupt number that the kernel routed its line to; 0 for none. */
  readonly irq?: number | undefined;
  /** The interrupt numbers of its MSI or MSI-X messages, ascending. */
  readonly messageIrqs?: readonly number[] | undefined;
  readonly driver?: string | undefined;
  /** What kernel modules are found by: `pci:v00001B36d00000010sv...`. */
  readonly modalias?: string | undefined;
  /** -1 where the machine has no nodes. */
  readonly numaNode?: number | undefined;
  readonly iommuGroup?: string | undefined;
  /** Name of the slot that it sits in. */
  readonly physicalSlot?: string | undefined;
  /** What firmware calls it. */
  readonly label?: string | undefined;
  /** Path of its node in the device tree. */
  readonly deviceTreeNode?: string | undefined;
  /** Address of the bridge above it. */
  readonly parent?: string | undefined;
  /** Link registers of a CXL device whose port does not show them (RCD): `rcd_link_cap`, `_ctrl`, `_status`. */
  readonly rcdLink?: RcdLink | undefined;
  /** Vital product data, which takes the device many milliseconds. */
  readonly readVpd?: (() => Uint8Array | undefined) | undefined;
}

export interface RcdLink {
  readonly capabilities: number;
  readonly control: number;
  readonly status: number;
}

/** A function that a method reached. */
export interface AccessedFunction {
  readonly address: PciAddress;
  /** Which method: `sysfs`, `dump`, or the back end of an open function (`vfio-group`, `vfio-user`, `in-process`). */
  readonly method: string;
  readonly config: ConfigAccess;
  readonly facts: FunctionFacts;
}

/** Functions that were found together, in the method's order; disposal closes what it opened. */
export interface AccessMethod extends Disposable {
  readonly name: string;
  readonly functions: readonly AccessedFunction[];
}

/** The bytes that can be read, or the first `limit` of them. */
export function readConfig({ config }: Pick<AccessedFunction, "config">, limit: number = config.size): Uint8Array {
  const size = Math.min(limit, config.size);
  if (config.readBytes !== undefined) return config.readBytes(0, size);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (; at + 4 <= size; at += 4) view.setUint32(at, config.read(at, 4) >>> 0, true);
  for (; at < size; at++) bytes[at] = config.read(at, 1);
  return bytes;
}
