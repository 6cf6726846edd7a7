/**
 * The one error class of ring3. `code` is stable and meant for programs; the message is a sentence that names the likely
 * fix and is meant for people. A failed system call adds its errno name and the call.
 */
export class Ring3Error extends Error {
  override readonly name = "Ring3Error";
  /** Stable, upper-case identifier, for example `GROUP_NOT_VIABLE`. */
  readonly code: string;
  /** Name of the errno, for example `EBUSY`, where a system call failed. */
  readonly errno: string | undefined;
  /** The call that failed, for example `ioctl VFIO_IOMMU_MAP_DMA`. */
  readonly call: string | undefined;

  constructor(code: string, message: string, details: { errno?: string; call?: string; cause?: unknown } = {}) {
    super(`${code}: ${message}`, "cause" in details ? { cause: details.cause } : undefined);
    this.code = code;
    this.errno = details.errno;
    this.call = details.call;
  }
}

/** Whether `error` is a {@link Ring3Error}, with `code` where one is given. */
export function isRing3Error(error: unknown, code?: string): error is Ring3Error {
  return error instanceof Ring3Error && (code === undefined || error.code === code);
}

/** What a sentence says of anything that was thrown: an error's message, or the value itself as text. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
