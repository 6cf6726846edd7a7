// The control socket of ring3d, for administrators: who they are the kernel says, whatever the socket's permissions are.
import type { Socket } from "node:net";
import { Ring3Error } from "ring3";
import { userName } from "ring3/host";
import { listenAt } from "ring3/linux";
import { outcomeText } from "ring3/notices";
import { version } from "../run.ts";
import { UsageError } from "../usage-error.ts";
import { type ConnectionHost, ControlConnection } from "./control-connection.ts";
import {
  CONTROL_PROTOCOL,
  type ControlError,
  type ControlRequest,
  type SleepResult,
  type StatusResult,
  type TraceResult,
  type UsersResult,
} from "./control-protocol.ts";
import { type EventFacts, eventLines, type NameOf } from "./event-lines.ts";
import type { LineBudgetOptions } from "./line-budget.ts";
import { acceptPeers, type Peer } from "./peer-listener.ts";
import type { FunctionStatus, Requester, Service } from "./service-interface.ts";

export interface ControlOptions {
  /** A group whose members may control the service besides root and its own user. */
  readonly group?: { readonly gid: number; readonly name: string } | undefined;
  /** Number of a descriptor that listens at the path already, as systemd passes one; the path stays when the service ends. */
  readonly listenFd?: number | undefined;
  readonly nameOf?: NameOf;
  /** How long an administrator may say nothing, in milliseconds; 10,000 by default. */
  readonly silenceMs?: number;
  /** Events of each function and kind that watchers see: 1000 at once, then 100 a second by default. */
  readonly budget?: LineBudgetOptions;
  readonly now?: () => Date;
}

/** Administrators who are connected at a time, and how many connections each user of the group may have. */
const MAXIMUM_CONNECTIONS = 64;
const MAXIMUM_OF_A_USER = 16;
/** Others who are told that they may not; more are hung up on without a word. */
const MAXIMUM_STRANGERS = 8;
const STRANGER_MS = 1000;

/** Answers administrators at `path` until disposed. Throws `SOCKET_IN_USE`, `SOCKET_PATH_TAKEN` or `LISTEN_FD_INVALID`. */
export function serveControl(service: Service, path: string, options: ControlOptions = {}): Promise<AsyncDisposable> {
  return new Promise((resolve) => resolve(new ControlSocket(service, path, options)));
}

class ControlSocket implements AsyncDisposable {
  readonly #service: Service;
  readonly #options: ControlOptions;
  readonly #nameOf: NameOf;
  readonly #resources = new DisposableStack();
  readonly #connections = new Map<ControlConnection, Peer>();
  readonly #strangers = new Set<ControlConnection>();
  readonly #subscribers = new Set<ControlConnection>();
  /** There only while somebody watches. */
  #events: Disposable | undefined;

  constructor(service: Service, path: string, options: ControlOptions) {
    this.#service = service;
    this.#options = options;
    this.#nameOf = options.nameOf ?? userName;
    const { listenFd, group } = options;
    const permissions =
      group === undefined ? {} : { mode: 0o660, owner: { uid: process.geteuid?.() ?? 0, gid: group.gid } };
    const place = listenAt(path, listenFd === undefined ? permissions : { listenFd });
    const { listener } = this.#resources.use(place);
    this.#resources.use(acceptPeers(listener, (stream, peer) => this.#connected(stream, peer)));
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#resources.dispose();
    for (const connection of [...this.#connections.keys(), ...this.#strangers]) connection.close();
    this.#events?.[Symbol.dispose]();
    this.#events = undefined;
    return Promise.resolve();
  }

  #connected(stream: Socket, peer: Peer): void {
    const refusal = this.#refusal(peer);
    if (refusal === undefined) {
      const by: Requester = { pid: peer.pid, uid: peer.uid };
      const host = this.#host((request) => this.#answer(request, by));
      this.#connections.set(new ControlConnection(stream, host, this.#options.silenceMs ?? 10_000), peer);
    } else if (this.#strangers.size < MAXIMUM_STRANGERS) {
      const host = this.#host(() => Promise.resolve());
      this.#strangers.add(new ControlConnection(stream, host, STRANGER_MS, refusal));
    } else stream.destroy();
  }

  #host(answer: ConnectionHost["answer"]): ConnectionHost {
    return {
      answer,
      subscribe: (connection) => {
        this.#subscribers.add(connection);
        this.#events ??= this.#watchEvents();
      },
      ended: (connection) => {
        this.#connections.delete(connection);
        this.#strangers.delete(connection);
        this.#subscribers.delete(connection);
        if (this.#subscribers.size > 0) return;
        this.#events?.[Symbol.dispose]();
        this.#events = undefined;
      },
    };
  }

  #refusal({ uid, gids }: Peer): ControlError | undefined {
    const own = process.geteuid?.() ?? 0;
    const { group } = this.#options;
    if (uid !== 0 && uid !== own && !(group !== undefined && gids.includes(group.gid))) {
      const may = ["root", ...(own === 0 ? [] : [this.#called(own)])];
      const whom = group === undefined ? may.join(" and ") : `${may.join(", ")} and members of the group ${group.name}`;
      const message = `${this.#called(uid)} may not control ring3d: ${whom} may; use sudo`;
      return { code: "PERMISSION_DENIED", message };
    }
    const theirs = [...this.#connections.values()].filter((peer) => peer.uid === uid).length;
    if (this.#connections.size < MAXIMUM_CONNECTIONS && theirs < MAXIMUM_OF_A_USER) return undefined;
    return { code: "BUSY", message: `${theirs} connections of ${this.#called(uid)} are open: end some of them first` };
  }

  #called(uid: number): string {
    return this.#nameOf(uid) ?? `uid ${uid}`;
  }

  async #answer(request: ControlRequest, by: Requester): Promise<unknown> {
    const service = this.#service;
    switch (request.request) {
      case "status":
        return {
          protocol: CONTROL_PROTOCOL,
          version: version(),
          pid: process.pid,
          functions: service.functions(),
        } satisfies StatusResult;
      case "users":
        return this.#users(service.functions());
      case "kick": {
        const reason = request.reason ?? `${this.#called(by.uid)} has taken it back`;
        return this.#users([{ name: request.function, users: await service.kick(request.function, reason, by) }]);
      }
      case "trace":
        return { file: service.setTrace(request.function, request.on, by) ?? null } satisfies TraceResult;
      case "reload":
        return await service.reload(by);
      case "sleep":
        return await this.#askSleep();
      case "awake":
        service.sleep.over();
        return {};
    }
    for (const name of request.functions ?? []) this.#checkName(name);
    return {};
  }

  async #askSleep(): Promise<SleepResult> {
    const outcome = await this.#service.sleep.ask();
    if (outcome.allowed) return { consented: outcome.consented };
    throw new Ring3Error("SLEEP_VETOED", `the machine is to stay awake: ${outcomeText(outcome)}`);
  }

  #users(functions: readonly Pick<FunctionStatus, "name" | "users">[]): UsersResult {
    const named = functions.flatMap(({ name, users }) => {
      return users.map((user) => ({ function: name, ...user, user: this.#nameOf(user.uid) }));
    });
    return { users: named };
  }

  #checkName(name: string): void {
    const names = this.#service.functions().map((fn) => fn.name);
    if (!names.includes(name)) {
      throw new UsageError(`there is no function ${JSON.stringify(name)}; there are ${names.join(", ")}`);
    }
  }

  #watchEvents(): Disposable {
    const { now = () => new Date(), budget = { burst: 1000, perSecond: 100 } } = this.#options;
    const send = (event: string, facts: EventFacts): void => {
      const line = `${JSON.stringify({ event: { time: now().toISOString(), event, ...facts } })}\n`;
      for (const connection of this.#subscribers) connection.event(facts, line);
    };
    return eventLines(this.#service, send, { nameOf: this.#nameOf, budget });
  }
}
