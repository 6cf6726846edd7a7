// Puts fragments together: RFC 791, section 3.2, with the limits that RFC 8900 and experience ask for. Hard about it: all
// of it is an invitation to take memory, so datagrams, their bytes, their pieces and their time are bounded; and pieces that
// overlap have been used to smuggle one datagram past a filter as another, so that they end the whole datagram (RFC 5722 says
// so for IPv6, and Linux does it for both).
import type { Ipv4Header } from "./ipv4.ts";
import { IPV4_MAXIMUM_BYTES } from "./ipv4.ts";

export interface ReassemblyLimits {
  /** Datagrams under way at once; 16 by default. The oldest one gives way. */
  readonly datagrams?: number;
  /** Pieces of one datagram; 128 by default, since 65,535 bytes at an MTU of 576 take 119. */
  readonly pieces?: number;
  /** How long the pieces may take, in milliseconds; 30,000 by default. */
  readonly timeoutMs?: number;
}

/** What became of fragments. */
export interface ReassemblyStatistics {
  readonly fragments: number;
  readonly datagrams: number;
  /** Datagrams that were not complete in time. */
  readonly timedOut: number;
  /** Datagrams that gave way to others, or had too many pieces. */
  readonly evicted: number;
  /** Datagrams ended because of pieces that overlap or contradict each other. */
  readonly overlapping: number;
  /** Pieces that came twice. */
  readonly duplicates: number;
}

interface Pending {
  readonly source: number;
  readonly destination: number;
  readonly identification: number;
  readonly protocol: number;
  readonly startedMs: number;
  bytes: Uint8Array;
  /** Starts and ends of the pieces in order: [start, end, start, end, ...]. */
  readonly ranges: number[];
  received: number;
  /** Length of the whole; -1 until the last piece has come. */
  total: number;
  /** Remembered until its time is up, so that its other pieces start nothing new. */
  dead: boolean;
}

const FIRST_BUFFER_BYTES = 4096;

export class Reassembler {
  readonly #limit: number;
  readonly #pieces: number;
  readonly #timeoutMs: number;
  readonly #pending: Pending[] = [];
  readonly #counts = { fragments: 0, datagrams: 0, timedOut: 0, evicted: 0, overlapping: 0, duplicates: 0 };

  constructor({ datagrams = 16, pieces = 128, timeoutMs = 30_000 }: ReassemblyLimits = {}) {
    this.#limit = datagrams;
    this.#pieces = pieces;
    this.#timeoutMs = timeoutMs;
  }

  get statistics(): ReassemblyStatistics {
    return { ...this.#counts };
  }

  /** Datagrams under way. */
  get pending(): number {
    return this.#pending.length;
  }

  /** Takes the fragment whose payload begins at `at`; the whole payload where it is complete now. */
  add(header: Ipv4Header, bytes: Uint8Array, at: number, nowMs: number): Uint8Array | undefined {
    this.#counts.fragments++;
    this.expire(nowMs);
    const datagram = this.#find(header) ?? this.#start(header, nowMs);
    if (datagram.dead) return undefined;
    const start = header.fragmentOffset;
    const end = start + header.payloadBytes;
    if (!this.#insert(datagram, start, end, header.moreFragments)) return undefined;
    if (end > datagram.bytes.length) datagram.bytes = grown(datagram.bytes, end);
    datagram.bytes.set(bytes.subarray(at, at + header.payloadBytes), start);
    datagram.received += header.payloadBytes;
    if (datagram.received !== datagram.total) return undefined;
    this.#pending.splice(this.#pending.indexOf(datagram), 1);
    this.#counts.datagrams++;
    return datagram.bytes.subarray(0, datagram.total);
  }

  /** Lets go of what took too long. */
  expire(nowMs: number): void {
    for (let oldest = this.#pending[0]; oldest !== undefined; oldest = this.#pending[0]) {
      if (nowMs - oldest.startedMs < this.#timeoutMs) return;
      this.#pending.shift();
      if (!oldest.dead) this.#counts.timedOut++;
    }
  }

  #find({ source, destination, identification, protocol }: Ipv4Header): Pending | undefined {
    return this.#pending.find(
      (pending) =>
        pending.identification === identification &&
        pending.source === source &&
        pending.destination === destination &&
        pending.protocol === protocol,
    );
  }

  #start({ source, destination, identification, protocol }: Ipv4Header, nowMs: number): Pending {
    if (this.#pending.length >= this.#limit && this.#pending.shift()?.dead === false) this.#counts.evicted++;
    const started: Pending = {
      source,
      destination,
      identification,
      protocol,
      startedMs: nowMs,
      bytes: new Uint8Array(FIRST_BUFFER_BYTES),
      ranges: [],
      received: 0,
      total: -1,
      dead: false,
    };
    this.#pending.push(started);
    return started;
  }

  /** Notes the piece from `start` to `end`; `false` where it is not to be copied. */
  #insert(datagram: Pending, start: number, end: number, more: boolean): boolean {
    const { ranges } = datagram;
    let index = 0;
    while (index < ranges.length && (ranges[index] as number) < start) index += 2;
    if (ranges[index] === start && ranges[index + 1] === end && more === (datagram.total !== end)) {
      this.#counts.duplicates++;
      return false;
    }
    const before = index === 0 ? 0 : (ranges[index - 1] as number);
    const after = index === ranges.length ? IPV4_MAXIMUM_BYTES : (ranges[index] as number);
    const last = ranges.length === 0 ? 0 : (ranges[ranges.length - 1] as number);
    const contradicts = more ? datagram.total >= 0 && end >= datagram.total : datagram.total >= 0 || last > end;
    if (start < before || end > after || contradicts) return this.#end(datagram, "overlapping");
    if (ranges.length >= 2 * this.#pieces) return this.#end(datagram, "evicted");
    ranges.splice(index, 0, start, end);
    if (!more) datagram.total = end;
    return true;
  }

  #end(datagram: Pending, why: "overlapping" | "evicted"): false {
    this.#counts[why]++;
    datagram.dead = true;
    datagram.bytes = NOTHING;
    datagram.ranges.length = 0;
    return false;
  }
}

const NOTHING: Uint8Array = new Uint8Array(0);

function grown(bytes: Uint8Array, atLeast: number): Uint8Array {
  const larger = new Uint8Array(Math.min(Math.max(2 * bytes.length, atLeast), IPV4_MAXIMUM_BYTES));
  larger.set(bytes);
  return larger;
}
