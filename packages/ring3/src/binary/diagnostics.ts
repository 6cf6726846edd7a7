// The names under which the library tells what it does, on node:diagnostics_channel; it never prints. Nobody listening
// costs nothing.

/** Each system call that opens, configures or maps something (register accesses are too many): {@link SystemCallReport}. */
export const SYSTEM_CALLS = "ring3:call";

export interface SystemCallReport {
  /** In words: `ioctl VFIO_GROUP_GET_STATUS`, `open /dev/vfio/14`. */
  readonly call: string;
  /** What it returned, or minus the errno. */
  readonly result: number;
  readonly tookMs: number;
}
