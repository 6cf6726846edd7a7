// Keeps the tables of docs/ true: each lies between two markers and is made from a declaration: registers and masks of
// functions that have everything, the mediator's rules, the attacks of its tests. `docs.ts` writes them, `docs.ts --check`
// only compares.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { barRegisters } from "../packages/ring3/src/virtual/bar-registers.ts";
import * as virtual from "../packages/ring3/src/virtual/index.ts";
import {
  type CapabilityBuilder,
  type FunctionDeclaration,
  type RegisterDescription,
  VirtualConfig,
} from "../packages/ring3/src/virtual/index.ts";
import { attackTables } from "./docs-attacks.ts";
import { ruleTables } from "./docs-rules.ts";
import { configurationTables } from "./docs-settings.ts";

const folder = join(import.meta.dirname, "..", "docs");
const MiB = 2 ** 20;

const express: readonly CapabilityBuilder[] = [
  virtual.pm({ d1: true, d2: true, pme: ["D0", "D3hot"] }),
  virtual.msi({ vectors: 32, perVectorMasking: true, extendedData: true }),
  virtual.msix({ vectors: 2048, table: { bar: 4 } }),
  virtual.pcie({
    deviceCapabilities2: {
      COMPLETION_TIMEOUT_RANGES_SUPPORTED: 0xf,
      LTR_MECHANISM_SUPPORTED: 1,
      TEN_BIT_TAG_REQUESTER_SUPPORTED: 1,
      OBFF_SUPPORTED: 1,
    },
  }),
  virtual.vpd({ content: Uint8Array.of(0x78) }),
  virtual.subsystem({ subsystemVendorId: 0, subsystemId: 0 }),
  virtual.vendorSpecific({ content: new Uint8Array() }),
  virtual.aer({ headers: 32, prefixLog: true, ecrc: true }),
  virtual.dsn({ serialNumber: "00-00-00-00-00-00-00-00" }),
  virtual.ari(),
  virtual.acs({ directTranslated: true }),
  virtual.ats(),
  virtual.pasid({ executePermission: true, privilegedMode: true }),
  virtual.ltr(),
  virtual.rebar({ bars: [{ bar: 0, sizes: [MiB, 2 * MiB] }] }),
  virtual.vsec({ id: 0, content: new Uint8Array() }),
  virtual.dvsec({ vendorId: 0, id: 0, content: new Uint8Array() }),
];

const declaration: FunctionDeclaration = {
  vendorId: 0,
  deviceId: 0,
  classCode: 0,
  bars: { 0: { size: MiB } },
  rom: new Uint8Array(2048),
  capabilities: express,
};

const hex = (value: number): string => (value < 10 ? String(value) : `0x${value.toString(16)}`);
const digits = (value: number, count: number): string => `0x${value.toString(16).padStart(count, "0")}`;

/** What masks do not tell. */
const remarks: Readonly<Record<string, string>> = {
  "EXP.DEVICE_CONTROL.INITIATE_FUNCTION_LEVEL_RESET": "acts, reads as 0",
  "AF.CONTROL.INITIATE_FLR": "acts, reads as 0",
  "PM.PMCSR.POWER_STATE": "acts",
  "VPD.ADDRESS.F": "acts",
  "REBAR.CONTROL_0.BAR_SIZE": "acts",
  ...Object.fromEntries([0, 1, 2, 3, 4, 5].map((index) => [`HEADER0.BAR${index}.VALUE`, "by size and kind"])),
};

/** What a field of the declaration is in a function: the kinds, and what became of them. */
interface Row {
  readonly bits: string;
  readonly field: string;
  readonly kind: string;
  readonly reset: string;
  readonly here: string;
}

function fieldRows({
  name,
  register,
  reset,
  writable,
  oneToClear,
  kept,
  keptByFunctionReset,
}: RegisterDescription): Row[] {
  if (register === undefined) return [];
  return Object.entries(register.fields).map(([field, declared]) => {
    const { kind, mask, offset, width } = declared;
    const value = declared.get(reset);
    const software = kind.startsWith("RW");
    const there = (kind.startsWith("RW1C") ? oneToClear : writable) & mask;
    const notes: string[] = [];
    const remark = remarks[`${name}.${field}`];
    if (remark !== undefined) notes.push(remark);
    else if (software && there === 0) notes.push(`fixed at ${hex(value)}`);
    else if (software && there !== (mask | 0)) notes.push("in part");
    else if ((kept & mask) !== 0) notes.push("every reset keeps it");
    else if ((keptByFunctionReset & mask) !== 0) notes.push("kept by FLR and D3hot");
    const bits = width === 1 ? String(offset) : `${offset + width - 1}:${offset}`;
    return { bits, field, kind, reset: hex(value), here: notes.join(", ") };
  });
}

/** The registers whose names start with `prefix`, offsets from `start` on. */
function registerTable(registers: readonly RegisterDescription[], prefixes: readonly string[], start: number): string {
  const lines = [
    "| at | register | bits | field | kind | reset | here |",
    "| --- | --- | --- | --- | --- | --- | --- |",
  ];
  for (const description of registers) {
    const { register } = description;
    if (register === undefined || !prefixes.includes(description.name.split(".")[0] ?? "")) continue;
    const at = digits(description.offset - start, 2);
    const { name } = register;
    const rows = fieldRows(description);
    const first = rows[0];
    // What an endpoint does not have at all is one line.
    const absent = rows.every(({ here, kind }) => here === "fixed at 0" || (!kind.startsWith("RW") && here === ""));
    if (
      first !== undefined &&
      description.reset === 0 &&
      absent &&
      rows.length > 1 &&
      rows.some(({ here }) => here !== "")
    ) {
      lines.push(`| ${at} | ${name} | ${8 * register.width - 1}:0 | all | | 0 | reads as 0 |`);
      continue;
    }
    for (const [index, { bits, field, kind, reset, here }] of rows.entries()) {
      const place = index === 0 ? `| ${at} | ${name} |` : "| | |";
      lines.push(`${place} ${bits} | ${field} | ${kind} | ${reset} |${here === "" ? "" : ` ${here}`} |`);
    }
  }
  return lines.join("\n");
}

/** Examples of each kind of BAR: what reads back after ones were written. */
function barTable(): string {
  const shapes = [
    { kind: "memory32", size: 4096, prefetchable: false },
    { kind: "memory32", size: MiB, prefetchable: true },
    { kind: "memory64", size: MiB, prefetchable: true },
    { kind: "memory64", size: 2 ** 33, prefetchable: true },
    { kind: "io", size: 64, prefetchable: false },
    { kind: "rom", size: 65_536, prefetchable: false },
  ] as const;
  const lines = ["| kind | size | cleared | after writing ones | upper register |", "| --- | --- | --- | --- | --- |"];
  for (const shape of shapes) {
    const [low, high] = barRegisters(shape);
    const kind = `${shape.kind}${shape.prefetchable ? ", prefetchable" : ""}`;
    const ones = ((low?.fixed ?? 0) | (low?.writable ?? 0)) >>> 0;
    const upper = high === undefined ? "" : digits(high.writable, 8);
    lines.push(
      `| ${kind} | ${digits(shape.size, 1)} | ${digits(low?.fixed ?? 0, 8)} | ${digits(ones, 8)} | ${upper} |`,
    );
  }
  return lines.join("\n");
}

/** All tables of virtual-pci-function.md by the name in their marker. */
function functionTables(): ReadonlyMap<string, string> {
  const config = new VirtualConfig(declaration);
  const registers = config.registers();
  const found = new Map([
    ["HEADER", registerTable(registers, ["HEADER", "HEADER0"], 0)],
    ["BARS", barTable()],
  ]);
  const conventional = new VirtualConfig({ ...declaration, capabilities: [virtual.af()] });
  for (const one of [config, conventional]) {
    const all = one.registers();
    for (const head of all.filter(({ name }) => name.endsWith(".HEAD"))) {
      const name = head.name.slice(0, -".HEAD".length);
      found.set(name, registerTable(all, [name], head.offset));
    }
  }
  return found;
}

/** Each document with where its tables come from. */
const documents: Readonly<Record<string, () => ReadonlyMap<string, string>>> = {
  "virtual-pci-function.md": functionTables,
  "mediation-rules.md": ruleTables,
  "ring3d.md": configurationTables,
  "security.md": attackTables,
};

/** The document with its tables as they should be. Throws where a marker and a table do not match. */
function documentWithTables(name: string, text: string, tables: ReadonlyMap<string, string>): string {
  const left = new Map(tables);
  const next = text.replace(/^<!-- table (\S+) -->\n[\s\S]*?^<!-- end -->$/gm, (_, marker: string) => {
    const table = left.get(marker);
    if (table === undefined) throw new Error(`docs/${name} asks for a table ${marker} that there is not`);
    left.delete(marker);
    return `<!-- table ${marker} -->\n${table}\n<!-- end -->`;
  });
  if (left.size > 0) throw new Error(`docs/${name} lacks the tables ${[...left.keys()].join(", ")}`);
  return next;
}

/** Throws where a document's tables are not those of the declarations; returns how many there are. */
export function checkDocs(): number {
  let count = 0;
  for (const [name, make] of Object.entries(documents)) {
    const text = readFileSync(join(folder, name), "utf8");
    const tables = make();
    if (documentWithTables(name, text, tables) !== text) {
      throw new Error(`the tables of docs/${name} are out of date: run node scripts/docs.ts`);
    }
    count += tables.size;
  }
  return count;
}

if (import.meta.main) {
  if (process.argv[2] === "--check") {
    console.log(`${checkDocs()} tables of docs/ are true`);
  } else {
    for (const [name, make] of Object.entries(documents)) {
      const path = join(folder, name);
      writeFileSync(path, documentWithTables(name, readFileSync(path, "utf8"), make()));
    }
  }
}
