// Group membership of a host: IGMPv3 (RFC 3376) without source lists, and IGMPv2 (RFC 2236) while an older querier is
// heard. A machine without a clock or a socket of its own: it is told what came and what time it is, and says what to send.
import { get16, get32, put16, put32 } from "./byte-order.ts";
import { finishSum, sumBytes } from "./checksum.ts";
import { ALL_SYSTEMS, isMulticast } from "./ipv4-address.ts";

const Type = { QUERY: 0x11, V1_REPORT: 0x12, V2_REPORT: 0x16, V2_LEAVE: 0x17, V3_REPORT: 0x22 } as const;
/** Kinds of group records, RFC 3376, section 4.2.12. */
const Record = { IS_EXCLUDE: 2, TO_INCLUDE: 3, TO_EXCLUDE: 4 } as const;
/** 224.0.0.2 and 224.0.0.22. */
const ALL_ROUTERS: number = 0xe000_0002 | 0;
const V3_ROUTERS: number = 0xe000_0016 | 0;
/** Unsolicited reports are sent twice, a second apart at most: RFC 3376, sections 8.11 and 8.14.1. */
const ROBUSTNESS = 2;
const UNSOLICITED_MS = 1000;
/** After a query of version 2 that version is spoken for this long: RFC 3376, section 8.12, with its defaults. */
const OLDER_QUERIER_MS = 2 * 125_000 + 10_000;
const GROUPS_LIMIT = 64;

/** A message to send, with a time to live of 1 and the router alert option. */
export interface IgmpMessage {
  readonly destination: number;
  readonly payload: Uint8Array;
}

interface Membership {
  /** How often somebody joined. */
  joins: number;
  /** Reports to send yet, and when the next one is due; infinite where none is. */
  repeats: number;
  dueMs: number;
}

export class IgmpHost {
  readonly #groups: Map<number, Membership> = new Map();
  /** Groups left, whose leaving is repeated (version 3). */
  readonly #leaving: Map<number, Membership> = new Map();
  readonly #random: () => number;
  #version2UntilMs: number = Number.NEGATIVE_INFINITY;
  #generalDueMs: number = Number.POSITIVE_INFINITY;
  #malformed = 0;

  /** `random` gives numbers from 0 to 1. */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  get groups(): IterableIterator<number> {
    return this.#groups.keys();
  }

  has(group: number): boolean {
    return this.#groups.has(group);
  }

  /** Messages that were no IGMP. */
  get malformed(): number {
    return this.#malformed;
  }

  /** Joins, once more where it has joined already; `false` where it is no group, or too many are joined. */
  join(group: number, nowMs: number): boolean {
    const joined = this.#groups.get(group);
    if (joined !== undefined) {
      joined.joins++;
      return true;
    }
    if (!isMulticast(group) || this.#groups.size >= GROUPS_LIMIT) return false;
    // Membership of 224.0.0.1 is never reported.
    const repeats = group === ALL_SYSTEMS ? 0 : ROBUSTNESS;
    this.#leaving.delete(group);
    this.#groups.set(group, { joins: 1, repeats, dueMs: repeats === 0 ? Number.POSITIVE_INFINITY : nowMs });
    return true;
  }

  /** Leaves, where nobody else has joined; `true` where the group is not received any more. */
  leave(group: number, nowMs: number): boolean {
    const membership = this.#groups.get(group);
    if (membership === undefined || --membership.joins > 0) return false;
    this.#groups.delete(group);
    if (group !== ALL_SYSTEMS) this.#leaving.set(group, { joins: 0, repeats: ROBUSTNESS, dueMs: nowMs });
    return true;
  }

  /** A message of IGMP came, to `destination`. */
  receive(bytes: Uint8Array, at: number, length: number, nowMs: number): void {
    if (length < 8 || sumBytes(bytes, at, length) !== 0xffff) {
      this.#malformed++;
      return;
    }
    const type = bytes[at] as number;
    const group = get32(bytes, at + 4);
    if (type === Type.V2_REPORT || type === Type.V1_REPORT) {
      // Somebody else has reported: in version 2 that is enough (RFC 2236, section 3).
      const membership = this.#groups.get(group);
      if (this.#speaksVersion2(nowMs) && membership !== undefined) membership.dueMs = Number.POSITIVE_INFINITY;
    } else if (type === Type.QUERY) {
      const version3 = length >= 12;
      // Version 1 leaves the field zero and means ten seconds; it is answered in version 2.
      const maximum = version3 ? codeTenths(bytes[at + 1] as number) : bytes[at + 1] || 100;
      if (!version3) this.#version2UntilMs = nowMs + OLDER_QUERIER_MS;
      if (version3 && 12 + 4 * get16(bytes, at + 10) > length) {
        this.#malformed++;
        return;
      }
      this.#queried(group, maximum * 100, nowMs);
    }
  }

  #queried(group: number, maximumMs: number, nowMs: number): void {
    const dueMs = nowMs + this.#random() * maximumMs;
    if (group !== 0) {
      const membership = this.#groups.get(group);
      if (membership !== undefined && group !== ALL_SYSTEMS) schedule(membership, dueMs);
    } else if (this.#speaksVersion2(nowMs)) {
      for (const [joined, membership] of this.#groups) {
        if (joined !== ALL_SYSTEMS) schedule(membership, nowMs + this.#random() * maximumMs);
      }
    } else this.#generalDueMs = Math.min(this.#generalDueMs, dueMs);
  }

  /** When {@link tick} has something to do; infinite where it has not. */
  get dueMs(): number {
    let due = this.#generalDueMs;
    for (const { dueMs } of this.#groups.values()) due = Math.min(due, dueMs);
    for (const { dueMs } of this.#leaving.values()) due = Math.min(due, dueMs);
    return due;
  }

  /** What is to be sent now. */
  tick(nowMs: number): IgmpMessage[] {
    const version2 = this.#speaksVersion2(nowMs);
    const messages: IgmpMessage[] = [];
    const records: [kind: number, group: number][] = [];
    if (this.#generalDueMs <= nowMs) {
      this.#generalDueMs = Number.POSITIVE_INFINITY;
      for (const group of this.#groups.keys()) if (group !== ALL_SYSTEMS) records.push([Record.IS_EXCLUDE, group]);
    }
    for (const [group, membership] of this.#groups) {
      if (membership.dueMs > nowMs) continue;
      const changed = membership.repeats > 0;
      if (version2) messages.push({ destination: group, payload: shortMessage(Type.V2_REPORT, group) });
      else records.push([changed ? Record.TO_EXCLUDE : Record.IS_EXCLUDE, group]);
      this.#again(membership, nowMs);
    }
    for (const [group, membership] of this.#leaving) {
      if (membership.dueMs > nowMs) continue;
      if (version2) {
        messages.push({ destination: ALL_ROUTERS, payload: shortMessage(Type.V2_LEAVE, group) });
        membership.repeats = 0;
      } else records.push([Record.TO_INCLUDE, group]);
      this.#again(membership, nowMs);
      if (membership.dueMs === Number.POSITIVE_INFINITY) this.#leaving.delete(group);
    }
    if (records.length > 0) messages.push({ destination: V3_ROUTERS, payload: report(records) });
    return messages;
  }

  #again(membership: Membership, nowMs: number): void {
    if (membership.repeats > 0) membership.repeats--;
    membership.dueMs = membership.repeats > 0 ? nowMs + this.#random() * UNSOLICITED_MS : Number.POSITIVE_INFINITY;
  }

  #speaksVersion2(nowMs: number): boolean {
    return nowMs < this.#version2UntilMs;
  }
}

/** An answer that is due earlier stays so. */
function schedule(membership: Membership, dueMs: number): void {
  membership.dueMs = Math.min(membership.dueMs, dueMs);
}

/** Tenths of seconds of a Max Resp Code, RFC 3376, section 4.1.1. */
function codeTenths(code: number): number {
  return code < 128 ? code : ((code & 0xf) | 0x10) << (((code >>> 4) & 7) + 3);
}

function shortMessage(type: number, group: number): Uint8Array {
  const bytes = new Uint8Array(8);
  bytes[0] = type;
  put32(bytes, 4, group);
  put16(bytes, 2, finishSum(sumBytes(bytes, 0, bytes.length)));
  return bytes;
}

/** RFC 3376, section 4.2. */
function report(records: readonly (readonly [kind: number, group: number])[]): Uint8Array {
  const bytes = new Uint8Array(8 + 8 * records.length);
  bytes[0] = Type.V3_REPORT;
  put16(bytes, 6, records.length);
  for (const [i, [kind, group]] of records.entries()) {
    bytes[8 + 8 * i] = kind;
    put32(bytes, 12 + 8 * i, group);
  }
  put16(bytes, 2, finishSum(sumBytes(bytes, 0, bytes.length)));
  return bytes;
}
