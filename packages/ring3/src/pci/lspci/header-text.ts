// The text above the capabilities: the line that names a function, its header registers, BARs, ROM and bridge windows.
import { Header, Header1, Header2 } from "../header.ts";
import { showCapabilities } from "./capability-text.ts";
import { entry, hex, layout } from "./layout.ts";
import type { Printer } from "./printer.ts";
import { ioResource, memory64Resource, memoryResource, prefetchResource, showBars, showRom } from "./region-text.ts";
import { showRange, showWindows } from "./window-text.ts";

const DEVSEL = ["fast", "medium", "slow", "??"];

const control = layout(
  Header.COMMAND,
  "\tControl: I/O{IO} Mem{MEMORY} BusMaster{BUS_MASTER} SpecCycle{SPECIAL_CYCLES} MemWINV{MEMORY_WRITE_AND_INVALIDATE} " +
    "VGASnoop{VGA_PALETTE_SNOOP} ParErr{PARITY_ERROR_RESPONSE} Stepping{IDSEL_STEPPING} SERR{SERR_ENABLE} " +
    "FastB2B{FAST_BACK_TO_BACK_ENABLE} DisINTx{INTX_DISABLE}\n",
);
const status = layout(
  Header.STATUS,
  "\tStatus: Cap{CAPABILITIES_LIST} 66MHz{CAPABLE_66_MHZ} UDF{USER_DEFINABLE_FEATURES} " +
    "FastB2B{FAST_BACK_TO_BACK_CAPABLE} ParErr{MASTER_DATA_PARITY_ERROR} DEVSEL={DEVSEL_TIMING:devsel} " +
    ">TAbort{SIGNALED_TARGET_ABORT} <TAbort{RECEIVED_TARGET_ABORT} <MAbort{RECEIVED_MASTER_ABORT} " +
    ">SERR{SIGNALED_SYSTEM_ERROR} <PERR{DETECTED_PARITY_ERROR} INTx{INTERRUPT_STATUS}\n",
  { devsel: DEVSEL },
);
const secondaryStatus = layout(
  Header1.SECONDARY_STATUS,
  "\tSecondary status: 66MHz{CAPABLE_66_MHZ} FastB2B{FAST_BACK_TO_BACK_CAPABLE} ParErr{MASTER_DATA_PARITY_ERROR} " +
    "DEVSEL={DEVSEL_TIMING:devsel} >TAbort{SIGNALED_TARGET_ABORT} <TAbort{RECEIVED_TARGET_ABORT} " +
    "<MAbort{RECEIVED_MASTER_ABORT} <SERR{RECEIVED_SYSTEM_ERROR} <PERR{DETECTED_PARITY_ERROR}\n",
  { devsel: DEVSEL },
);
const bridgeControl = layout(
  Header1.BRIDGE_CONTROL,
  "\tBridgeCtl: Parity{PARITY_ERROR_RESPONSE_ENABLE} SERR{SERR_ENABLE} NoISA{ISA_ENABLE} VGA{VGA_ENABLE} " +
    "VGA16{VGA_16_BIT_DECODE} MAbort{MASTER_ABORT_MODE} >Reset{SECONDARY_BUS_RESET} FastB2B{FAST_BACK_TO_BACK_ENABLE}\n" +
    "\t\tPriDiscTmr{PRIMARY_DISCARD_TIMER} SecDiscTmr{SECONDARY_DISCARD_TIMER} DiscTmrStat{DISCARD_TIMER_STATUS} " +
    "DiscTmrSERREn{DISCARD_TIMER_SERR_ENABLE}\n",
);
const cardBusControl = layout(
  Header2.BRIDGE_CONTROL,
  "\tBridgeCtl: Parity{PARITY_ERROR_RESPONSE_ENABLE} SERR{SERR_ENABLE} ISA{ISA_ENABLE} VGA{VGA_ENABLE} " +
    "MAbort{MASTER_ABORT_MODE} >Reset{CARDBUS_RESET} 16bInt{INTERRUPT_16_BIT_ENABLE} PostWrite{WRITE_POSTING_ENABLE}\n",
);

/** `slot` is how the function is called: `00:1f.2`. */
export function showTerse(printer: Printer, slot: string, withSubsystem: boolean): void {
  const { shown, names, verbose } = printer;
  printer.print(`${slot} ${names.class(shown.classCode)}: ${names.vendorAndDevice(shown.vendorId, shown.deviceId)}`);
  if (shown.revision !== 0) printer.print(` (rev ${hex(shown.revision, 2)})`);
  if (verbose > 0) {
    const name = names.programmingInterface(shown.classCode, shown.programmingInterface);
    if (shown.programmingInterface !== 0 || name !== undefined) {
      printer.print(` (prog-if ${hex(shown.programmingInterface, 2)}${name === undefined ? "" : ` [${name}]`})`);
    }
  }
  printer.print("\n");
  if (!withSubsystem) return;
  const { label } = shown.facts;
  if (label !== undefined) printer.print(`\tDeviceName: ${label}\n`);
  const { subsystem } = shown;
  if (subsystem !== undefined && subsystem.vendorId !== 0 && subsystem.vendorId !== 0xffff) {
    const text = names.subsystem(shown.vendorId, shown.deviceId, subsystem.vendorId, subsystem.id);
    printer.print(`\tSubsystem: ${text}\n`);
  }
}

/** Everything from -v on, but for the kernel's drivers. */
export function showVerbose(printer: Printer, slot: string): void {
  showTerse(printer, slot, true);
  const { shown, config, detailed } = printer;
  const type = shown.headerLayout;
  const known = type >= 0 && type <= 2;
  const wrongClass = type === 0 ? shown.classCode === 0x0604 : shown.classCode >>> 8 !== 6;
  if (known && wrongClass) {
    printer.print(`\t!!! Invalid class ${hex(shown.classCode, 4)} for header type ${hex(type, 2)}\n`);
  } else if (type > 2) {
    printer.print(`\t!!! Unknown header type ${hex(type, 2)}\n`);
  }
  const { physicalSlot, deviceTreeNode } = shown.facts;
  if (physicalSlot !== undefined) printer.print(`\tPhysical Slot: ${physicalSlot}\n`);
  if (deviceTreeNode !== undefined) printer.print(`\tDevice tree node: ${deviceTreeNode}\n`);
  if (detailed) {
    if (known) {
      printer.show(0, control, status);
      showLatency(printer, type);
    }
    showInterrupts(printer, known);
    const { numaNode, iommuGroup } = shown.facts;
    if (numaNode !== undefined && numaNode !== -1) printer.print(`\tNUMA node: ${numaNode}\n`);
    if (iommuGroup !== undefined) printer.print(`\tIOMMU group: ${iommuGroup}\n`);
  } else if (known) {
    showFlags(printer);
  }
  if (known) {
    const bist = config.byte(0x0f);
    if ((bist & 0x80) !== 0) {
      printer.print((bist & 0x40) !== 0 ? "\tBIST is running\n" : `\tBIST result: ${hex(bist & 0x0f, 2)}\n`);
    }
  }
  if (type === 0) showEndpoint(printer);
  else if (type === 1) showBridge(printer);
  else if (type === 2) showCardBus(printer);
  else showUnknownHeader(printer);
}

function showLatency(printer: Printer, type: number): void {
  const { config } = printer;
  if ((config.word(0x04) & 4) === 0) return;
  printer.print(`\tLatency: ${config.byte(0x0d)}`);
  const [minimum, maximum] = type === 0 ? [config.byte(0x3e), config.byte(0x3f)] : [0, 0];
  const grants = [minimum === 0 ? "" : `${minimum * 250}ns min`, maximum === 0 ? "" : `${maximum * 250}ns max`];
  const shown = grants.filter((text) => text !== "").join(", ");
  if (shown !== "") printer.print(` (${shown})`);
  const line = config.byte(0x0c);
  if (line !== 0) printer.print(`, Cache Line Size: ${line * 4} bytes`);
  printer.print("\n");
}

function showInterrupts(printer: Printer, known: boolean): void {
  const { shown, config } = printer;
  if (!known) return;
  const pin = config.byte(0x3d);
  const { irq } = shown;
  const disabled = (config.word(0x04) & 0x400) !== 0;
  const routes: string[] = [];
  if (pin !== 0 || (irq !== 0 && !disabled)) {
    // The letters are those of lspci 3.15: one further than the pin's own.
    const name = pin === 0 ? "unknown pin" : pin <= 4 ? `pin ${"ABCDE"[pin]}` : `pin #${pin}`;
    routes.push(`${name}${disabled ? " disabled" : irq === 0 ? "" : ` routed to IRQ ${irq}`}`);
  }
  const messages = runs(shown.facts.messageIrqs ?? []);
  if (messages !== "") routes.push(`MSI(X) routed to IRQ ${messages}`);
  if (routes.length > 0) printer.print(`\tInterrupts: ${routes.join(", ")}\n`);
}

/** Numbers as runs: `30-32, 40`. */
function runs(numbers: readonly number[]): string {
  const sorted = numbers.toSorted((a, b) => a - b);
  const texts: string[] = [];
  for (let from = 0; from < sorted.length; ) {
    const [first = 0] = sorted.slice(from);
    let to = from + 1;
    while (sorted[to] === first + (to - from)) to++;
    texts.push(to - from > 1 ? `${first}-${sorted[to - 1]}` : `${first}`);
    from = to;
  }
  return texts.join(", ");
}

function showFlags(printer: Printer): void {
  const { shown, config } = printer;
  const command = config.word(0x04);
  const state = config.word(0x06);
  const words: string[] = [];
  if ((command & 0x04) !== 0) words.push("bus master");
  if ((command & 0x20) !== 0) words.push("VGA palette snoop");
  if ((command & 0x80) !== 0) words.push("stepping");
  if ((command & 0x200) !== 0) words.push("fast Back2Back");
  if ((state & 0x20) !== 0) words.push("66MHz");
  if ((state & 0x40) !== 0) words.push("user-definable features");
  words.push(`${entry(DEVSEL, (state >>> 9) & 3)} devsel`);
  if ((command & 0x04) !== 0) words.push(`latency ${config.byte(0x0d)}`);
  if (shown.irq !== 0) words.push(`IRQ ${shown.irq}`);
  const { numaNode, iommuGroup } = shown.facts;
  if (numaNode !== undefined && numaNode !== -1) words.push(`NUMA node ${numaNode}`);
  if (iommuGroup !== undefined) words.push(`IOMMU group ${iommuGroup}`);
  printer.print(`\tFlags: ${words.join(", ")}\n`);
}

function showEndpoint(printer: Printer): void {
  showBars(printer, 6, true);
  showRom(printer, 0x30);
  showCapabilities(printer, 0x34);
}

function showBridge(printer: Printer): void {
  const { config } = printer;
  showBars(printer, 2, true);
  showBuses(printer);
  showWindows(printer);
  if (printer.detailed) printer.show(0, secondaryStatus);
  showRom(printer, 0x38);
  if (printer.detailed) printer.print(bridgeControl.render(config.word(0x3e)));
  showCapabilities(printer, 0x34);
}

function showBuses(printer: Printer): void {
  const { config } = printer;
  const [primary, secondary, subordinate] = [0x18, 0x19, 0x1a].map((at) => hex(config.byte(at), 2));
  printer.print(
    `\tBus: primary=${primary}, secondary=${secondary}, subordinate=${subordinate}, sec-latency=${config.byte(0x1b)}\n`,
  );
}

function showCardBus(printer: Printer): void {
  const { config, verbose } = printer;
  const command = config.word(0x04);
  const control_ = config.word(0x3e);
  showBars(printer, 1, true);
  showBuses(printer);
  for (const index of [0, 1]) {
    const base = config.long(0x1c + 8 * index);
    const limit = (config.long(0x20 + 8 * index) + 0xfff) >>> 0;
    if (base > limit && verbose <= 2) continue;
    const disabled = (command & 2) !== 0 ? "" : " [disabled]";
    const prefetchable = ((control_ >>> (8 + index)) & 1) !== 0 ? " (prefetchable)" : "";
    printer.print(`\tMemory window ${index}: ${hex(base, 8)}-${hex(limit, 8)}${disabled}${prefetchable}\n`);
  }
  for (const index of [0, 1]) {
    const register = config.long(0x2c + 8 * index);
    const mask = (register & 1) === 0 ? 0xfffc : 0xfffffffc;
    const base = (register & mask) >>> 0;
    const limit = (((config.long(0x30 + 8 * index) & mask) >>> 0) + 3) >>> 0;
    if (base > limit && verbose <= 2) continue;
    const disabled = (command & 1) !== 0 ? "" : " [disabled]";
    printer.print(`\tI/O window ${index}: ${hex(base, 8)}-${hex(limit, 8)}${disabled}\n`);
  }
  if ((config.word(0x16) & 0x4000) !== 0) printer.print("\tSecondary status: SERR\n");
  if (printer.detailed) printer.show(0, cardBusControl);
  if (config.headerSize < 128) {
    printer.print("\t<access denied to the rest>\n");
    return;
  }
  const legacy = config.word(0x44);
  if (legacy !== 0) printer.print(`\t16-bit legacy interface ports at ${hex(legacy, 4)}\n`);
  showCapabilities(printer, 0x14);
}

function showUnknownHeader(printer: Printer): void {
  if (printer.busCentric) return;
  showBars(printer, 6, false);
  for (const { base, size: length, flags = 0n } of printer.shown.bridgeWindows() ?? []) {
    if (base === 0n) continue;
    const to = base + length - 1n;
    if ((flags & ioResource) !== 0n) showRange(printer, "\tI/O behind bridge", base, to, 32, false);
    else if ((flags & memoryResource) === 0n)
      showRange(printer, "\tUnknown resource behind bridge", base, to, 0, false);
    else {
      const bits = (flags & memory64Resource) !== 0n ? 64 : 32;
      const name = (flags & prefetchResource) !== 0n ? "Prefetchable memory" : "Memory";
      showRange(printer, `\t${name} behind bridge`, base, to, bits, false);
    }
  }
  showRom(printer, undefined);
}
