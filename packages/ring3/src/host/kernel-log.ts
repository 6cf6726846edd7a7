// The kernel's log as it grows, for what stands nowhere else: the header of the packet that caused an error, which the
// kernel prints and then clears in the device. Documentation/ABI/testing/dev-kmsg: each read gives one record.
import { closeSync, constants, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { PciAddress } from "../pci/address.ts";
import { type HostPaths, thisMachine } from "./paths.ts";

/** A packet header that the kernel printed: four dwords. */
export interface LoggedHeader {
  readonly address: string;
  readonly dwords: readonly number[];
}

const RECORD_BYTES = 8192;
/** A log that is full of them on a machine without end: what is left comes at the next look. */
const RECORDS_AT_ONCE = 100_000;

export class KernelLog implements Disposable {
  readonly #fd: number;
  readonly #record: Buffer = Buffer.alloc(RECORD_BYTES);
  #open = true;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Opens the log behind its last record; `undefined` where the caller may not read it (dmesg_restrict). */
  static open(paths: HostPaths = thisMachine): KernelLog | undefined {
    try {
      const log = new KernelLog(openSync(join(paths.devRoot, "kmsg"), constants.O_RDONLY | constants.O_NONBLOCK));
      log.records();
      return log;
    } catch {
      return undefined;
    }
  }

  /** What was logged since the last look. */
  records(): string[] {
    const records: string[] = [];
    for (let left = RECORDS_AT_ONCE; this.#open && left > 0; left--) {
      try {
        const size = readSync(this.#fd, this.#record, 0, RECORD_BYTES, null);
        if (size === 0) break;
        records.push(this.#record.toString("utf8", 0, size));
      } catch (error) {
        // EPIPE: records were overwritten before we came, and the next one is there. EAGAIN: no more.
        if ((error as NodeJS.ErrnoException).code !== "EPIPE") break;
      }
    }
    return records;
  }

  /** The packet headers among them. */
  headers(): LoggedHeader[] {
    return this.records()
      .map(parseLoggedHeader)
      .filter((header) => header !== undefined);
  }

  [Symbol.dispose](): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }
}

/** Finds `TLP Header: 04000001 0000220f 01070000 00000000` and which function it is about. */
export function parseLoggedHeader(record: string): LoggedHeader | undefined {
  const digits = /TLP Header:((?: (?:0x)?[0-9a-f]{8}){4})/i.exec(record)?.[1];
  if (digits === undefined) return undefined;
  const address =
    /^ DEVICE=\+pci:(\S+)$/m.exec(record)?.[1] ??
    /\b([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]):/i.exec(record)?.[1];
  if (address === undefined || !PciAddress.accepts(address)) return undefined;
  return {
    address,
    dwords: digits
      .trim()
      .split(" ")
      .map((text) => Number.parseInt(text, 16)),
  };
}
