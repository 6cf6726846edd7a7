// setpci's little language: BASE[+OFFSET][.B|.W|.L][@NUMBER][=VALUE[:MASK],...], all numbers hexadecimal. What it accepts and
// what it refuses is what setpci accepts and refuses; the sentences are ours.
import { Ring3Error } from "../../binary/error.ts";
import { findRegisterName, registerNames } from "./register-names.ts";

/** A value to write; bits outside the mask keep what they have. Both of 32 bits, however wide the register is. */
export interface MaskedValue {
  readonly value: number;
  readonly mask: number;
}

/** One word of a setpci command line. */
export interface SetpciOperation {
  readonly kind: "raw";
  readonly text: string;
  /** What the address counts from: config space itself, or the capability with this id. */
  readonly base: "header" | "standard" | "extended";
  readonly capabilityId: number;
  /** Which of several capabilities with this id, from 0. */
  readonly instance: number;
  readonly offset: number;
  readonly width: 1 | 2 | 4;
  /** The name that was given, and the header types that have the register (all where empty). */
  readonly name: string | undefined;
  readonly headerTypes: readonly number[];
  /** Written to consecutive registers; empty for a read. */
  readonly values: readonly MaskedValue[];
}

const CONFIG_END = 0x1000;

/** Parses one operation. Throws `SETPCI_SYNTAX`, saying what may stand there. */
export function parseSetpciOperation(text: string): SetpciOperation {
  const [left, valueText] = cut(text, "=");
  const [beforeNumber, number] = cut(left, "@");
  const [beforeWidth, widthText] = cut(beforeNumber, ".");
  const [base, offsetText] = cut(beforeWidth, "+");
  const explicitWidth = widthText === undefined ? undefined : widthOf(text, widthText);
  const instance = number === undefined ? 0 : hexadecimal(number);
  if (instance === undefined || instance > 0x7fff_ffff)
    refuse(text, `"@${number}" counts capabilities from 0, in hexadecimal`);
  const target = targetOf(text, base);
  const width = explicitWidth ?? target.width;
  if (width === 0) refuse(text, `how wide is the access? Append .B, .W or .L to "${left}"`);
  const further = offsetText === undefined ? 0 : hexadecimal(offsetText);
  if (further === undefined || further >= CONFIG_END)
    refuse(text, `"+${offsetText}" is no hexadecimal offset below 1000`);
  const offset = target.offset + further;
  const count = valueText === undefined ? 0 : valueText.split(",").length;
  if (offset >= CONFIG_END || offset + width * Math.max(1, count) > CONFIG_END) {
    refuse(text, `register ${offset.toString(16)} lies outside the 1000 (hexadecimal) bytes of config space`);
  }
  if (offset % width !== 0) refuse(text, `register ${offset.toString(16)} is not aligned to its ${width} bytes`);
  const values = valueText === undefined ? [] : valuesOf(text, valueText, width);
  const { kind, id, name, headerTypes } = target;
  return { kind: "raw", text, base: kind, capabilityId: id, instance, offset, width, name, headerTypes, values };
}

/** Whether setpci knows the base of this word, so that the rest is its syntax and not a field's name. */
export function isSetpciBase(text: string): boolean {
  const [base = ""] = text.split(/[+.@=]/);
  return (
    hexadecimal(base) !== undefined || findRegisterName(base) !== undefined || capabilityNumber(base) !== undefined
  );
}

function cut(text: string, separator: string): [before: string, after: string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

interface Target {
  readonly kind: "header" | "standard" | "extended";
  readonly id: number;
  readonly offset: number;
  readonly width: 0 | 1 | 2 | 4;
  readonly name: string | undefined;
  readonly headerTypes: readonly number[];
}

function targetOf(text: string, base: string): Target {
  const address = hexadecimal(base);
  if (address !== undefined) {
    return { kind: "header", id: 0, offset: address, width: 0, name: undefined, headerTypes: [] };
  }
  const found = findRegisterName(base);
  if (found !== undefined) return found;
  const capability = capabilityNumber(base);
  if (capability !== undefined) return { ...capability, offset: 0, width: 0, name: undefined, headerTypes: [] };
  const upper = base.toUpperCase();
  const near = registerNames.find(({ name }) => name.includes(upper) || (upper !== "" && upper.includes(name)));
  const meant =
    near === undefined ? "--dumpregs lists the names" : `did you mean ${near.name}? --dumpregs lists the names`;
  return refuse(text, `there is no register "${base}"; ${meant}`);
}

/** `CAPnn` and `ECAPnnn`. */
function capabilityNumber(base: string): Pick<Target, "kind" | "id"> | undefined {
  const standard = /^cap/i.test(base) ? hexadecimal(base.slice(3)) : undefined;
  if (standard !== undefined && standard < 0x100) return { kind: "standard", id: standard };
  const extended = /^ecap/i.test(base) ? hexadecimal(base.slice(4)) : undefined;
  if (extended !== undefined && extended < 0x1000) return { kind: "extended", id: extended };
  return undefined;
}

function widthOf(text: string, width: string): 1 | 2 | 4 {
  const widths: Readonly<Record<string, 1 | 2 | 4>> = { B: 1, W: 2, L: 4 };
  return widths[width.toUpperCase()] ?? refuse(text, `".${width}" is no width: .B, .W and .L are 1, 2 and 4 bytes`);
}

function valuesOf(text: string, list: string, width: 1 | 2 | 4): MaskedValue[] {
  if (list === "") refuse(text, "the value is missing");
  const limit = 2 ** (width * 8) - 1;
  const read = (what: string, digits: string): number => {
    const value = hexadecimal(digits);
    if (value === undefined) return refuse(text, `"${digits}" is no ${what}: write it in hexadecimal, as 1f`);
    // Small negative numbers in 32 bits are taken, and cut off.
    if (value > limit && value < 0xffff_ffff - limit)
      refuse(text, `the ${what} ${digits} does not fit into ${width} bytes`);
    return value;
  };
  return list.split(",").map((item) => {
    const [digits, maskDigits] = cut(item, ":");
    // Without a value but with a mask, setpci clears what the mask names.
    const value = digits === "" && maskDigits !== undefined ? 0 : read("value", digits);
    if (maskDigits === undefined) return { value, mask: 0xffff_ffff };
    const mask = read("mask", maskDigits);
    return { value: (value & mask) >>> 0, mask };
  });
}

/** What C's strtoul takes in base 16, up to 32 bits; `undefined` for anything else. */
function hexadecimal(text: string): number | undefined {
  const digits = /^[ \t\n\v\f\r]*\+?(?:0x(?=[0-9a-f]))?([0-9a-f]+)$/i.exec(text)?.[1];
  const value = digits === undefined ? Number.NaN : Number.parseInt(digits, 16);
  return value <= 0xffff_ffff ? value : undefined;
}

function refuse(text: string, why: string): never {
  throw new Ring3Error("SETPCI_SYNTAX", `"${text}": ${why}`);
}
