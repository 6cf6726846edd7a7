// Which failures are worth a second try: the DNR bit of the status field, NVMe base 2.0, section 3.3.3.2.1.
import { Status, StatusFlag } from "../../specs/nvme/status.ts";

/** What may succeed when it is sent again. */
const WORTH_A_RETRY: ReadonlySet<number> = new Set([
  Status.ABORT_REQUESTED,
  Status.ABORTED_QUEUE_DELETION,
  Status.INTERNAL_ERROR,
  Status.DATA_TRANSFER_ERROR,
  Status.NAMESPACE_NOT_READY,
  Status.WRITE_FAULT,
  Status.UNRECOVERED_READ,
]);

/** The status field (15 bits, without phase) for a status value that is not success. */
export function statusField(status: number): number {
  return WORTH_A_RETRY.has(status) ? status : status | StatusFlag.DO_NOT_RETRY;
}
