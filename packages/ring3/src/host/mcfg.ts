// The ACPI table that says where config space lies in memory (ECAM). PCI Firmware Specification 3.3, section 4.1.2; the
// header that all tables share is ACPI 6.5, section 5.2.6. Firmware wrote it: sizes and checksum are checked.
import { Ring3Error } from "../binary/error.ts";

/** Config space of some buses of a domain: 1 MiB for each bus, counted from bus 0 even where `firstBus` is not 0. */
export interface EcamWindow {
  /** CPU physical address where bus 0 would lie. */
  readonly address: number;
  readonly domain: number;
  readonly firstBus: number;
  readonly lastBus: number;
}

const HEADER_BYTES = 44;
const ENTRY_BYTES = 16;

/** The windows of an MCFG table. Throws `MCFG_INVALID` for what is none. */
export function parseMcfg(table: Uint8Array): EcamWindow[] {
  const view = new DataView(table.buffer, table.byteOffset, table.length);
  if (table.length < HEADER_BYTES || String.fromCharCode(...table.subarray(0, 4)) !== "MCFG")
    invalid("it does not begin as an MCFG table does");
  const length = view.getUint32(4, true);
  if (length < HEADER_BYTES || length > table.length)
    invalid(`it says that it has ${length} bytes, of ${table.length}`);
  const sum = table.subarray(0, length).reduce((total, byte) => (total + byte) & 0xff, 0);
  if (sum !== 0) invalid("its checksum is wrong");
  const windows: EcamWindow[] = [];
  for (let at = HEADER_BYTES; at + ENTRY_BYTES <= length; at += ENTRY_BYTES) {
    const address = Number(view.getBigUint64(at, true));
    const [firstBus, lastBus] = [view.getUint8(at + 10), view.getUint8(at + 11)];
    if (!Number.isSafeInteger(address) || address % 0x10_0000 !== 0 || lastBus < firstBus)
      invalid(
        `entry ${windows.length} is no window: address 0x${address.toString(16)}, buses ${firstBus} to ${lastBus}`,
      );
    windows.push({ address, domain: view.getUint16(at + 8, true), firstBus, lastBus });
  }
  return windows;
}

function invalid(why: string): never {
  throw new Ring3Error("MCFG_INVALID", `the firmware's MCFG table cannot be used: ${why}`);
}
