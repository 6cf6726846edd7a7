// What the core of ring3d is to its control plane: the control socket, metrics, the audit log and the users' socket see the
// service through this interface, and their tests put another one behind it.
import type { FileDescriptor } from "ring3/linux";
import type { NoticeBroker } from "ring3/notices";
import type { ServerStatistics } from "ring3/vfio-user";
import type { MachineSleep } from "./machine-sleep.ts";

/** Somebody who uses a function now. */
export interface UserSession {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** When the function became this user's, as milliseconds since 1970. */
  readonly sinceMs: number;
}

/**
 * `starting`: being bound, opened and reset; `ready`: nobody has it; `used`; `resetting`: between two users;
 * `failed`: cannot be given to anybody, is tried again by itself; `removed`: gone from the machine; `stopping`: being given back.
 */
export type FunctionState = "starting" | "ready" | "used" | "resetting" | "failed" | "removed" | "stopping";

/** One function of the service, as it is now. */
export interface FunctionStatus {
  /** As the configuration calls it. */
  readonly name: string;
  /** The real function: `0000:01:00.0`, or `vfio-user:PATH`. */
  readonly address: string;
  /** The socket where users connect. */
  readonly socket: string;
  readonly state: FunctionState;
  /** Why it failed or was removed. */
  readonly reason: string | undefined;
  /** `undefined` until it was opened once. */
  readonly ids: { readonly vendorId: number; readonly deviceId: number; readonly classCode: number } | undefined;
  readonly rules: string;
  readonly users: readonly UserSession[];
  /** Users that wait for it. */
  readonly waiting: number;
  /** Bytes of the user's memory that are locked now, and how many may be. */
  readonly lockedBytes: number;
  readonly lockLimit: number | undefined;
  /** The file that a trace is being written to. */
  readonly trace: string | undefined;
  readonly statistics: ServerStatistics | undefined;
}

/** What a reload came to: functions by name. */
export interface ReloadOutcome {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** Changed while their users stay. */
  readonly changed: readonly string[];
  /** Their change takes effect once their present user has left. */
  readonly deferred: readonly string[];
}

/** Who asked for something: a peer of the control socket, or a signal. */
export interface Requester {
  readonly pid: number;
  readonly uid: number;
}

/** What happened, for the audit log and the metrics. `function` is the name in the configuration. */
export type ServiceEvent =
  | { readonly type: "started"; readonly configuration: string; readonly functions: readonly string[] }
  | { readonly type: "stopped"; readonly reason: string }
  | { readonly type: "bound"; readonly function: string; readonly address: string }
  | { readonly type: "given-back"; readonly function: string; readonly address: string }
  | { readonly type: "ready"; readonly function: string }
  | { readonly type: "removed"; readonly function: string; readonly reason: string }
  | { readonly type: "failed"; readonly function: string; readonly reason: string }
  | {
      readonly type: "opened";
      readonly function: string;
      readonly pid: number;
      readonly uid: number;
      readonly gid: number;
    }
  | {
      readonly type: "closed";
      readonly function: string;
      readonly pid: number;
      readonly uid: number;
      readonly reason: string;
    }
  | {
      readonly type: "waiting";
      readonly function: string;
      readonly pid: number;
      readonly uid: number;
      /** How many wait before it. */
      readonly ahead: number;
    }
  | {
      readonly type: "refused";
      readonly function: string;
      readonly pid: number;
      readonly uid: number;
      readonly reason: string;
    }
  | {
      readonly type: "rule";
      readonly function: string;
      readonly rule: string;
      readonly place: string;
      readonly description: string;
    }
  | {
      readonly type: "dma-refused";
      readonly function: string;
      readonly iova: number;
      readonly size: number;
      readonly reason: string;
    }
  | { readonly type: "reset"; readonly function: string; readonly cause: "user" | "handover"; readonly kind: string }
  | { readonly type: "fault"; readonly function: string; readonly description: string }
  | {
      readonly type: "kicked";
      readonly function: string;
      readonly users: readonly UserSession[];
      readonly reason: string;
      readonly by: Requester;
    }
  | { readonly type: "trace"; readonly function: string; readonly file: string | undefined; readonly by: Requester }
  | ({ readonly type: "reloaded"; readonly by: Requester | undefined } & ReloadOutcome)
  | { readonly type: "reload-refused"; readonly by: Requester | undefined; readonly reason: string }
  | { readonly type: "fds-handed"; readonly function: string; readonly pid: number; readonly uid: number }
  | { readonly type: "notice"; readonly function: string; readonly notice: string; readonly outcome: string };

/** The service behind its sockets. Methods throw `UsageError` for a name that it does not know, with those that it does. */
export interface Service {
  /** Asks users before the machine sleeps, and tells them when that is over. */
  readonly sleep: Pick<MachineSleep, "ask" | "over">;
  /** All functions, in the order of the configuration. */
  functions(): readonly FunctionStatus[];
  /** Takes a function from its users; resolves with those who had it, once it is reset. */
  kick(name: string, reason: string, by: Requester): Promise<readonly UserSession[]>;
  /** Begins a trace in a new file and gives its path, or ends the one that there is and gives that one's. */
  setTrace(name: string, on: boolean, by: Requester): string | undefined;
  /** Reads the configuration again; users of functions that stay do so. Throws what is wrong with it, and nothing is changed. */
  reload(by: Requester | undefined): Promise<ReloadOutcome>;
  on(listener: (event: ServiceEvent) => void): Disposable;
}

/** Who asks at the users' socket, as the kernel says. */
export interface UserPeer {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Its further groups. */
  readonly groups: readonly number[];
}

/** A function as one user may use it. */
export interface UsableFunction {
  readonly name: string;
  readonly address: string;
  readonly socket: string;
  readonly state: FunctionState;
  /** Whether this user may have the kernel's own descriptors. */
  readonly handOver: boolean;
}

/**
 * A function that a user drives by the kernel's own descriptors, behind no rules. Disposal is the end of the user's
 * connection: the service opens the function again and resets it, as soon as the user has closed its descriptors, too. It
 * never rejects: what goes wrong then is told as `failed`.
 */
export interface Lease extends AsyncDisposable {
  /** As `0000:01:00.0`. */
  readonly address: string;
  readonly backend: "group" | "iommufd";
  /** Container, group and device, or iommufd and device. Whoever sends them closes them here: while they are open, nobody else can open the function. */
  readonly descriptors: readonly FileDescriptor[];
}

/** The service as its users see it at the users' socket. */
export interface UserFacing {
  /** Tells users by the functions' names; the core says who has what open. */
  readonly notices: NoticeBroker;
  /** The functions that this user may use, in the order of the configuration. */
  usableBy(peer: UserPeer): readonly UsableFunction[];
  /**
   * Closes the service's own opening and gives the kernel's descriptors away; emits `fds-handed`. Throws `PERMISSION_DENIED`
   * for who is not in `hand-over`, `FUNCTION_BUSY` where somebody uses the function, and what opening it throws. `wantedBack` is
   * called when the user has to let go: it ends the user's connection, and so the lease.
   */
  lend(name: string, peer: UserPeer, wantedBack: () => void): Promise<Lease>;
  on(listener: (event: ServiceEvent) => void): Disposable;
}
