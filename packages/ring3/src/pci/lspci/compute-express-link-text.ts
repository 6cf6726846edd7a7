// Text of the designated vendor-specific capabilities; those of CXL are decoded by their id, others only named.
import {
  CxlDevice,
  CxlFlexBus,
  CxlFlushDevice,
  CxlFlushPort,
  CxlMultiLogicalDevice,
  CxlPort,
  CxlRegisterBlock,
} from "../capabilities/compute-express-link.ts";
import { DesignatedVendorSpecific as Dvsec } from "../capabilities/vendor-specific.ts";
import type { Register } from "../register.ts";
import { entry, flag, hex, layout } from "./layout.ts";
import type { Printer } from "./printer.ts";

const CXL_VENDOR = 0x1e98;
const headers = [
  layout(Dvsec.HEADER_1, "Vendor={DVSEC_VENDOR_ID:04x}"),
  layout(Dvsec.HEADER_2, " ID={DVSEC_ID:04x}"),
  layout(Dvsec.HEADER_1, " Rev={DVSEC_REVISION} Len={DVSEC_LENGTH}"),
];

export function showDesignatedVendorSpecific(printer: Printer, at: number): void {
  printer.print("Designated Vendor-Specific: ");
  if (!printer.config.fetch(at + 4, 8)) {
    printer.print("<unreadable>\n");
    return;
  }
  printer.show(at, ...headers);
  const { DVSEC_VENDOR_ID, DVSEC_LENGTH, DVSEC_REVISION } = Dvsec.HEADER_1.fields;
  const header = printer.raw(at, Dvsec.HEADER_1);
  const size = DVSEC_LENGTH.get(header);
  if (DVSEC_VENDOR_ID.get(header) !== CXL_VENDOR || size < 16) {
    printer.print(" <?>\n");
    return;
  }
  printer.print(": CXL\n");
  if (!printer.detailed || !printer.config.fetch(at, size)) return;
  const id = printer.raw(at, Dvsec.HEADER_2);
  const known = BY_ID[id];
  printer.print(`\t\t${known?.name ?? `Unknown ID ${hex(id, 4)}`}\n`);
  known?.show(printer, { at, revision: DVSEC_REVISION.get(header), size });
}

interface Place {
  readonly at: number;
  readonly revision: number;
  readonly size: number;
}

interface Known {
  readonly name: string;
  readonly show: (printer: Printer, place: Place) => void;
}

const BY_ID: Readonly<Record<number, Known>> = {
  0: { name: "PCIe DVSEC for CXL Devices", show: showDevice },
  2: { name: "Non-CXL Function Map DVSEC", show: showFunctionMap },
  3: { name: "CXL Extensions DVSEC for Ports", show: showPort },
  4: { name: "GPF DVSEC for CXL Ports", show: showFlushPort },
  5: { name: "GPF DVSEC for CXL Devices", show: showFlushDevice },
  7: { name: "PCIe DVSEC for Flex Bus Port", show: showFlexBus },
  8: { name: "Register Locator DVSEC", show: showRegisterBlocks },
  9: { name: "MLD DVSEC", show: showLogicalDevices },
  10: { name: "PCIe DVSEC for Test Capability <?>", show: () => {} },
};

const device = [
  layout(
    CxlDevice.CAPABILITY,
    "\t\tCXLCap:\tCache{CACHE_CAPABLE} IO{IO_CAPABLE} Mem{MEM_CAPABLE} MemHWInit{MEM_HWINIT_MODE} " +
      "HDMCount {HDM_COUNT} Viral{VIRAL_CAPABLE}\n",
  ),
  layout(
    CxlDevice.CONTROL,
    "\t\tCXLCtl:\tCache{CACHE_ENABLE} IO{IO_ENABLE} Mem{MEM_ENABLE} CacheSFCov {CACHE_SF_COVERAGE} " +
      "CacheSFGran {CACHE_SF_GRANULARITY} CacheClean{CACHE_CLEAN_EVICTION} Viral{VIRAL_ENABLE}\n",
  ),
  layout(CxlDevice.STATUS, "\t\tCXLSta:\tViral{VIRAL_STATUS}\n"),
];
const deviceStatus2 = layout(
  CxlDevice.STATUS_2,
  "\t\tCXLSta2:\tResetComplete{CXL_RESET_COMPLETE} ResetError{CXL_RESET_ERROR} " +
    "PMComplete{POWER_MANAGEMENT_INITIALIZATION_COMPLETE}\n",
);
const DEVICE_SIZE = 0x38;
const DEVICE_SIZE_2 = 0x3c;

function showDevice(printer: Printer, { at, revision, size }: Place): void {
  if (revision === 0) return;
  if (size >= DEVICE_SIZE) {
    printer.show(at, ...device);
    showControl2(printer, at, revision);
    printer.show(at, deviceStatus2);
    showCacheSize(printer, at);
    showMemoryRange(printer, at + CxlDevice.RANGE_1_SIZE_HIGH.offset, 1);
    showMemoryRange(printer, at + CxlDevice.RANGE_2_SIZE_HIGH.offset, 2);
  }
  if (revision >= 2 && size >= DEVICE_SIZE_2) {
    const raw = printer.raw(at, CxlDevice.CAPABILITY_3);
    const states = CAPABILITY_3_MASKS.map(([name, mask]) => `${name}${flag(raw, mask)}`).join(" ");
    printer.print(`\t\tCXLCap3:\tDefaultVolatile HDM State After:\t${states}\n`);
  }
  if (size > DEVICE_SIZE_2) printer.print("\t\t<?>\n");
}

// lspci tests the third and later bits of these two registers by their number, not by their place.
const CAPABILITY_3_MASKS = [
  ["ColdReset", 0x1],
  ["WarmReset", 0x2],
  ["HotReset", 0x3],
  ["HotResetConfigurability", 0x4],
] as const;

function showControl2(printer: Printer, at: number, revision: number): void {
  const raw = printer.raw(at, CxlDevice.CONTROL_2);
  printer.print(
    `\t\tCXLCtl2:\tDisableCaching${flag(raw, 1)} InitCacheWB&Inval${flag(raw, 2)} InitRst${flag(raw, 3)} ` +
      `RstMemClrEn${flag(raw, 4)}`,
  );
  if (revision >= 2) printer.print(` DesiredVolatileHDMStateAfterHotReset${flag(raw, 5)}`);
  printer.print("\n");
}

function showCacheSize(printer: Printer, at: number): void {
  const raw = printer.raw(at, CxlDevice.CAPABILITY_2);
  const { CACHE_SIZE_UNIT, CACHE_SIZE } = CxlDevice.CAPABILITY_2.fields;
  const [unit, count] = [CACHE_SIZE_UNIT.get(raw), CACHE_SIZE.get(raw)];
  printer.print("\t\tCXLCap2:\t");
  if (unit === 0) printer.print("Cache Size Not Reported\n");
  else if (unit === 1) printer.print(`Cache Size: ${hex(count << 16, 8)}\n`);
  else if (unit === 2) printer.print(`Cache Size: ${hex(count << 20, 8)}\n`);
  else printer.print(`Cache Size: ${count} of unknown unit size (${unit})\n`);
}

const MEDIA = ["Volatile", "Non-volatile", "CDAT"];
const CLASSES = ["DRAM", "Storage", "CDAT"];
const INTERLEAVE = ["0", "256", "4096", "512", "1024", "2048", "8192", "16384"];

/** `at` is the upper half of the size; its lower half, and the base in the same way, follow. */
function showMemoryRange(printer: Printer, at: number, number: number): void {
  const { config } = printer;
  const wide = (offset: number): bigint => (BigInt(config.long(offset)) << 32n) | BigInt(config.long(offset + 4));
  const [size, base] = [BigInt.asUintN(64, (wide(at) >> 28n) << 28n), wide(at + 8)];
  const last = BigInt.asUintN(64, base + size - 1n);
  printer.print(`\t\tRange${number}: ${hex(base, 16)}-${hex(last, 16)} [size=0x${hex(size)}]\n`);
  const info = config.long(at + 4);
  const type = entry(MEDIA, (info >>> 2) & 7);
  const memoryClass = entry(CLASSES, (info >>> 5) & 7);
  printer.print(
    `\t\t\tValid${flag(info, 1)} Active${flag(info, 2)} Type=${type} Class=${memoryClass} ` +
      `interleave=${entry(INTERLEAVE, (info >>> 8) & 0x1f)} timeout=${1 << (((info >>> 13) & 7) * 2)}s\n`,
  );
}

const functionMaps = [0, 1, 2, 3, 4, 5, 6, 7].map((index) => 0x0c + 4 * index);

function showFunctionMap(printer: Printer, { at }: Place): void {
  // lspci shows the lower half of each register.
  for (const [index, offset] of functionMaps.entries()) {
    printer.print(`\t\tFuncMap ${index}: ${hex(printer.config.word(at + offset), 8)}\n`);
  }
}

const PORT_SIZE = 0x28;
/** The offset of the status register, which lspci takes for its bit. */
const PORT_STATUS_MASK = 0x0a;
const port = [
  layout(
    CxlPort.CONTROL,
    "\t\tCXLPortCtl:\tUnmaskSBR{UNMASK_SBR} UnmaskLinkDisable{UNMASK_LINK_DISABLE} " +
      "AltMem{ALT_MEMORY_AND_ID_SPACE_ENABLE} AltBME{ALT_BME} ViralEnable{VIRAL_ENABLE}\n",
  ),
  layout(CxlPort.ALTERNATE_BUS_BASE, "\t\tAlternateBus:\t{VALUE:02x}-"),
  layout(CxlPort.ALTERNATE_BUS_LIMIT, "{VALUE:02x}\n"),
  layout(CxlPort.ALTERNATE_MEMORY_BASE, "\t\tAlternateBus:\t{VALUE:04x}-"),
  layout(CxlPort.ALTERNATE_MEMORY_LIMIT, "{VALUE:04x}\n"),
];

function showPort(printer: Printer, { at, size }: Place): void {
  if (size < PORT_SIZE) return;
  printer.print(`\t\tCXLPortSta:\tPMComplete${flag(printer.raw(at, CxlPort.STATUS), PORT_STATUS_MASK)}\n`);
  printer.show(at, ...port);
}

/** Base and scale of a time as `100us`; reserved scales are said in a line of their own. */
function showTime(printer: Printer, at: number, register: Register, name: string): void {
  const raw = printer.raw(at, register);
  const [base, scale] = [raw & 0xf, (raw >>> 8) & 0xf];
  const known = TIME_SCALES[scale];
  if (known === undefined) printer.print(`\t\tReserved time scale encoding ${hex(scale)}\n`);
  const unit = scale < 3 ? "us" : scale < 6 ? "ms" : scale <= 7 ? "s" : "<?>";
  printer.print(`\t\t${name}: ${base * (known ?? 1)}${unit}\n`);
}

const TIME_SCALES: readonly number[] = [1, 10, 100, 1, 10, 100, 1, 10];

function showFlushPort(printer: Printer, { at }: Place): void {
  showTime(printer, at, CxlFlushPort.PHASE_1_CONTROL, "GPF Phase 1 Timeout");
  showTime(printer, at, CxlFlushPort.PHASE_2_CONTROL, "GPF Phase 2 Timeout");
}

const flushPower = layout(CxlFlushDevice.PHASE_2_POWER, "\t\tGPF Phase 2 Power: {VALUE:d}mW\n");

function showFlushDevice(printer: Printer, { at }: Place): void {
  showTime(printer, at, CxlFlushDevice.PHASE_2_DURATION, "GPF Phase 2 Duration");
  printer.show(at, flushPower);
}

const busCapability = layout(
  CxlFlexBus.CAPABILITY,
  "\t\tFBCap:\tCache{CACHE} IO{IO} Mem{MEM} 68BFlit{FLIT_68B} MltLogDev{MULTI_LOGICAL_DEVICE}",
);
const busControl = layout(
  CxlFlexBus.CONTROL,
  "\n\t\tFBCtl:\tCache{CACHE} IO{IO} Mem{MEM} SynHdrByp{SYNC_HEADER_BYPASS} DrftBuf{DRIFT_BUFFER} " +
    "68BFlit{FLIT_68B} MltLogDev{MULTI_LOGICAL_DEVICE} RCD{DISABLE_RCD_TRAINING} Retimer1{RETIMER_1} " +
    "Retimer2{RETIMER_2}",
);
const busStatus = layout(
  CxlFlexBus.STATUS,
  "\n\t\tFBSta:\tCache{CACHE} IO{IO} Mem{MEM} SynHdrByp{SYNC_HEADER_BYPASS} DrftBuf{DRIFT_BUFFER} " +
    "68BFlit{FLIT_68B} MltLogDev{MULTI_LOGICAL_DEVICE}",
);
const FLITS = " 256BFlit{FLIT_256B} PBRFlit{PBR_FLIT}";
const bus = [
  [busCapability, layout(CxlFlexBus.CAPABILITY, FLITS)],
  [busControl, layout(CxlFlexBus.CONTROL, FLITS)],
  [busStatus, layout(CxlFlexBus.STATUS, FLITS)],
] as const;
const trainingData = layout(
  CxlFlexBus.MODIFIED_TS_DATA,
  "\t\tFBModTS:\tReceived FB Data: {RECEIVED_FLEX_BUS_DATA:06x}\n",
);
const hints = [
  layout(CxlFlexBus.CAPABILITY_2, "\t\tFBCap2:\tNOPHint{NOP_HINT_CAPABLE}\n"),
  layout(CxlFlexBus.CONTROL_2, "\t\tFBCtl2:\tNOPHint{NOP_HINT_ENABLE}\n"),
  layout(CxlFlexBus.STATUS_2, "\t\tFBSta2:\tNOPHintInfo: {NOP_HINT_INFO:x}\n"),
];
const BUS_SIZES = [0x10, 0x14, 0x20];
const LARGEST_BUS_SIZE = 0x20;

function showFlexBus(printer: Printer, { at, revision, size }: Place): void {
  const right = BUS_SIZES[revision];
  if (right !== undefined && size !== right) printer.print(`\t\t<Wrong length for Revision ${revision}>\n`);
  for (const [line, flits] of bus) {
    printer.show(at, line);
    if (revision > 1) printer.show(at, flits);
  }
  printer.print("\n");
  if (revision >= 1) printer.show(at, trainingData);
  if (revision >= 2) printer.show(at, ...hints);
  if (size > LARGEST_BUS_SIZE) printer.print("\t\t<?>\n");
}

const FIRST_BLOCK = 0x0c;
const BLOCK_SIZE = 8;
const BLOCKS = ["empty", "component registers", "BAR virtualization", "CXL device registers", "CPMU registers"];

function showRegisterBlocks(printer: Printer, { at, size }: Place): void {
  const { BIR, BLOCK_ID, OFFSET } = CxlRegisterBlock.OFFSET_LOW.fields;
  for (let index = 0; FIRST_BLOCK + BLOCK_SIZE * (index + 1) <= size; index++) {
    const place = at + FIRST_BLOCK + BLOCK_SIZE * index;
    const raw = printer.raw(place, CxlRegisterBlock.OFFSET_LOW);
    const id = BLOCK_ID.get(raw);
    if (id === 0) continue;
    const name = BLOCKS[id] ?? (id === 0xff ? "vendor-specific" : "<?>");
    const offset = hex(printer.raw(place, CxlRegisterBlock.OFFSET_HIGH), 8) + hex((raw & OFFSET.mask) >>> 0, 8);
    printer.print(`\t\tBlock${index + 1}: BIR: bar${BIR.get(raw)}, ID: ${name}, offset: ${offset}\n`);
  }
}

const MOST_LOGICAL_DEVICES = 16;

function showLogicalDevices(printer: Printer, { at }: Place): void {
  const count = printer.raw(at, CxlMultiLogicalDevice.NUMBER_OF_LDS);
  if (count > 0 && count <= MOST_LOGICAL_DEVICES) printer.print(`\t\tNumLogDevs: ${count}\n`);
}
