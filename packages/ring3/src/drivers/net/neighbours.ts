// Which station has which address: the neighbour cache (RFC 1122, section 2.3.2). Bounded in entries, in packets that wait
// and in requests. Only an answer to a request of ours makes an entry (or a request to us, within a rate); what comes
// unasked may refresh what is known, and not more often than once a second, so that a flood of lies neither fills the
// cache nor moves a neighbour that just answered.
import { MAC_BYTES } from "../../specs/ethernet/index.ts";
import { copyMac } from "./ethernet.ts";

export interface NeighbourLimits {
  /** Entries; 512 by default. The one that was used longest ago gives way. */
  readonly entries?: number;
  /** How long an answer is believed, in milliseconds; 60,000 by default. */
  readonly believedMs?: number;
  /** Between two requests for one address; 1000 by default (RFC 1122 asks for at most one a second). */
  readonly retryMs?: number;
  /** Requests before the address counts as unreachable; 3 by default. */
  readonly tries?: number;
  /** Packets that wait for answers, in all; 64 by default. */
  readonly waiting?: number;
}

/** What happened in the cache. */
export interface NeighbourStatistics {
  readonly requests: number;
  readonly learnt: number;
  /** Answers that would have moved a neighbour which answered less than a second ago. */
  readonly refused: number;
  readonly evicted: number;
  readonly unreachable: number;
}

/** A frame that waits: its place in the pool and what goes with it. */
export interface WaitingFrame {
  readonly place: number;
  readonly length: number;
  readonly flags: number;
  readonly offload: number;
}

/** Who waits for an answer, with nothing to send. */
interface Asker {
  readonly resolve: (mac: Uint8Array | undefined) => void;
  readonly reject: (error: Error) => void;
}

class Neighbour {
  readonly address: number;
  readonly mac: Uint8Array = new Uint8Array(6);
  known = false;
  /** Said by the program: neither asked, nor moved, nor forgotten. */
  permanent = false;
  answeredMs = 0;
  usedMs = 0;
  askedMs: number = Number.NEGATIVE_INFINITY;
  asked = 0;
  waiting: WaitingFrame[] = [];
  askers: Asker[] = [];

  constructor(address: number) {
    this.address = address;
  }
}

/** What the cache asks of its stack. */
export interface NeighbourLink {
  /** Asks all stations who has `address`, or only the one at `mac`. */
  ask(address: number, mac: Uint8Array | undefined): void;
  /** `frame` may go, to `mac`. */
  release(frame: WaitingFrame, mac: Uint8Array): void;
  /** Nobody answers: `frame` is lost. */
  lose(frame: WaitingFrame, address: number): void;
}

const LOCKED_MS = 1000;

export class Neighbours {
  readonly #entries: Map<number, Neighbour> = new Map();
  readonly #link: NeighbourLink;
  readonly #limits: Required<NeighbourLimits>;
  readonly #counts = { requests: 0, learnt: 0, refused: 0, evicted: 0, unreachable: 0 };
  #waiting = 0;
  /** The neighbour that was looked up last: bursts go to one. */
  #latest: Neighbour | undefined;

  constructor(link: NeighbourLink, limits: NeighbourLimits = {}) {
    const { entries = 512, believedMs = 60_000, retryMs = 1000, tries = 3, waiting = 64 } = limits;
    this.#link = link;
    this.#limits = { entries, believedMs, retryMs, tries, waiting };
  }

  get statistics(): NeighbourStatistics {
    return { ...this.#counts };
  }

  /** Addresses and Ethernet addresses of those that answered. */
  *known(): IterableIterator<{ readonly address: number; readonly mac: Uint8Array }> {
    for (const { address, mac, known } of this.#entries.values()) if (known) yield { address, mac };
  }

  /** `address` has `mac`, for good. */
  add(address: number, mac: Uint8Array): void {
    const entry = this.#entries.get(address) ?? this.#create(address, 0);
    entry.permanent = true;
    this.#learn(entry, mac, 0);
  }

  /** Resolves to the Ethernet address of `address`, and to `undefined` where nobody answers. Rejects as {@link failAll} says. */
  resolve(address: number, nowMs: number): Promise<Uint8Array | undefined> {
    const mac = this.find(address, nowMs);
    if (mac !== undefined) return Promise.resolve(mac.slice());
    return new Promise((resolve, reject) => this.#entries.get(address)?.askers.push({ resolve, reject }));
  }

  /** Whoever waits in {@link resolve} hears why nobody will answer any more. */
  failAll(error: Error): void {
    for (const { askers } of this.#entries.values()) for (const { reject } of askers.splice(0)) reject(error);
  }

  /** The Ethernet address of `address` where it is known; asks for it, or asks again, where it should. */
  find(address: number, nowMs: number): Uint8Array | undefined {
    let entry = this.#latest;
    if (entry?.address !== address) {
      entry = this.#entries.get(address) ?? this.#create(address, nowMs);
      this.#latest = entry;
    }
    entry.usedMs = nowMs;
    const stale = !entry.known || nowMs - entry.answeredMs >= this.#limits.believedMs;
    if (stale && !entry.permanent) this.#ask(entry, nowMs);
    return entry.known ? entry.mac : undefined;
  }

  /** Keeps `frame` until `address` is known; `false` where too many wait. */
  wait(address: number, frame: WaitingFrame, nowMs: number): boolean {
    if (this.#waiting >= this.#limits.waiting) return false;
    const entry = this.#entries.get(address) ?? this.#create(address, nowMs);
    entry.waiting.push(frame);
    this.#waiting++;
    return true;
  }

  /**
   * A station says that it has `address`. `create` where that may make an entry: it answered, or asked for us.
   * `macAt` is where its Ethernet address lies in `bytes`.
   */
  heard(address: number, bytes: Uint8Array, macAt: number, create: boolean, nowMs: number): void {
    const entry = this.#entries.get(address) ?? (create ? this.#create(address, nowMs) : undefined);
    if (entry === undefined) return;
    const same = entry.known && entry.mac.every((byte, i) => byte === bytes[macAt + i]);
    if (entry.known && !same && (entry.permanent || nowMs - entry.answeredMs < LOCKED_MS)) {
      this.#counts.refused++;
      return;
    }
    if (!same) this.#counts.learnt++;
    this.#learn(entry, bytes.subarray(macAt, macAt + MAC_BYTES), nowMs);
  }

  #learn(entry: Neighbour, mac: Uint8Array, nowMs: number): void {
    copyMac(entry.mac, 0, mac, 0);
    entry.known = true;
    entry.asked = 0;
    entry.answeredMs = nowMs;
    const waiting = entry.waiting.splice(0);
    this.#waiting -= waiting.length;
    for (const frame of waiting) this.#link.release(frame, entry.mac);
    for (const { resolve } of entry.askers.splice(0)) resolve(entry.mac.slice());
  }

  /** Whether an answer of `address` is awaited. */
  awaits(address: number): boolean {
    return (this.#entries.get(address)?.asked ?? 0) > 0;
  }

  /** Asks again and gives up, as it is time to. Call it every second or so, and oftener while {@link busy}. */
  tick(nowMs: number): void {
    for (const entry of this.#entries.values()) {
      if (entry.asked === 0 || nowMs - entry.askedMs < this.#limits.retryMs) continue;
      if (entry.asked < this.#limits.tries) {
        if (entry.waiting.length > 0 || entry.askers.length > 0) this.#ask(entry, nowMs);
        else if (!entry.known) entry.asked = 0;
        continue;
      }
      this.#counts.unreachable++;
      this.#remove(entry);
    }
  }

  /** Whether somebody waits for an answer. */
  get busy(): boolean {
    return this.#waiting > 0;
  }

  /** Forgets everything but permanent neighbours; what waits is lost. */
  clear(): void {
    for (const entry of [...this.#entries.values()]) if (!entry.permanent) this.#remove(entry);
  }

  #ask(entry: Neighbour, nowMs: number): void {
    if (nowMs - entry.askedMs < this.#limits.retryMs) return;
    entry.askedMs = nowMs;
    entry.asked++;
    this.#counts.requests++;
    // A neighbour that is known is asked alone first (RFC 1122, section 2.3.2.1).
    this.#link.ask(entry.address, entry.known && entry.asked === 1 ? entry.mac : undefined);
  }

  #create(address: number, nowMs: number): Neighbour {
    if (this.#entries.size >= this.#limits.entries) {
      let oldest: Neighbour | undefined;
      for (const entry of this.#entries.values())
        if (!entry.permanent && (oldest === undefined || entry.usedMs < oldest.usedMs)) oldest = entry;
      if (oldest !== undefined) this.#remove(oldest);
      this.#counts.evicted++;
    }
    const entry = new Neighbour(address);
    entry.usedMs = nowMs;
    this.#entries.set(address, entry);
    return entry;
  }

  #remove(entry: Neighbour): void {
    this.#entries.delete(entry.address);
    if (this.#latest === entry) this.#latest = undefined;
    this.#waiting -= entry.waiting.length;
    for (const frame of entry.waiting) this.#link.lose(frame, entry.address);
    for (const { resolve } of entry.askers.splice(0)) resolve(undefined);
  }
}
