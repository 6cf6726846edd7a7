// From an object of a trace's line to an event: every member is checked, since the file may come from anywhere. What is
// wrong is thrown as a RangeError whose message goes on from "line 7 ".
import type { BarIndex, FunctionIdentity } from "../../pci/function.ts";
import type { AccessEvent, OpenEvent, TraceEvent } from "./event.ts";

type Fields = Readonly<Record<string, unknown>>;

const KINDS = ["intx", "msi", "msix"] as const;
const PERMISSIONS = ["read-write", "read", "write"] as const;
const METHODS = ["flr", "af_flr", "pm", "bus", "device_specific", "acpi", "cxl_bus", "unknown"] as const;
const STATES = ["D0", "D1", "D2", "D3hot", "D3cold", "unknown"] as const;
/** Bytes of one run at most. */
const LARGEST_RUN = 2 ** 24;

export function readEvent(fields: Fields): TraceEvent {
  const user = optional(fields, "user", text);
  const common = {
    t: whole(fields, "t"),
    fn: whole(fields, "fn"),
    ...(user === undefined ? {} : { user }),
  };
  const type = text(fields, "type");
  switch (type) {
    case "config":
    case "bar":
    case "rom":
      return { ...common, ...readAccess(type, fields) };
    case "open":
      return { ...common, ...readOpen(fields) };
    case "interrupts":
      return {
        ...common,
        type,
        kind: choice(fields, "kind", KINDS),
        first: whole(fields, "first"),
        count: whole(fields, "count"),
      };
    case "interrupt":
      return {
        ...common,
        type,
        kind: choice(fields, "kind", KINDS),
        vector: whole(fields, "vector"),
        count: whole(fields, "count"),
      };
    case "map": {
      const permission = choice(fields, "permission", PERMISSIONS);
      return { ...common, type, ...mapping(fields), permission };
    }
    case "unmap":
      return { ...common, type, ...mapping(fields) };
    case "memory":
      return {
        ...common,
        type,
        by: choice(fields, "by", ["driver", "device"]),
        map: whole(fields, "map"),
        offset: address(fields, "offset"),
        bytes: bytes(fields, "bytes"),
      };
    case "reset": {
      const method = optional(fields, "method", (from, name) => choice(from, name, METHODS));
      return { ...common, type, ...(method === undefined ? {} : { method }), ...ending(fields) };
    }
    case "power":
      return { ...common, type, state: choice(fields, "state", STATES), ...ending(fields) };
    case "event":
      return { ...common, type, name: text(fields, "name"), detail: details(fields) };
    case "fault":
      return { ...common, type, fault: text(fields, "fault"), description: text(fields, "description") };
    case "close":
      return { ...common, type, reason: text(fields, "reason") };
    default:
      throw new RangeError(`has the unknown type ${JSON.stringify(type)}`);
  }
}

function readAccess(type: "config" | "bar" | "rom", fields: Fields): Omit<AccessEvent, "t" | "fn" | "user"> {
  const run = optional(fields, "bytes", bytes);
  const width = run === undefined ? oneOf(fields, "width", [1, 2, 4, 8] as const) : 0;
  const value = optional(fields, "value", (from, name) => number64(from, name, width));
  const register = optional(fields, "register", text);
  const names = fields["fields"] === undefined ? {} : record(fields, "fields");
  for (const name of Object.keys(names)) whole(names, name);
  return {
    type,
    op: choice(fields, "op", ["read", "write"]),
    ...(type === "bar" ? { bar: barIndex(fields, "bar") } : {}),
    offset: address(fields, "offset"),
    width,
    ...(value === undefined ? {} : { value }),
    ...(run === undefined ? {} : { bytes: run }),
    ...(register === undefined ? {} : { decoded: { register, fields: names as Record<string, number> } }),
    ...ending(fields),
  };
}

function readOpen(fields: Fields): Omit<OpenEvent, "t" | "fn" | "user"> {
  const identity = record(fields, "identity");
  for (const name of ["vendorId", "deviceId", "subsystemVendorId", "subsystemId", "revision", "classCode"])
    whole(identity, name);
  text(identity, "address");
  text(identity, "backend");
  const vectors = record(fields, "interrupts");
  const registers = optional(fields, "registers", text);
  return {
    type: "open",
    identity: { modelVersion: undefined, ...identity } as unknown as FunctionIdentity,
    side: choice(fields, "side", ["driver", "device"]),
    bars: list(fields, "bars").map((bar) => {
      const size = whole(bar, "size");
      if (size < 1 || !Number.isInteger(Math.log2(size)))
        throw new RangeError(`has a BAR of ${size} bytes, no power of two`);
      return {
        index: barIndex(bar, "index"),
        kind: choice(bar, "kind", ["io", "memory32", "memory64"]),
        size,
        prefetchable: bar["prefetchable"] === true,
      };
    }),
    interrupts: { intx: whole(vectors, "intx"), msi: whole(vectors, "msi"), msix: whole(vectors, "msix") },
    config: bytes(fields, "config"),
    ...(registers === undefined ? {} : { registers }),
    memory: fields["memory"] === true,
    passthrough: numbers(fields, "passthrough").filter((index): index is BarIndex => index < 6),
  };
}

function ending(fields: Fields): { took: number; error?: string } {
  const error = optional(fields, "error", text);
  return { took: whole(fields, "took"), ...(error === undefined ? {} : { error }) };
}

function mapping(fields: Fields): { map: number; iova: number; size: number } {
  return { map: whole(fields, "map"), iova: address(fields, "iova"), size: whole(fields, "size") };
}

function details(fields: Fields): Record<string, string | number> {
  const detail = record(fields, "detail");
  const odd = Object.entries(detail).find(([, value]) => typeof value !== "string" && typeof value !== "number");
  if (odd !== undefined) throw new RangeError(`has detail.${odd[0]}, which is no text and no number`);
  return detail as Record<string, string | number>;
}

// --- Members of one kind -----------------------------------------------------------------------------------------------

function optional<T>(fields: Fields, name: string, read: (fields: Fields, name: string) => T): T | undefined {
  return fields[name] === undefined ? undefined : read(fields, name);
}

function wrong(fields: Fields, name: string, what: string): RangeError {
  const found = fields[name];
  const shown = JSON.stringify(found) ?? "nothing";
  return new RangeError(
    `has "${name}", which is not ${what}: ${shown.length > 40 ? `${shown.slice(0, 40)}...` : shown}`,
  );
}

function text(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== "string") throw wrong(fields, name, "a text");
  return value;
}

function whole(fields: Fields, name: string): number {
  const value = fields[name];
  if (!(Number.isSafeInteger(value) && (value as number) >= 0)) throw wrong(fields, name, "a whole number");
  return value as number;
}

function choice<const T extends string>(fields: Fields, name: string, choices: readonly T[]): T {
  const found = choices.find((one) => one === fields[name]);
  if (found === undefined) throw wrong(fields, name, `one of ${choices.join(", ")}`);
  return found;
}

function oneOf<const T extends number>(fields: Fields, name: string, choices: readonly T[]): T {
  const found = choices.find((one) => one === fields[name]);
  if (found === undefined) throw wrong(fields, name, `one of ${choices.join(", ")}`);
  return found;
}

function barIndex(fields: Fields, name: string): BarIndex {
  return oneOf(fields, name, [0, 1, 2, 3, 4, 5] as const);
}

/** `0x` and hexadecimal digits, below 2^53. */
function address(fields: Fields, name: string): number {
  const value = text(fields, name);
  const found = /^0x[0-9a-f]{1,14}$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(found)) throw wrong(fields, name, "an address as 0x1000");
  return found;
}

function number64(fields: Fields, name: string, width: number): number | bigint {
  const value = text(fields, name);
  if (!/^0x[0-9a-f]+$/.test(value) || value.length > 2 + 2 * width)
    throw wrong(fields, name, `hexadecimal of ${width} bytes`);
  return width === 8 ? BigInt(value) : Number(value);
}

function bytes(fields: Fields, name: string): Uint8Array {
  const value = text(fields, name);
  if (!/^([0-9a-f]{2})*$/.test(value) || value.length > 2 * LARGEST_RUN)
    throw wrong(fields, name, "bytes in hexadecimal");
  return Uint8Array.from({ length: value.length / 2 }, (_, i) => Number.parseInt(value.slice(2 * i, 2 * i + 2), 16));
}

function record(fields: Fields, name: string): Fields {
  const value = fields[name];
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(fields, name, "an object");
  return value as Fields;
}

function list(fields: Fields, name: string): readonly Fields[] {
  const value = fields[name];
  if (!Array.isArray(value) || value.length > 64) throw wrong(fields, name, "a short list");
  return value.map((_, index) => record(value as unknown as Fields, String(index)));
}

function numbers(fields: Fields, name: string): readonly number[] {
  const value = fields[name];
  if (!Array.isArray(value) || value.length > 64) throw wrong(fields, name, "a short list");
  return value.map((_, index) => whole(value as unknown as Fields, String(index)));
}
