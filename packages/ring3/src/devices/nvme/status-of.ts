// What a failure of the backing or of guest memory means for the host: a status of the command.
import { isRing3Error } from "../../binary/error.ts";
import { IoOpcode } from "../../specs/nvme/commands.ts";
import { Status } from "../../specs/nvme/status.ts";

const READS: ReadonlySet<number> = new Set([IoOpcode.READ, IoOpcode.COMPARE, IoOpcode.VERIFY]);

/** The status for `error`, which a command with this opcode met. */
export function statusOf(error: unknown, opcode: number): number {
  if (isRing3Error(error, "DMA_FAULT")) return Status.DATA_TRANSFER_ERROR;
  switch (errnoOf(error)) {
    // The kernel could not reach guest memory that it was given: a client made its file shorter.
    case "EFAULT":
      return Status.DATA_TRANSFER_ERROR;
    case "ENOSPC":
    case "EDQUOT":
    case "EFBIG":
      return Status.CAPACITY_EXCEEDED;
    case "EROFS":
    case "EACCES":
    case "EBADF":
    case "EPERM":
      return Status.NAMESPACE_WRITE_PROTECTED;
    default:
      return READS.has(opcode) ? Status.UNRECOVERED_READ : Status.WRITE_FAULT;
  }
}

/** The name of the errno: ours have it as `errno`, Node's as `code`. */
function errnoOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const { errno, code } = error as { readonly errno?: unknown; readonly code?: unknown };
  return typeof errno === "string" ? errno : typeof code === "string" ? code : undefined;
}
