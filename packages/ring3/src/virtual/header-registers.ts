// The header of a virtual function: what its declaration says, and what PCI Express hardwires. PCIe 6.0, section 7.5.1.
import { Ring3Error } from "../binary/error.ts";
import { Header, Header0 } from "../pci/header.ts";
import type { Register } from "../pci/register.ts";
import { type BarRegister, type BarShape, barIndexes, barRegisters, barShape, romRange } from "./bar-registers.ts";
import { type ConfigBits, get, put } from "./config-bits.ts";
import type { BarDeclarations, FunctionDeclaration } from "./declaration.ts";

/** Offset of the first base address register, and of the expansion ROM's. */
export const BAR_0 = 0x10;
export const ROM: number = Header0.EXPANSION_ROM.offset;

function checkNumber(name: string, value: number, bits: number): number {
  if (Number.isInteger(value) && value >= 0 && value < 2 ** bits) return value;
  throw new Ring3Error("DECLARATION_INVALID", `${name} is ${value}, no unsigned number of ${bits} bits`);
}

/** The name by which messages call the function. */
export function functionName(declaration: FunctionDeclaration): string {
  const digits = (id: number): string => id.toString(16).padStart(4, "0");
  return declaration.name ?? `${digits(declaration.vendorId)}:${digits(declaration.deviceId)}`;
}

/** Declares the header's registers in `bits`. Throws `DECLARATION_INVALID` for ids that do not fit. */
export function declareHeader(
  bits: ConfigBits,
  declaration: FunctionDeclaration,
  bars: BarDeclarations,
  list: { readonly first: number; readonly express: boolean },
): void {
  const registers = [...Object.values(Header.registers), ...Object.values(Header0.registers)];
  for (const register of registers) bits.declare(register, register.offset);
  const preset = (register: Register, value: number): void => {
    const mask = 2 ** (register.width * 8) - 1;
    bits.preset(register.offset, register.width, mask, value);
  };
  const vendorId = checkNumber("vendorId", declaration.vendorId, 16);
  const deviceId = checkNumber("deviceId", declaration.deviceId, 16);
  if (vendorId === 0xffff) {
    throw new Ring3Error("DECLARATION_INVALID", "vendorId 0xffff means that no function answers; take another");
  }
  const classCode = checkNumber("classCode", declaration.classCode, 24);
  const pin = declaration.interruptPin === undefined ? 0 : "ABCD".indexOf(declaration.interruptPin) + 1;
  if (declaration.interruptPin !== undefined && (pin === 0 || declaration.interruptPin.length !== 1)) {
    throw new Ring3Error("DECLARATION_INVALID", `interruptPin is ${declaration.interruptPin}; take A, B, C or D`);
  }
  preset(Header.VENDOR_ID, vendorId);
  preset(Header.DEVICE_ID, deviceId);
  preset(Header.REVISION_ID, checkNumber("revision", declaration.revision ?? 0, 8));
  preset(Header.PROGRAMMING_INTERFACE, classCode & 0xff);
  preset(Header.SUBCLASS, (classCode >>> 8) & 0xff);
  preset(Header.BASE_CLASS, classCode >>> 16);
  preset(Header.INTERRUPT_PIN, pin);
  preset(Header0.SUBSYSTEM_VENDOR_ID, checkNumber("subsystemVendorId", declaration.subsystemVendorId ?? vendorId, 16));
  preset(Header0.SUBSYSTEM_ID, checkNumber("subsystemId", declaration.subsystemId ?? deviceId, 16));
  preset(Header0.CAPABILITIES_POINTER, list.first);
  const { CAPABILITIES_LIST, IMMEDIATE_READINESS } = Header.STATUS.fields;
  const ready = declaration.immediateReadiness === true ? IMMEDIATE_READINESS.mask : 0;
  preset(Header.STATUS, (list.first === 0 ? 0 : CAPABILITIES_LIST.mask) | ready);
  hardwire(bits, list.express);
  for (const index of barIndexes) shapeBar(bits, BAR_0 + 4 * index, { fixed: 0, writable: 0 });
  for (const index of barIndexes) {
    const bar = bars[index];
    if (bar !== undefined) shapeBars(bits, BAR_0 + 4 * index, barShape(bar));
  }
  const size = romRange(declaration.rom);
  if (size === 0) shapeBar(bits, ROM, { fixed: 0, writable: 0 });
  else shapeBars(bits, ROM, { kind: "rom", size, prefetchable: false });

  // What must be the same in every state of the function: no saved state may change it.
  const { INTERRUPT_STATUS } = Header.STATUS.fields;
  for (const register of registers) {
    if (register === Header.STATUS) continue;
    for (let at = register.offset; at < register.offset + register.width; at++) {
      bits.variable[at] = (bits.writable[at] ?? 0) | (bits.oneToClear[at] ?? 0);
    }
  }
  const status = Header.STATUS.offset;
  for (let at = 0; at < 2; at++) {
    bits.variable[status + at] = (bits.oneToClear[status + at] ?? 0) | ((INTERRUPT_STATUS.mask >>> (8 * at)) & 0xff);
  }
}

/** Gives the registers at `at` the bits of a BAR's shape; address bits that it does not have are dropped. */
export function shapeBars(bits: ConfigBits, at: number, shape: BarShape): void {
  for (const [half, register] of barRegisters(shape).entries()) shapeBar(bits, at + 4 * half, register);
}

function shapeBar(bits: ConfigBits, at: number, { fixed, writable }: BarRegister): void {
  put(bits.writable, at, 4, writable);
  put(bits.variable, at, 4, writable);
  put(bits.initial, at, 4, fixed);
  put(bits.live, at, 4, (get(bits.live, at, 4) & writable) | fixed);
}

/** What no virtual function has: PCI bus cycles that PCI Express dropped, a self-test, and its latency timer. */
function hardwire(bits: ConfigBits, express: boolean): void {
  const { COMMAND } = Header;
  const there = ["IO", "MEMORY", "BUS_MASTER", "PARITY_ERROR_RESPONSE", "SERR_ENABLE", "INTX_DISABLE"] as const;
  bits.restrict(
    COMMAND.offset,
    2,
    there.reduce((mask, name) => mask | COMMAND.fields[name].mask, 0),
  );
  bits.restrict(Header.BIST.offset, 1, 0);
  if (express) bits.restrict(Header.LATENCY_TIMER.offset, 1, 0);
}
