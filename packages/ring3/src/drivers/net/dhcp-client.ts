// A DHCP client: RFC 2131, section 4.4 and figure 5. A machine without a clock or a socket of its own: it is told what came
// and what time it is, says when it wants to be called, and what is to be sent.
//
//   selecting --offer--> requesting --ack--> bound --T1--> renewing --T2--> rebinding --lease over--> selecting
//       ^----------------- nak, silence ---------'            '---- ack ----'---'
import {
  bytes32,
  type DhcpReply,
  DhcpOption,
  type DhcpRequest,
  DhcpType,
  dhcpRequest,
  option16,
  option32,
  optionAddresses,
  readReply,
} from "./dhcp-message.ts";
import { isHostAddress, isUnicast, LIMITED_BROADCAST, prefixOfMask } from "./ipv4-address.ts";

export type DhcpState = "selecting" | "requesting" | "bound" | "renewing" | "rebinding";

/** What a server gave. */
export interface DhcpLease {
  readonly address: number;
  readonly prefix: number;
  readonly routers: readonly number[];
  readonly dnsServers: readonly number[];
  readonly domainName: string | undefined;
  readonly mtu: number | undefined;
  readonly server: number;
  readonly leaseSeconds: number;
  readonly renewalSeconds: number;
  readonly rebindingSeconds: number;
}

/** A message to send from port 68 to port 67 of `destination`, from our address or from 0.0.0.0. */
export interface DhcpMessage {
  readonly destination: number;
  readonly source: number;
  readonly payload: Uint8Array;
}

export interface DhcpClientOptions {
  /** Six bytes. */
  readonly mac: Uint8Array;
  readonly hostName?: string;
  /** Numbers from 0 to 1. */
  readonly random?: () => number;
}

/** RFC 2131, section 4.1: 4 s, 8 s, ... 64 s, each with up to a second more or less. */
const FIRST_RETRY_MS = 4000;
const LAST_RETRY_MS = 64_000;
/** Requests without an answer before another server is looked for. */
const REQUEST_TRIES = 4;
/** Section 4.4.5: while renewing not oftener than once a minute. */
const RENEW_RETRY_MS = 60_000;
const INFINITE_SECONDS = 0xffff_ffff;
/** Of what a server may say, so that nobody is kept busy by leases of a second. */
const SHORTEST_LEASE_SECONDS = 60;
/** After DECLINE: section 3.1, point 5. */
const DECLINE_PAUSE_MS = 10_000;
const WANTED = Uint8Array.of(
  DhcpOption.SUBNET_MASK,
  DhcpOption.ROUTERS,
  DhcpOption.DNS_SERVERS,
  DhcpOption.DOMAIN_NAME,
  DhcpOption.MTU,
  DhcpOption.LEASE_SECONDS,
  DhcpOption.RENEWAL_SECONDS,
  DhcpOption.REBINDING_SECONDS,
);
/** Bytes of a message that we take: 1500 less the headers of IPv4 and UDP would be more; this is what every host takes. */
const MAXIMUM_SIZE = Uint8Array.of(576 >>> 8, 576 & 0xff);

export class DhcpClient {
  readonly #options: DhcpClientOptions;
  readonly #random: () => number;
  #state: DhcpState = "selecting";
  #transaction: number;
  #startedMs: number;
  #dueMs: number;
  #tries = 0;
  #offer: DhcpReply | undefined;
  #lease: DhcpLease | undefined;
  #requestedMs = 0;
  #boundMs = 0;
  #refused = 0;
  /** Refusals in a row. */
  #naks = 0;

  constructor(options: DhcpClientOptions, nowMs: number) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#transaction = this.#newTransaction();
    this.#startedMs = nowMs;
    this.#dueMs = nowMs;
  }

  get state(): DhcpState {
    return this.#state;
  }

  /** What we have now; `undefined` before the first answer, and again when a lease has run out. */
  get lease(): DhcpLease | undefined {
    return this.#lease;
  }

  /** When {@link tick} has something to do; infinite for an endless lease. */
  get dueMs(): number {
    return this.#dueMs;
  }

  /** Answers that were for us and said nonsense. */
  get refused(): number {
    return this.#refused;
  }

  /** A datagram came to port 68; what is to be sent in answer. A new lease shows in {@link lease}. */
  receive(payload: Uint8Array, nowMs: number): DhcpMessage | undefined {
    const reply = readReply(payload, this.#options.mac);
    if (reply === undefined || reply.transaction !== this.#transaction) return undefined;
    if (this.#state === "selecting" && reply.type === DhcpType.OFFER) {
      if (option32(reply, DhcpOption.SERVER) === undefined || !isUnicast(reply.address)) {
        this.#refused++;
        return undefined;
      }
      this.#offer = reply;
      this.#state = "requesting";
      this.#tries = 0;
      return this.#request(nowMs);
    }
    if (this.#state === "selecting" || this.#state === "bound") return undefined;
    if (reply.type === DhcpType.NAK) {
      this.#lease = undefined;
      this.#restart(nowMs);
      // A server that refuses what it offered itself is not asked at the speed of the network.
      if (this.#naks++ > 0) this.#dueMs += Math.min(FIRST_RETRY_MS * 2 ** (this.#naks - 2), LAST_RETRY_MS);
      return undefined;
    }
    if (reply.type !== DhcpType.ACK) return undefined;
    const lease = leaseOf(reply, this.#lease ?? this.#offer);
    if (lease === undefined) {
      this.#refused++;
      return undefined;
    }
    this.#lease = lease;
    this.#naks = 0;
    this.#state = "bound";
    this.#boundMs = this.#requestedMs;
    this.#dueMs = this.#at(lease.renewalSeconds);
    return undefined;
  }

  /** It is time: what is to be sent. */
  tick(nowMs: number): DhcpMessage | undefined {
    if (nowMs < this.#dueMs) return undefined;
    const lease = this.#lease;
    if (lease !== undefined && nowMs >= this.#at(lease.leaseSeconds)) {
      this.#lease = undefined;
      this.#restart(nowMs);
    }
    if (this.#lease !== undefined && this.#state !== "requesting") return this.#renew(this.#lease, nowMs);
    if (this.#state === "requesting" && this.#tries < REQUEST_TRIES) return this.#request(nowMs);
    if (this.#state === "requesting") this.#restart(nowMs);
    return this.#discover(nowMs);
  }

  /** Somebody has the address already: section 3.1, point 5. Another one is looked for after a pause. */
  decline(nowMs: number): DhcpMessage | undefined {
    const lease = this.#lease;
    if (lease === undefined) return undefined;
    const message = this.#message(DhcpType.DECLINE, nowMs, 0, LIMITED_BROADCAST, [
      this.#clientId(),
      [DhcpOption.REQUESTED_ADDRESS, bytes32(lease.address)],
      [DhcpOption.SERVER, bytes32(lease.server)],
    ]);
    this.#lease = undefined;
    this.#restart(nowMs);
    this.#dueMs = nowMs + DECLINE_PAUSE_MS;
    return message;
  }

  /** Gives the address back: section 4.4.6. */
  release(nowMs: number): DhcpMessage | undefined {
    const lease = this.#lease;
    if (lease === undefined) return undefined;
    this.#lease = undefined;
    this.#dueMs = Number.POSITIVE_INFINITY;
    this.#transaction = this.#newTransaction();
    return this.#message(DhcpType.RELEASE, nowMs, lease.address, lease.server, [
      this.#clientId(),
      [DhcpOption.SERVER, bytes32(lease.server)],
    ]);
  }

  #discover(nowMs: number): DhcpMessage {
    this.#dueMs = nowMs + this.#retryMs();
    return this.#message(DhcpType.DISCOVER, nowMs, 0, LIMITED_BROADCAST, this.#common());
  }

  #request(nowMs: number): DhcpMessage {
    const offer = this.#offer as DhcpReply;
    this.#dueMs = nowMs + this.#retryMs();
    this.#requestedMs = nowMs;
    return this.#message(DhcpType.REQUEST, nowMs, 0, LIMITED_BROADCAST, [
      [DhcpOption.REQUESTED_ADDRESS, bytes32(offer.address)],
      [DhcpOption.SERVER, bytes32(option32(offer, DhcpOption.SERVER) ?? 0)],
      ...this.#common(),
    ]);
  }

  /** Section 4.4.5: the server alone until T2, then everybody. */
  #renew(lease: DhcpLease, nowMs: number): DhcpMessage {
    if (this.#state === "bound") this.#transaction = this.#newTransaction();
    const rebinding = nowMs >= this.#at(lease.rebindingSeconds);
    this.#state = rebinding ? "rebinding" : "renewing";
    const nextMs = this.#at(rebinding ? lease.leaseSeconds : lease.rebindingSeconds);
    const half = (nextMs - nowMs) / 2;
    this.#dueMs = half < RENEW_RETRY_MS ? nextMs : nowMs + half;
    this.#requestedMs = nowMs;
    const destination = rebinding ? LIMITED_BROADCAST : lease.server;
    return this.#message(DhcpType.REQUEST, nowMs, lease.address, destination, this.#common());
  }

  #restart(nowMs: number): void {
    this.#state = "selecting";
    this.#offer = undefined;
    this.#tries = 0;
    this.#transaction = this.#newTransaction();
    this.#startedMs = nowMs;
    this.#dueMs = nowMs;
  }

  /** In every message, or a server knows the lease by another name: section 4.4.6. */
  #clientId(): readonly [number, Uint8Array] {
    return [DhcpOption.CLIENT_ID, Uint8Array.of(1, ...this.#options.mac)];
  }

  #common(): (readonly [number, Uint8Array])[] {
    const { hostName } = this.#options;
    return [
      this.#clientId(),
      [DhcpOption.WANTED, WANTED],
      [DhcpOption.MAXIMUM_SIZE, MAXIMUM_SIZE],
      ...(hostName === undefined
        ? []
        : [[DhcpOption.HOST_NAME, new TextEncoder().encode(hostName).subarray(0, 255)] as const]),
    ];
  }

  #message(
    type: number,
    nowMs: number,
    clientAddress: number,
    destination: number,
    options: DhcpRequest["options"],
  ): DhcpMessage {
    const seconds = Math.floor((nowMs - this.#startedMs) / 1000);
    const broadcast = clientAddress === 0;
    const { mac } = this.#options;
    const payload = dhcpRequest({
      transaction: this.#transaction,
      mac,
      type,
      seconds,
      clientAddress,
      broadcast,
      options,
    });
    return { destination, source: clientAddress, payload };
  }

  #retryMs(): number {
    const delay = Math.min(FIRST_RETRY_MS * 2 ** this.#tries, LAST_RETRY_MS);
    this.#tries++;
    return delay + (2 * this.#random() - 1) * 1000;
  }

  #at(seconds: number): number {
    return seconds === INFINITE_SECONDS ? Number.POSITIVE_INFINITY : this.#boundMs + 1000 * seconds;
  }

  #newTransaction(): number {
    return Math.floor(this.#random() * 2 ** 32) | 0;
  }
}

/** The lease of an ACK; `undefined` where it says nonsense. `before` is what it goes on from. */
function leaseOf(reply: DhcpReply, before: DhcpLease | DhcpReply | undefined): DhcpLease | undefined {
  const { address } = reply;
  const server =
    option32(reply, DhcpOption.SERVER) ?? (before !== undefined && "server" in before ? before.server : undefined);
  const seconds = option32(reply, DhcpOption.LEASE_SECONDS);
  const mask = option32(reply, DhcpOption.SUBNET_MASK);
  // Without a mask the address is alone, and everything goes to the router.
  const prefix = mask === undefined ? 32 : prefixOfMask(mask);
  if (server === undefined || seconds === undefined || before === undefined || address !== before.address)
    return undefined;
  if (prefix < 1 || !isHostAddress(address, prefix)) return undefined;
  const leaseSeconds = Math.max(seconds >>> 0, SHORTEST_LEASE_SECONDS);
  const times = (code: number, share: number, longest: number): number => {
    if (leaseSeconds === INFINITE_SECONDS) return INFINITE_SECONDS;
    const said = (option32(reply, code) ?? 0) >>> 0;
    return said > 0 && said < longest ? said : Math.floor(leaseSeconds * share);
  };
  const rebindingSeconds = times(DhcpOption.REBINDING_SECONDS, 0.875, leaseSeconds);
  const renewalSeconds = Math.min(times(DhcpOption.RENEWAL_SECONDS, 0.5, rebindingSeconds), rebindingSeconds);
  const name = reply.options.get(DhcpOption.DOMAIN_NAME);
  const mtu = option16(reply, DhcpOption.MTU);
  return {
    address,
    prefix,
    routers: optionAddresses(reply, DhcpOption.ROUTERS).filter(isUnicast),
    dnsServers: optionAddresses(reply, DhcpOption.DNS_SERVERS),
    domainName: name === undefined ? undefined : new TextDecoder().decode(name).replace(/\0+$/, ""),
    mtu: mtu !== undefined && mtu >= 576 ? mtu : undefined,
    server,
    leaseSeconds,
    renewalSeconds,
    rebindingSeconds,
  };
}
