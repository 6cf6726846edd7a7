// One connection of a user at the users' socket: its requests, the notices to it, and the functions that it was lent. Its end
// is the end of all of them.
import { isRing3Error, messageOf, Ring3Error } from "ring3";
import type { UnixSocket } from "ring3/linux";
import {
  MESSAGE_BYTES,
  type NoticeConnection,
  parseRequest,
  REQUEST_BYTES,
  requestId,
  type ServiceMessage,
  type UserRequest,
} from "ring3/notices";
import { LineStream } from "./line-stream.ts";
import type { Lease, UsableFunction, UserFacing, UserPeer } from "./service-interface.ts";

/** A user that does not read what it is sent is hung up on beyond this. */
const UNSENT_BYTES = MESSAGE_BYTES + 65_536;

/** A function that was lent over the connection, or is about to be. */
interface Lent {
  lease: Lease | undefined;
  readonly opening: Disposable;
}

export class UserConnection {
  readonly peer: UserPeer;
  readonly #service: UserFacing;
  readonly #stream: LineStream;
  readonly #notices: NoticeConnection;
  readonly #ended: (connection: UserConnection) => void;
  readonly #registered: Set<string> = new Set();
  readonly #lent: Map<string, Lent> = new Map();
  #heardAt = performance.now();
  #over = false;

  constructor(socket: UnixSocket, peer: UserPeer, service: UserFacing, ended: (connection: UserConnection) => void) {
    this.peer = peer;
    this.#service = service;
    this.#ended = ended;
    this.#notices = service.notices.connect(peer, (notice) => this.#stream.send(notice));
    this.#stream = new LineStream(socket, {
      lineBytes: REQUEST_BYTES,
      unsentBytes: UNSENT_BYTES,
      onLine: (line) => this.#take(line),
      onFailure: (error) => this.refuse(error),
      onEnd: () => this.#end(),
    });
  }

  /** Since when it is there for nothing, on the clock of `performance.now`; `undefined` while it waits for something. */
  get idleSince(): number | undefined {
    const waits = this.#registered.size > 0 || this.#lent.size > 0;
    // Half a line, and answers that nobody reads, are no reason to wait.
    return waits && !this.#stream.unfinished && !this.#stream.unread ? undefined : this.#heardAt;
  }

  /** Says why, and hangs up. */
  refuse(error: unknown): void {
    this.#stream.send({ id: null, error: errorOf(error) } satisfies ServiceMessage);
    this.#stream.endAfterSending();
  }

  end(): void {
    this.#stream.end();
  }

  /** Who may use what may have changed: what this user may not use any more, it hears nothing of and gives back. */
  recheck(): void {
    const usable = new Set(this.#service.usableBy(this.peer).map(({ name }) => name));
    for (const name of Array.from(this.#registered)) {
      if (!usable.has(name)) this.#register(name, []);
    }
    if (this.#lent.keys().some((name) => !usable.has(name))) this.end();
  }

  #take(line: string): void {
    let request: UserRequest;
    this.#heardAt = performance.now();
    try {
      request = parseRequest(line);
    } catch (error) {
      this.#stream.send({ id: requestId(line), error: errorOf(error) } satisfies ServiceMessage);
      return;
    }
    const { id } = request;
    const failed = (error: unknown): void => this.#stream.send({ id, error: errorOf(error) } satisfies ServiceMessage);
    if (request.request === "open") {
      this.#open(id, request.function).catch(failed);
      return;
    }
    try {
      const result = this.#answer(request);
      this.#stream.send({ id, result } satisfies ServiceMessage);
    } catch (error) {
      failed(error);
    }
  }

  #answer(request: Exclude<UserRequest, { readonly request: "open" }>): Record<string, unknown> {
    if (request.request === "functions") return { functions: this.#service.usableBy(this.peer) };
    if (request.request === "register") {
      this.#register(this.#usable(request.function).name, request.notices, request.pid);
    } else this.#notices.reply(request.notice, request.answer, request.reason);
    return {};
  }

  #register(name: string, kinds: Parameters<NoticeConnection["register"]>[1], pid?: number): void {
    const wanted = Array.from(kinds);
    this.#notices.register(name, wanted, pid);
    if (wanted.length === 0) this.#registered.delete(name);
    else this.#registered.add(name);
  }

  /** Whether a function is not there, or is there for others, is the same to a user. */
  #usable(name: string): UsableFunction {
    const usable = this.#service.usableBy(this.peer);
    const found = usable.find((fn) => fn.name === name);
    if (found !== undefined) return found;
    const names = usable.map((fn) => fn.name).join(", ") || "none";
    throw new Ring3Error(
      "FUNCTION_UNKNOWN",
      `uid ${this.peer.uid} may use no function ${JSON.stringify(name)}; it may use ${names}`,
    );
  }

  async #open(id: number, name: string): Promise<void> {
    const { handOver } = this.#usable(name);
    if (!handOver) {
      throw new Ring3Error(
        "PERMISSION_DENIED",
        `the kernel's descriptors of ${name} are not for uid ${this.peer.uid}: drive it through its socket, or ask for hand-over in the service's configuration`,
        { errno: "EACCES" },
      );
    }
    if (this.#lent.has(name)) {
      throw new Ring3Error("FUNCTION_BUSY", `this connection has ${name} already`, { errno: "EBUSY" });
    }
    // Nobody can take descriptors back: a removal ends the connection, and its user has to let go.
    const opening = this.#service.notices.opened(name, this.peer, () => this.end());
    const lent: Lent = { lease: undefined, opening };
    this.#lent.set(name, lent);
    try {
      lent.lease = await this.#service.lend(name, this.peer, () => this.end());
    } catch (error) {
      this.#lent.delete(name);
      opening[Symbol.dispose]();
      throw error;
    }
    const { address, backend, descriptors } = lent.lease;
    if (this.#over) {
      for (const fd of descriptors) fd.close();
      await this.#giveBack(lent);
      return;
    }
    const result = { address, backend, descriptors: descriptors.length };
    this.#stream.send({ id, result } satisfies ServiceMessage, descriptors);
  }

  #end(): void {
    this.#over = true;
    this.#notices[Symbol.dispose]();
    // One that is being lent is given back once it was.
    for (const lent of this.#lent.values()) if (lent.lease !== undefined) void this.#giveBack(lent);
    this.#ended(this);
  }

  async #giveBack({ lease, opening }: Lent): Promise<void> {
    opening[Symbol.dispose]();
    await lease?.[Symbol.asyncDispose]();
  }
}

function errorOf(error: unknown): { readonly code: string; readonly message: string } {
  if (isRing3Error(error)) return { code: error.code, message: error.message.replace(`${error.code}: `, "") };
  return { code: "INTERNAL", message: messageOf(error) };
}
