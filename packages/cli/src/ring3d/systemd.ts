// What a service and its manager say to each other: the sockets that it listens at for us (sd_listen_fds(3)), and that we are
// ready, reloading or stopping (sd_notify(3)). Without a manager both are nothing.
import { FileDescriptor, UnixSocket } from "ring3/linux";
import { UsageError } from "../usage-error.ts";

/** The manager's descriptors are numbered from here on. */
const FIRST_FD = 3;
const MAXIMUM_FDS = 4096;

type Environment = Record<string, string | undefined>;

/**
 * The sockets that were passed to this process, by the name that their unit gives them (FileDescriptorName=, by default the
 * unit's name); the caller owns them. The variables are removed, since they are nobody's whom we start. Throws `USAGE` for
 * variables that no manager writes.
 */
export function listenFds(
  environment: Environment,
  pid: number = process.pid,
): ReadonlyMap<string, readonly FileDescriptor[]> {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = environment as {
    readonly LISTEN_PID?: string;
    readonly LISTEN_FDS?: string;
    readonly LISTEN_FDNAMES?: string;
  };
  for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) delete environment[name];
  const found = new Map<string, FileDescriptor[]>();
  // What a parent of ours was given is not ours.
  if (LISTEN_PID === undefined || LISTEN_FDS === undefined || Number(LISTEN_PID) !== pid) return found;
  const count = Number(LISTEN_FDS);
  if (!/^\d+$/.test(LISTEN_FDS) || count > MAXIMUM_FDS) {
    throw new UsageError(`LISTEN_FDS=${LISTEN_FDS} is no number of sockets: start the service by its socket unit`);
  }
  const names = LISTEN_FDNAMES?.split(":") ?? [];
  for (let index = 0; index < count; index++) {
    const name = names[index] ?? "unknown";
    const list = found.get(name) ?? [];
    found.set(name, list);
    list.push(FileDescriptor.inherited(FIRST_FD + index));
  }
  return found;
}

/** What the manager may be told, as sd_notify(3) has it. */
export interface ServiceState {
  /** The service has started, or has reloaded. */
  readonly READY?: 1;
  /** A reload begins; `MONOTONIC_USEC` belongs to it. */
  readonly RELOADING?: 1;
  readonly MONOTONIC_USEC?: number;
  readonly STOPPING?: 1;
  /** A line for `systemctl status`. */
  readonly STATUS?: string;
}

/** Tells the manager; whether there is one that was told. */
export function notify(environment: Environment, state: ServiceState): boolean {
  const address = environment["NOTIFY_SOCKET"];
  if (address === undefined || !/^[/@]./.test(address)) return false;
  const lines = Object.entries(state).map(([name, value]) => `${name}=${String(value).replaceAll(/\s*\n\s*/g, " ")}`);
  try {
    using socket = UnixSocket.connect(address, "datagram");
    return socket.send([new TextEncoder().encode(lines.join("\n"))], [], true) >= 0;
  } catch {
    // The manager has gone, and the service is not worse for it.
    return false;
  }
}
