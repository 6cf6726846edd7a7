// What an NVMe controller can answer or fail to answer, as errors with stable codes.
import { Ring3Error } from "../../binary/error.ts";
import { CompletionStatus } from "../../specs/nvme/commands.ts";
import { Status, statusName } from "../../specs/nvme/status.ts";

/** The controller completed a command with an error status. Its code is `NVME_STATUS`. */
export class NvmeStatusError extends Ring3Error {
  /** Status code type in bits 10:8, status code in bits 7:0; names in `ring3/nvme` as `Status`. */
  readonly status: number;
  /** The status' name in the specification's words, for example `LBA_OUT_OF_RANGE`. */
  readonly statusName: string;
  /** The controller says that trying again cannot succeed. */
  readonly doNotRetry: boolean;
  /** The error log has more about it. */
  readonly more: boolean;
  readonly opcode: number;

  /** `word` is dword 3 of the completion. */
  constructor(what: string, opcode: number, word: number) {
    const status = (word >>> CompletionStatus.SC.offset) & 0x7ff;
    const name = statusName(status);
    const advice = advices.get(status);
    super("NVME_STATUS", `${what} ended with ${name}${advice === undefined ? "" : `: ${advice}`}`);
    this.status = status;
    this.statusName = name;
    this.doNotRetry = CompletionStatus.DNR.test(word);
    this.more = CompletionStatus.M.test(word);
    this.opcode = opcode;
  }
}

const advices: ReadonlyMap<number, string> = new Map([
  [
    Status.INVALID_OPCODE,
    "the controller does not support the command; ONCS of identify controller says which it does",
  ],
  [Status.INVALID_NAMESPACE, "no such namespace; look at the list of active namespaces"],
  [Status.LBA_OUT_OF_RANGE, "the blocks lie beyond the end of the namespace"],
  [Status.COMPARE_FAILURE, "the data on the namespace differs"],
  [Status.NAMESPACE_WRITE_PROTECTED, "the namespace is write protected"],
  [Status.DATA_TRANSFER_ERROR, "the controller could not reach the data buffer; it must come from this function's dma"],
  [Status.UNRECOVERED_READ, "the medium cannot be read there"],
]);

/** Whether `error` is a completion with an error status; with `status`, exactly this one. */
export function isNvmeStatus(error: unknown, status?: number): error is NvmeStatusError {
  return error instanceof NvmeStatusError && (status === undefined || error.status === status);
}

/** The controller broke the protocol: `NVME_PROTOCOL`. */
export function protocolError(address: string, sentence: string): Ring3Error {
  return new Ring3Error("NVME_PROTOCOL", `${address} ${sentence}; its firmware or model is faulty, so it is reset`);
}

/** A command that could not be told from lost in a controller reset: `NVME_COMMAND_LOST`. */
export function lostError(what: string): Ring3Error {
  return new Ring3Error(
    "NVME_COMMAND_LOST",
    `${what} was in flight when the controller was reset, and repeating it is not known to be safe; check its effect`,
  );
}
