// The kernel's counters of PCI Express errors per function: sysfs aer_dev_correctable, aer_dev_nonfatal and aer_dev_fatal,
// readable by anybody. The kernel has short names of its own; here errors are called as in the specification.
import { join } from "node:path";
import { readText } from "./sysfs.ts";

export const ERROR_SEVERITIES = ["correctable", "nonfatal", "fatal"] as const;
export type ErrorSeverity = (typeof ERROR_SEVERITIES)[number];

/** How often each error was seen since the function appeared, by the names of AER's status registers. */
export interface ErrorCounters {
  /** Messages: one may report several errors. */
  readonly total: number;
  readonly errors: Readonly<Record<string, number>>;
}

/** The kernel's names, by the field of AER's status registers that they stand for. */
const names: Readonly<Record<string, string>> = {
  RxErr: "RECEIVER_ERROR",
  BadTLP: "BAD_TLP",
  BadDLLP: "BAD_DLLP",
  Rollover: "REPLAY_NUM_ROLLOVER",
  Timeout: "REPLAY_TIMER_TIMEOUT",
  NonFatalErr: "ADVISORY_NON_FATAL_ERROR",
  CorrIntErr: "CORRECTED_INTERNAL_ERROR",
  HeaderOF: "HEADER_LOG_OVERFLOW",
  DLP: "DATA_LINK_PROTOCOL_ERROR",
  SDES: "SURPRISE_DOWN_ERROR",
  TLP: "POISONED_TLP_RECEIVED",
  FCP: "FLOW_CONTROL_PROTOCOL_ERROR",
  CmpltTO: "COMPLETION_TIMEOUT",
  CmpltAbrt: "COMPLETER_ABORT",
  UnxCmplt: "UNEXPECTED_COMPLETION",
  RxOF: "RECEIVER_OVERFLOW",
  MalfTLP: "MALFORMED_TLP",
  ECRC: "ECRC_ERROR",
  UnsupReq: "UNSUPPORTED_REQUEST_ERROR",
  ACSViol: "ACS_VIOLATION",
  UncorrIntErr: "UNCORRECTABLE_INTERNAL_ERROR",
  BlockedTLP: "MC_BLOCKED_TLP",
  AtomicOpBlocked: "ATOMIC_OP_EGRESS_BLOCKED",
  TLPBlockedErr: "TLP_PREFIX_BLOCKED_ERROR",
  PoisonTLPBlocked: "POISONED_TLP_EGRESS_BLOCKED",
  DMWrReqBlocked: "DMWR_REQUEST_EGRESS_BLOCKED",
  IDECheck: "IDE_CHECK_FAILED",
  MisIDETLP: "MISROUTED_IDE_TLP",
  PCRC_CHECK: "PCRC_CHECK_FAILED",
  TLPXlatBlocked: "TLP_TRANSLATION_EGRESS_BLOCKED",
};

/** Lines `NAME COUNT`, the last of them `TOTAL_ERR_... COUNT`. A name that is not known stays as it is. */
export function parseErrorCounters(text: string): ErrorCounters {
  const errors: Record<string, number> = {};
  let total = 0;
  for (const line of text.split("\n")) {
    const [, name = "", digits] = /^(\S+) (\d+)$/.exec(line.trim()) ?? [];
    if (digits === undefined) continue;
    if (name.startsWith("TOTAL_")) total = Number(digits);
    else errors[names[name] ?? name] = Number(digits);
  }
  return { total, errors };
}

/** The counters of one function; `undefined` where the kernel keeps none: no AER, or firmware handles it. */
export function readErrorCounters(directory: string, severity: ErrorSeverity): ErrorCounters | undefined {
  const text = readText(join(directory, `aer_dev_${severity}`));
  return text === undefined ? undefined : parseErrorCounters(text);
}

/** What came since `before`: all that there is, where the function is another one by now and counts anew. */
export function newErrors(before: ErrorCounters, now: ErrorCounters): Readonly<Record<string, number>> {
  const former = now.total < before.total ? {} : before.errors;
  const gained = Object.entries(now.errors).map(([name, count]) => [name, count - (former[name] ?? 0)] as const);
  return Object.fromEntries(gained.filter(([, count]) => count > 0));
}
