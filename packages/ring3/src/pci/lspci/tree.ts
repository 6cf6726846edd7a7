// The tree of buses (-t), and the way to a function through its bridges (-P). Bridges are put below each other by the bus
// numbers that their headers have, so that broken numbers make odd trees; lspci's rules decide how odd.
import type { LspciFilter } from "./filter.ts";
import type { LspciFunction } from "./function.ts";
import { hex } from "./layout.ts";
import type { IdNames } from "./names.ts";

const NO_BUS = 0xffffffff;
/** lspci's lines end here. */
const LINE_LIMIT = 1023;

interface Bus {
  readonly domain: number;
  readonly number: number;
  readonly bridge: Bridge;
  readonly functions: LspciFunction[];
}

interface Bridge {
  readonly domain: number;
  readonly primary: number;
  readonly secondary: number;
  readonly subordinate: number;
  /** `undefined` for the top of a domain. */
  readonly function: LspciFunction | undefined;
  readonly buses: Bus[];
  readonly children: Bridge[];
}

/** Functions in their places; they must be sorted by address. */
export class BusTree {
  readonly #top: Bridge;
  readonly #bridges = new Map<LspciFunction, Bridge>();
  readonly #places = new Map<LspciFunction, Bus>();

  constructor(functions: readonly LspciFunction[]) {
    this.#top = bridge(NO_BUS, NO_BUS, NO_BUS, NO_BUS);
    const domains = [...new Set(functions.map(({ address }) => address.domain))];
    const all = domains.map((domain) => bridge(domain, NO_BUS, 0, NO_BUS));
    for (const fn of functions) {
      const found = bridgeOf(fn);
      if (found === undefined) continue;
      this.#bridges.set(fn, found);
      all.push(found);
    }
    for (const one of all) parentOf(one, [this.#top, ...all])?.children.unshift(one);
    for (const one of all) {
      if (one.function !== undefined && busOf(one, one.domain, one.secondary) === undefined)
        addBus(one, one.domain, one.secondary);
    }
    for (const fn of functions) this.#insert(fn);
  }

  /** Bridges from the top down to the function, itself not included. Broken bus numbers can make circles; they are cut. */
  path(fn: LspciFunction): readonly LspciFunction[] {
    const above: LspciFunction[] = [];
    for (let at = this.#above(fn); at !== undefined && !above.includes(at); at = this.#above(at)) above.unshift(at);
    return above;
  }

  #above(fn: LspciFunction): LspciFunction | undefined {
    return this.#places.get(fn)?.bridge.function;
  }

  /** With `names`, each function has its name behind it. */
  render(filter: LspciFilter | undefined, names: IdNames | undefined): string {
    const writer = new TreeWriter(this.#bridges, names);
    for (const one of this.#top.children.toReversed()) writer.bridge(one, filter, "");
    return writer.text;
  }

  #insert(fn: LspciFunction): void {
    const { domain, bus: number } = fn.address;
    let at = this.#top.children.find((one) => one.domain === domain) ?? this.#top;
    for (;;) {
      const known = busOf(at, domain, number);
      const below = known === undefined ? at.children.find((one) => holds(one, domain, number)) : undefined;
      if (below === undefined) {
        const bus = known ?? addBus(at, domain, number);
        bus.functions.push(fn);
        this.#places.set(fn, bus);
        return;
      }
      at = below;
    }
  }
}

function bridge(domain: number, primary: number, secondary: number, subordinate: number, fn?: LspciFunction): Bridge {
  return { domain, primary, secondary, subordinate, function: fn, buses: [], children: [] };
}

function bridgeOf(fn: LspciFunction): Bridge | undefined {
  const type = fn.headerLayout;
  if (fn.classCode >>> 8 !== 6 || (type !== 1 && type !== 2)) return undefined;
  return bridge(fn.address.domain, fn.address.bus, fn.config.byte(0x19), fn.config.byte(0x1a), fn);
}

function holds(one: Bridge, domain: number, bus: number): boolean {
  return one.domain === domain && one.secondary <= bus && bus <= one.subordinate;
}

/** The bridge with the narrowest range that has this one's primary bus. */
function parentOf(one: Bridge, candidates: readonly Bridge[]): Bridge | undefined {
  const [top] = candidates;
  const range = ({ subordinate, primary }: Bridge): number => (subordinate - primary) >>> 0;
  let best: Bridge | undefined;
  for (const candidate of candidates) {
    if (candidate === one || (candidate !== top && candidate.domain !== one.domain)) continue;
    if (one.primary < candidate.secondary || one.primary > candidate.subordinate) continue;
    if (best === undefined || best === top || range(best) > range(candidate)) best = candidate;
  }
  return best;
}

function busOf(one: Bridge, domain: number, number: number): Bus | undefined {
  return one.buses.find((bus) => bus.domain === domain && bus.number === number);
}

function addBus(one: Bridge, domain: number, number: number): Bus {
  const bus = { domain, number, bridge: one, functions: [] };
  one.buses.push(bus);
  return bus;
}

class TreeWriter {
  text = "";
  readonly #bridges: ReadonlyMap<LspciFunction, Bridge>;
  readonly #names: IdNames | undefined;

  constructor(bridges: ReadonlyMap<LspciFunction, Bridge>, names: IdNames | undefined) {
    this.#bridges = bridges;
    this.#names = names;
  }

  bridge(one: Bridge, filter: LspciFilter | undefined, before: string): void {
    let line = `${before}-`;
    const shown = one.buses.filter((bus) => this.#busMatches(bus, filter));
    const label = (bus: Bus): string => `[${hex(bus.domain, 4)}:${hex(bus.number, 2)}]-`;
    if (shown.length === 0) {
      this.#end(line);
    } else if (one.buses.length === 1) {
      const [bus] = shown as [Bus];
      this.#bus(bus, filter, one.function === undefined ? line + label(bus) : line);
    } else {
      for (const [index, bus] of shown.entries()) {
        const branch = shown.length === 1 ? "" : index === shown.length - 1 ? "\\-" : "+-";
        this.#bus(bus, filter, `${line}${branch}${label(bus)}`);
        line = indented(line);
      }
    }
  }

  #bus(bus: Bus, filter: LspciFilter | undefined, before: string): void {
    const shown = bus.functions.filter((fn) => this.#matches(fn, filter));
    if (shown.length === 0) {
      this.#end(before);
      return;
    }
    let line = before;
    for (const [index, fn] of shown.entries()) {
      const branch = shown.length === 1 ? "--" : index === shown.length - 1 ? "\\-" : "+-";
      this.#function(fn, filter?.matches(fn) === true ? undefined : filter, line + branch);
      line = indented(line);
    }
  }

  #function(fn: LspciFunction, filter: LspciFilter | undefined, before: string): void {
    const { device, function: number } = fn.address;
    let line = `${before}${hex(device, 2)}.${number}`;
    const one = this.#bridges.get(fn);
    if (one !== undefined) {
      const { secondary, subordinate } = one;
      const range = secondary === subordinate ? hex(secondary, 2) : `${hex(secondary, 2)}-${hex(subordinate, 2)}`;
      this.bridge(one, filter, line + (secondary === 0 ? "-" : `-[${range}]-`));
      return;
    }
    if (this.#names !== undefined) line += `  ${this.#names.vendorAndDevice(fn.vendorId, fn.deviceId)}`;
    this.#end(line);
  }

  #matches(fn: LspciFunction, filter: LspciFilter | undefined): boolean {
    if (filter === undefined || filter.matches(fn)) return true;
    return this.#bridges.get(fn)?.buses.some((bus) => this.#busMatches(bus, filter)) ?? false;
  }

  #busMatches(bus: Bus, filter: LspciFilter | undefined): boolean {
    return filter === undefined || bus.functions.some((fn) => this.#matches(fn, filter));
  }

  #end(line: string): void {
    this.text += line.length >= LINE_LIMIT ? `${line.slice(0, LINE_LIMIT - 1)}...\n` : `${line}\n`;
  }
}

/** What stands before the next branch: lines go on where a branch was not the last. */
function indented(line: string): string {
  return line.replaceAll(/[^+|]/g, " ").replaceAll("+", "|");
}
