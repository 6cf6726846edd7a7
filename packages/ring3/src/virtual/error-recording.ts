// What a function writes down and says when an error hits it: PCIe 6.0, section 6.2.5 and figure 6-2. Masked errors set their
// status bit and nothing else; severity decides over the message; advisory non-fatal errors count as correctable.
import { Ring3Error } from "../binary/error.ts";
import { AdvancedErrorReporting } from "../pci/capabilities/advanced-error-reporting.ts";
import { PciExpress } from "../pci/capabilities/pci-express.ts";
import { Header } from "../pci/header.ts";
import type { Register, RegisterField } from "../pci/register.ts";
import type { VirtualConfig } from "./config.ts";

export type UncorrectableError = keyof (typeof AdvancedErrorReporting)["UNCORRECTABLE_ERROR_STATUS"]["fields"];
export type CorrectableError = keyof (typeof AdvancedErrorReporting)["CORRECTABLE_ERROR_STATUS"]["fields"];

/** An error to record: the name of its bit in the AER status registers. */
export interface AerInjection {
  readonly error: UncorrectableError | CorrectableError;
  /** The first four dwords of the request that caused it, as the header log shows them; zeros by default. */
  readonly header?: readonly number[];
  /** End-end prefixes of the request, at most four; none by default. */
  readonly prefix?: readonly number[];
  /** Whether a non-fatal error is only advisory, because somebody else reports it. Without meaning for others. */
  readonly advisory?: boolean;
}

/** The message by which a function reports an error to the root. */
export type ErrorMessage = "ERR_COR" | "ERR_NONFATAL" | "ERR_FATAL";

/** Where AER keeps headers. */
export interface HeaderLog {
  /** Takes a header for the error at `bit`; false where there is no room any more. */
  record(bit: number, header: readonly number[], prefix: readonly number[]): boolean;
}

const aer = AdvancedErrorReporting;

function bitOf(register: Register, name: string): RegisterField | undefined {
  return Object.hasOwn(register.fields, name) ? register.fields[name] : undefined;
}

/**
 * Records an error in all registers that tell of it and gives the messages that the function sends. Without AER the status
 * bits of PCI Express tell, without PCI Express nothing does. Throws `NOT_SUPPORTED` for an error that the function's AER
 * does not have.
 */
export function recordError(
  config: VirtualConfig,
  log: HeaderLog | undefined,
  injection: AerInjection,
): readonly ErrorMessage[] {
  const { error } = injection;
  const correctable = bitOf(aer.CORRECTABLE_ERROR_STATUS, error);
  const uncorrectable = bitOf(aer.UNCORRECTABLE_ERROR_STATUS, error);
  if (correctable === undefined && uncorrectable === undefined) {
    throw new Ring3Error(
      "NOT_SUPPORTED",
      `there is no error ${error}; the names are those of the AER status registers`,
    );
  }
  const register = correctable === undefined ? aer.UNCORRECTABLE_ERROR_STATUS : aer.CORRECTABLE_ERROR_STATUS;
  if (log !== undefined && !config.clearable(register, error)) {
    throw new Ring3Error("NOT_SUPPORTED", `${config.name} does not record ${error}: name it in aer({ errors: [...] })`);
  }
  if (!config.has(PciExpress.DEVICE_STATUS)) return [];
  return uncorrectable === undefined
    ? recordCorrectable(config, log, error as CorrectableError)
    : recordUncorrectable(config, log, injection, error as UncorrectableError, uncorrectable);
}

function recordCorrectable(
  config: VirtualConfig,
  log: HeaderLog | undefined,
  error: CorrectableError,
): readonly ErrorMessage[] {
  config.latch(PciExpress.DEVICE_STATUS, ["CORRECTABLE_ERROR_DETECTED"]);
  if (log !== undefined) {
    config.latch(aer.CORRECTABLE_ERROR_STATUS, [error]);
    if (aer.CORRECTABLE_ERROR_MASK.fields[error].test(config.readRaw(aer.CORRECTABLE_ERROR_MASK))) return [];
  }
  const { CORRECTABLE_ERROR_REPORTING_ENABLE } = PciExpress.DEVICE_CONTROL.fields;
  return CORRECTABLE_ERROR_REPORTING_ENABLE.test(config.readRaw(PciExpress.DEVICE_CONTROL)) ? ["ERR_COR"] : [];
}

function recordUncorrectable(
  config: VirtualConfig,
  log: HeaderLog | undefined,
  { header = [], prefix = [], advisory = false }: AerInjection,
  error: UncorrectableError,
  bit: RegisterField,
): readonly ErrorMessage[] {
  const { UNCORRECTABLE_ERROR_SEVERITY, UNCORRECTABLE_ERROR_STATUS, UNCORRECTABLE_ERROR_MASK } = aer;
  const unsupported = error === "UNSUPPORTED_REQUEST_ERROR";
  if (unsupported) config.latch(PciExpress.DEVICE_STATUS, ["UNSUPPORTED_REQUEST_DETECTED"]);
  if (error === "POISONED_TLP_RECEIVED") config.latch(Header.STATUS, ["DETECTED_PARITY_ERROR"]);
  if (error === "COMPLETER_ABORT") config.latch(Header.STATUS, ["SIGNALED_TARGET_ABORT"]);
  const severity =
    log === undefined
      ? UNCORRECTABLE_ERROR_SEVERITY.fields[error].reset << bit.offset
      : config.readRaw(UNCORRECTABLE_ERROR_SEVERITY);
  const fatal = bit.test(severity);
  const isAdvisory = advisory && !fatal;
  if (isAdvisory) {
    // Section 6.2.4.3: masks of the uncorrectable error keep its header out of the log, and the message they do not.
    const messages = recordCorrectable(config, log, "ADVISORY_NON_FATAL_ERROR");
    if (log === undefined) return [];
    const { ADVISORY_NON_FATAL_ERROR } = aer.CORRECTABLE_ERROR_MASK.fields;
    if (ADVISORY_NON_FATAL_ERROR.test(config.readRaw(aer.CORRECTABLE_ERROR_MASK))) return [];
    config.latch(UNCORRECTABLE_ERROR_STATUS, [error]);
    if (bit.test(config.readRaw(UNCORRECTABLE_ERROR_MASK))) return messages;
    return [...overflow(config, log, log.record(bit.offset, header, prefix)), ...messages];
  }
  config.latch(PciExpress.DEVICE_STATUS, [fatal ? "FATAL_ERROR_DETECTED" : "NON_FATAL_ERROR_DETECTED"]);
  let extra: readonly ErrorMessage[] = [];
  if (log !== undefined) {
    const masked = bit.test(config.readRaw(UNCORRECTABLE_ERROR_MASK));
    if (masked) {
      config.latch(UNCORRECTABLE_ERROR_STATUS, [error]);
      return [];
    }
    extra = overflow(config, log, log.record(bit.offset, header, prefix));
    config.latch(UNCORRECTABLE_ERROR_STATUS, [error]);
  }
  const control = config.readRaw(PciExpress.DEVICE_CONTROL);
  const { fields } = PciExpress.DEVICE_CONTROL;
  const enable = fatal ? fields.FATAL_ERROR_REPORTING_ENABLE : fields.NON_FATAL_ERROR_REPORTING_ENABLE;
  const byDevice = enable.test(control) && (!unsupported || fields.UNSUPPORTED_REQUEST_REPORTING_ENABLE.test(control));
  const bySystem = Header.COMMAND.fields.SERR_ENABLE.test(config.readRaw(Header.COMMAND));
  if (!byDevice && !bySystem) return extra;
  if (bySystem) config.latch(Header.STATUS, ["SIGNALED_SYSTEM_ERROR"]);
  return [...extra, fatal ? "ERR_FATAL" : "ERR_NONFATAL"];
}

/** A header that found no room is an error of its own. */
function overflow(config: VirtualConfig, log: HeaderLog, recorded: boolean): readonly ErrorMessage[] {
  return recorded ? [] : recordCorrectable(config, log, "HEADER_LOG_OVERFLOW");
}
