// What a stack counts: each frame that came ends in exactly one of these, so that losses can be explained.
import type { NeighbourStatistics } from "./neighbours.ts";
import type { ReassemblyStatistics } from "./reassembly.ts";

/** Each received frame is in exactly one of `notForUs`, `unknownProtocol`, `malformed`, `arp`, `icmp`, `igmp`, `udp`, `udpNoPort` or `fragments`. */
export interface StackStatistics {
  readonly received: number;
  readonly notForUs: number;
  readonly unknownProtocol: number;
  readonly malformed: Readonly<Record<string, number>>;
  readonly arp: number;
  readonly icmp: number;
  readonly igmp: number;
  readonly udp: number;
  readonly udpNoPort: number;
  readonly fragments: number;
  readonly addressConflicts: number;
  readonly sent: number;
  readonly noBuffer: number;
  readonly noRoute: number;
  readonly unresolved: number;
  readonly rateLimited: number;
  /** Frames for which the device's ring had no room. */
  readonly ringFull: number;
  readonly neighbours: NeighbourStatistics;
  readonly reassembly: ReassemblyStatistics;
}

/** Where frames ended, and what was sent. */
export class StackCounts {
  /** Frames that came. */
  received = 0;
  /** For another station, or of another VLAN. */
  notForUs = 0;
  /** Of a protocol that this stack does not speak. */
  unknownProtocol = 0;
  /** By the reason why they were dropped: `ipv4 checksum`, `udp length`, `arp spoofed`, ... */
  readonly malformed: Map<string, number> = new Map();
  arp = 0;
  icmp = 0;
  igmp = 0;
  /** Datagrams for a port that somebody has bound. */
  udp = 0;
  /** Datagrams for a port that nobody has bound. */
  udpNoPort = 0;
  /** Pieces of datagrams. */
  fragments = 0;
  /** Somebody else claims our address. */
  addressConflicts = 0;
  /** Frames handed to the device. */
  sent = 0;
  /** Packets that found no free buffer. */
  noBuffer = 0;
  /** Packets to addresses without a route: beyond the network where there is no gateway. */
  noRoute = 0;
  /** Packets to neighbours that did not answer, or for whom too many waited. */
  unresolved = 0;
  /** Errors that were not sent because of their rate. */
  rateLimited = 0;

  drop(protocol: string, problem: string): void {
    const reason = `${protocol} ${problem}`;
    this.malformed.set(reason, (this.malformed.get(reason) ?? 0) + 1);
  }
}

/** At most so many a second, with bursts of as many. */
export class RateLimit {
  readonly #perSecond: number;
  #tokens: number;
  #lastMs: number = Number.NEGATIVE_INFINITY;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#tokens = perSecond;
  }

  allows(nowMs: number): boolean {
    const passed = Math.max(0, nowMs - this.#lastMs);
    this.#tokens = Math.min(this.#perSecond, this.#tokens + (passed / 1000) * this.#perSecond);
    this.#lastMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
