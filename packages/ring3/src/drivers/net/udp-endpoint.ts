// A bound UDP port. What comes is handed to a listener in place, without a copy, or kept as copies for an iterator; the
// latter within a limit, so that a program which is slow loses datagrams and not memory.
import { Ring3Error } from "../../binary/error.ts";
import { ipv4, ipv4Text } from "./ipv4-address.ts";

/** A datagram that came. */
export interface Datagram {
  readonly data: Uint8Array;
  readonly address: string;
  readonly port: number;
  /** To which of our addresses, or which group, it was sent. */
  readonly destination: string;
}

/**
 * Called for each datagram while its bytes lie in the receive buffer: `length` bytes from `at` on in `bytes`, from `port` of
 * `address` (a 32-bit integer, see `ipv4Text`). The bytes are somebody else's when it returns.
 */
export type DatagramListener = (
  bytes: Uint8Array,
  at: number,
  length: number,
  address: number,
  port: number,
  destination: number,
) => void;

export interface UdpBindOptions {
  /** Datagrams kept for the iterator; 1024 by default. What comes beyond is dropped and counted. */
  readonly queueDatagrams?: number;
  /** Instead of keeping: see {@link DatagramListener}. */
  readonly listener?: DatagramListener;
}

export interface UdpEndpointStatistics {
  readonly received: number;
  readonly receivedBytes: number;
  readonly sent: number;
  readonly sentBytes: number;
  /** Datagrams that came while the queue was full. */
  readonly dropped: number;
  /** Datagrams that could not be sent: no buffer, no route, a full ring. */
  readonly unsent: number;
  /** Errors that others reported about what was sent: ICMP unreachable and time exceeded. */
  readonly reported: number;
}

/** What an endpoint needs of its stack. */
export interface UdpSender {
  sendUdp(
    bytes: Uint8Array,
    at: number,
    length: number,
    sourcePort: number,
    destination: number,
    destinationPort: number,
  ): boolean;
  closeUdp(port: number): void;
}

/** Who waits for the next datagram. */
interface Waiting {
  readonly resolve: (datagram: Datagram | undefined) => void;
  readonly reject: (error: Error) => void;
}

/**
 * @example
 * import { openNetDevice, Stack } from "ring3/net";
 * await using device = await openNetDevice(fn);
 * await using stack = await Stack.start(device, { address: "192.0.2.1/24" });
 * using endpoint = stack.udp.bind(7);
 * for await (const { data, address, port } of endpoint) endpoint.send(data, address, port);
 */
export class UdpEndpoint implements Disposable, AsyncIterable<Datagram> {
  readonly port: number;
  readonly #sender: UdpSender;
  readonly #listener: DatagramListener | undefined;
  readonly #limit: number;
  readonly #queue: Datagram[] = [];
  readonly #waiting: Waiting[] = [];
  readonly #counts = { received: 0, receivedBytes: 0, sent: 0, sentBytes: 0, dropped: 0, unsent: 0, reported: 0 };
  #closed = false;
  #failure: Error | undefined;

  constructor(port: number, sender: UdpSender, options: UdpBindOptions) {
    this.port = port;
    this.#sender = sender;
    this.#listener = options.listener;
    this.#limit = options.queueDatagrams ?? 1024;
  }

  get statistics(): UdpEndpointStatistics {
    return { ...this.#counts };
  }

  /**
   * Sends a copy of `data`; `false` where it was dropped, as the statistics say. A neighbour that is not known yet is asked
   * for first. Throws `NET_INVALID` for what no datagram can be, `ADDRESS_INVALID`, `NET_CLOSED`, and the end of the device.
   */
  send(data: Uint8Array, address: string | number, port: number): boolean {
    return this.sendFrom(data, 0, data.length, ipv4(address), port);
  }

  /** As {@link send}: `length` bytes from `at` on in `bytes`, without making an object. */
  sendFrom(bytes: Uint8Array, at: number, length: number, address: number, port: number): boolean {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closed) throw new Ring3Error("NET_CLOSED", `the endpoint of port ${this.port} was closed`);
    const sent = this.#sender.sendUdp(bytes, at, length, this.port, address, port);
    if (sent) {
      this.#counts.sent++;
      this.#counts.sentBytes += length;
    } else this.#counts.unsent++;
    return sent;
  }

  /** For the stack. */
  deliver(bytes: Uint8Array, at: number, length: number, address: number, port: number, destination: number): void {
    this.#counts.received++;
    this.#counts.receivedBytes += length;
    if (this.#listener !== undefined) {
      this.#listener(bytes, at, length, address, port, destination);
      return;
    }
    if (this.#queue.length >= this.#limit) {
      this.#counts.dropped++;
      return;
    }
    // A copy into memory of its own: the buffer is shared with the device.
    const data = new Uint8Array(length);
    for (let i = 0; i < length; i++) data[i] = bytes[at + i] as number;
    const datagram = { data, address: ipv4Text(address), port, destination: ipv4Text(destination) };
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#queue.push(datagram);
    else waiting.resolve(datagram);
  }

  /** For the stack: somebody could not deliver what was sent. */
  report(): void {
    this.#counts.reported++;
  }

  /** For the stack, which has ended: whoever waits hears why, and so does everybody later. */
  fail(error: Error): void {
    if (this.#closed) return;
    this.#failure = error;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
    this[Symbol.dispose]();
  }

  /**
   * The next datagram; `undefined` once the endpoint is closed. Rejects with the end of the device, after what had come before.
   */
  receive(): Promise<Datagram | undefined> {
    const first = this.#queue.shift();
    if (first !== undefined) return Promise.resolve(first);
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#closed) return Promise.resolve(undefined);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  async *[Symbol.asyncIterator](): AsyncIterator<Datagram> {
    for (let datagram = await this.receive(); datagram !== undefined; datagram = await this.receive()) yield datagram;
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#sender.closeUdp(this.port);
    for (const waiting of this.#waiting.splice(0)) waiting.resolve(undefined);
  }
}
