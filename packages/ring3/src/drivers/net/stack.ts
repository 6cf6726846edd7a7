// A small IP stack over one queue of a network device: ARP, IPv4 with fragments, ICMP echo, UDP, IGMP and DHCP. No TCP, no
// forwarding, no IPv6. Hard about it: everything lives in the thread that owns the queue; what is sent while packets are
// handled goes out in one burst at the end.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import { putMac } from "../../specs/ethernet/index.ts";
import { type Clock, sleep, systemClock } from "../clock.ts";
import type { NetDevice, NetQueue } from "./device.ts";
import { AddressByDhcp, type StackDhcpOptions } from "./address-by-dhcp.ts";
import type { DhcpLease } from "./dhcp-client.ts";
import { DHCP_CLIENT_PORT } from "./dhcp-message.ts";
import { ICMP_HEADER_BYTES, IcmpType, putEcho } from "./icmp.ts";
import { IgmpHost } from "./igmp.ts";
import { IpInput } from "./ip-input.ts";
import { type Configuration, IpOutput } from "./ip-output.ts";
import { IpProtocol, ROUTER_ALERT } from "./ipv4.ts";
import { ANY_ADDRESS, ipv4, ipv4Text, multicastMac, parseNetwork } from "./ipv4-address.ts";
import type { NeighbourLimits, NeighbourStatistics } from "./neighbours.ts";
import { PACKET_WORDS, Packets, PacketWord } from "./packets.ts";
import { Pinger, type PingOptions, type PingReply } from "./pinger.ts";
import { Reassembler, type ReassemblyLimits, type ReassemblyStatistics } from "./reassembly.ts";
import { StackCounts } from "./stack-statistics.ts";
import { type UdpBindOptions, UdpEndpoint } from "./udp-endpoint.ts";

export interface StackOptions {
  /** `192.0.2.1/24`. Without it the stack has no address until {@link Stack.configure} or DHCP gives one. */
  readonly address?: string;
  /** Where everything goes that is not on this link. */
  readonly gateway?: string;
  /** Takes an address by DHCP before `start` resolves, and keeps its lease. */
  readonly dhcp?: boolean | StackDhcpOptions;
  /** The VLAN to speak in; none by default. */
  readonly vlan?: number;
  /** Which queue of the device; 0 by default. */
  readonly queue?: number;
  /** Whether echo requests are answered; true by default. */
  readonly answerEcho?: boolean;
  /** Whether the device computes checksums of UDP where it can; true by default. */
  readonly checksumOffload?: boolean;
  /** `false`: the program calls {@link Stack.poll} itself. */
  readonly drive?: boolean;
  readonly neighbours?: NeighbourLimits;
  readonly reassembly?: ReassemblyLimits;
  readonly clock?: Clock;
}

/** Who a stack is. */
export interface StackConfiguration {
  /** `undefined` while there is none. */
  readonly address: string | undefined;
  readonly prefix: number;
  readonly gateway: string | undefined;
  readonly mac: string;
  readonly mtu: number;
  readonly vlan: number | undefined;
  readonly lease: DhcpLease | undefined;
}

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

const BURST = 64;
const TICK_MS = 1000;
const RETRY_MS = 1;
/** For a last word to a DHCP server, whose neighbour's answer may take its time. */
const RELEASE_PATIENCE_MS = 1000;
/** Ephemeral ports, RFC 6335, section 6. */
const FIRST_EPHEMERAL = 49_152;
const EPHEMERAL_PORTS = 16_384;

/**
 * An IP station.
 *
 * @example
 * import { openNetDevice, Stack } from "ring3/net";
 * await using device = await openNetDevice(fn);
 * await using stack = await Stack.start(device, { address: "192.0.2.1/24", gateway: "192.0.2.254" });
 * const { roundTripMs } = await stack.ping("192.0.2.254");
 * using endpoint = stack.udp.bind(7);
 * for await (const { data, address, port } of endpoint) endpoint.send(data, address, port);
 */
export class Stack implements AsyncDisposable {
  readonly device: NetDevice;
  /** UDP. */
  readonly udp: {
    /**
     * Binds `port`, or a free one for 0. Throws `NET_PORT_BUSY`, `NET_INVALID`.
     */
    bind(port: number, options?: UdpBindOptions): UdpEndpoint;
  };
  readonly #options: StackOptions;
  readonly #clock: Clock;
  readonly #queue: NetQueue;
  readonly #packets: Packets;
  readonly #counts: StackCounts = new StackCounts();
  readonly #endpoints: Map<number, UdpEndpoint> = new Map();
  readonly #groups: IgmpHost = new IgmpHost();
  readonly #pinger: Pinger = new Pinger(Math.floor(Math.random() * 0x1_0000));
  readonly #reassembler: Reassembler;
  readonly #output: IpOutput;
  readonly #input: IpInput;
  readonly #closing: AbortController = new AbortController();
  readonly #removed: Disposable;
  #dhcp: AddressByDhcp | undefined;
  #tickMs: number;
  #flushing = false;
  #polling = false;
  #loop: Promise<void> = Promise.resolve();
  #failure: Error | undefined;
  #ended: Promise<void> | undefined;

  private constructor(device: NetDevice, options: StackOptions) {
    const queue = device.queues[options.queue ?? 0];
    if (queue === undefined) {
      throw new Ring3Error(
        "NET_NO_QUEUE",
        `${device.address} has ${device.queues.length} queues here, none of index ${options.queue}`,
      );
    }
    const { vlan } = options;
    if (vlan !== undefined && !(Number.isInteger(vlan) && vlan >= 1 && vlan <= 4094)) {
      throw new Ring3Error("NET_INVALID", `a VLAN is 1 to 4094, not ${vlan}`);
    }
    this.device = device;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#queue = queue;
    this.#packets = new Packets(queue.pool.arena, BURST);
    this.#reassembler = new Reassembler(options.reassembly);
    this.#tickMs = this.#clock.now();
    this.#output = new IpOutput({
      queue,
      counts: this.#counts,
      now: () => this.#clock.now(),
      mac: device.mac.slice(),
      mtu: device.mtu,
      vlan: vlan ?? -1,
      udpChecksum: device.capabilities.l4Checksum && options.checksumOffload !== false,
      neighbours: options.neighbours ?? {},
      unreachable: (address) => {
        this.#pinger.failAll(new Ring3Error("NET_UNREACHABLE", `nobody answers for ${ipv4Text(address)}`), address);
      },
    });
    this.#input = new IpInput({
      bytes: queue.pool.bytes,
      counts: this.#counts,
      output: this.#output,
      endpoints: this.#endpoints,
      groups: this.#groups,
      pinger: this.#pinger,
      reassembler: this.#reassembler,
      mac: device.mac.slice(),
      vlan: vlan ?? -1,
      answerEcho: options.answerEcho !== false,
    });
    this.udp = { bind: (port, bindOptions = {}) => this.#bind(port, bindOptions) };
    this.#removed = device.events.on("removed", () => this.#hearEnd());
  }

  /**
   * Starts a stack on the device, which stays the caller's. Rejects with `ADDRESS_INVALID`, `NET_INVALID`, `NET_NO_QUEUE`, the
   * end of the device, and `DHCP_NO_LEASE` where DHCP was asked for and nobody answered in time.
   */
  static async start(device: NetDevice, options: StackOptions = {}): Promise<Stack> {
    const stack = new Stack(device, options);
    try {
      if (options.vlan !== undefined && device.capabilities.vlanFilter) await device.setVlans([options.vlan]);
      if (options.address !== undefined) stack.configure(options.address, options.gateway);
      if (options.drive !== false) stack.#loop = stack.#run();
      if (options.dhcp !== undefined && options.dhcp !== false) {
        await stack.#startDhcp(options.dhcp === true ? {} : options.dhcp);
      }
      return stack;
    } catch (error) {
      await stack[Symbol.asyncDispose]();
      throw error;
    }
  }

  get configuration(): StackConfiguration {
    const { address, prefix, gateway } = this.#output.configuration;
    const mac = [...this.device.mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
    return {
      address: address === ANY_ADDRESS ? undefined : ipv4Text(address),
      prefix,
      gateway: gateway === 0 ? undefined : ipv4Text(gateway),
      mac,
      mtu: this.#output.mtu,
      vlan: this.#options.vlan,
      lease: this.#dhcp?.lease,
    };
  }

  /**
   * Why the stack has ended by itself: the device's driver has. Whatever waited then (pings, receivers, the start by DHCP) was
   * rejected with it, and so is every later call.
   */
  get failure(): Error | undefined {
    this.#hearEnd();
    return this.#failure;
  }

  get statistics(): StackStatistics {
    const { malformed, ...counts } = this.#counts;
    return {
      ...counts,
      malformed: Object.fromEntries(malformed),
      ringFull: this.#output.transmit.dropped,
      neighbours: this.#output.neighbours.statistics,
      reassembly: this.#reassembler.statistics,
    };
  }

  /** Neighbours that answered. */
  get neighbours(): readonly { readonly address: string; readonly mac: Uint8Array }[] {
    return [...this.#output.neighbours.known()].map(({ address, mac }) => ({
      address: ipv4Text(address),
      mac: mac.slice(),
    }));
  }

  /** Takes an address, as `192.0.2.1/24`, and tells the network. Throws `ADDRESS_INVALID`, {@link Stack.failure}. */
  configure(network: string, gateway?: string): void {
    this.#checkOpen();
    const { address, prefix } = parseNetwork(network);
    this.#configure({ address, prefix, gateway: gateway === undefined ? 0 : ipv4(gateway) });
  }

  #configure(configuration: Configuration): void {
    const { address, gateway } = configuration;
    if (address !== ANY_ADDRESS && gateway !== 0 && gateway === address) {
      throw new Ring3Error("ADDRESS_INVALID", `the gateway ${ipv4Text(gateway)} is the station itself`);
    }
    this.#output.neighbours.clear();
    this.#output.configuration = configuration;
    this.#output.announce();
    this.#flushLater();
  }

  /**
   * Sends an echo request and waits for its reply. Rejects with `TIMEOUT`, `NET_UNREACHABLE`, `ADDRESS_INVALID`, and
   * {@link Stack.failure}.
   */
  async ping(address: string, options: PingOptions = {}): Promise<PingReply> {
    const destination = ipv4(address);
    const size = options.payloadBytes ?? 56;
    if (!(Number.isInteger(size) && size >= 0 && size <= 65_507)) {
      throw new Ring3Error("NET_INVALID", `an echo carries 0 to 65507 bytes, not ${size}`);
    }
    this.#checkOpen();
    return await this.#pinger.ping(destination, options, this.#clock, (sequence, payload) => {
      const message = new Uint8Array(ICMP_HEADER_BYTES + payload.length);
      message.set(payload, ICMP_HEADER_BYTES);
      putEcho(message, 0, IcmpType.ECHO_REQUEST, this.#pinger.identifier, sequence, payload.length);
      const sent = this.#output.datagram(message, message.length, { protocol: IpProtocol.ICMP, destination });
      if (!sent) this.#pinger.failed(sequence, destination, "no route, or no room in the ring");
      this.#flushLater();
    });
  }

  /** Receives what is sent to a group, and says so by IGMP. Rejects with `NET_INVALID`, {@link Stack.failure}. */
  async join(group: string): Promise<void> {
    const address = ipv4(group);
    this.#checkOpen();
    if (!this.#groups.join(address, this.#clock.now())) {
      throw new Ring3Error("NET_INVALID", `${group} is no group, or 64 are joined already`);
    }
    await this.#applyGroups();
  }

  /** Leaves a group as often as it was joined. */
  async leave(group: string): Promise<void> {
    this.#checkOpen();
    if (this.#groups.leave(ipv4(group), this.#clock.now())) await this.#applyGroups();
  }

  async #applyGroups(): Promise<void> {
    const macs = [...this.#groups.groups].map((group) => {
      const mac = new Uint8Array(6);
      putMac(mac, 0, multicastMac(group));
      return mac;
    });
    await this.device.setMulticast(macs);
    this.#tick(this.#clock.now());
    this.#flushLater();
  }

  /**
   * Handles one burst of received packets and what time has brought; returns how many packets there were. For programs that
   * drive the stack themselves (`drive: false`). Throws {@link Stack.failure}.
   */
  poll(): number {
    this.#hearEnd();
    if (this.#failure !== undefined) throw this.#failure;
    const packets = this.#packets;
    const { words } = packets;
    const count = this.#queue.rxBurst(packets, BURST);
    const nowMs = this.#clock.now();
    this.#polling = true;
    try {
      for (let i = 0, at = 0; i < count; i++, at += PACKET_WORDS) {
        const place = words[at + PacketWord.PLACE] as number;
        const kept = this.#input.frame(
          place,
          words[at + PacketWord.LENGTH] as number,
          words[at + PacketWord.FLAGS] as number,
          words[at + PacketWord.OFFLOAD] as number,
          nowMs,
        );
        // A listener may have ended the device.
        if (!kept && !this.#queue.pool.disposed) this.#queue.pool.give(place);
      }
      if (nowMs >= this.#tickMs) this.#tick(nowMs);
    } finally {
      this.#polling = false;
      this.#flush();
    }
    return count;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    try {
      while (!signal.aborted) {
        const timeoutMs = Math.max(0, this.#tickMs - this.#clock.now());
        await this.device.receivable(this.#queue.index, { timeoutMs, signal });
        this.poll();
      }
    } catch (error) {
      if (signal.aborted) return;
      this.#fail(this.device.failure ?? (error instanceof Error ? error : new Error(String(error))));
    }
  }

  /** What time has brought: neighbours that do not answer, reports, leases. */
  #tick(nowMs: number): void {
    this.#output.neighbours.tick(nowMs);
    this.#reassembler.expire(nowMs);
    for (const { destination, payload } of this.#groups.dueMs <= nowMs ? this.#groups.tick(nowMs) : []) {
      this.#output.datagram(payload, payload.length, {
        protocol: IpProtocol.IGMP,
        destination,
        timeToLive: 1,
        options: ROUTER_ALERT,
      });
    }
    this.#dhcp?.tick(nowMs);
    this.#tickMs = Math.min(nowMs + TICK_MS, this.#groups.dueMs, this.#dhcp?.dueMs ?? Number.POSITIVE_INFINITY);
  }

  // ---- UDP

  #bind(port: number, options: UdpBindOptions): UdpEndpoint {
    this.#checkOpen();
    if (!(Number.isInteger(port) && port >= 0 && port <= 0xffff)) {
      throw new Ring3Error("NET_INVALID", `a port is 1 to 65535, or 0 for any, not ${port}`);
    }
    const chosen = port === 0 ? this.#freePort() : port;
    if (chosen === undefined || this.#endpoints.has(chosen)) {
      throw new Ring3Error("NET_PORT_BUSY", `port ${port} is bound already`);
    }
    const endpoint = new UdpEndpoint(
      chosen,
      {
        sendUdp: (bytes, at, length, sourcePort, destination, destinationPort) => {
          this.#checkOpen();
          const sent = this.#output.udp(bytes, at, length, sourcePort, destination, destinationPort);
          if (!this.#polling) this.#flushLater();
          return sent;
        },
        closeUdp: (closed) => this.#endpoints.delete(closed),
      },
      options,
    );
    this.#endpoints.set(chosen, endpoint);
    return endpoint;
  }

  #freePort(): number | undefined {
    const start = Math.floor(Math.random() * EPHEMERAL_PORTS);
    for (let i = 0; i < EPHEMERAL_PORTS; i++) {
      const port = FIRST_EPHEMERAL + ((start + i) % EPHEMERAL_PORTS);
      if (!this.#endpoints.has(port)) return port;
    }
    return undefined;
  }

  // ---- DHCP

  async #startDhcp(options: StackDhcpOptions): Promise<void> {
    const dhcp = new AddressByDhcp(
      {
        clock: this.#clock,
        mac: this.device.mac.slice(),
        output: this.#output,
        input: this.#input,
        counts: this.#counts,
        closing: this.#closing.signal,
        working: () => this.#working(),
        configure: (configuration) => this.#configure(configuration),
        flushLater: () => this.#flushLater(),
        tickSoon: () => {
          this.#tickMs = 0;
        },
      },
      options,
    );
    this.#dhcp = dhcp;
    this.#bind(DHCP_CLIENT_PORT, { listener: (bytes, at, length) => dhcp.receive(bytes.slice(at, at + length)) });
    this.#tick(this.#clock.now());
    this.#flushLater();
    await dhcp.configured();
  }

  // ---- flushing, ending

  #flush(): void {
    const { transmit } = this.#output;
    transmit.flush();
    if (transmit.waiting > 0) this.#retryLater();
  }

  /** What was sent outside of a poll goes once the program lets go of the thread. */
  #flushLater(): void {
    if (this.#polling || this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      if (this.#working()) this.#flushGuarded();
    });
  }

  #retryLater(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    this.#clock.after(RETRY_MS, () => {
      this.#flushing = false;
      if (this.#working()) this.#flushGuarded();
    });
  }

  #flushGuarded(): void {
    try {
      this.#flush();
    } catch (error) {
      if (!isRing3Error(error)) throw error;
      this.#hearEnd();
    }
  }

  #working(): boolean {
    this.#hearEnd();
    return this.#failure === undefined && !this.#closing.signal.aborted;
  }

  #checkOpen(): void {
    this.#hearEnd();
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closing.signal.aborted) throw new Ring3Error("NET_CLOSED", "the stack was closed");
  }

  /** The device may have ended since the loop, which hears of it with its next turn, or the program looked. */
  #hearEnd(): void {
    const { failure } = this.device;
    if (failure !== undefined && this.#failure === undefined && !this.#closing.signal.aborted) this.#fail(failure);
  }

  /** Nothing comes and nothing goes any more: whoever waits hears why. */
  #fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#pinger.failAll(error);
    for (const endpoint of [...this.#endpoints.values()]) endpoint.fail(error);
    this.#dhcp?.fail(error);
  }

  /** Gives a lease back, closes every endpoint, and lets go of the queue. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#ended ??= this.#finish();
    return this.#ended;
  }

  async #finish(): Promise<void> {
    await this.#giveBack();
    const closed = new Ring3Error("NET_CLOSED", "the stack was closed");
    this.#closing.abort(closed);
    this.#removed[Symbol.dispose]();
    await this.#loop;
    for (const endpoint of [...this.#endpoints.values()]) endpoint[Symbol.dispose]();
    this.#pinger.failAll(closed);
    this.#dhcp?.fail(closed);
    this.#output[Symbol.dispose]();
    this.#packets[Symbol.dispose]();
  }

  /**
   * Tells the server that its lease is free, and stays until that has left: the server may have to be asked for its Ethernet
   * address first, and who closes the stack closes the device next.
   */
  async #giveBack(): Promise<void> {
    if (!this.#working() || this.#dhcp?.release() !== true) return;
    const deadline = this.#clock.now() + RELEASE_PATIENCE_MS;
    this.#flushGuarded();
    try {
      const { neighbours, transmit } = this.#output;
      while (this.#working() && (neighbours.busy || transmit.waiting > 0 || this.#queue.txPending() > 0)) {
        if (this.#clock.now() >= deadline) return;
        await sleep(this.#clock, RETRY_MS);
        this.poll();
      }
    } catch (error) {
      // The device has ended meanwhile: the lease runs out by itself.
      if (!isRing3Error(error)) throw error;
    }
  }
}
