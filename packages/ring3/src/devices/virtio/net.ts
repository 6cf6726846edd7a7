// A virtio network device: virtio 1.3, section 5.1. Frames are copied once on their way, out of the guest's memory before
// they are looked at, since a driver may change them meanwhile. Hard about it: receiving starts at the link and not at a
// notification, and one frame may take several buffers, which the driver has to see all at once.
import {
  ETHERNET_HEADER_BYTES,
  MAC_BYTES,
  macAt,
  macText,
  putMac,
  VLAN_TAG_BYTES,
} from "../../specs/ethernet/index.ts";
import { type FeatureSet, NET_FEATURE_NEEDS, NetFeature } from "../../specs/virtio/features.ts";
import {
  NetConfig,
  NetControl,
  NetControlAck,
  NetControlAnnounce,
  NetControlMac,
  NetControlMq,
  NetGso,
  NetHeader,
  NetHeaderFlag,
  NetStatus,
} from "../../specs/virtio/structs.ts";
import type { StateFields, StateRecord } from "../../virtual/index.ts";
import { DescriptorChain, ringViolation } from "./descriptor-chain.ts";
import { checksumIsRight, completeChecksum } from "./net-checksum.ts";
import {
  checkNetOptions,
  DEFAULT_MTU,
  netConfiguration,
  netModel,
  parseMac,
  randomMac,
  type VirtioNetOptions,
} from "./net-configuration.ts";
import { ReceiveFilter } from "./net-filter.ts";
import type { NetLink, NetReceiver } from "./net-link.ts";
import { FlowSteering } from "./net-steering.ts";
import type { QueueRegisters } from "./queue-registers.ts";
import { VirtioFunction } from "./transport.ts";

export type { VirtioNetOptions } from "./net-configuration.ts";

/** What went through a device. */
export interface VirtioNetStatistics {
  readonly receivedFrames: number;
  readonly receivedBytes: number;
  readonly sentFrames: number;
  readonly sentBytes: number;
  /** Frames that the filter kept away. */
  readonly filtered: number;
  /** Frames lost because the driver gave no buffers, or the device was not running. */
  readonly receiveDropped: number;
  /** Frames of the driver that the link did not take. */
  readonly sendDropped: number;
  /** Frames, in both directions, too short or too long, or with a header that says nonsense. */
  readonly malformed: number;
}

const HEADER_BYTES: number = NetHeader.size;
/** No command of the control queue is longer. */
const MAXIMUM_COMMAND_BYTES = 64 * 1024;

/**
 * A network interface.
 *
 * @example
 * import { EthernetSwitch, VirtioNet } from "ring3/devices/virtio";
 * const cables = new EthernetSwitch();
 * const nic = new VirtioNet({ link: cables.port("guest"), mac: "52:54:00:00:00:01" });
 */
export class VirtioNet extends VirtioFunction {
  readonly #filter: ReceiveFilter = new ReceiveFilter();
  readonly #steering: FlowSteering = new FlowSteering();
  readonly #mac: number;
  readonly #maximumFrame: number;
  readonly #maximumPairs: number;
  readonly #backlogLimit: number;
  /** Frames that wait for buffers, by pair. */
  readonly #backlogs: Uint8Array[][];
  readonly #chain: DescriptorChain = new DescriptorChain();
  /** Buffers that one frame takes. */
  readonly #chains: DescriptorChain[] = [];
  readonly #frame: Uint8Array;
  readonly #sendHeader: Uint8Array = new Uint8Array(HEADER_BYTES);
  readonly #receiveHeader: Uint8Array = new Uint8Array(HEADER_BYTES);
  readonly #acknowledge: Uint8Array = new Uint8Array(1);
  readonly #counts = {
    receivedFrames: 0,
    receivedBytes: 0,
    sentFrames: 0,
    sentBytes: 0,
    filtered: 0,
    receiveDropped: 0,
    sendDropped: 0,
    malformed: 0,
  };
  #link: NetLink | undefined;
  #mergeable = false;
  #checksReceived = false;
  #extraModes = false;
  #pairs = 1;
  #controlIndex = -1;

  /** Throws `VIRTIO_OPTION` for what no device can be. */
  constructor(options: VirtioNetOptions = {}) {
    checkNetOptions(options);
    const { queuePairs = 1, mtu = DEFAULT_MTU, mac } = options;
    const address = mac === undefined ? randomMac() : parseMac(mac);
    super(netModel(options), options);
    this.#mac = address;
    this.#maximumPairs = queuePairs;
    this.#maximumFrame = mtu + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES;
    this.#frame = new Uint8Array(this.#maximumFrame);
    this.#backlogLimit = options.backlogFrames ?? 256;
    this.#backlogs = Array.from({ length: queuePairs }, () => []);
    this.deviceConfig.set(netConfiguration(options));
    this.#setMac(address);
    this.plug(options.link);
  }

  get statistics(): VirtioNetStatistics {
    return { ...this.#counts };
  }

  /** The present address: the driver may have changed it. */
  get mac(): string {
    return macText(this.#filter.mac);
  }

  /** Plugs the device into another link; `undefined` pulls the cable. */
  plug(link: NetLink | undefined): void {
    this.#link?.attach(undefined);
    this.#link = link;
    const receiver: NetReceiver = {
      receive: (frame) => this.#receive(frame),
      linkChanged: (up) => this.#setLink(up),
      writable: () => this.#sendLater(),
    };
    link?.attach(receiver);
    this.#setLink(link?.up ?? false);
    // What waited for the former link to be free.
    this.#sendLater();
  }

  #sendLater(): void {
    for (let pair = 0; pair < this.#pairs; pair++) {
      const queue = this.#queue(2 * pair + 1);
      if (queue.enabled) this.serveLater(queue);
    }
  }

  /** Asks the driver to make itself known in the network, as after a migration (section 5.1.6.5.4). */
  announce(): void {
    if (this.negotiated.has(NetFeature.GUEST_ANNOUNCE)) this.#setStatus(this.#status | NetStatus.ANNOUNCE);
  }

  // ---- configuration

  get #status(): number {
    return this.deviceConfig[NetConfig.offsets.status] as number;
  }

  #setStatus(status: number): void {
    if (status === this.#status) return;
    this.deviceConfig[NetConfig.offsets.status] = status;
    this.configChanged();
  }

  #setLink(up: boolean): void {
    this.#setStatus(up ? this.#status | NetStatus.LINK_UP : this.#status & ~NetStatus.LINK_UP);
  }

  #setMac(mac: number): void {
    this.#filter.mac = mac;
    putMac(this.deviceConfig, NetConfig.offsets.mac, mac);
  }

  protected override acceptsFeatures(features: FeatureSet): boolean {
    return NET_FEATURE_NEEDS.every(
      ([feature, oneOf]) => !features.has(feature) || oneOf.some((need) => features.has(need)),
    );
  }

  protected override featuresChosen(): void {
    const { negotiated } = this;
    this.#mergeable = negotiated.has(NetFeature.MRG_RXBUF);
    this.#checksReceived = negotiated.has(NetFeature.GUEST_CSUM);
    this.#extraModes = negotiated.has(NetFeature.CTRL_RX_EXTRA);
    this.#filter.filtersVlans = negotiated.has(NetFeature.CTRL_VLAN);
    // The control queue follows the queues that the driver knows of, section 5.1.2.
    const pairs = negotiated.has(NetFeature.MQ) ? this.#maximumPairs : 1;
    this.#controlIndex = negotiated.has(NetFeature.CTRL_VQ) ? 2 * pairs : -1;
  }

  // ---- queues

  #queue(index: number): QueueRegisters {
    return this.queues[index] as QueueRegisters;
  }

  protected override notified(queue: QueueRegisters): void {
    const { index } = queue;
    if (index === this.#controlIndex) this.serve(queue);
    else if (index >= 2 * this.#pairs) return;
    else if (index % 2 === 1) this.serve(queue);
    else this.guarded(() => this.#serveBacklog(queue));
  }

  protected override stalled(queue: QueueRegisters): boolean {
    return queue.index !== this.#controlIndex && this.#link?.congested === true;
  }

  protected override serveOne(queue: QueueRegisters): number {
    if (this.stalled(queue)) return 0;
    const chain = this.#chain;
    if (queue.ring?.pop(chain) !== true) return 0;
    if (queue.index === this.#controlIndex) {
      queue.ring.use(chain.head, chain.span, this.#control(chain));
      return 1;
    }
    this.#send(chain, queue.index >> 1);
    queue.ring.use(chain.head, chain.span, 0);
    return 1;
  }

  // ---- sending

  #send(chain: DescriptorChain, pair: number): void {
    const length = chain.readableBytes - HEADER_BYTES;
    if (length < ETHERNET_HEADER_BYTES || length > this.#maximumFrame) {
      this.#counts.malformed++;
      return;
    }
    const header = this.#sendHeader;
    const frame = this.#frame.subarray(0, length);
    chain.readInto(this.memory, 0, header);
    chain.readInto(this.memory, HEADER_BYTES, frame);
    if (!this.#finishFrame(header, frame)) {
      this.#counts.malformed++;
      return;
    }
    if (this.#pairs > 1) this.#steering.learn(frame, pair);
    this.#counts.sentFrames++;
    this.#counts.sentBytes += length;
    if (this.#link?.send(frame) !== true) this.#counts.sendDropped++;
  }

  /** Does what the header leaves to the device: the checksum. No segmentation was offered. */
  #finishFrame(header: Uint8Array, frame: Uint8Array): boolean {
    if (header[NetHeader.offsets.gso_type] !== NetGso.NONE) return false;
    const needsChecksum = ((header[NetHeader.offsets.flags] as number) & NetHeaderFlag.NEEDS_CSUM) !== 0;
    if (!needsChecksum || !this.negotiated.has(NetFeature.CSUM)) return true;
    return completeChecksum(
      frame,
      half(header, NetHeader.offsets.csum_start),
      half(header, NetHeader.offsets.csum_offset),
    );
  }

  // ---- receiving

  #receive(frame: Uint8Array): boolean {
    if (frame.length < ETHERNET_HEADER_BYTES || frame.length > this.#maximumFrame) {
      this.#counts.malformed++;
      return false;
    }
    if (!this.answering) {
      this.#counts.receiveDropped++;
      return false;
    }
    if (!this.#filter.accepts(frame)) {
      this.#counts.filtered++;
      // It was delivered: that nobody wants it here is no loss.
      return true;
    }
    let taken = false;
    const { busy } = this;
    this.guarded(() => {
      const queue = this.#receiveQueue(frame);
      if (queue === undefined) return;
      const backlog = this.#backlogs[queue.index >> 1] as Uint8Array[];
      if (backlog.length === 0 && !busy && this.running && this.#put(queue, frame)) {
        this.publish(queue);
        taken = true;
      } else if (backlog.length < this.#backlogLimit) {
        backlog.push(new Uint8Array(frame));
        taken = true;
        if (busy) this.serveLater(queue);
      }
    });
    if (!taken) this.#counts.receiveDropped++;
    return taken;
  }

  /** The queue of the frame's flow, or another one where that is being reset. */
  #receiveQueue(frame: Uint8Array): QueueRegisters | undefined {
    const chosen = this.#queue(2 * this.#steering.choose(frame, this.#pairs));
    if (chosen.enabled) return chosen;
    for (let pair = 0; pair < this.#pairs; pair++) {
      const queue = this.#queue(2 * pair);
      if (queue.enabled) return queue;
    }
    return undefined;
  }

  /** Delivers what waits, as long as there are buffers. */
  #serveBacklog(queue: QueueRegisters): void {
    const backlog = this.#backlogs[queue.index >> 1] as Uint8Array[];
    let count = 0;
    while (count < backlog.length && this.#put(queue, backlog[count] as Uint8Array)) count++;
    if (count === 0) return;
    backlog.splice(0, count);
    this.publish(queue);
  }

  /**
   * Puts a frame into one buffer, or into several where the driver merges them; `false` where too few are there. A frame
   * that can never fit is dropped.
   */
  #put(queue: QueueRegisters, frame: Uint8Array): boolean {
    const { ring } = queue;
    if (ring === undefined) return false;
    const total = HEADER_BYTES + frame.length;
    const start = ring.position;
    let capacity = 0;
    let count = 0;
    let tries = 0;
    while (capacity < total) {
      const chain = (this.#chains[count] ??= new DescriptorChain());
      if (!ring.pop(chain)) {
        // Asked for here, behind the last buffer: a driver that adds to too few of them notifies too.
        if (tries++ < ring.size && ring.rearm()) continue;
        ring.rewind(start);
        return count >= ring.size ? this.#tooLong() : false;
      }
      if (chain.writableBytes < (count === 0 ? HEADER_BYTES : 1)) {
        throw ringViolation(`a receive buffer has ${chain.writableBytes} bytes to write to`);
      }
      capacity += chain.writableBytes;
      count++;
      if (!this.#mergeable && capacity < total) {
        // Without merging a buffer takes a whole frame; the next one may have a smaller frame to take.
        ring.rewind(start);
        return this.#tooLong();
      }
    }
    this.#fill(ring, frame, count);
    this.#counts.receivedFrames++;
    this.#counts.receivedBytes += frame.length;
    return true;
  }

  #fill(ring: NonNullable<QueueRegisters["ring"]>, frame: Uint8Array, count: number): void {
    const header = this.#receiveHeader;
    const checked = this.#checksReceived && checksumIsRight(frame);
    header[NetHeader.offsets.flags] = checked ? NetHeaderFlag.DATA_VALID : 0;
    header[NetHeader.offsets.num_buffers] = count & 0xff;
    header[NetHeader.offsets.num_buffers + 1] = count >>> 8;
    let done = 0;
    for (let i = 0; i < count; i++) {
      const chain = this.#chains[i] as DescriptorChain;
      const skip = i === 0 ? HEADER_BYTES : 0;
      const part = Math.min(chain.writableBytes - skip, frame.length - done);
      if (i === 0) chain.writeFrom(this.memory, 0, header);
      if (part > 0) {
        const whole = part === frame.length;
        chain.writeFrom(this.memory, skip, whole ? frame : frame.subarray(done, done + part));
      }
      done += part;
      ring.use(chain.head, chain.span, skip + part);
    }
  }

  #tooLong(): boolean {
    this.#counts.malformed++;
    return true;
  }

  // ---- the control queue

  /** Does a command, and answers it in the last byte; how many bytes were written. */
  #control(chain: DescriptorChain): number {
    const length = chain.readableBytes;
    if (length < 2 || chain.writableBytes < 1) {
      throw ringViolation(`a control command has ${length} readable and ${chain.writableBytes} writable bytes`);
    }
    let done = false;
    if (length <= MAXIMUM_COMMAND_BYTES) {
      const bytes = new Uint8Array(length);
      chain.readInto(this.memory, 0, bytes);
      done = this.#command(bytes[0] as number, bytes[1] as number, bytes.subarray(2));
    }
    this.#acknowledge[0] = done ? NetControlAck.OK : NetControlAck.ERROR;
    chain.writeFrom(this.memory, 0, this.#acknowledge);
    return 1;
  }

  #command(kind: number, command: number, data: Uint8Array): boolean {
    const { negotiated } = this;
    switch (kind) {
      case NetControl.RX:
        return negotiated.has(NetFeature.CTRL_RX) && this.#filter.control(kind, command, data, this.#extraModes);
      case NetControl.MAC:
        if (command !== NetControlMac.ADDR_SET) {
          return negotiated.has(NetFeature.CTRL_RX) && this.#filter.control(kind, command, data, false);
        }
        if (!negotiated.has(NetFeature.CTRL_MAC_ADDR) || data.length !== MAC_BYTES) return false;
        this.#setMac(macAt(data, 0));
        return true;
      case NetControl.VLAN:
        return negotiated.has(NetFeature.CTRL_VLAN) && this.#filter.control(kind, command, data, false);
      case NetControl.ANNOUNCE:
        if (!negotiated.has(NetFeature.GUEST_ANNOUNCE) || command !== NetControlAnnounce.ACK) return false;
        // Without an interrupt: the driver knows what it asked for.
        this.deviceConfig[NetConfig.offsets.status] = this.#status & ~NetStatus.ANNOUNCE;
        return true;
      case NetControl.MQ:
        return negotiated.has(NetFeature.MQ) && command === NetControlMq.VQ_PAIRS_SET && this.#setPairs(data);
    }
    return false;
  }

  #setPairs(data: Uint8Array): boolean {
    const pairs = data.length === 2 ? half(data, 0) : 0;
    if (pairs < 1 || pairs > this.#maximumPairs) return false;
    const before = this.#pairs;
    this.#pairs = pairs;
    for (let pair = pairs; pair < before; pair++) this.#dropBacklog(pair);
    for (let pair = before; pair < pairs; pair++) this.serveLater(this.#queue(2 * pair + 1));
    return true;
  }

  #dropBacklog(pair: number): void {
    const backlog = this.#backlogs[pair] as Uint8Array[];
    this.#counts.receiveDropped += backlog.length;
    backlog.length = 0;
  }

  // ---- reset, state

  protected override deviceReset(): void {
    this.#filter.reset();
    this.#steering.reset();
    for (let pair = 0; pair < this.#maximumPairs; pair++) this.#dropBacklog(pair);
    this.#pairs = 1;
    this.#controlIndex = -1;
    this.#mergeable = false;
    this.#checksReceived = false;
    this.#setMac(this.#mac);
    this.deviceConfig[NetConfig.offsets.status] = this.#status & NetStatus.LINK_UP;
  }

  protected override queueReset(queue: QueueRegisters): void {
    if (queue.index % 2 === 0 && queue.index < 2 * this.#maximumPairs) this.#dropBacklog(queue.index >> 1);
  }

  protected override saveModel(): StateRecord {
    return { pairs: this.#pairs, filter: this.#filter.save() };
  }

  protected override restoreModel(fields: StateFields): void {
    const pairs = fields.number("pairs", { minimum: 1, maximum: this.#maximumPairs });
    this.#filter.restore(fields.record("filter"));
    this.featuresChosen();
    this.#pairs = pairs;
  }

  /** The cable at the new place decides whether there is a carrier. */
  protected override restored(): void {
    this.#setLink(this.#link?.up ?? false);
  }
}

function half(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
}
