// A service for tests: functions as they are told, events when they are told, and a note of what was asked.
import type { SuspendOutcome } from "ring3/notices";
import { nearest } from "../parse.ts";
import { UsageError } from "../usage-error.ts";
import type {
  FunctionStatus,
  ReloadOutcome,
  Requester,
  Service,
  ServiceEvent,
  UserSession,
} from "./service-interface.ts";

export const ALICE: UserSession = { pid: 4711, uid: 1000, gid: 1000, sinceMs: 1_000_000 };
export const BOB: UserSession = { pid: 4712, uid: 1001, gid: 1001, sinceMs: 2_000_000 };

/** A status with everything that is not told as it is for a function that nobody has. */
export function status(name: string, told: Partial<FunctionStatus> = {}): FunctionStatus {
  return {
    name,
    address: "0000:01:00.0",
    socket: `/run/ring3/${name}.sock`,
    state: "ready",
    reason: undefined,
    ids: { vendorId: 0x1b36, deviceId: 0x0010, classCode: 0x010802 },
    rules: "strict",
    users: [],
    waiting: 0,
    lockedBytes: 0,
    lockLimit: undefined,
    trace: undefined,
    statistics: undefined,
    ...told,
  };
}

export class FakeService implements Service {
  list: FunctionStatus[];
  /** What was asked, in words, by whom. */
  readonly asked: { readonly what: string; readonly by: Requester | undefined }[] = [];
  /** Users who refuse a sleep. */
  refusing: SuspendOutcome["refused"] = [];
  readonly sleep: Service["sleep"] = {
    ask: () => {
      this.asked.push({ what: "sleep", by: undefined });
      const { refusing: refused } = this;
      const allowed = refused.length === 0;
      const functions = this.list.map(({ name }) => name);
      const consented = this.list.flatMap(({ name, users }) =>
        users.map(({ pid, uid }) => ({ pid, uid, function: name })),
      );
      return Promise.resolve({
        kind: "suspend",
        functions,
        allowed,
        consented: allowed ? consented : [],
        refused,
        silent: [],
        unasked: [],
      });
    },
    over: () => void this.asked.push({ what: "awake", by: undefined }),
  };
  outcome: () => Promise<ReloadOutcome> = () => Promise.resolve({ added: [], removed: [], changed: [], deferred: [] });
  readonly #listeners = new Set<(event: ServiceEvent) => void>();

  constructor(...list: FunctionStatus[]) {
    this.list = list;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  functions(): readonly FunctionStatus[] {
    return this.list;
  }

  kick(name: string, reason: string, by: Requester): Promise<readonly UserSession[]> {
    this.asked.push({ what: `kick ${name}: ${reason}`, by });
    try {
      const { users } = this.#find(name);
      this.list = this.list.map((fn) => (fn.name === name ? { ...fn, state: "ready", users: [] } : fn));
      if (users.length > 0) this.emit({ type: "kicked", function: name, users, reason, by });
      return Promise.resolve(users);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  setTrace(name: string, on: boolean, by: Requester): string | undefined {
    this.asked.push({ what: `trace ${name} ${on ? "on" : "off"}`, by });
    const former = this.#find(name).trace;
    const file = on ? `/var/log/ring3/traces/${name}.jsonl` : undefined;
    this.list = this.list.map((fn) => (fn.name === name ? { ...fn, trace: file } : fn));
    this.emit({ type: "trace", function: name, file, by });
    return on ? file : former;
  }

  reload(by: Requester | undefined): Promise<ReloadOutcome> {
    this.asked.push({ what: "reload", by });
    return this.outcome();
  }

  on(listener: (event: ServiceEvent) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  emit(event: ServiceEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  #find(name: string): FunctionStatus {
    const found = this.list.find((fn) => fn.name === name);
    if (found !== undefined) return found;
    const names = this.list.map((fn) => fn.name);
    const near = nearest(name, names);
    const meant = near === undefined ? `there are ${names.join(", ")}` : `did you mean ${near}?`;
    throw new UsageError(`there is no function "${name}"; ${meant}`);
  }
}

/** One event of each type: a type that is new has to be added here, and to what is made of events. */
export const EVERY_EVENT: { readonly [T in ServiceEvent["type"]]: ServiceEvent & { readonly type: T } } = {
  started: { type: "started", configuration: "/etc/ring3/ring3d.yaml", functions: ["disk", "card"] },
  stopped: { type: "stopped", reason: "SIGTERM" },
  bound: { type: "bound", function: "disk", address: "0000:01:00.0" },
  "given-back": { type: "given-back", function: "disk", address: "0000:01:00.0" },
  ready: { type: "ready", function: "disk" },
  removed: { type: "removed", function: "disk", reason: "it was unplugged" },
  failed: { type: "failed", function: "disk", reason: "the reset did not end: power the machine down" },
  opened: { type: "opened", function: "disk", pid: 4711, uid: 1000, gid: 1000 },
  closed: { type: "closed", function: "disk", pid: 4711, uid: 1000, reason: "the client hung up" },
  waiting: { type: "waiting", function: "disk", pid: 4712, uid: 1001, ahead: 0 },
  refused: { type: "refused", function: "disk", pid: 4712, uid: 1001, reason: "uid 1001 is not among its users" },
  rule: { type: "rule", function: "disk", rule: "config-write", place: "BAR0", description: "0x1000 was not written" },
  "dma-refused": { type: "dma-refused", function: "disk", iova: 2 ** 47, size: 4096, reason: "the limit is reached" },
  reset: { type: "reset", function: "disk", cause: "handover", kind: "flr" },
  fault: { type: "fault", function: "disk", description: "a read outside the client's memory" },
  kicked: {
    type: "kicked",
    function: "disk",
    users: [ALICE],
    reason: "maintenance",
    by: { pid: 1, uid: 0 },
  },
  trace: { type: "trace", function: "disk", file: "/var/log/ring3/traces/disk.jsonl", by: { pid: 1, uid: 0 } },
  reloaded: { type: "reloaded", by: undefined, added: ["card"], removed: [], changed: ["disk"], deferred: [] },
  "reload-refused": { type: "reload-refused", by: { pid: 1, uid: 0 }, reason: "ring3d.yaml:3:5: no such rule" },
  "fds-handed": { type: "fds-handed", function: "disk", pid: 4711, uid: 1000 },
  notice: { type: "notice", function: "disk", notice: "suspend", outcome: "vetoed by uid 1000" },
};
