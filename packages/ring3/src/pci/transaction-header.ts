// Headers of transaction layer packets, as AER's header log keeps them: PCIe 6.0, section 2.2, outside flit mode. The first
// byte of the header is the highest of the log's first dword. What a device logs may be anything, so nothing here throws.
import { PciAddress } from "./address.ts";

/** What a header says; absent is what its type does not have. Numbers of functions are without a domain: `01:00.0`. */
export interface TransactionHeader {
  /** In the specification's abbreviation: `MRd`, `CfgWr0`, `CplD`, `Msg`, ...; `undefined` for a type that it does not have. */
  readonly type: string | undefined;
  /** In words: `memory read`. */
  readonly meaning: string;
  /** The function that asked, or that a completion is for. */
  readonly requester?: string;
  /** The function that answered, of a completion. */
  readonly completer?: string;
  readonly tag?: number;
  /** Where a memory, I/O or atomic request goes. */
  readonly address?: bigint;
  /** Which register of `target` a configuration request is for. */
  readonly register?: number;
  readonly target?: string;
  /** Status of a completion: `successful completion`, `unsupported request`, ... */
  readonly status?: string;
  /** What a message says: `ERR_FATAL`, `PM_PME`, ... */
  readonly message?: string;
  /** Payload or amount asked for, in dwords. */
  readonly lengthDwords: number;
  readonly trafficClass: number;
  /** The packet says that its own data is bad. */
  readonly poisoned: boolean;
}

type Layout = "address" | "configuration" | "completion" | "message" | "prefix" | "unknown";
type Kind = readonly [type: string, meaning: string, layout: Layout];

/** By the type's five bits: without data, and with. */
const kinds: Readonly<Record<number, readonly [plain: Kind | undefined, withData: Kind | undefined]>> = {
  0b00000: [
    ["MRd", "memory read", "address"],
    ["MWr", "memory write", "address"],
  ],
  0b00001: [["MRdLk", "locked memory read", "address"], undefined],
  0b00010: [
    ["IORd", "I/O read", "address"],
    ["IOWr", "I/O write", "address"],
  ],
  0b00100: [
    ["CfgRd0", "configuration read, type 0", "configuration"],
    ["CfgWr0", "configuration write, type 0", "configuration"],
  ],
  0b00101: [
    ["CfgRd1", "configuration read, type 1", "configuration"],
    ["CfgWr1", "configuration write, type 1", "configuration"],
  ],
  0b01010: [
    ["Cpl", "completion without data", "completion"],
    ["CplD", "completion with data", "completion"],
  ],
  0b01011: [
    ["CplLk", "completion of a locked read without data", "completion"],
    ["CplDLk", "completion of a locked read", "completion"],
  ],
  0b01100: [undefined, ["FetchAdd", "atomic fetch and add", "address"]],
  0b01101: [undefined, ["Swap", "atomic swap", "address"]],
  0b01110: [undefined, ["CAS", "atomic compare and swap", "address"]],
  0b11011: [undefined, ["DMWr", "deferrable memory write", "address"]],
};

const completionStatus: Readonly<Record<number, string>> = {
  0: "successful completion",
  1: "unsupported request",
  2: "request retry",
  4: "completer abort",
};

/** PCIe 6.0, section 2.2.8. */
const messages: Readonly<Record<number, string>> = {
  0x00: "Unlock",
  0x01: "Invalidate Request",
  0x02: "Invalidate Completion",
  0x04: "Page Request",
  0x05: "PRG Response",
  0x10: "LTR",
  0x12: "OBFF",
  0x14: "PM_Active_State_Nak",
  0x18: "PM_PME",
  0x19: "PME_Turn_Off",
  0x1b: "PME_TO_Ack",
  0x20: "Assert_INTA",
  0x21: "Assert_INTB",
  0x22: "Assert_INTC",
  0x23: "Assert_INTD",
  0x24: "Deassert_INTA",
  0x25: "Deassert_INTB",
  0x26: "Deassert_INTC",
  0x27: "Deassert_INTD",
  0x30: "ERR_COR",
  0x31: "ERR_NONFATAL",
  0x33: "ERR_FATAL",
  0x50: "Set_Slot_Power_Limit",
  0x52: "PTM Request",
  0x53: "PTM Response",
  0x7e: "Vendor_Defined Type 0",
  0x7f: "Vendor_Defined Type 1",
};

/**
 * Decodes a header log's first four dwords. `undefined` where it is empty: all zero or all ones.
 *
 * @example run
 * import { decodeTransactionHeader } from "ring3/pci";
 * const header = decodeTransactionHeader([0x00000001, 0x0100000f, 0xfee00000, 0]);
 * header?.meaning; // "memory read"
 * header?.requester; // "01:00.0"
 */
export function decodeTransactionHeader(dwords: readonly number[]): TransactionHeader | undefined {
  const [first = 0, second = 0, third = 0, fourth = 0] = dwords.map((dword) => dword >>> 0);
  const all = [first, second, third, fourth];
  if (all.every((dword) => dword === 0) || all.every((dword) => dword === 0xffff_ffff)) return undefined;
  const format = first >>> 29;
  const [type, meaning, layout] = kindOf(format, (first >>> 24) & 0x1f);
  const base = {
    type,
    meaning,
    lengthDwords: (first & 0x3ff) === 0 ? 1024 : first & 0x3ff,
    trafficClass: (first >>> 20) & 7,
    poisoned: (first & 0x4000) !== 0,
  };
  // Tags have ten bits where the bits of the first dword are in use.
  const high = ((first >>> 23) & 1) * 512 + ((first >>> 19) & 1) * 256;
  switch (layout) {
    case "address": {
      const address =
        (format & 1) === 0 ? BigInt((third & ~3) >>> 0) : (BigInt(third) << 32n) | BigInt((fourth & ~3) >>> 0);
      return { ...base, requester: functionName(second >>> 16), tag: high + ((second >>> 8) & 0xff), address };
    }
    case "configuration":
      return {
        ...base,
        requester: functionName(second >>> 16),
        tag: high + ((second >>> 8) & 0xff),
        target: functionName(third >>> 16),
        register: third & 0xffc,
      };
    case "completion":
      return {
        ...base,
        completer: functionName(second >>> 16),
        status: completionStatus[(second >>> 13) & 7] ?? `reserved status ${(second >>> 13) & 7}`,
        requester: functionName(third >>> 16),
        tag: high + ((third >>> 8) & 0xff),
      };
    case "message": {
      const code = second & 0xff;
      return {
        ...base,
        requester: functionName(second >>> 16),
        tag: (second >>> 8) & 0xff,
        message: messages[code] ?? `code 0x${code.toString(16)}`,
      };
    }
    default:
      return base;
  }
}

/** A header in one line: `MRd (memory read) from 01:00.0, address 0xfee00000, 1 dword`. */
export function transactionHeaderText(header: TransactionHeader): string {
  const { type, meaning, requester, completer, address, target, register, status, message, lengthDwords, poisoned } =
    header;
  const words = [type === undefined ? meaning : `${type} (${meaning})`];
  if (message !== undefined) words.push(message);
  if (completer !== undefined) words.push(`by ${completer} for ${requester}`);
  else if (requester !== undefined) words.push(`from ${requester}`);
  if (target !== undefined) words.push(`to ${target} register 0x${(register ?? 0).toString(16)}`);
  const parts = [words.join(" ")];
  if (address !== undefined) parts.push(`address 0x${address.toString(16)}`);
  if (status !== undefined) parts.push(status);
  if (address !== undefined) parts.push(`${lengthDwords} dword${lengthDwords === 1 ? "" : "s"}`);
  if (poisoned) parts.push("poisoned");
  return parts.join(", ");
}

function kindOf(format: number, type: number): readonly [type: string | undefined, meaning: string, layout: Layout] {
  const withData = (format & 2) !== 0;
  if (format === 4) return ["Prfx", (type & 0x10) === 0 ? "local prefix" : "end-to-end prefix", "prefix"];
  if (format > 4) return [undefined, "a packet of a reserved format", "unknown"];
  if (type >>> 3 === 0b10 && (format & 1) === 1) {
    return withData ? ["MsgD", "message with data", "message"] : ["Msg", "message", "message"];
  }
  return kinds[type]?.[withData ? 1 : 0] ?? [undefined, "a packet of a reserved type", "unknown"];
}

function functionName(id: number): string {
  return PciAddress.fromRoutingId(0, id).toString().slice("0000:".length);
}
