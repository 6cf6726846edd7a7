// Echo requests and who waits for their replies: RFC 792. A reply counts once, and only with the payload that was sent.
import { Ring3Error } from "../../binary/error.ts";
import { ICMP_HEADER_BYTES } from "./icmp.ts";
import { IPV4_HEADER_BYTES, IPV4_MAXIMUM_BYTES } from "./ipv4.ts";
import { ipv4Text } from "./ipv4-address.ts";

const MAXIMUM_PAYLOAD = IPV4_MAXIMUM_BYTES - IPV4_HEADER_BYTES - ICMP_HEADER_BYTES;

export interface PingOptions {
  /** Bytes of payload; 56 by default. */
  readonly payloadBytes?: number;
  /** How long to wait, in milliseconds; 1000 by default. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface PingReply {
  readonly address: string;
  readonly sequence: number;
  readonly payloadBytes: number;
  readonly timeToLive: number;
  readonly roundTripMs: number;
}

interface Waiting {
  readonly destination: number;
  readonly payloadBytes: number;
  readonly sentMs: number;
  resolve(reply: PingReply): void;
  reject(error: Error): void;
}

export class Pinger {
  readonly identifier: number;
  readonly #waiting: Map<number, Waiting> = new Map();
  #sequence = 0;
  #wrong = 0;

  constructor(identifier: number) {
    this.identifier = identifier;
  }

  /** Replies that nobody waited for, that came twice, or whose payload was another one. */
  get wrong(): number {
    return this.#wrong;
  }

  /**
   * Waits for the reply to what `send` sends under a new sequence number. Rejects with `NET_INVALID`, `TIMEOUT`, and what
   * {@link failed} and {@link failAll} say.
   */
  async ping(
    destination: number,
    { payloadBytes = 56, timeoutMs = 1000, signal }: PingOptions,
    clock: { now(): number; after(delayMs: number, callback: () => void): Disposable },
    send: (sequence: number, payload: Uint8Array) => void,
  ): Promise<PingReply> {
    if (!(Number.isInteger(payloadBytes) && payloadBytes >= 0 && payloadBytes <= MAXIMUM_PAYLOAD)) {
      throw new Ring3Error("NET_INVALID", `an echo carries 0 to ${MAXIMUM_PAYLOAD} bytes, not ${payloadBytes}`);
    }
    signal?.throwIfAborted();
    const sequence = this.#sequence;
    this.#sequence = (sequence + 1) & 0xffff;
    const { promise, resolve, reject } = Promise.withResolvers<PingReply>();
    const timer = clock.after(timeoutMs, () => {
      reject(new Ring3Error("TIMEOUT", `${ipv4Text(destination)} did not answer within ${timeoutMs} ms`));
    });
    const abort = (): void => reject(signal?.reason as Error);
    signal?.addEventListener("abort", abort, { once: true });
    this.#waiting.set(sequence, { destination, payloadBytes, sentMs: clock.now(), resolve, reject });
    try {
      send(sequence, pingPayload(sequence, payloadBytes));
      return await promise;
    } finally {
      timer[Symbol.dispose]();
      signal?.removeEventListener("abort", abort);
      this.#waiting.delete(sequence);
    }
  }

  /** A reply came: `payloadBytes` from `at` on. */
  replied(
    bytes: Uint8Array,
    at: number,
    reply: {
      readonly source: number;
      readonly sequence: number;
      readonly payloadBytes: number;
      readonly timeToLive: number;
    },
    nowMs: number,
  ): void {
    const waiting = this.#waiting.get(reply.sequence);
    const expected = waiting === undefined ? undefined : pingPayload(reply.sequence, waiting.payloadBytes);
    const right =
      waiting !== undefined &&
      waiting.destination === reply.source &&
      waiting.payloadBytes === reply.payloadBytes &&
      expected?.every((byte, i) => byte === bytes[at + i]) === true;
    if (!right) {
      this.#wrong++;
      return;
    }
    this.#waiting.delete(reply.sequence);
    waiting.resolve({
      address: ipv4Text(reply.source),
      sequence: reply.sequence,
      payloadBytes: reply.payloadBytes,
      timeToLive: reply.timeToLive,
      roundTripMs: nowMs - waiting.sentMs,
    });
  }

  /** Somebody reported that the request with this sequence number cannot be delivered. */
  failed(sequence: number, destination: number, reason: string): void {
    const waiting = this.#waiting.get(sequence);
    if (waiting?.destination !== destination) return;
    waiting.reject(new Ring3Error("NET_UNREACHABLE", `${ipv4Text(destination)} cannot be reached: ${reason}`));
  }

  /** Every request to `destination` fails, or every request. */
  failAll(error: Error, destination?: number): void {
    for (const waiting of this.#waiting.values()) {
      if (destination === undefined || waiting.destination === destination) waiting.reject(error);
    }
  }
}

/** Bytes that differ from request to request. */
function pingPayload(sequence: number, size: number): Uint8Array {
  const payload = new Uint8Array(size);
  for (let i = 0; i < size; i++) payload[i] = (i * 31 + sequence * 7 + (sequence >>> 8)) & 0xff;
  return payload;
}
