// The access method over sysfs, or over a directory that looks like it: config space through the file `config`, facts from
// the files beside it. Ordinary users read the first 64 bytes (128 of a CardBus bridge); how far it goes is found by reading.
import { closeSync, fstatSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import type { AccessedFunction, AccessMethod, FunctionFacts, FunctionResource, RcdLink } from "../pci/access.ts";
import { PciAddress } from "../pci/address.ts";
import type { ConfigAccess } from "../pci/config-space.ts";
import { parentBridge } from "./inventory.ts";
import { type HostPaths, thisMachine } from "./paths.ts";
import { listNames, readLinkName, readNumber, readText, realPath } from "./sysfs.ts";

/**
 * The functions of this machine, by address. With `addresses` only those, in that order; throws `FUNCTION_NOT_FOUND` for
 * one that is not there.
 */
export function sysfsAccess({
  paths = thisMachine,
  addresses,
}: {
  readonly paths?: HostPaths;
  readonly addresses?: readonly PciAddress[];
} = {}): AccessMethod {
  return treeAccess(join(paths.sysfsRoot, "bus/pci"), addresses);
}

/** The same for any directory with `devices/ADDRESS/config` in it: what `lspci -O sysfs.path=` takes. */
export function treeAccess(directory: string, addresses?: readonly PciAddress[]): AccessMethod {
  const present = listNames(join(directory, "devices")).filter((name) => PciAddress.accepts(name));
  const chosen = (
    addresses ?? present.map((name) => PciAddress.parse(name)).toSorted((a, b) => PciAddress.compare(a, b))
  ).map((address) => {
    if (present.includes(address.toString())) return address;
    const seen = present.length === 0 ? `${directory} lists none at all` : `${directory} lists ${present.length}`;
    throw new Ring3Error("FUNCTION_NOT_FOUND", `there is no PCI function ${address.toString()}; ${seen}: see ring3 ls`);
  });
  const file = new OpenConfigFile();
  const slots = lazily(() => readSlots(join(directory, "slots")));
  const functions = chosen.map((address): AccessedFunction => {
    const place = join(directory, "devices", address.toString());
    return {
      address,
      method: "sysfs",
      config: new SysfsConfig(place, file),
      facts: new SysfsFacts(place, address, slots),
    };
  });
  return { name: "sysfs", functions, [Symbol.dispose]: () => file.close() };
}

/** One open file for all functions: a machine may have more of them than a process may have files. */
class OpenConfigFile {
  #path: string | undefined;
  #writable = false;
  #fd = -1;

  open(path: string, write: boolean): number {
    if (this.#path === path && (this.#writable || !write)) return this.#fd;
    this.close();
    try {
      this.#fd = openSync(path, write ? "r+" : "r");
    } catch (error) {
      throw failed(write ? "write" : "read", path, error);
    }
    this.#path = path;
    this.#writable = write;
    return this.#fd;
  }

  close(): void {
    if (this.#path !== undefined) closeSync(this.#fd);
    this.#path = undefined;
  }
}

class SysfsConfig implements ConfigAccess {
  readonly #path: string;
  readonly #file: OpenConfigFile;
  readonly #word: Uint8Array = new Uint8Array(4);
  #size: number | undefined;

  constructor(place: string, file: OpenConfigFile) {
    this.#path = join(place, "config");
    this.#file = file;
  }

  get size(): number {
    this.#size ??= this.#readable();
    return this.#size;
  }

  /** The file always shows its full size; a read beyond what the reader may see gives nothing. */
  #readable(): number {
    const { size } = fstatSync(this.#file.open(this.#path, false));
    for (const limit of [128, 64]) {
      if (size <= limit || this.#transfer(limit, this.#word.subarray(0, 1)) !== 1) continue;
      return limit === 128 ? size : Math.min(size, 128);
    }
    return Math.min(size, 64);
  }

  read(offset: number, width: 1 | 2 | 4): number {
    const bytes = this.#word.subarray(0, width);
    this.#readAll(offset, bytes);
    let value = 0;
    for (let at = width - 1; at >= 0; at--) value = value * 256 + (bytes[at] ?? 0);
    return value;
  }

  readBytes(offset: number, size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    this.#readAll(offset, bytes);
    return bytes;
  }

  write(offset: number, width: 1 | 2 | 4, value: number): void {
    const fd = this.#file.open(this.#path, true);
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    let written: number;
    try {
      written = writeSync(fd, bytes, 0, width, offset);
    } catch (error) {
      throw failed("write", this.#path, error);
    }
    if (written !== width) {
      throw new Ring3Error(
        "CONFIG_RANGE",
        `${this.#path} took ${written} of ${width} bytes at 0x${offset.toString(16)}: config space ends before`,
      );
    }
  }

  #readAll(offset: number, bytes: Uint8Array): void {
    const got = this.#transfer(offset, bytes);
    if (got === bytes.length) return;
    throw new Ring3Error(
      "CONFIG_RANGE",
      `${this.#path} gave ${got} of ${bytes.length} bytes at 0x${offset.toString(16)}; beyond the header only root may read`,
    );
  }

  #transfer(offset: number, bytes: Uint8Array): number {
    const fd = this.#file.open(this.#path, false);
    try {
      return readSync(fd, bytes, 0, bytes.length, offset);
    } catch (error) {
      throw failed("read", this.#path, error);
    }
  }
}

function failed(verb: "read" | "write", path: string, error: unknown): Ring3Error {
  const errno = (error as NodeJS.ErrnoException).code ?? "unknown";
  const call = `${verb} ${path}`;
  const details = { errno, call, cause: error };
  if (errno === "EACCES" || errno === "EPERM" || errno === "EROFS") {
    const fix =
      verb === "write"
        ? "config space is written by root: run it with sudo, or open the function through VFIO"
        : "ask its owner";
    return new Ring3Error("PERMISSION_DENIED", `${call} failed with ${errno}: ${fix}`, details);
  }
  return new Ring3Error(
    "CONFIG_UNREADABLE",
    `${call} failed with ${errno}: the function may have been removed`,
    details,
  );
}

/** Reads each file when it is asked for: a list of ten thousand functions needs three of them, a full view all. */
class SysfsFacts implements FunctionFacts {
  readonly #place: string;
  readonly #address: PciAddress;
  readonly #slots: () => ReadonlyMap<string, string>;

  constructor(place: string, address: PciAddress, slots: () => ReadonlyMap<string, string>) {
    this.#place = place;
    this.#address = address;
    this.#slots = slots;
  }

  #at(name: string): string {
    return join(this.#place, name);
  }

  get vendorId(): number | undefined {
    return readNumber(this.#at("vendor"));
  }
  get deviceId(): number | undefined {
    return readNumber(this.#at("device"));
  }
  get classCode(): number | undefined {
    return readNumber(this.#at("class"));
  }
  get revision(): number | undefined {
    return readNumber(this.#at("revision"));
  }
  get subsystemVendorId(): number | undefined {
    return readNumber(this.#at("subsystem_vendor"));
  }
  get subsystemId(): number | undefined {
    return readNumber(this.#at("subsystem_device"));
  }
  get resources(): readonly FunctionResource[] | undefined {
    const text = readText(this.#at("resource"));
    return text === undefined ? undefined : parseResourceLines(text);
  }
  get irq(): number | undefined {
    return readNumber(this.#at("irq"));
  }
  get messageIrqs(): readonly number[] {
    const names = listNames(this.#at("msi_irqs")).filter((name) => /^\d+$/.test(name));
    return names.map(Number).sort((a, b) => a - b);
  }
  get driver(): string | undefined {
    return readLinkName(this.#at("driver"));
  }
  get modalias(): string | undefined {
    return readText(this.#at("modalias"));
  }
  get numaNode(): number | undefined {
    return readNumber(this.#at("numa_node"));
  }
  get iommuGroup(): string | undefined {
    return readLinkName(this.#at("iommu_group"));
  }
  get physicalSlot(): string | undefined {
    return this.#slots().get(this.#address.toString().replace(/\.\d$/, ""));
  }
  get label(): string | undefined {
    return readText(this.#at("label"));
  }
  get deviceTreeNode(): string | undefined {
    return realPath(this.#at("of_node"));
  }
  get parent(): string | undefined {
    return parentBridge(this.#place);
  }
  get rcdLink(): RcdLink | undefined {
    const [capabilities, control, status] = ["rcd_link_cap", "rcd_link_ctrl", "rcd_link_status"].map((name) => {
      const text = readText(this.#at(name));
      return text === undefined ? undefined : Number.parseInt(text, 16);
    });
    if (capabilities === undefined || control === undefined || status === undefined) return undefined;
    return { capabilities, control, status };
  }
  get readVpd(): () => Uint8Array | undefined {
    return () => {
      try {
        return new Uint8Array(readFileSync(this.#at("vpd")));
      } catch {
        // Most functions have none, and of those that have only root reads it.
        return undefined;
      }
    };
  }
}

/** Lines `start end flags`, one for each region. */
export function parseResourceLines(text: string): FunctionResource[] {
  const resources: FunctionResource[] = [];
  for (const line of text.split("\n")) {
    const words = line.trim().split(/\s+/);
    if (words.length !== 3 || !words.every((word) => /^0x[0-9a-f]{1,16}$/i.test(word))) break;
    const [start = 0n, end = 0n, flags = 0n] = words.map(BigInt);
    resources.push({ start, end, flags });
  }
  return resources;
}

function readSlots(directory: string): ReadonlyMap<string, string> {
  const slots = new Map<string, string>();
  for (const name of listNames(directory)) {
    const address = readText(join(directory, name, "address"));
    if (address !== undefined && !slots.has(address)) slots.set(address, name);
  }
  return slots;
}

function lazily<T>(read: () => T): () => T {
  let kept: { readonly value: T } | undefined;
  return () => {
    kept ??= { value: read() };
    return kept.value;
  };
}
