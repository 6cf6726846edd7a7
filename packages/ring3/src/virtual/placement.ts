// Where capabilities lie: those with a wished place there, the others in the first gap, in list order; the chain of pointers
// follows the list. PCI Local Bus 3.0, section 6.7 (standard); PCIe 6.0, sections 7.5.1.1.11 and 7.6 (extended).
import { Ring3Error } from "../binary/error.ts";
import { PciExpress } from "../pci/capabilities/pci-express.ts";
import type { CapabilityEntry } from "../pci/capability-walk.ts";
import type { RegisterGroup } from "../pci/register.ts";
import type { CapabilityBuilder } from "./capability-builder.ts";

/** A builder with its place; `next` is the offset of the capability after it, 0 at the end. */
export interface PlacedCapability {
  readonly builder: CapabilityBuilder;
  readonly entry: CapabilityEntry;
  readonly next: number;
}

/** All capabilities of a function. */
export interface Placement {
  readonly size: 256 | 4096;
  readonly placed: readonly PlacedCapability[];
  /** Offset of the first standard capability; 0 without one. */
  readonly first: number;
  /** End of the last register. */
  readonly extent: number;
}

interface Span {
  readonly start: number;
  readonly end: number;
  readonly name: string;
}

const hex = (value: number): string => `0x${value.toString(16)}`;
const bounds = { standard: { start: 0x40, end: 0x100 }, extended: { start: 0x100, end: 0x1000 } } as const;

/** Whether a builder makes the PCI Express capability, which gives a function its 4096 bytes. */
export function isExpress(builder: CapabilityBuilder): boolean {
  return builder.group.kind === "standard" && builder.group.id === PciExpress.id;
}

/** Places all capabilities. Throws `CAPABILITY_CONFLICT` with the names of both sides. */
export function placeCapabilities(builders: readonly CapabilityBuilder[]): Placement {
  const express = builders.some(isExpress);
  const seen = new Map<string, RegisterGroup>();
  for (const { group, size, repeatable = false } of builders) {
    if (group.kind === "header") throw new Ring3Error("DECLARATION_INVALID", `${group.name} is no capability`);
    const least = group.kind === "standard" ? 2 : 4;
    if (!Number.isInteger(size) || size < least) {
      throw new Ring3Error("DECLARATION_INVALID", `${group.name} says that it takes ${size} bytes; at least ${least}`);
    }
    const key = `${group.kind} ${group.id}`;
    const other = seen.get(key);
    if (other !== undefined && !repeatable) {
      const both = other.name === group.name ? `two ${group.name} capabilities` : `${other.name} and ${group.name}`;
      throw new Ring3Error("CAPABILITY_CONFLICT", `${both} share the id ${hex(group.id)}, of which a function has one`);
    }
    seen.set(key, group);
    if (group.kind === "extended" && !express) {
      throw new Ring3Error(
        "CAPABILITY_CONFLICT",
        `${group.name} lies in extended config space, which only PCI Express functions have; add pcie()`,
      );
    }
  }
  const standard = place("standard", builders);
  const extended = place("extended", builders);
  const placed = [...standard, ...extended];
  const end = Math.max(0x40, ...placed.map(({ builder, entry }) => entry.offset + builder.size));
  return {
    size: express ? 4096 : 256,
    placed,
    first: standard[0]?.entry.offset ?? 0,
    extent: Math.ceil(end / 4) * 4,
  };
}

function place(kind: CapabilityEntry["kind"], all: readonly CapabilityBuilder[]): PlacedCapability[] {
  const builders = all.filter(({ group }) => group.kind === kind);
  const taken: Span[] = [];
  const offsets = new Map<CapabilityBuilder, number>();
  const put = (builder: CapabilityBuilder, start: number): void => {
    const index = taken.findIndex((span) => span.start > start);
    taken.splice(index < 0 ? taken.length : index, 0, {
      start,
      end: start + Math.ceil(builder.size / 4) * 4,
      name: builder.group.name,
    });
    offsets.set(builder, start);
  };
  const order = new Set(builders);
  if (order.size < builders.length) {
    throw new Ring3Error("CAPABILITY_CONFLICT", "one capability builder stands in the list twice; make another");
  }
  for (const builder of builders) if (builder.at !== undefined) put(builder, wished(kind, builder, builder.at, taken));
  // The chain of extended capabilities has no pointer to its first: it starts at 0x100.
  const head = builders.find((builder) => offsets.get(builder) === 0x100);
  if (kind === "extended" && head === undefined && builders.length > 0) {
    const first = builders.find(({ at }) => at === undefined);
    if (first === undefined) {
      throw new Ring3Error("CAPABILITY_CONFLICT", "no extended capability lies at 0x100, where their chain starts");
    }
    put(first, gap(kind, first, taken, true));
  }
  for (const builder of builders) if (!offsets.has(builder)) put(builder, gap(kind, builder, taken, false));

  const chain = kind === "extended" ? atFront(builders, (builder) => offsets.get(builder) === 0x100) : builders;
  return chain.map((builder, index) => {
    const next = chain[index + 1];
    const offset = offsets.get(builder) ?? 0;
    const version = kind === "extended" ? (builder.version ?? 1) : 0;
    return {
      builder,
      entry: { kind, id: builder.group.id, version, offset },
      next: next === undefined ? 0 : (offsets.get(next) ?? 0),
    };
  });
}

function atFront<T>(items: readonly T[], isFirst: (item: T) => boolean): T[] {
  return [...items.filter(isFirst), ...items.filter((item) => !isFirst(item))];
}

/** `at`, if the capability can lie there. */
function wished(kind: CapabilityEntry["kind"], builder: CapabilityBuilder, at: number, taken: readonly Span[]): number {
  const { start, end } = bounds[kind];
  const name = builder.group.name;
  if (!Number.isInteger(at) || at % 4 !== 0) {
    throw new Ring3Error("CAPABILITY_CONFLICT", `${name} is wished at ${at}; capabilities lie at multiples of 4`);
  }
  const last = at + builder.size;
  if (at < start || last > end) {
    throw new Ring3Error(
      "CAPABILITY_CONFLICT",
      `${name} at ${hex(at)} takes ${builder.size} bytes; ${kind} capabilities lie from ${hex(start)} to ${hex(end - 1)}`,
    );
  }
  const other = taken.find((span) => span.start < last && at < span.end);
  if (other !== undefined) {
    throw new Ring3Error(
      "CAPABILITY_CONFLICT",
      `${name} at ${hex(at)} to ${hex(last - 1)} overlaps ${other.name} at ${hex(other.start)} to ${hex(other.end - 1)}`,
    );
  }
  return at;
}

/** The first gap that holds the capability; with `head` the only one is the first of the area. */
function gap(kind: CapabilityEntry["kind"], builder: CapabilityBuilder, taken: readonly Span[], head: boolean): number {
  const { start, end } = bounds[kind];
  const { group, size } = builder;
  let at: number = start;
  for (const span of taken) {
    if (at + size <= span.start) return at;
    if (head) {
      throw new Ring3Error(
        "CAPABILITY_CONFLICT",
        `${group.name} opens the chain at ${hex(at)}, where its ${size} bytes overlap ${span.name} at ${hex(span.start)}`,
      );
    }
    at = Math.max(at, span.end);
  }
  if (at + size <= end) return at;
  throw new Ring3Error(
    "CAPABILITY_CONFLICT",
    `${group.name} finds no room for its ${size} bytes between ${hex(start)} and ${hex(end - 1)}, beside ` +
      taken.map(({ name }) => name).join(", "),
  );
}
