// Text of single root I/O virtualization.
import { SingleRootIoVirtualization as Sriov } from "../capabilities/single-root-io-virtualization.ts";
import { hex, layout } from "./layout.ts";
import type { Printer } from "./printer.ts";

const counts = [
  layout(
    Sriov.CAPABILITIES,
    "\t\tIOVCap:\tMigration{VF_MIGRATION_CAPABLE} 10BitTagReq{VF_10_BIT_TAG_REQUESTER_SUPPORTED} " +
      "IntMsgNum {VF_MIGRATION_INTERRUPT_MESSAGE_NUMBER}\n",
  ),
  layout(
    Sriov.CONTROL,
    "\t\tIOVCtl:\tEnable{VF_ENABLE} Migration{VF_MIGRATION_ENABLE} Interrupt{VF_MIGRATION_INTERRUPT_ENABLE} " +
      "MSE{VF_MSE} ARIHierarchy{ARI_CAPABLE_HIERARCHY} 10BitTagReq{VF_10_BIT_TAG_REQUESTER_ENABLE}\n",
  ),
  layout(Sriov.STATUS, "\t\tIOVSta:\tMigration{VF_MIGRATION_STATUS}\n"),
  layout(Sriov.INITIAL_VFS, "\t\tInitial VFs: {VALUE}, "),
  layout(Sriov.TOTAL_VFS, "Total VFs: {VALUE}, "),
  layout(Sriov.NUM_VFS, "Number of VFs: {VALUE}, "),
  layout(Sriov.FUNCTION_DEPENDENCY_LINK, "Function Dependency Link: {VALUE:02x}\n"),
  layout(Sriov.FIRST_VF_OFFSET, "\t\tVF offset: {VALUE}, "),
  layout(Sriov.VF_STRIDE, "stride: {VALUE}, "),
  layout(Sriov.VF_DEVICE_ID, "Device ID: {VALUE:04x}\n"),
  layout(Sriov.SUPPORTED_PAGE_SIZES, "\t\tSupported Page Size: {VALUE:08x}, "),
  layout(Sriov.SYSTEM_PAGE_SIZE, "System Page Size: {VALUE:08x}\n"),
];
const migration = layout(
  Sriov.VF_MIGRATION_STATE_ARRAY_OFFSET,
  "\t\tVF Migration: offset: {OFFSET:offset}, BIR: {BIR:x}\n",
  { offset: (value) => hex(value * 8, 8) },
);
const BARS = [Sriov.VF_BAR0, Sriov.VF_BAR1, Sriov.VF_BAR2, Sriov.VF_BAR3, Sriov.VF_BAR4, Sriov.VF_BAR5];

export function showVirtualFunctions(printer: Printer, at: number): void {
  printer.print("Single Root I/O Virtualization (SR-IOV)\n");
  const { CAPABILITIES, VF_MIGRATION_STATE_ARRAY_OFFSET } = Sriov;
  if (!printer.detailed || !printer.fetch(at, CAPABILITIES, VF_MIGRATION_STATE_ARRAY_OFFSET)) return;
  printer.show(at, ...counts);
  for (let index = 0; index < BARS.length; index++) {
    const value = printer.raw(at, BARS[index] ?? Sriov.VF_BAR0);
    if (value === 0 || value === 0xffffffff) continue;
    printer.print(`\t\tRegion ${index}: Memory at `);
    const is64 = (value & 6) === 4;
    // Of a 64-bit BAR in the last place the register behind the BARs is taken for the upper half.
    if (is64) printer.print(hex(printer.config.long(at + Sriov.VF_BAR0.offset + 4 * ++index), 8));
    const prefetchable = (value & 8) !== 0 ? "" : "non-";
    printer.print(
      `${hex((value & ~0xf) >>> 0, 8)} (${(value & 6) === 0 ? 32 : 64}-bit, ${prefetchable}prefetchable)\n`,
    );
  }
  printer.show(at, migration);
}
