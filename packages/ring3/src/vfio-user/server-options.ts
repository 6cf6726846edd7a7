// How a function is served, and what the server tells whoever runs it.
import type { PeerCredentials } from "../linux/index.ts";
import type { BarIndex } from "../pci/function.ts";
import type { IoEventFd } from "../virtual/declaration.ts";
import type { ServerBetween, ServerWatch } from "./server-watch.ts";

/** Where a function's state outlives the process. */
export interface StateStore {
  /** What was saved last; `undefined` where nothing was. */
  load(): Uint8Array | undefined;
  /** Keeps `state`, all of it or nothing, so that a process that is killed leaves the one before or this one. */
  save(state: Uint8Array): void;
}

/** Who asks for a function. */
export interface ConnectingPeer extends PeerCredentials {
  /** Its additional groups, asked of the kernel at each call; `undefined` where that does not tell. */
  groups(): readonly number[] | undefined;
}

/** How a function is served. */
export interface ServeOptions {
  /** Permissions of the socket; 0o600 by default. */
  readonly mode?: number;
  /** Owner of the socket; the process's by default. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /**
   * Number of a descriptor that listens at the path already, as systemd passes one to a service that a socket activates: the
   * first is 3. The server closes it at the end, and leaves the path and its permissions alone; `mode` and `owner` are whoever's
   * who made it.
   */
  readonly listenFd?: number;
  /** Users who may connect; whoever the socket's permissions let by default. */
  readonly allowUids?: readonly number[];
  /**
   * Called with each client that says hello and is one of `allowUids`, and again when its turn comes after waiting. A `Ring3Error` that it throws refuses the client, with its `errno`
   * and its sentence, which the event `refused` and the error of a client of ring3's say.
   */
  readonly admit?: (peer: ConnectingPeer) => void;
  /**
   * Clients that may have the function at a time, all of one user; 1 by default. Whoever is first gets the function as new, further ones
   * find it as it is: config space, BARs and resets are everybody's. Memory that one maps is the device's to reach as all of it
   * is, but only whoever mapped it takes it away; of an interrupt vector's signals the last one counts. When a client leaves,
   * what it mapped and connected goes, and when the last one leaves the function is given back.
   */
  readonly openings?: number;
  /**
   * Clients that may wait for a function that is in use, or that is being reset after its last client: their VERSION is answered
   * when it is theirs, first come, first served. Those that find no place are refused, and that is all of them by default. (Where
   * the function is only being reset, one may wait in any case.)
   */
  readonly queue?: number;
  /** How long a client may wait, in milliseconds, before it is refused after all; as long as it likes by default. */
  readonly queueMs?: number;
  /** Whether the function stays as it is when a client leaves; otherwise it is reset, and the next finds it as new. */
  readonly keepState?: boolean;
  /**
   * Keeps the function's state in a file of this path, or by these hooks. It is loaded at the start. It is saved before the
   * reply to every message that may have changed it, before every interrupt, and after every burst of polled work: what a
   * client was told is in it. The process may be killed at any time; a machine that loses its power may lose the state.
   *
   * What the device wrote to the client's memory may be newer than the state of a server that was killed. So the models of
   * NVMe and virtio come back as controllers that need a reset (CSTS.CFS, DEVICE_NEEDS_RESET): their driver takes what was
   * completed from its memory, resets, and issues the rest again; `NvmeDriver` does that by itself when its function
   * says `recovered`. After a server that was closed, or that no client used, the device goes on where it was.
   * Implies `keepState`.
   */
  readonly state?: string | StateStore;
  /** Whether to use a second socket for messages to the client, where that offers it; yes by default. */
  readonly twinSocket?: boolean;
  /**
   * Whether clients may write to BARs without waiting for an answer; yes by default. If not, a client that knows of it (ring3's)
   * finds all that the device does at once in answer to a write done when the write is: none of it is seen half.
   */
  readonly postedWrites?: boolean;
  /**
   * Maps client memory that the client can truncate later, which would kill this process. By default such memory is read
   * and written by system calls.
   */
  readonly trustUnsealedMemory?: boolean;
  /** Bytes of data in one message at most, 1 MiB by default. */
  readonly maximumTransferBytes?: number;
  /**
   * How long messages to the client may take, in milliseconds, before the client is disconnected. Many slow answers together
   * count as one; a tenth of the time that goes by is given back. 2000 by default.
   */
  readonly clientTimeoutMs?: number;
  /** Writes to offer as signals, besides those that the function's BARs name. */
  readonly ioEventFds?: readonly ({ readonly bar: BarIndex } & IoEventFd)[];
  /** Called with each event, besides the listeners of {@link FunctionServer.on}. */
  readonly onEvent?: (event: ServerEvent) => void;
  /** Sees every access of the client, and every signal to it. It makes the server slower; memory that is mapped is not seen. */
  readonly watch?: ServerWatch;
  /** Stands between the client and the function, for faults on purpose. */
  readonly between?: ServerBetween;
  /** Called for every message that is received or sent, for tracing. It makes the server slower. */
  readonly onMessage?: (message: TracedMessage) => void;
}

export interface TracedMessage {
  readonly direction: "received" | "sent";
  /** As in the specification, without the prefix: `REGION_READ`. */
  readonly command: string;
  readonly kind: "command" | "reply";
  readonly messageId: number;
  /** Bytes, header included. */
  readonly size: number;
  readonly fds: number;
  /** Of a reply: 0 for success. */
  readonly errno: number;
}

/** What happens to a server. */
export type ServerEvent =
  | ({ readonly type: "connected" } & PeerCredentials)
  | { readonly type: "disconnected"; readonly pid: number; readonly reason: string }
  /** It is to wait; `ahead`: clients that came before it. */
  | { readonly type: "waiting"; readonly pid: number; readonly uid: number; readonly ahead: number }
  | { readonly type: "refused"; readonly pid: number; readonly uid: number; readonly reason: string }
  | { readonly type: "fault"; readonly description: string }
  | { readonly type: "error"; readonly description: string };

/** Counters since the server started. */
export interface ServerStatistics {
  /** Messages received, by command. */
  readonly messages: Readonly<Record<string, number>>;
  /** Messages to the client, by command. */
  readonly commandsSent: Readonly<Record<string, number>>;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  /** Error replies. */
  readonly errorReplies: number;
  /** Clients that have the function now, and those that wait for it. */
  readonly clients: number;
  readonly waiting: number;
  /** Clients that got the function, and those that did not. */
  readonly connections: number;
  readonly refusals: number;
  /** Maps of client memory now, their bytes, and how many there have been. */
  readonly dmaMaps: number;
  readonly dmaMappedBytes: number;
  readonly dmaMapsMade: number;
  /** Signals sent to the client. */
  readonly interrupts: number;
  /** DMA faults and faults of the model. */
  readonly faults: number;
  /** Times that the function was polled, and the work that it found. */
  readonly polls: number;
  readonly polledWork: number;
  /** Times that the state was saved. */
  readonly stateSaves: number;
}
