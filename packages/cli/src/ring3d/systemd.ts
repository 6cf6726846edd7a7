// What a service and its manager say to each other: the sockets that it listens at for us (sd_listen_fds(3)), and that we are
// ready, reloading or stopping (sd_notify(3)). Without a manager both are nothing.
import { boundPath, FileDescriptor, UnixSocket } from "ring3/linux";
import { UsageError } from "../usage-error.ts";

/** The manager's descriptors are numbered from here on. */
const FIRST_FD = 3;
const MAXIMUM_FDS = 4096;
const VARIABLES = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] as const;

type Environment = Record<string, string | undefined>;

/** A socket that the manager listens at. */
export interface PassedSocket {
  /** As its unit calls it (FileDescriptorName=, by default the unit's name). */
  readonly name: string;
  /** Where it is in the file system; `undefined` for one that is not. */
  readonly path: string | undefined;
  readonly fd: FileDescriptor;
}

/**
 * The sockets that were passed to this process, which owns them from now on and does not pass them on. The variables are
 * removed, since they are nobody's whom we start. Throws `USAGE` for variables that no manager writes.
 */
export function listenFds(environment: Environment, pid: number = process.pid): readonly PassedSocket[] {
  const [owner, count, names] = VARIABLES.map((name) => environment[name]);
  for (const name of VARIABLES) delete environment[name];
  // What a parent of ours was given is not ours.
  if (owner === undefined || count === undefined || Number(owner) !== pid) return [];
  if (!/^\d+$/.test(count) || Number(count) > MAXIMUM_FDS) {
    throw new UsageError(`LISTEN_FDS=${count} is no number of sockets: start the service by its socket unit`);
  }
  return Array.from({ length: Number(count) }, (_, index) => {
    const fd = FileDescriptor.inherited(FIRST_FD + index);
    return { name: names?.split(":")[index] ?? "unknown", path: boundPath(fd.number), fd };
  });
}

/**
 * Finds a passed socket by where it listens; the number is of a descriptor that the caller owns. It is there again for who asks
 * again, as for a function that a reload took away and brought back.
 */
export function byPath(sockets: readonly PassedSocket[]): (path: string) => number | undefined {
  const found = new Map(sockets.flatMap(({ path, fd }) => (path === undefined ? [] : [[path, fd] as const])));
  return (path) => found.get(path)?.duplicate().release();
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
