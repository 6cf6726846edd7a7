// A client's connection: requests and their replies by message id, blocking (registers) or by promise (what takes long).
// While a request blocks, the server's own commands are served, so that a device that reads memory to answer a register
// finds it. One blocking request at a time; what the server says besides is checked and never trusted.
import { availableParallelism } from "node:os";
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { errnoName } from "../linux/errno.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { type Watch, waitReadable, watch } from "../linux/poller.ts";
import { closeAll, Lane, protocolError } from "./client-lane.ts";
import { Command, commandName, HEADER_SIZE, HeaderFlag, MultiWrite, RegionWriteMulti } from "./messages.ts";

/** What a frame holds besides data: headers, structures. */
const OVERHEAD_BYTES = 128;
/** Looks at the socket before the thread sleeps; the number follows what pays. */
const MAXIMUM_LOOKS = 60;
const PROBE_EVERY = 64;
/** Posted writes that gather while the socket is full. */
const GATHERED_WRITES = 64;

export interface ChannelOptions {
  /** Bound on a blocking request. */
  readonly timeoutMs: number;
  /** Largest data of one message in either direction. */
  readonly maximumTransferBytes: number;
}

/** Answers the server's commands. */
export interface CommandServer {
  /**
   * Composes the reply's payload in `lane.replies` behind the header and returns its size, or minus the errno. The command's payload is the lane's current frame.
   */
  serve(lane: Lane): number;
}

interface Pending {
  readonly command: number;
  readonly resolve: (payload: Uint8Array) => void;
  readonly reject: (error: Ring3Error) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

export class Channel {
  readonly timeoutMs: number;
  readonly #lane: Lane;
  readonly #options: ChannelOptions;
  readonly #server: CommandServer;
  readonly #onLost: (reason: Ring3Error) => void;
  #twin: Lane | undefined;
  readonly #watches: Watch[] = [];
  readonly #pending: Map<number, Pending> = new Map();
  /** Ids of requests that timed out: their replies may still come. */
  readonly #abandoned: Set<number> = new Set();
  #nextId = 0;
  #dead: Ring3Error | undefined;
  #looks: number;
  #sinceProbe = 0;
  readonly #mayLook: boolean = availableParallelism() > 1;
  /** Whether a write went out whose end nobody has awaited. */
  #posted = false;
  #gathered: { region: number; offset: number; count: number; data: bigint }[] = [];
  /** Whether the server takes REGION_WRITE_MULTI. */
  writeMultiple = false;
  /** Whether the end of the connection is the end of the function. */
  isFinal = false;

  constructor(
    socket: FileDescriptor,
    options: ChannelOptions,
    server: CommandServer,
    onLost: (reason: Ring3Error) => void,
  ) {
    this.#options = options;
    this.timeoutMs = options.timeoutMs;
    this.#lane = this.#newLane(socket);
    this.#server = server;
    this.#onLost = onLost;
    this.#looks = this.#mayLook ? 8 : 0;
  }

  /** Requests go out here, and after a blocking request the reply's payload lies here. Throws why the connection ended. */
  get lane(): Lane {
    if (this.#dead !== undefined) throw this.#dead;
    return this.#lane;
  }

  /** Why the connection ended, once it has. */
  get dead(): Ring3Error | undefined {
    return this.#dead;
  }

  /** Whether posted writes may still be on their way. */
  get posted(): boolean {
    return this.#posted;
  }

  /** Takes the socket for the server's commands that it offered. */
  useTwin(socket: FileDescriptor): void {
    this.#twin = this.#newLane(socket);
  }

  /** Lets the event loop serve the server's commands, and notice its end, from now on. Does not keep the process alive. */
  watch(): void {
    for (const lane of this.#twin === undefined ? [this.#lane] : [this.#lane, this.#twin]) {
      this.#watches.push(watch(lane.fd, () => this.#onReadable(lane), { keepsAlive: false }));
    }
  }

  /**
   * Sends a request whose payload of `size` bytes lies in `lane.out` behind the header, and blocks until its reply came.
   * Returns the size of the reply's payload, which lies at `lane.payload`, or minus the errno. With `wantsFds` the reply's
   * descriptors are left in the lane for the caller to take; without they are closed. Throws `SERVER_TIMEOUT`, `CONNECTION_LOST`, `PROTOCOL_ERROR`.
   */
  call(command: number, size: number, fds?: readonly FileDescriptor[], wantsFds = false): number {
    return this.finish(this.begin(command, size, fds), command, wantsFds);
  }

  /** The first half of {@link call}: sends the request, and returns its message id for {@link finish}. */
  begin(command: number, size: number, fds?: readonly FileDescriptor[]): number {
    if (this.#dead !== undefined) throw this.#dead;
    if (this.#gathered.length > 0) this.#flushNow();
    const id = this.#takeId();
    try {
      this.#compose(id, command, size, 0);
      this.lane.send(HEADER_SIZE + size, fds);
    } catch (error) {
      throw this.#failed(error);
    }
    return id;
  }

  /** The second half: blocks until the reply came, and gives what {@link call} does. */
  finish(id: number, command: number, wantsFds: boolean): number {
    try {
      this.#await(id, command, wantsFds);
    } catch (error) {
      throw this.#failed(error);
    }
    this.#posted = false;
    const lane = this.#lane;
    return lane.errno === 0 ? lane.payloadSize : -lane.errno;
  }

  /** As {@link call}, for what takes long: the event loop goes on. The promise's bytes are a copy. */
  request(command: number, payload: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    if (this.#dead !== undefined) return Promise.reject(this.#dead);
    const id = this.#takeId();
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    const timer = setTimeout(() => {
      this.#pending.delete(id);
      this.#abandoned.add(id);
      reject(this.#timeoutError(command, timeoutMs));
    }, timeoutMs);
    this.#pending.set(id, { command, resolve, reject, timer });
    try {
      this.flush();
      this.lane.outBytes.set(payload, HEADER_SIZE);
      this.#compose(id, command, payload.length, 0);
      this.lane.send(HEADER_SIZE + payload.length);
    } catch (error) {
      const reason = this.#failed(error);
      this.#settle(id)?.reject(reason);
    }
    return promise;
  }

  /** Sends a request that nobody answers; its payload lies in `lane.out`. */
  post(command: number, size: number): void {
    if (this.#dead !== undefined) throw this.#dead;
    try {
      this.#compose(this.#takeId(), command, size, HeaderFlag.NO_REPLY);
      this.lane.send(HEADER_SIZE + size);
    } catch (error) {
      throw this.#failed(error);
    }
    this.#posted = true;
  }

  /**
   * Writes up to 4 bytes to a region without awaiting the reply. While the socket has no room, and the server takes it,
   * writes gather and go out as one message.
   */
  postWrite(region: number, offset: number, width: 1 | 2 | 4, value: number): void {
    if (this.#dead !== undefined) throw this.#dead;
    const { out } = this.lane;
    try {
      if (this.#gathered.length === 0) {
        this.#compose(this.#takeId(), Command.REGION_WRITE, 16 + width, HeaderFlag.NO_REPLY);
        out.setUint32(16, offset >>> 0, true);
        out.setUint32(20, Math.floor(offset / 2 ** 32), true);
        out.setUint32(24, region, true);
        out.setUint32(28, width, true);
        out.setUint32(32, value, true);
        this.#posted = true;
        if (!this.writeMultiple) this.lane.send(32 + width);
        else if (!this.lane.trySend(32 + width)) this.#gather(region, offset, width, BigInt(value >>> 0));
        return;
      }
      this.#gather(region, offset, width, BigInt(value >>> 0));
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Sends the writes that gathered. */
  flush(): void {
    if (this.#gathered.length === 0) return;
    const writes = this.#gathered;
    this.#gathered = [];
    const size = RegionWriteMulti.size + writes.length * MultiWrite.size;
    const out = this.lane.replies;
    this.#compose(this.#takeId(), Command.REGION_WRITE_MULTI, size, HeaderFlag.NO_REPLY, out);
    RegionWriteMulti.encode(out, HEADER_SIZE, { wr_cnt: BigInt(writes.length) });
    for (const [i, { region, offset, count, data }] of writes.entries()) {
      const at = HEADER_SIZE + RegionWriteMulti.size + i * MultiWrite.size;
      MultiWrite.encode(out, at, { offset: BigInt(offset), region, count, data });
    }
    this.lane.send(HEADER_SIZE + size, [], "output");
  }

  /** Ends the connection: everything pending rejects with `reason`, later calls throw it, and nobody is told. */
  close(reason: Ring3Error): void {
    if (this.#dead !== undefined) return;
    this.#dead = reason;
    for (const one of this.#watches.splice(0)) one[Symbol.dispose]();
    this.#lane.close();
    this.#twin?.close();
    for (const id of Array.from(this.#pending.keys())) this.#settle(id)?.reject(reason);
    this.#gathered = [];
  }

  #newLane(socket: FileDescriptor): Lane {
    const { maximumTransferBytes, timeoutMs } = this.#options;
    return new Lane(socket, HEADER_SIZE + OVERHEAD_BYTES + maximumTransferBytes, timeoutMs);
  }

  #takeId(): number {
    do this.#nextId = (this.#nextId + 1) & 0xffff;
    while (this.#pending.has(this.#nextId) || this.#abandoned.has(this.#nextId));
    return this.#nextId;
  }

  #compose(id: number, command: number, size: number, flags: number, out: DataView = this.#lane.out): void {
    out.setUint32(0, id | (command << 16), true);
    out.setUint32(4, HEADER_SIZE + size, true);
    out.setUint32(8, flags, true);
    out.setUint32(12, 0, true);
  }

  #gather(region: number, offset: number, count: number, data: bigint): void {
    this.#gathered.push({ region, offset, count, data });
    this.#posted = true;
    if (this.#gathered.length >= GATHERED_WRITES) this.flush();
    else if (this.#gathered.length === 1) setImmediate(() => this.#flushInTurn());
  }

  #flushInTurn(): void {
    if (this.#dead !== undefined) return;
    try {
      this.flush();
    } catch (error) {
      this.#failed(error);
    }
  }

  #flushNow(): void {
    try {
      this.flush();
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Returns once the reply to `id` is the lane's current frame. */
  #await(id: number, command: number, wantsFds: boolean): void {
    const lane = this.#lane;
    let deadline = 0;
    let look = this.#plannedLooks();
    for (;;) {
      while (lane.next()) {
        if (this.#accept(lane, id, command)) {
          if (!wantsFds) closeAll(lane.takeFds());
          if (this.#mayLook) this.#learn(look);
          return;
        }
      }
      this.#serveTwin();
      if (look > 0) {
        look--;
        lane.fill();
        continue;
      }
      look = -1;
      if (deadline === 0) deadline = performance.now() + this.timeoutMs;
      else if (performance.now() >= deadline) {
        // The reply may still come. It would bring descriptors, which nobody would take: so that ends the connection.
        if (!wantsFds) this.#abandoned.add(id);
        throw this.#timeoutError(command, this.timeoutMs);
      }
      const left = deadline - performance.now();
      if (this.#twin === undefined) lane.wait(left);
      else {
        waitReadable([lane.fd, this.#twin.fd], Math.max(0, left));
        this.#twin.fill();
      }
      lane.fill();
    }
  }

  /** Looking pays where the server answers from another processor at once; a try now and then finds out. */
  #plannedLooks(): number {
    if (this.#looks > 0 || !this.#mayLook) return this.#looks;
    if (++this.#sinceProbe < PROBE_EVERY) return 0;
    this.#sinceProbe = 0;
    return MAXIMUM_LOOKS;
  }

  /** `left`: looks that were left when the reply came; -1 where the thread had to sleep. */
  #learn(left: number): void {
    this.#looks = left >= 0 ? MAXIMUM_LOOKS : this.#looks >> 1;
  }

  #serveTwin(): void {
    const twin = this.#twin;
    while (twin?.next() === true) this.#accept(twin, -1, 0);
  }

  /** Deals with the lane's current frame; `true` where it is the reply to `id`. */
  #accept(lane: Lane, id: number, command: number): boolean {
    const type = lane.flags & HeaderFlag.TYPE_MASK;
    if (type === HeaderFlag.COMMAND) {
      this.#serve(lane);
      return false;
    }
    if (type !== HeaderFlag.REPLY) throw protocolError(`a message of type ${type}`);
    const { messageId } = lane;
    if (messageId === id) {
      if (lane.command === command) return true;
      throw protocolError(`${commandName(command)} was answered as ${commandName(lane.command)}`);
    }
    const pending = this.#settle(messageId);
    if (pending === undefined) {
      if (this.#abandoned.delete(messageId)) return false;
      throw protocolError(`a reply to message ${messageId}, which was not sent`);
    }
    if (pending.command !== lane.command) {
      pending.reject(protocolError(`${commandName(pending.command)} was answered as ${commandName(lane.command)}`));
    } else if (lane.errno !== 0) pending.reject(serverError(lane.command, lane.errno));
    else pending.resolve(lane.bytes.slice(lane.payload, lane.payload + lane.payloadSize));
    return false;
  }

  #settle(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    if (pending === undefined) return undefined;
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    return pending;
  }

  #serve(lane: Lane): void {
    const { messageId, command } = lane;
    const silent = (lane.flags & HeaderFlag.NO_REPLY) !== 0;
    const result = this.#server.serve(lane);
    if (silent) return;
    const size = Math.max(0, result);
    const flags = result < 0 ? HeaderFlag.REPLY | HeaderFlag.ERROR : HeaderFlag.REPLY;
    this.#compose(messageId, command, size, flags, lane.replies);
    lane.replies.setUint32(12, result < 0 ? -result : 0, true);
    lane.send(HEADER_SIZE + size, [], "output");
  }

  #onReadable(lane: Lane): void {
    if (this.#dead !== undefined) return;
    try {
      while (lane.fill()) while (lane.next()) this.#accept(lane, -1, 0);
      closeAll(lane.takeFds());
    } catch (error) {
      this.#failed(error);
    }
  }

  #timeoutError(command: number, timeoutMs: number): Ring3Error {
    const waits = command === Command.VERSION ? "has clients wait for a function that is in use (see waitMs), " : "";
    return new Ring3Error(
      "SERVER_TIMEOUT",
      `the vfio-user server did not answer ${commandName(command)} within ${timeoutMs} ms; it ${waits}is stuck, or runs in this ` +
        "very thread, where an in-process function would do",
      { errno: "ETIMEDOUT", call: commandName(command) },
    );
  }

  /** A broken connection ends here; a request that was refused or timed out leaves it as it is. */
  #failed(error: unknown): Ring3Error {
    if (!isRing3Error(error)) throw error;
    const survives = error.code === "SERVER_TIMEOUT" && error.call !== "sendmsg" && this.#abandoned.size > 0;
    if (survives || this.#dead !== undefined) return error;
    const reason = this.isFinal ? removed(error) : error;
    this.close(reason);
    queueMicrotask(() => this.#onLost(reason));
    return reason;
  }
}

function removed(error: Ring3Error): Ring3Error {
  const details = { cause: error, ...(error.errno === undefined ? {} : { errno: error.errno }) };
  return new Ring3Error("FUNCTION_REMOVED", error.message.slice(error.code.length + 2), details);
}

/** The server's refusal of a request, with its reason where it gave one. */
export function serverError(command: number, errno: number, what?: string, why = ""): Ring3Error {
  const name = errnoName(errno);
  const sentence = `the vfio-user server refuses ${what ?? commandName(command)} (${name})`;
  return new Ring3Error("SERVER_REFUSED", why === "" ? sentence : `${sentence}: ${why}`, {
    errno: name,
    call: commandName(command),
  });
}
