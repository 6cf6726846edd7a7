// Text of vendor-specific capabilities: those of virtio (1.3, section 4.1.4) and of Intel's host bridges, whose CAPID0
// registers are in the datasheets of the processors since the second generation.
import { flag, hex } from "./layout.ts";
import type { Printer } from "./printer.ts";

const VIRTIO_VENDOR = 0x1af4;
const INTEL_VENDOR = 0x8086;
const SHARED_MEMORY = 8;
const VIRTIO_TYPES: Readonly<Record<number, string>> = {
  1: "CommonCfg",
  2: "Notify",
  3: "ISR",
  4: "DeviceCfg",
  [SHARED_MEMORY]: "SharedMemory",
};

export function showVendorSpecific(printer: Printer, at: number, header: number): void {
  const { vendorId, deviceId } = printer.shown;
  printer.print("Vendor Specific Information: ");
  const isVirtio = vendorId === VIRTIO_VENDOR && deviceId >= 0x1000 && deviceId <= 0x107f;
  const decoded = isVirtio
    ? showVirtio(printer, at, header)
    : vendorId === INTEL_VENDOR && showIntel(printer, at, header);
  if (!decoded) printer.print(`Len=${hex(header & 0xff, 2)} <?>\n`);
}

function showVirtio(printer: Printer, at: number, header: number): boolean {
  const { config } = printer;
  const [length, type] = [header & 0xff, header >>> 8];
  if (length < 16 || !config.fetch(at, length)) return false;
  printer.print(`VirtIO: ${VIRTIO_TYPES[type] ?? "<unknown>"}\n`);
  if (!printer.detailed) return true;
  const bar = config.byte(at + 4);
  const [offset, size] = [config.long(at + 8), config.long(at + 12)];
  if (type === SHARED_MEMORY) {
    const [offsetUpper, sizeUpper] = [config.long(at + 16), config.long(at + 20)];
    const place = `${hex(offsetUpper, 8)}${hex(offset, 8)} size=${hex(sizeUpper, 8)}${hex(size, 8)}`;
    printer.print(`\t\tBAR=${bar} offset=${place} id=${config.byte(at + 5)}\n`);
    return true;
  }
  printer.print(`\t\tBAR=${bar} offset=${hex(offset, 8)} size=${hex(size, 8)}`);
  if (type === 2 && length >= 20) printer.print(` multiplier=${hex(config.long(at + 16), 8)}`);
  printer.print("\n");
  return true;
}

const INDENT = "\n\t\t     ";
const bits = (raw: number, from: number, count: number): number => (raw >>> from) & (2 ** count - 1);
/** Flags by the number of their bit. */
const flags = (raw: number, names: Readonly<Record<string, number>>): string => {
  return Object.entries(names)
    .map(([name, bit]) => ` ${name}${flag(raw, 1 << bit)}`)
    .join("");
};

function showIntel(printer: Printer, at: number, header: number): boolean {
  const { config } = printer;
  const [length, version, type] = [header & 0xff, bits(header, 8, 4), bits(header, 12, 4)];
  if (type !== 0) {
    printer.print(type === 1 ? "Intel Feature Detection\n" : "Intel <unknown>\n");
    return true;
  }
  printer.print(`Intel Capabilities v${version}\n`);
  if (version !== 1) return true;
  if (!config.fetch(at, length)) return false;
  if (length >= 8) printer.print(intelA(config.long(at + 4)));
  if (length >= 12) printer.print(intelB(config.long(at + 8)));
  if (length >= 16) printer.print(intelC(config.long(at + 12)));
  return true;
}

function intelA(raw: number): string {
  const maximum = bits(raw, 19, 2);
  const size = maximum === 0 ? "Unlimited" : `${(512 * 4 ** (3 - maximum)) / 1024}GB/chan`;
  const links = { Peg60Dis: 31, Peg12Dis: 30, Peg11Dis: 29, Peg10Dis: 28, PeLWUDis: 27 };
  const second = { EccDis: 25, ForceEccEn: 24, VTdDis: 23, DmiG2Dis: 22, PegG2Dis: 21 };
  const third = { "1NDis": 17, CDDis: 15, DDPCDis: 14, X2APICEn: 13, PDCDis: 12, IGDis: 11 };
  return (
    `\t\tCapA:${flags(raw, links)} DmiWidth=x${bits(raw, 26, 1) === 1 ? 2 : 4}` +
    `${INDENT}${flags(raw, second)} DDRMaxSize=${size}` +
    `${INDENT}${flags(raw, third)} CDID=${bits(raw, 8, 2)} CRID=${bits(raw, 4, 4)}` +
    `${INDENT}${flags(raw, { DDROCCAP: 3, OCEn: 2, DDRWrtVrefEn: 1, DDR3LEn: 0 })}\n`
  );
}

function intelB(raw: number): string {
  const reference = bits(raw, 21, 3);
  const frequency = reference === 0 ? "Disabled" : reference === 7 ? "Unlimited" : `${(6 + reference) * 200}MHz`;
  const fourth = { PkgTyp: 19, AddGfxEn: 18, AddGfxCap: 17, PegX16Dis: 16, DmiG3Dis: 15, GmmDis: 8 };
  const maximum = Math.trunc(((11 - bits(raw, 4, 2)) * 2666) / 10);
  return (
    `\t\tCapB:${flags(raw, { ImguDis: 31, OCbySSKUCap: 30, OCbySSKUEn: 29, SMTCap: 28 })}` +
    ` CacheSzCap 0x${hex(bits(raw, 25, 3))}` +
    `${INDENT}${flags(raw, { SoftBinCap: 24 })} DDR3MaxFreqWithRef100=${frequency}${flags(raw, { PegG3Dis: 20 })}` +
    `${INDENT}${flags(raw, fourth)}${INDENT} DDR3MaxFreq=${maximum}MHz${flags(raw, { LPDDR3En: 2 })}\n`
  );
}

function intelC(raw: number): string {
  // lspci takes every frequency from the lowest four bits.
  const frequency = (limit: number): string => {
    return limit === 0 ? "Unlimited" : `${Math.trunc((bits(raw, 0, 4) * 2666) / 10)}MHz`;
  };
  const clock = ["Disabled", "115MHz", "130MHz", "Unlimited"][bits(raw, 7, 2)];
  return (
    `\t\tCapC:${flags(raw, { PegG4Dis: 28 })} DDR4MaxFreq=${frequency(bits(raw, 23, 4))}${flags(raw, { LPDDREn: 22 })}` +
    ` LPDDR4MaxFreq=${frequency(bits(raw, 17, 4))}${flags(raw, { LPDDR4En: 16 })}` +
    `${INDENT}${flags(raw, { QClkGvDis: 14, SgxDis: 9 })} BClkOC=${clock}${flags(raw, { IddDis: 6, Pipe3Dis: 5 })}` +
    ` Gear1MaxFreq=${frequency(bits(raw, 0, 4))}\n`
  );
}
