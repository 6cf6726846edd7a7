// The pci.ids file: names of vendors, devices, subsystems and classes. Its 1.5 MB are indexed at the first question by one
// pass over the line starts; what stands in a vendor's block is only read when somebody asks.

/** A run of lines in the text that belong to one vendor or one class. */
interface Block {
  readonly name: string;
  /** Of the first line behind the block's own. */
  readonly start: number;
  readonly end: number;
}

interface Entry {
  readonly name: string;
  readonly children: Map<string, string>;
}

/**
 * Names from the text of a pci.ids file. Lines that are not of its format are skipped; of a name given twice the first
 * counts. Ids that the file does not know give `undefined`.
 *
 * @example run
 * import { PciIds } from "ring3/pci";
 * const ids = new PciIds("8086  Intel Corporation\n\t1533  I210 Gigabit Network Connection\n");
 * ids.device(0x8086, 0x1533); // "I210 Gigabit Network Connection"
 */
export class PciIds {
  readonly #text: string;
  #vendors: Map<string, Block> | undefined;
  #classes: Map<string, Block> | undefined;
  readonly #entries = new Map<Block, Map<string, Entry>>();

  constructor(text: string | Iterable<string>) {
    this.#text = typeof text === "string" ? text : Array.from(text, (line) => line.replace(/\r?\n$/, "")).join("\n");
  }

  vendor(vendorId: number): string | undefined {
    return this.#vendorBlocks().get(hex(vendorId, 4))?.name;
  }

  device(vendorId: number, deviceId: number): string | undefined {
    return this.#device(vendorId, deviceId)?.name;
  }

  /** The name of a board, as its device's block gives it. */
  subsystem(vendorId: number, deviceId: number, subsystemVendorId: number, subsystemId: number): string | undefined {
    const key = `${hex(subsystemVendorId, 4)} ${hex(subsystemId, 4)}`;
    return this.#device(vendorId, deviceId)?.children.get(key);
  }

  baseClass(baseClass: number): string | undefined {
    return this.#classBlocks().get(hex(baseClass, 2))?.name;
  }

  subclass(baseClass: number, subclass: number): string | undefined {
    return this.#subclass(baseClass, subclass)?.name;
  }

  programmingInterface(baseClass: number, subclass: number, programmingInterface: number): string | undefined {
    return this.#subclass(baseClass, subclass)?.children.get(hex(programmingInterface, 2));
  }

  #device(vendorId: number, deviceId: number): Entry | undefined {
    const block = this.#vendorBlocks().get(hex(vendorId, 4));
    return block && this.#read(block, 4, /^([0-9a-f]{4} [0-9a-f]{4})[ \t]+(.*)$/i).get(hex(deviceId, 4));
  }

  #subclass(baseClass: number, subclass: number): Entry | undefined {
    const block = this.#classBlocks().get(hex(baseClass, 2));
    return block && this.#read(block, 2, /^([0-9a-f]{2})[ \t]+(.*)$/i).get(hex(subclass, 2));
  }

  #vendorBlocks(): Map<string, Block> {
    this.#index();
    return this.#vendors as Map<string, Block>;
  }

  #classBlocks(): Map<string, Block> {
    this.#index();
    return this.#classes as Map<string, Block>;
  }

  /** Finds the lines that open a block. Comments and blank lines close none. */
  #index(): void {
    if (this.#vendors !== undefined) return;
    const vendors = new Map<string, Block>();
    const classes = new Map<string, Block>();
    const text = this.#text;
    let open:
      | { readonly into: Map<string, Block>; readonly key: string; readonly name: string; readonly start: number }
      | undefined;
    const close = (end: number): void => {
      if (open !== undefined && !open.into.has(open.key)) {
        open.into.set(open.key, { name: open.name, start: open.start, end });
      }
      open = undefined;
    };
    for (let at = 0; at < text.length; ) {
      const found = text.indexOf("\n", at);
      const end = found === -1 ? text.length : found;
      const first = text.charCodeAt(at);
      if (first !== tab && first !== hash && end > at) {
        const line = withoutBlank(text.slice(at, end));
        if (/[^ \t]/.test(line)) {
          close(at);
          const vendor = /^([0-9a-f]{4})[ \t]+([^ \t].*)$/i.exec(line);
          const baseClass = vendor === null ? /^C ([0-9a-f]{2})[ \t]+([^ \t].*)$/i.exec(line) : null;
          const [, key, name] = vendor ?? baseClass ?? [];
          if (key !== undefined && name !== undefined) {
            open = {
              into: vendor !== null ? vendors : classes,
              key: key.toLowerCase(),
              name,
              start: end + 1,
            };
          }
        }
      }
      at = end + 1;
    }
    close(text.length);
    this.#vendors = vendors;
    this.#classes = classes;
  }

  /** The entries of a block: lines with one tab, each with those of two tabs behind it. */
  #read(block: Block, digits: number, child: RegExp): Map<string, Entry> {
    const known = this.#entries.get(block);
    if (known !== undefined) return known;
    const entries = new Map<string, Entry>();
    const parent = new RegExp(`^([0-9a-f]{${digits}})[ \\t]+(.*)$`, "i");
    let current: Entry | undefined;
    for (const line of this.#text.slice(block.start, block.end).split("\n")) {
      if (line.charCodeAt(0) !== tab) continue;
      const nested = line.charCodeAt(1) === tab;
      const [, key, name] = (nested ? child : parent).exec(withoutBlank(line.slice(nested ? 2 : 1))) ?? [];
      if (key === undefined || name === undefined || name === "") {
        if (!nested) current = undefined;
      } else if (!nested) {
        current = { name, children: new Map() };
        if (!entries.has(key.toLowerCase())) entries.set(key.toLowerCase(), current);
      } else if (current !== undefined && !current.children.has(key.toLowerCase())) {
        current.children.set(key.toLowerCase(), name);
      }
    }
    this.#entries.set(block, entries);
    return entries;
  }
}

/** A line without its end: a carriage return, and of blanks one. Others (names end in spaces that do not break) stay. */
function withoutBlank(line: string): string {
  return line.replace(/\r.*$/s, "").replace(/[ \t]$/, "");
}

const tab = 0x09;
const hash = 0x23;

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
