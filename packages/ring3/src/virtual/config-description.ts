// Config space as a list of registers with what each bit does in this function: the declaration's kinds with everything that
// is hardwired taken off. Bytes that a builder filled without naming them come as registers of four bytes.
import { Header, Header0 } from "../pci/header.ts";
import { type Register, registerPath } from "../pci/register.ts";
import { type ConfigBits, get } from "./config-bits.ts";
import type { PlacedCapability } from "./placement.ts";

/** One register of a function. Masks are in the register's own bits. */
export interface RegisterDescription {
  /** `HEADER.COMMAND`, `PM.PMCSR`, `VSEC[1].HEADER` for the second of its kind. */
  readonly name: string;
  /** From the start of config space. */
  readonly offset: number;
  /** In bytes. */
  readonly width: 1 | 2 | 4;
  /** The declaration, where a register was declared. */
  readonly register: Register | undefined;
  /** Value after power-on. */
  readonly reset: number;
  /** Bits that software writes. */
  readonly writable: number;
  /** Bits that software clears by writing one. */
  readonly oneToClear: number;
  /** Of the bits that can change those that no reset touches: sticky and HwInit. */
  readonly kept: number;
  /** Bits that a function-level reset leaves besides. */
  readonly keptByFunctionReset: number;
}

/** All registers by offset: the header's, the capabilities' heads and their own, and filled bytes. */
export function describeRegisters(
  bits: ConfigBits,
  placed: readonly PlacedCapability[],
): readonly RegisterDescription[] {
  const found: RegisterDescription[] = [];
  const named = new Uint8Array(bits.extent);
  const add = (name: string, offset: number, width: 1 | 2 | 4, register: Register | undefined): void => {
    named.fill(1, offset, offset + width);
    found.push({
      name,
      offset,
      width,
      register,
      reset: get(bits.initial, offset, width),
      writable: get(bits.writable, offset, width),
      oneToClear: get(bits.oneToClear, offset, width),
      kept: (get(bits.kept, offset, width) & get(bits.variable, offset, width)) >>> 0,
      keptByFunctionReset: (get(bits.keptByFunctionReset, offset, width) & get(bits.variable, offset, width)) >>> 0,
    });
  };
  for (const register of [...Object.values(Header.registers), ...Object.values(Header0.registers)]) {
    add(registerPath(register), register.offset, register.width, register);
  }
  const seen = new Map<string, number>();
  for (const { builder, entry } of placed) {
    const { group, size } = builder;
    const count = seen.get(group.name) ?? 0;
    seen.set(group.name, count + 1);
    const name = count === 0 ? group.name : `${group.name}[${count}]`;
    add(`${name}.HEAD`, entry.offset, entry.kind === "standard" ? 2 : 4, undefined);
    for (const register of builder.registers ?? Object.values(group.registers)) {
      if (register.offset + register.width > size) continue;
      add(`${name}.${register.name}`, entry.offset + register.offset, register.width, register);
    }
    for (let at = entry.offset; at < entry.offset + size; at++) {
      if (named[at] === 1) continue;
      const whole =
        at % 4 === 0 && at + 4 <= entry.offset + size && named.subarray(at, at + 4).every((byte) => byte === 0);
      const width = whole ? 4 : 1;
      const used = [bits.initial, bits.writable].some((section) => get(section, at, width) !== 0);
      if (used) add(`${name}+0x${(at - entry.offset).toString(16)}`, at, width, undefined);
      at += width - 1;
    }
  }
  return found.sort((one, other) => one.offset - other.offset);
}
