// Opens a function that another process serves on a UNIX socket.
import type { Ring3Error } from "../binary/error.ts";
import { defaultArena } from "../linux/arena-memory.ts";
import type { Arena } from "../memory/arena.ts";
import type { ReconnectOptions } from "./client-continuity.ts";
import { DmaRequests, ReachableTable } from "./client-dma-requests.ts";
import { VfioUserFunction, type VfioUserFunctionOptions } from "./client-function.ts";
import { awaitSession, closeSession, openSession } from "./client-session.ts";

/** How a served function is opened. */
export interface ConnectOptions {
  /** Where DMA memory and windows lie; by default the arena of this thread. */
  readonly arena?: Arena;
  /** Bound on one exchange with the server; 5000 ms by default. */
  readonly timeoutMs?: number;
  /**
   * How much longer than `timeoutMs` to wait for a function that another client has, where its server lets clients wait (its
   * option `queue`); not at all by default. The thread is not held up meanwhile.
   */
  readonly waitMs?: number;
  /**
   * Connects again when the server goes away, instead of ending the function: maps, interrupts and config space come back,
   * then the event `recovered`. Meanwhile writes to BARs go nowhere, and a register that is read waits for at most a second,
   * then throws `CONNECTION_LOST`.
   */
  readonly reconnect?: ReconnectOptions;
  /**
   * Maps memory of the server that it can truncate later, which would kill this process: for servers of your own that do
   * not seal it (SPDK's target). Otherwise such registers go by messages.
   */
  readonly trustServerMemory?: boolean;
  /** Whether DMA memory is given to the server by descriptor (the default), or read and written by messages. */
  readonly shareMemory?: boolean;
  /** Whether BAR writes are sent without awaiting them, where no register is mapped; yes by default. */
  readonly postedWrites?: boolean;
  /** Whether to take a second socket for the server's commands, where it offers one; yes by default. */
  readonly twinSocket?: boolean;
  /** Whether to take eventfds in place of writes to the registers that the server offers them for; yes by default. */
  readonly doorbells?: boolean;
  /** Bytes of data in one message at most, 4096 to 16 MiB; 1 MiB by default. */
  readonly maximumTransferBytes?: number;
  /** How long the driver gets to let go when the server wants the function back; 3000 ms by default. */
  readonly removalGraceMs?: number;
  /** Bound on a reset; 10,000 ms by default. */
  readonly resetTimeoutMs?: number;
}

/**
 * Opens the function that is served at `path`, a socket of the vfio-user protocol. Client and server of a socket live in
 * different threads or processes: registers block until the server answered. In one thread use an in-process function.
 *
 * Throws `SYSTEM_CALL` where nobody listens, `SERVER_TIMEOUT`, `SERVER_REFUSED`, `PROTOCOL_ERROR` or `NOT_SUPPORTED`.
 *
 * @example
 * import { connect } from "ring3/vfio-user";
 * await using fn = await connect("/run/disk.sock");
 * console.log(fn.identity.vendorId.toString(16));
 */
export async function connect(path: string, options: ConnectOptions = {}): Promise<VfioUserFunction> {
  const complete: VfioUserFunctionOptions = {
    arena: options.arena ?? defaultArena(),
    timeoutMs: options.timeoutMs ?? 5000,
    reconnect: options.reconnect,
    trustServerMemory: options.trustServerMemory ?? false,
    shareMemory: options.shareMemory ?? true,
    postedWrites: options.postedWrites ?? true,
    twinSocket: options.twinSocket ?? true,
    // A signal that a dying server did not take is lost.
    doorbells: (options.doorbells ?? true) && options.reconnect === undefined,
    maximumTransferBytes: Math.min(Math.max(options.maximumTransferBytes ?? 2 ** 20, 4096), 2 ** 24),
    removalGraceMs: options.removalGraceMs ?? 3000,
    resetTimeoutMs: options.resetTimeoutMs ?? 10_000,
  };
  const table = new ReachableTable();
  let fn: VfioUserFunction | undefined;
  const mayAccess = (): boolean => fn?.mayAccessMemory ?? false;
  const requests = new DmaRequests(complete.arena, table, mayAccess, complete.maximumTransferBytes);
  const onLost = (reason: Ring3Error): void => fn?.lost(reason);
  const { waitMs = 0 } = options;
  const session =
    waitMs > 0
      ? await awaitSession(path, complete, requests, onLost, waitMs)
      : openSession(path, complete, requests, onLost);
  try {
    fn = new VfioUserFunction(path, session, table, requests, complete);
  } catch (error) {
    closeSession(session.device.channel, session.regions, session.doorbells, error as Ring3Error);
    throw error;
  }
  await Promise.resolve();
  return fn;
}
