// A connection that was negotiated, and what its server says of the device: the same steps at the start, after a loss and
// before a move. Whoever makes a session takes over its descriptors, or closes it.
import { Ring3Error } from "../binary/error.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { watch } from "../linux/poller.ts";
import { UnixSocket } from "../linux/sockets.ts";
import { closeFiles } from "./client-bar.ts";
import { Channel, type CommandServer } from "./client-channel.ts";
import { type DeviceDescription, ServedDevice } from "./client-device.ts";
import type { DoorbellFd, RegionDescription } from "./client-regions.ts";
import { agree, type Proposed, propose } from "./client-version.ts";
import { Region } from "./messages.ts";

/** How a connection is made. */
export interface SessionOptions {
  readonly timeoutMs: number;
  readonly maximumTransferBytes: number;
  readonly twinSocket: boolean;
  /** Whether to ask for eventfds that stand for registers. */
  readonly doorbells: boolean;
}

export interface Session {
  readonly device: ServedDevice;
  readonly info: DeviceDescription;
  /** BARs 0 to 5, the ROM, config space. */
  readonly regions: readonly RegionDescription[];
  /** By BAR. */
  readonly doorbells: ReadonlyMap<number, readonly DoorbellFd[]>;
}

const MINIMUM_CONFIG_BYTES = 64;
/** What a timer takes. */
const LONGEST_WAIT_MS = 2 ** 31 - 1;

/** A connection whose hello the server has not answered yet. */
interface Greeting {
  readonly path: string;
  readonly options: SessionOptions;
  readonly channel: Channel;
  readonly proposed: Proposed;
}

/** Connects to the socket at `path`. Throws `SYSTEM_CALL`, `NOT_SUPPORTED`, `SERVER_TIMEOUT`, `PROTOCOL_ERROR`. */
export function openSession(
  path: string,
  options: SessionOptions,
  server: CommandServer,
  onLost: (reason: Ring3Error) => void,
): Session {
  return answered(greet(path, options, server, onLost));
}

/**
 * As {@link openSession}, for a server that may let its clients wait for the function: `waitMs` longer than it has for an answer
 * otherwise, and the thread is not held up meanwhile.
 */
export async function awaitSession(
  path: string,
  options: SessionOptions,
  server: CommandServer,
  onLost: (reason: Ring3Error) => void,
  waitMs: number,
): Promise<Session> {
  const greeting = greet(path, options, server, onLost);
  const { channel } = greeting;
  const atMostMs = Math.min(options.timeoutMs + waitMs, LONGEST_WAIT_MS);
  const late = new Ring3Error(
    "SERVER_TIMEOUT",
    `the function at ${path} was not to be had within ${atMostMs} ms: another client has it, or the server is stuck; wait longer (waitMs)`,
    { errno: "ETIMEDOUT", call: "VERSION" },
  );
  try {
    await readable(channel.lane.fd, atMostMs, late);
  } catch (error) {
    channel.close(late);
    throw error;
  }
  return answered(greeting);
}

/** Resolves when the descriptor can be read, by the event loop; rejects with `late` where that takes too long. */
async function readable(fd: FileDescriptor, atMostMs: number, late: Ring3Error): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  using _watch = watch(fd, () => resolve());
  const timer = setTimeout(() => reject(late), atMostMs);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
  }
}

function greet(
  path: string,
  options: SessionOptions,
  server: CommandServer,
  onLost: (reason: Ring3Error) => void,
): Greeting {
  const socket: FileDescriptor = UnixSocket.connect(path).fd;
  const { timeoutMs, maximumTransferBytes, twinSocket } = options;
  const channel = new Channel(socket, { timeoutMs, maximumTransferBytes }, server, onLost);
  // Where this fails the channel has closed its socket.
  return { path, options, channel, proposed: propose(channel, maximumTransferBytes, twinSocket) };
}

function answered({ path, options, channel, proposed }: Greeting): Session {
  const regions: RegionDescription[] = [];
  const doorbells = new Map<number, DoorbellFd[]>();
  try {
    const negotiated = agree(channel, proposed);
    const device = new ServedDevice(channel, negotiated);
    const info = device.info();
    if (!info.pci || info.regionCount <= Region.CONFIG) {
      throw new Ring3Error("NOT_SUPPORTED", `what is served at ${path} is no PCI device`);
    }
    for (let index = 0; index <= Region.CONFIG; index++) regions.push(device.region(index));
    const config = regions[Region.CONFIG];
    if (config === undefined || config.size < MINIMUM_CONFIG_BYTES) {
      throw new Ring3Error("NOT_SUPPORTED", `the device at ${path} has no config space; is it a PCI function?`);
    }
    // Config space is never mapped, whatever a server sends for that.
    closeFiles(config);
    for (let bar = 0; bar <= Region.BAR5 && options.doorbells; bar++) {
      if ((regions[bar]?.size ?? 0) > 0) doorbells.set(bar, device.ioEventFds(bar));
    }
    return { device, info, regions, doorbells };
  } catch (error) {
    const reason = error instanceof Ring3Error ? error : new Ring3Error("CONNECTION_LOST", "the session was given up");
    closeSession(channel, regions, doorbells, reason);
    throw error;
  }
}

/** Closes a session that nobody took over. */
export function closeSession(
  channel: Channel,
  regions: readonly RegionDescription[],
  doorbells: ReadonlyMap<number, readonly DoorbellFd[]>,
  reason: Ring3Error,
): void {
  channel.close(reason);
  for (const region of regions) closeFiles(region);
  for (const list of doorbells.values()) for (const { fd } of list) fd.close();
}
