// What the exit status of every command means. Stable: scripts depend on it.

export const ExitCode = {
  OK: 0,
  FAILURE: 1,
  USAGE: 2,
  NOT_PERMITTED: 3,
  NOT_FOUND: 4,
  BUSY: 5,
  WARNINGS: 6,
  FAULTS: 7,
  INTERRUPTED: 130,
} as const;
export type ExitCode = number;

/** The table that the help prints. */
export const EXIT_CODES: readonly (readonly [code: string, meaning: string])[] = [
  ["0", "done"],
  ["1", "failed, the message says why"],
  ["2", "wrong usage: unknown command or option, bad or missing value"],
  ["3", "not permitted: needs root once, or the function belongs to somebody else"],
  ["4", "no such function, device, user, group or file, or nobody serves at the socket"],
  ["5", "in use, not usable in its present state, or held by somebody"],
  ["6", "ring3 doctor: warnings, but nothing that keeps a driver from working"],
  ["7", "ring3 doctor: at least one fault that keeps a driver from working; ring3 ctl status: a function has failed"],
  ["130", "interrupted by Ctrl-C (143: by SIGTERM); everything was closed or put back"],
];

const USAGE: ReadonlySet<string> = new Set([
  "USAGE",
  "ADDRESS_INVALID",
  "FIELD_UNKNOWN",
  "FIELD_VALUE",
  "FILTER_INVALID",
  "SETPCI_SYNTAX",
  "TRACE_FILTER",
]);
const NOT_PERMITTED: ReadonlySet<string> = new Set(["NOT_ROOT", "PERMISSION_DENIED"]);
const NOT_FOUND: ReadonlySet<string> = new Set([
  "FUNCTION_NOT_FOUND",
  "NO_SUCH_FUNCTION",
  "GROUP_UNKNOWN",
  "USER_UNKNOWN",
  "WRONG_DEVICE",
]);
const BUSY: ReadonlySet<string> = new Set([
  "ACCESS_UNAVAILABLE",
  "BRIDGE",
  "BINDING_BUSY",
  "BUSY",
  "FILE_LOCKED",
  "FUNCTION_BUSY",
  "FUNCTION_HELD",
  "FUNCTION_IN_USE",
  "GROUP_NOT_VIABLE",
  "NOT_BOUND",
  "NODE_OWNED",
  "NO_IOMMU",
  "NO_IOMMU_GROUP",
  "NO_SETFACL",
  "NO_UDEV",
  "NOTHING_TO_REVOKE",
  "RESET_UNAVAILABLE",
  "SLEEP_VETOED",
  "SOCKET_IN_USE",
  "SRIOV_UNAVAILABLE",
  "VFS_EXIST",
]);
const NOT_PERMITTED_ERRNO: ReadonlySet<string> = new Set(["EACCES", "EPERM"]);
const NOT_FOUND_ERRNO: ReadonlySet<string> = new Set(["ENOENT", "ENODEV", "ECONNREFUSED"]);

/** The exit status for a failure, by its stable code first, then by its errno. */
export function exitCodeOf(code: string | undefined, errno: string | undefined): ExitCode {
  if (code !== undefined) {
    if (USAGE.has(code)) return ExitCode.USAGE;
    if (NOT_PERMITTED.has(code)) return ExitCode.NOT_PERMITTED;
    if (NOT_FOUND.has(code)) return ExitCode.NOT_FOUND;
    if (BUSY.has(code)) return ExitCode.BUSY;
  }
  if (errno !== undefined) {
    if (NOT_PERMITTED_ERRNO.has(errno)) return ExitCode.NOT_PERMITTED;
    if (NOT_FOUND_ERRNO.has(errno)) return ExitCode.NOT_FOUND;
    if (errno === "EBUSY") return ExitCode.BUSY;
  }
  return ExitCode.FAILURE;
}
