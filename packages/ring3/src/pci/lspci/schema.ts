// JSON Schema of what `ring3 lspci --json` prints. Within a version properties are only added; a change of meaning is a new
// version. Integers beyond 2^53 are decimal strings, and what is not known is null.
import { LSPCI_SCHEMA_VERSION } from "./describe.ts";

type Schema = Readonly<Record<string, unknown>>;

const byte: Schema = { type: "integer", minimum: 0, maximum: 0xff };
const word: Schema = { type: "integer", minimum: 0, maximum: 0xffff };
const dword: Schema = { type: "integer", minimum: 0, maximum: 0xffffffff };
const text: Schema = { type: "string" };
const large: Schema = {
  oneOf: [
    { type: "integer", minimum: 0 },
    { type: "string", pattern: "^[0-9]+$" },
  ],
};
const orNull = (schema: Schema): Schema => ({ oneOf: [schema, { type: "null" }] });
const list = (items: Schema): Schema => ({ type: "array", items });
const object = (properties: Readonly<Record<string, Schema>>, description: string): Schema => {
  return { type: "object", description, properties, required: Object.keys(properties) };
};

const register = object(
  {
    name: { type: "string", description: "group and register, as the specification names them: EXP.DEVICE_CONTROL" },
    offset: { ...word, description: "in bytes, from the start of config space" },
    width: { enum: [8, 16, 32], description: "in bits" },
    raw: dword,
    fields: { type: "object", additionalProperties: dword, description: "values by the field's name" },
  },
  "a register",
);
const capability = object(
  {
    kind: { enum: ["standard", "extended"] },
    id: word,
    name: orNull(text),
    offset: word,
    version: orNull({ type: "integer", minimum: 0, maximum: 15 }),
    registers: list(register),
  },
  "a capability, in the order of the lists",
);
const region = object(
  {
    index: { oneOf: [{ type: "integer", minimum: 0, maximum: 5 }, { const: "rom" }] },
    address: large,
    size: orNull(large),
    kind: { enum: ["io", "memory"] },
    prefetchable: { type: "boolean" },
  },
  "a BAR or the expansion ROM",
);
const fn = object(
  {
    address: { type: "string", pattern: "^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]$" },
    vendorId: word,
    deviceId: word,
    classCode: { ...word, description: "base class and subclass" },
    programmingInterface: byte,
    revision: byte,
    subsystemVendorId: orNull(word),
    subsystemId: orNull(word),
    className: text,
    vendorName: text,
    deviceName: text,
    driver: orNull(text),
    modules: list(text),
    irq: dword,
    numaNode: orNull({ type: "integer" }),
    iommuGroup: orNull(text),
    physicalSlot: orNull(text),
    regions: list(region),
    header: list(register),
    capabilities: list(capability),
    problems: { ...list(text), description: "what is odd about the lists of capabilities" },
  },
  "a function",
);

/** JSON Schema (2020-12) of the output of `ring3 lspci --json`. */
export const LSPCI_JSON_SCHEMA: Schema = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title: `ring3 lspci --json, version ${LSPCI_SCHEMA_VERSION}`,
  ...object({ schemaVersion: { const: LSPCI_SCHEMA_VERSION }, functions: list(fn) }, "functions by address"),
};
