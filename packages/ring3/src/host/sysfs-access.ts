// The access method over sysfs, or over a directory that looks like it: config space through the file `config`, facts from
// the files beside it.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import type { AccessedFunction, AccessMethod, FunctionFacts, FunctionResource, RcdLink } from "../pci/access.ts";
import { PciAddress } from "../pci/address.ts";
import { FileConfig, OpenConfigFile } from "./config-file.ts";
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
      config: new FileConfig(join(place, "config"), file),
      facts: new SysfsFacts(place, address, slots),
    };
  });
  return { name: "sysfs", functions, [Symbol.dispose]: () => file.close() };
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
