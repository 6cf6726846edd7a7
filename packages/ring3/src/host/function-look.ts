// What changed about functions since the last look: error counters, link, power. Hard part: a look must not disturb. The
// kernel wakes a sleeping function to read its link or its registers, so those are read of functions in D0 only; and a
// function may vanish between any two reads.
import { closeSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { type RecordedErrors, readErrors } from "../pci/capabilities/advanced-error-reporting.ts";
import { bytesConfigAccess, ConfigSpace } from "../pci/config-space.ts";
import { AdvancedErrorReporting } from "../pci/capabilities/advanced-error-reporting.ts";
import { decodeTransactionHeader, type TransactionHeader } from "../pci/transaction-header.ts";
import {
  ERROR_SEVERITIES,
  type ErrorCounters,
  type ErrorSeverity,
  newErrors,
  readErrorCounters,
} from "./error-counters.ts";
import { isAwake, type LinkState, readFunctionState } from "./function-state.ts";
import { KernelLog, type LoggedHeader } from "./kernel-log.ts";
import { functionDirectory, type HostPaths, thisMachine } from "./paths.ts";
import { listNames } from "./sysfs.ts";

/** The header of the packet that an error is about. */
export interface ErrorPacket {
  readonly dwords: readonly number[];
  readonly header: TransactionHeader | undefined;
  readonly source: "kernel-log" | "config-space";
}

export type Observation =
  | {
      readonly type: "aer";
      readonly address: string;
      /** `undefined` where only the packet was seen. */
      readonly severity: ErrorSeverity | undefined;
      /** How often each error came since the last look, by the names of AER's status registers. */
      readonly errors: Readonly<Record<string, number>>;
      /** The error that came first, if the function still has it recorded. */
      readonly first: string | undefined;
      readonly packet: ErrorPacket | undefined;
    }
  | { readonly type: "link"; readonly address: string; readonly link: LinkState; readonly before: LinkState }
  | { readonly type: "power"; readonly address: string; readonly state: string; readonly before: string };

/** What the last look saw of a function. */
interface Seen {
  readonly counters: Partial<Record<ErrorSeverity, ErrorCounters>>;
  readonly recorded: RecordedErrors | undefined;
  readonly link: LinkState | undefined;
  readonly power: string | undefined;
}

export class FunctionLook implements Disposable {
  readonly #paths: HostPaths;
  readonly #chosen: ReadonlySet<string> | undefined;
  readonly #seen = new Map<string, Seen>();
  readonly #log: KernelLog | undefined;

  /** `addresses` as sysfs spells them: only these; by default all that are there or come. */
  constructor(paths: HostPaths = thisMachine, addresses?: readonly string[]) {
    this.#paths = paths;
    this.#chosen = addresses === undefined ? undefined : new Set(addresses);
    this.#log = KernelLog.open(paths);
    for (const address of listNames(join(paths.sysfsRoot, "bus/pci/devices"))) this.adopt(address);
  }

  /** Whether the watch is for some functions only. */
  get chosen(): boolean {
    return this.#chosen !== undefined;
  }

  watches(address: string): boolean {
    return this.#chosen === undefined || this.#chosen.has(address);
  }

  /** Takes a function in as it is now. */
  adopt(address: string): void {
    if (this.watches(address)) this.#seen.set(address, this.#see(address));
  }

  forget(address: string): void {
    this.#seen.delete(address);
  }

  /** What changed since the last look, of the functions that are watched or of some of them. */
  observe(addresses: Iterable<string> = this.#seen.keys()): Observation[] {
    const found: Observation[] = [];
    const headers = this.#log?.headers() ?? [];
    for (const address of addresses) {
      const before = this.#seen.get(address);
      const now = this.#see(address);
      this.#seen.set(address, now);
      if (before !== undefined) found.push(...this.#compare(address, before, now, headers));
    }
    // Printed before their function was looked at, or while nobody looked at it.
    for (const { address, dwords } of headers.filter((header) => this.watches(header.address))) {
      found.push(aer(address, undefined, {}, undefined, packetOf(dwords, "kernel-log")));
    }
    return found;
  }

  /** What this look cannot see, as sentences with the fix. */
  blindSpots(): string[] {
    const blind: string[] = [];
    const seen = [...this.#seen.entries()];
    if (this.#log === undefined)
      blind.push(
        "headers of packets that caused errors: the kernel's log is closed to you (kernel.dmesg_restrict; root may read it)",
      );
    if (!seen.some(([, { counters }]) => Object.keys(counters).length > 0)) {
      const registers = seen.some(([, { recorded }]) => recorded !== undefined);
      const rest = registers ? "error registers are read instead" : "and their error registers are for root";
      blind.push(`error counters: no function here has them (no AER, or firmware handles errors); ${rest}`);
    }
    return blind;
  }

  [Symbol.dispose](): void {
    this.#log?.[Symbol.dispose]();
  }

  #compare(address: string, before: Seen, now: Seen, headers: LoggedHeader[]): Observation[] {
    const found: Observation[] = [];
    const takePacket = (): ErrorPacket | undefined => {
      const at = headers.findIndex((header) => header.address === address);
      const [logged] = at < 0 ? [] : headers.splice(at, 1);
      return logged === undefined ? undefined : packetOf(logged.dwords, "kernel-log");
    };
    for (const severity of ERROR_SEVERITIES) {
      const [former, current] = [before.counters[severity], now.counters[severity]];
      if (former === undefined || current === undefined) continue;
      const errors = newErrors(former, current);
      if (Object.keys(errors).length === 0 && current.total <= former.total) continue;
      // The kernel logs headers of uncorrectable errors only, and by now has cleared what the function had recorded.
      const kept = severity === "correctable" ? undefined : this.#recorded(address, now.power);
      const packet = severity === "correctable" ? undefined : (takePacket() ?? recordedPacket(kept));
      found.push(aer(address, severity, errors, kept?.first, packet));
    }
    found.push(...newlyRecorded(address, before.recorded, now.recorded));
    const { link, power } = now;
    if (
      link !== undefined &&
      before.link !== undefined &&
      (link.speed !== before.link.speed || link.width !== before.link.width)
    )
      found.push({ type: "link", address, link, before: before.link });
    if (power !== undefined && before.power !== undefined && power !== before.power)
      found.push({ type: "power", address, state: power, before: before.power });
    return found;
  }

  #see(address: string): Seen {
    const directory = functionDirectory(this.#paths, address);
    const { power, link } = readFunctionState(directory);
    const counters: Partial<Record<ErrorSeverity, ErrorCounters>> = {};
    for (const severity of ERROR_SEVERITIES) {
      const found = readErrorCounters(directory, severity);
      if (found !== undefined) counters[severity] = found;
    }
    const counted = Object.keys(counters).length > 0;
    return {
      counters,
      recorded: counted ? undefined : this.#recorded(address, power),
      link,
      power,
    };
  }

  /** What the function has recorded by itself, where its config space can be read that far: by root. */
  #recorded(address: string, power: string | undefined): RecordedErrors | undefined {
    if (!isAwake(power)) return undefined;
    const bytes = readConfigFile(join(functionDirectory(this.#paths, address), "config"));
    if (bytes === undefined) return undefined;
    const config = new ConfigSpace(bytesConfigAccess(bytes));
    if (!config.has(AdvancedErrorReporting.HEADER_LOG_3)) return undefined;
    return readErrors(config);
  }
}

function aer(
  address: string,
  severity: ErrorSeverity | undefined,
  errors: Readonly<Record<string, number>>,
  first: string | undefined,
  packet: ErrorPacket | undefined,
): Observation {
  return { type: "aer", address, severity, errors, first, packet };
}

function packetOf(dwords: readonly number[], source: ErrorPacket["source"]): ErrorPacket {
  return { dwords, header: decodeTransactionHeader(dwords), source };
}

/** The header log holds the packet of the first error, and is valid only while that one is recorded. */
function recordedPacket(recorded: RecordedErrors | undefined): ErrorPacket | undefined {
  if (recorded?.first === undefined) return undefined;
  const { headerLog, flitMode } = recorded;
  return flitMode
    ? { dwords: headerLog, header: undefined, source: "config-space" }
    : packetOf(headerLog, "config-space");
}

/** Of functions without counters: bits of the status registers that were clear before. */
function newlyRecorded(
  address: string,
  before: RecordedErrors | undefined,
  now: RecordedErrors | undefined,
): Observation[] {
  if (before === undefined || now === undefined) return [];
  const gained = (former: readonly string[], current: readonly string[]): Record<string, number> =>
    Object.fromEntries(current.filter((name) => !former.includes(name)).map((name) => [name, 1]));
  const found: Observation[] = [];
  const correctable = gained(before.correctable, now.correctable);
  if (Object.keys(correctable).length > 0) found.push(aer(address, "correctable", correctable, undefined, undefined));
  const uncorrectable = gained(before.uncorrectable, now.uncorrectable);
  for (const severity of ["nonfatal", "fatal"] as const) {
    const errors = Object.fromEntries(
      Object.entries(uncorrectable).filter(([name]) => now.fatal.includes(name) === (severity === "fatal")),
    );
    if (Object.keys(errors).length > 0) found.push(aer(address, severity, errors, now.first, recordedPacket(now)));
  }
  return found;
}

/** All that may be read of the file; `undefined` where that is no more than the header, or the function has gone. */
function readConfigFile(path: string): Uint8Array | undefined {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return undefined;
  }
  try {
    const bytes = new Uint8Array(4096);
    const size = readSync(fd, bytes, 0, bytes.length, 0);
    return size > 256 ? bytes.subarray(0, size) : undefined;
  } catch {
    return undefined;
  } finally {
    closeSync(fd);
  }
}
