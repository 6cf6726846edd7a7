// A small IP stack over one queue of a network device: ARP, IPv4 with fragments, ICMP echo, UDP, IGMP and DHCP. No TCP, no
// forwarding, no IPv6. Hard about it: everything lives in the thread that owns the queue; what is sent while packets are
// handled goes out in one burst at the end.
import { Ring3Error } from "../../binary/error.ts";
import { type Clock, systemClock } from "../clock.ts";
import type { NetDevice, NetQueue } from "./device.ts";
import { AddressByDhcp, type StackDhcpOptions } from "./address-by-dhcp.ts";
import { DHCP_CLIENT_PORT } from "./dhcp-message.ts";
import { GroupMembership } from "./group-membership.ts";
import { echoRequest } from "./icmp.ts";
import { IgmpHost } from "./igmp.ts";
import { IpInput } from "./ip-input.ts";
import { type Configuration, IpOutput } from "./ip-output.ts";
import { IpProtocol } from "./ipv4.ts";
import { ANY_ADDRESS, ipv4, ipv4Text, parseNetwork } from "./ipv4-address.ts";
import { Pinger, type PingOptions, type PingReply } from "./pinger.ts";
import { Reassembler } from "./reassembly.ts";
import { StackLife } from "./stack-life.ts";
import { StackLoop } from "./stack-loop.ts";
import type { StackDevice } from "./stack-device.ts";
import type { PermanentNeighbour, StackConfiguration, StackOptions } from "./stack-options.ts";
import { StackCounts, type StackStatistics } from "./stack-statistics.ts";
import { TransmitTurns } from "./transmit-turns.ts";
import type { UdpBindOptions, UdpEndpoint } from "./udp-endpoint.ts";
import { UdpPorts } from "./udp-ports.ts";

const TICK_MS = 1000;

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
export class Stack<Device extends StackDevice = NetDevice> implements AsyncDisposable {
  readonly device: Device;
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
  readonly #counts: StackCounts = new StackCounts();
  readonly #life: StackLife;
  readonly #ports: UdpPorts;
  readonly #groups: GroupMembership;
  readonly #pinger: Pinger = new Pinger(Math.floor(Math.random() * 0x1_0000));
  readonly #reassembler: Reassembler;
  readonly #output: IpOutput;
  readonly #input: IpInput;
  readonly #turns: TransmitTurns;
  readonly #loop: StackLoop;
  readonly #removed: Disposable;
  #dhcp: AddressByDhcp | undefined;
  #running: Promise<void> = Promise.resolve();
  #ended: Promise<void> | undefined;

  private constructor(device: Device, options: StackOptions) {
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
    this.#reassembler = new Reassembler(options.reassembly);
    // Nothing comes and nothing goes any more: whoever waits hears why.
    this.#life = new StackLife(device, (error) => {
      this.#pinger.failAll(error);
      this.#output.neighbours.failAll(error);
      this.#ports.fail(error);
      this.#dhcp?.fail(error);
    });
    this.#output = new IpOutput({
      queue,
      counts: this.#counts,
      now: () => this.#clock.now(),
      mac: device.mac.slice(),
      mtu: device.mtu,
      vlan: vlan ?? -1,
      udpChecksum: device.capabilities.l4Checksum && options.checksumOffload !== false,
      neighbours: options.neighbours ?? {},
      arp: options.arp !== false,
      unreachable: (address) => {
        this.#pinger.failAll(new Ring3Error("NET_UNREACHABLE", `nobody answers for ${ipv4Text(address)}`), address);
      },
    });
    this.#turns = new TransmitTurns(this.#output.transmit, this.#clock, this.#life);
    this.#ports = new UdpPorts((bytes, at, length, sourcePort, destination, destinationPort) => {
      this.#life.check();
      const sent = this.#output.udp(bytes, at, length, sourcePort, destination, destinationPort);
      this.#turns.later();
      return sent;
    }, device.ephemeralPorts);
    for (const { address, mac } of options.permanentNeighbours ?? []) this.#output.neighbours.add(ipv4(address), mac);
    const igmp = new IgmpHost();
    this.#groups = new GroupMembership(igmp, device, this.#output);
    this.#input = new IpInput({
      bytes: queue.pool.bytes,
      counts: this.#counts,
      output: this.#output,
      ports: this.#ports,
      groups: igmp,
      pinger: this.#pinger,
      reassembler: this.#reassembler,
      mac: device.mac.slice(),
      vlan: vlan ?? -1,
      arp: options.arp !== false,
      answerEcho: options.answerEcho !== false,
    });
    this.#loop = new StackLoop({
      device,
      queue,
      input: this.#input,
      turns: this.#turns,
      life: this.#life,
      clock: this.#clock,
      due: (nowMs) => this.#due(nowMs),
    });
    this.udp = {
      bind: (port, bindOptions = {}) => {
        this.#life.check();
        return this.#ports.bind(port, bindOptions);
      },
    };
    this.#removed = device.events.on("removed", () => this.#life.hearEnd());
  }

  /**
   * Starts a stack on the device, which stays the caller's. Rejects with `ADDRESS_INVALID`, `NET_INVALID`, `NET_NO_QUEUE`, the
   * end of the device, and `DHCP_NO_LEASE` where DHCP was asked for and nobody answered in time.
   */
  static async start<Device extends StackDevice = NetDevice>(
    device: Device,
    options: StackOptions = {},
  ): Promise<Stack<Device>> {
    const stack = new Stack(device, options);
    try {
      if (options.vlan !== undefined && device.capabilities.vlanFilter) await device.setVlans([options.vlan]);
      if (options.address !== undefined) stack.configure(options.address, options.gateway);
      if (options.drive !== false) stack.#running = stack.#loop.run();
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
    return this.#life.failure;
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

  /**
   * The next station on the way to `address`, itself or the gateway, asked for by ARP where it is not known. Rejects with
   * `NET_UNREACHABLE`, `ADDRESS_INVALID`, {@link Stack.failure}.
   */
  async resolve(address: string): Promise<PermanentNeighbour> {
    const next = this.#output.nextHop(ipv4(address));
    this.#life.check();
    if (next === ANY_ADDRESS) throw new Ring3Error("NET_UNREACHABLE", `there is no way to ${address}`);
    const asking = this.#output.neighbours.resolve(next, this.#clock.now());
    this.#turns.later();
    const mac = await asking;
    if (mac === undefined) throw new Ring3Error("NET_UNREACHABLE", `nobody answers for ${ipv4Text(next)}`);
    return { address: ipv4Text(next), mac };
  }

  /** Takes an address, as `192.0.2.1/24`, and tells the network. Throws `ADDRESS_INVALID`, {@link Stack.failure}. */
  configure(network: string, gateway?: string): void {
    this.#life.check();
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
    this.#turns.later();
  }

  /**
   * Sends an echo request and waits for its reply. Rejects with `TIMEOUT`, `NET_UNREACHABLE`, `ADDRESS_INVALID`, and
   * {@link Stack.failure}.
   */
  async ping(address: string, options: PingOptions = {}): Promise<PingReply> {
    const destination = ipv4(address);
    this.#life.check();
    return await this.#pinger.ping(destination, options, this.#clock, (sequence, payload) => {
      const message = echoRequest(this.#pinger.identifier, sequence, payload);
      const sent = this.#output.datagram(message, message.length, { protocol: IpProtocol.ICMP, destination });
      if (!sent) this.#pinger.failed(sequence, destination, "no route, or no room in the ring");
      this.#turns.later();
    });
  }

  /** Receives what is sent to a group, and says so by IGMP. Rejects with `NET_INVALID`, {@link Stack.failure}. */
  async join(group: string): Promise<void> {
    this.#life.check();
    await this.#groups.join(group, this.#clock.now());
    this.#reportGroups();
  }

  /** Leaves a group as often as it was joined. */
  async leave(group: string): Promise<void> {
    this.#life.check();
    if (await this.#groups.leave(group, this.#clock.now())) this.#reportGroups();
  }

  #reportGroups(): void {
    this.#loop.tick();
    this.#turns.later();
  }

  /**
   * Handles one burst of received packets and what time has brought; returns how many packets there were. For programs that
   * drive the stack themselves (`drive: false`). Throws {@link Stack.failure}.
   */
  poll(): number {
    return this.#loop.poll();
  }

  /** What time has brought: neighbours that do not answer, reports, leases. */
  #due(nowMs: number): number {
    this.#output.neighbours.tick(nowMs);
    this.#reassembler.expire(nowMs);
    this.#groups.tick(nowMs);
    this.#dhcp?.tick(nowMs);
    return Math.min(nowMs + TICK_MS, this.#groups.dueMs, this.#dhcp?.dueMs ?? Number.POSITIVE_INFINITY);
  }

  async #startDhcp(options: StackDhcpOptions): Promise<void> {
    const dhcp = new AddressByDhcp(
      {
        clock: this.#clock,
        mac: this.device.mac.slice(),
        output: this.#output,
        input: this.#input,
        counts: this.#counts,
        closing: this.#life.closing,
        working: () => this.#life.working,
        configure: (configuration) => this.#configure(configuration),
        flushLater: () => this.#turns.later(),
        flush: () => this.#turns.now(),
        poll: () => this.poll(),
        sending: () => {
          const { neighbours, transmit } = this.#output;
          return neighbours.busy || transmit.waiting > 0 || this.#queue.txPending() > 0;
        },
        tickSoon: () => this.#loop.tickSoon(),
      },
      options,
    );
    this.#dhcp = dhcp;
    this.#ports.bind(DHCP_CLIENT_PORT, { listener: (bytes, at, length) => dhcp.receive(bytes.slice(at, at + length)) });
    this.#loop.tick();
    this.#turns.later();
    await dhcp.configured();
  }

  /** Gives a lease back, closes every endpoint, and lets go of the queue. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#ended ??= this.#finish();
    return this.#ended;
  }

  async #finish(): Promise<void> {
    if (this.#life.working) await this.#dhcp?.giveBack();
    const closed = this.#life.close();
    this.#removed[Symbol.dispose]();
    await this.#running;
    this.#ports.close();
    this.#pinger.failAll(closed);
    this.#output.neighbours.failAll(closed);
    this.#dhcp?.fail(closed);
    this.#output[Symbol.dispose]();
    this.#loop[Symbol.dispose]();
  }
}
