// The tables of docs/mediation-rules.md, from the rule sets themselves.
import {
  type CapabilityRule,
  linux,
  type RegisterRule,
  type RuleBits,
  type RuleSet,
  strict,
  vfio2010,
} from "../packages/ring3/src/mediation/index.ts";
import { maskOf } from "../packages/ring3/src/mediation/rules.ts";
import type { Register } from "../packages/ring3/src/pci/register.ts";

const acts: Readonly<Record<string, string>> = {
  command: "BARs come back first; decoding, bus mastering and INTx follow",
  power: "moves to the power state",
  flr: "starts a function-level reset, reads as 0",
  "device-control":
    "starts a function-level reset, reads as 0; the read request size is passed on, not below the payload size",
  msi: "enabled only while signals are connected",
  vpd: "runs the transfer and flips F",
};

/** Field names where the bits are those of fields, else the mask. */
function bitsText(register: Register, bits: RuleBits): string {
  const mask = maskOf(register, bits);
  const all = 2 ** (8 * register.width) - 1;
  if (mask === 0) return "none";
  if (mask === all) return "all";
  const names = Object.entries(register.fields).filter(([, field]) => (mask & field.mask) >>> 0 === field.mask);
  const named = names.reduce((sum, [, field]) => (sum | field.mask) >>> 0, 0);
  if (named === mask && names.length <= 8) return names.map(([name]) => name).join(", ");
  return `0x${mask.toString(16).padStart(2 * register.width, "0")}`;
}

function row({ register, virtual, writable, cleared = "none", hook, note }: RegisterRule): string {
  const notes = [
    ...(hook === undefined ? [] : [acts[hook] ?? hook]),
    ...(maskOf(register, cleared) === 0 ? [] : [`begins as 0: ${bitsText(register, cleared)}`]),
    ...(note === undefined ? [] : [note]),
  ];
  const at = `0x${register.offset.toString(16).padStart(2, "0")}`;
  return `| ${at} | ${register.name} | ${bitsText(register, virtual)} | ${bitsText(register, writable)} | ${notes.join("; ")} |`;
}

function capability({ group, access, registers, note }: CapabilityRule): string[] {
  const id = `0x${group.id.toString(16).padStart(group.kind === "standard" ? 2 : 4, "0")}`;
  const kind = group.kind === "standard" ? "" : " extended";
  const how = access === "raw" ? "writes go to the hardware as they come" : registers.length === 0 ? "read-only" : "";
  const text = [how, note].filter((part) => part !== undefined && part !== "" && part !== how).join("; ");
  const said = [how, ...(text === "" || text === how ? [] : [text])].filter((part) => part !== "").join("; ");
  return [`| **${id}** | **${group.name}**${kind} | | | ${said} |`, ...registers.map(row)];
}

const gaps = {
  hidden: "read as 0; writes are dropped",
  read: "read the hardware; writes are dropped",
  raw: "reads and writes go to the hardware",
} as const;

function table(rules: RuleSet): string {
  return [
    "| at | register | virtual | writable | |",
    "| --- | --- | --- | --- | --- |",
    "| | **header** | | | |",
    ...rules.header.map(row),
    ...rules.capabilities.flatMap(capability),
    `| | **gaps** | | | ${gaps[rules.gaps]} |`,
  ].join("\n");
}

export function ruleTables(): ReadonlyMap<string, string> {
  return new Map([strict, linux, vfio2010].map((rules) => [rules.name, table(rules)]));
}
