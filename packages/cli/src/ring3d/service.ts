// The service: all functions of a configuration, what administrators do to them, and what happens to them at the machine.
import { join } from "node:path";
import { messageOf } from "ring3/binary";
import type { HostEvents } from "ring3/host";
import { NoticeBroker, outcomeText, type SuspendOutcome } from "ring3/notices";
import { nearest } from "../parse.ts";
import { UsageError } from "../usage-error.ts";
import type { Configuration } from "./configuration.ts";
import type { Hardware } from "./function-needs.ts";
import { MachineSleep } from "./machine-sleep.ts";
import { ManagedFunction } from "./managed-function.ts";
import type {
  FunctionStatus,
  Lease,
  ReloadOutcome,
  Requester,
  Service,
  ServiceEvent,
  UsableFunction,
  UserFacing,
  UserPeer,
  UserSession,
} from "./service-interface.ts";
import { Turns } from "./turns.ts";

export interface ServiceOptions {
  readonly hardware: Hardware;
  /** Reads the configuration again. */
  readonly reread: () => Configuration | Promise<Configuration>;
  /** Tests pass one with timers of their own. */
  readonly notices?: NoticeBroker;
  /** What happens at the machine; without it functions that come back are found by trying. */
  readonly machine?: HostEvents | undefined;
  /** Descriptors of sockets at which somebody listened before the service began, by path. */
  readonly listenFd?: ((path: string) => number | undefined) | undefined;
}

const SPELLING: Readonly<Record<string, string>> = { controlGroup: "control-group", users: "users-socket" };

/** Functions behind their sockets, from {@link FunctionService.start} on; disposal gives everything back. */
export class FunctionService implements Service, UserFacing, AsyncDisposable {
  readonly #options: ServiceOptions;
  /** Tells users what is about to happen. */
  readonly notices: NoticeBroker;
  readonly sleep: MachineSleep;
  readonly #functions: Map<string, ManagedFunction> = new Map();
  readonly #listeners: Set<(event: ServiceEvent) => void> = new Set();
  #configuration: Configuration;
  readonly #reloads: Turns = new Turns();
  #ended: Promise<void> | undefined;

  constructor(configuration: Configuration, options: ServiceOptions) {
    this.#configuration = configuration;
    this.#options = options;
    this.notices = options.notices ?? new NoticeBroker();
    this.sleep = new MachineSleep({
      notices: this.notices,
      functions: () => this.functions().map(({ name }) => name),
      onOutcome: (outcome) => this.#told(outcome),
    });
  }

  functions(): readonly FunctionStatus[] {
    return this.#configuration.functions.flatMap(({ name }) => this.#functions.get(name)?.status ?? []);
  }

  async kick(name: string, reason: string, by: Requester): Promise<readonly UserSession[]> {
    const users = await this.#named(name).kick(reason);
    this.#emit({ type: "kicked", function: name, users, reason, by });
    return users;
  }

  setTrace(name: string, on: boolean, by: Requester): string | undefined {
    const fn = this.#named(name);
    const file = fn.setTrace(on ? join(this.#configuration.traces, `${name}.jsonl`) : undefined);
    this.#emit({ type: "trace", function: name, file: on ? file : undefined, by });
    return file;
  }

  usableBy({ uid, gid, groups }: UserPeer): readonly UsableFunction[] {
    return [...this.#functions.values()].flatMap((fn) => {
      const { users, handOver } = fn.settings;
      const { name, address, socket, state } = fn.status;
      const lendable = handOver.has(uid, gid, groups);
      if (!lendable && !users.has(uid, gid, groups)) return [];
      return [{ name, address, socket, state, handOver: lendable }];
    });
  }

  async lend(name: string, peer: UserPeer, wantedBack: () => void): Promise<Lease> {
    return await this.#named(name).lend(peer, wantedBack);
  }

  reload(by: Requester | undefined): Promise<ReloadOutcome> {
    return this.#reloads.take(() => this.#reloadNow(by));
  }

  on(listener: (event: ServiceEvent) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Resolves once every function was tried once. */
  async start(): Promise<void> {
    const { functions, path } = this.#configuration;
    this.#emit({ type: "started", configuration: path, functions: functions.map(({ name }) => name) });
    void this.#followMachine();
    await Promise.all(functions.map((settings) => this.#add(settings).start()));
  }

  /** Disconnects everybody and gives every function back; resolves when that is done. */
  stop(reason: string): Promise<void> {
    this.#ended ??= (async () => {
      this.#options.machine?.[Symbol.dispose]();
      await this.#reloads.ended();
      await Promise.all([...this.#functions.values()].map((fn) => fn.close()));
      this.#emit({ type: "stopped", reason });
    })();
    return this.#ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop("the service was closed");
  }

  /** Something happened to the function at `address`: an attempt that waits is made now. */
  machineSays(address: string, event: "added" | "changed"): void {
    for (const fn of this.#functions.values()) if (fn.settings.address === address) fn.wake(event);
  }

  #add(settings: Configuration["functions"][number]): ManagedFunction {
    const { name } = settings;
    const { hardware, listenFd } = this.#options;
    const fn = new ManagedFunction(settings, {
      hardware,
      listenFd,
      notices: this.notices,
      members: () => this.#functions.values(),
      emit: (event) => this.#emit({ ...event, function: name }),
    });
    this.#functions.set(name, fn);
    return fn;
  }

  #named(name: string): ManagedFunction {
    const fn = this.#functions.get(name);
    if (fn !== undefined) return fn;
    const names = [...this.#functions.keys()];
    const near = nearest(name, names);
    const meant = near === undefined ? `there are ${names.join(", ") || "none"}` : `did you mean ${near}?`;
    throw new UsageError(`no function is called "${name}"; ${meant}`);
  }

  async #reloadNow(by: Requester | undefined): Promise<ReloadOutcome> {
    let next: Configuration;
    try {
      next = await this.#options.reread();
      this.#refuseMoves(next);
    } catch (error) {
      this.#emit({ type: "reload-refused", by, reason: messageOf(error) });
      throw error;
    }
    const wanted = new Map(next.functions.map((settings) => [settings.name, settings]));
    const removed = [...this.#functions.keys()].filter((name) => !wanted.has(name));
    this.#configuration = next;
    await Promise.all(
      removed.map(async (name) => {
        const fn = this.#functions.get(name);
        this.#functions.delete(name);
        await fn?.close();
      }),
    );
    const added: string[] = [];
    const changed: string[] = [];
    const deferred: string[] = [];
    const starting: Promise<void>[] = [];
    for (const [name, settings] of wanted) {
      const fn = this.#functions.get(name);
      if (fn === undefined) {
        starting.push(this.#add(settings).start());
        added.push(name);
        continue;
      }
      const what = fn.reconfigure(settings);
      if (what === "changed") changed.push(name);
      else if (what === "deferred") deferred.push(name);
    }
    await Promise.all(starting);
    const outcome = { added, removed, changed, deferred };
    this.#emit({ type: "reloaded", by, ...outcome });
    return outcome;
  }

  /** The service's own sockets and files cannot move under those who use them. */
  #refuseMoves(next: Configuration): void {
    const moved = (["control", "controlGroup", "users", "metrics", "audit"] as const).filter(
      (name) => JSON.stringify(next[name]) !== JSON.stringify(this.#configuration[name]),
    );
    if (moved.length === 0) return;
    const names = moved.map((name) => SPELLING[name] ?? name).join(", ");
    throw new UsageError(`${next.path}: ${names} cannot change while the service runs: restart it for that`);
  }

  /** What the users of functions said to a suspend of the machine. */
  #told(outcome: SuspendOutcome): void {
    for (const name of outcome.functions) {
      if (this.notices.users(name).length === 0) continue;
      this.#emit({ type: "notice", function: name, notice: "suspend", outcome: outcomeText(outcome) });
    }
  }

  async #followMachine(): Promise<void> {
    const { machine } = this.#options;
    if (machine === undefined) return;
    for await (const event of machine) {
      if (event.type === "overflow") for (const fn of this.#functions.values()) fn.wake("changed");
      if (!("address" in event) || event.address === undefined) continue;
      this.machineSays(event.address, event.type === "added" ? "added" : "changed");
    }
  }

  #emit(event: ServiceEvent): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(event);
      } catch (error) {
        // Whoever listens must not stop the service; the exception is not lost either.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
