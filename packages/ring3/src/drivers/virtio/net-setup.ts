// What a network device is to be, and telling it: features, configuration, filters by the control queue, active pairs. Virtio
// 1.3, sections 5.1.3 to 5.1.6. Everything here is said again after each reset.
import { Ring3Error } from "../../binary/error.ts";
import { MAC_BYTES } from "../../specs/ethernet/index.ts";
import { Feature, NetFeature } from "../../specs/virtio/features.ts";
import {
  NetConfig,
  NetControl,
  NetControlMac,
  NetControlMq,
  NetControlRx,
  NetControlVlan,
  NetStatus,
} from "../../specs/virtio/structs.ts";
import type { LinkState } from "../net/device.ts";
import { isStationMac, type NetSetup, randomMac } from "../net/setup.ts";
import { CONTROL_DATA_BYTES, type ControlQueue } from "./control-queue.ts";
import type { VirtioTransport } from "./transport.ts";

/** Groups that one command names; with more every group is received. */
const MAXIMUM_GROUPS: number = Math.floor((CONTROL_DATA_BYTES - 8) / MAC_BYTES);
const SPEED_UNKNOWN = 0xffff_ffff;

/** The features that this driver uses; VLANs are filtered only where the program names some, since none pass then. */
export function wantedFeatures(setup: NetSetup, packed: boolean): number[] {
  return [
    Feature.EVENT_IDX,
    ...(packed ? [Feature.RING_PACKED] : []),
    NetFeature.CSUM,
    NetFeature.GUEST_CSUM,
    NetFeature.MTU,
    NetFeature.MAC,
    NetFeature.MRG_RXBUF,
    NetFeature.STATUS,
    NetFeature.CTRL_VQ,
    NetFeature.CTRL_RX,
    NetFeature.CTRL_MAC_ADDR,
    NetFeature.MQ,
    NetFeature.SPEED_DUPLEX,
    ...(setup.vlans === undefined ? [] : [NetFeature.CTRL_VLAN]),
  ];
}

/** What the device says of itself. */
export class NetConfiguration {
  readonly #transport: VirtioTransport;

  constructor(transport: VirtioTransport) {
    this.#transport = transport;
  }

  #has(feature: number, offset: number, bytes: number): boolean {
    return this.#transport.negotiated.has(feature) && offset + bytes <= this.#transport.configSize;
  }

  /** The device's address, or a random one where it has none. */
  mac(): Uint8Array {
    if (this.#has(NetFeature.MAC, NetConfig.offsets.mac, MAC_BYTES)) {
      const mac = this.#transport.readConfig((registers) =>
        Uint8Array.from({ length: MAC_BYTES }, (_, i) => registers.read8(NetConfig.offsets.mac + i)),
      );
      if (isStationMac(mac)) return mac;
    }
    return randomMac();
  }

  /** Pairs of queues that the device has. */
  maxPairs(): number {
    const { max_virtqueue_pairs: offset } = NetConfig.offsets;
    if (!this.#has(NetFeature.MQ, offset, 2)) return 1;
    const pairs = this.#transport.readConfig((registers) => registers.read16(offset));
    if (pairs >= 1 && pairs <= 0x8000) return pairs;
    throw new Ring3Error("VIRTIO_PROTOCOL", `${this.#transport.address} says that it has ${pairs} pairs of queues`);
  }

  /** The largest MTU that the device's network takes; 65,535 where it does not say. */
  maxMtu(): number {
    const { mtu: offset } = NetConfig.offsets;
    if (!this.#has(NetFeature.MTU, offset, 2)) return 65_535;
    const mtu = this.#transport.readConfig((registers) => registers.read16(offset));
    return mtu >= 68 ? mtu : 1500;
  }

  link(): LinkState {
    const { status, speed, duplex } = NetConfig.offsets;
    const says = this.#has(NetFeature.STATUS, status, 2);
    const speaks = this.#has(NetFeature.SPEED_DUPLEX, speed, 5);
    return this.#transport.readConfig((registers) => {
      const up = !says || (registers.read16(status) & NetStatus.LINK_UP) !== 0;
      const mbps = speaks && up ? registers.read32(speed) : 0;
      const known = mbps !== SPEED_UNKNOWN && mbps <= 0x7fff_ffff;
      return { up, speedMbps: known ? mbps : 0, fullDuplex: up && (!speaks || registers.read8(duplex) !== 0) };
    });
  }
}

/** Speaks to the device by its control queue; `undefined` where it has none. */
export class NetFilters {
  readonly #transport: VirtioTransport;
  readonly #control: ControlQueue | undefined;

  constructor(transport: VirtioTransport, control: ControlQueue | undefined) {
    this.#transport = transport;
    this.#control = control;
  }

  /** Whether the device filters at all. */
  get filters(): boolean {
    return this.#control !== undefined && this.#transport.negotiated.has(NetFeature.CTRL_RX);
  }

  async apply(setup: NetSetup): Promise<void> {
    if (setup.mac !== undefined) await this.applyMac(setup.mac);
    await this.applyReceive(setup);
    for (const vlan of setup.vlans ?? []) await this.#vlan(NetControlVlan.ADD, vlan);
  }

  /** How many pairs are in use. */
  async applyPairs(pairs: number): Promise<void> {
    if (this.#control === undefined || !this.#transport.negotiated.has(NetFeature.MQ)) return;
    const done = await this.#control.command(
      NetControl.MQ,
      NetControlMq.VQ_PAIRS_SET,
      Uint8Array.of(pairs, pairs >>> 8),
    );
    if (!done) throw this.#refused(`does not use ${pairs} pairs of queues`);
  }

  async applyMac(mac: Uint8Array): Promise<void> {
    if (this.#control === undefined || !this.#transport.negotiated.has(NetFeature.CTRL_MAC_ADDR)) {
      throw new Ring3Error("NET_REFUSED", `${this.#transport.address} does not let its address be changed`);
    }
    if (!(await this.#control.command(NetControl.MAC, NetControlMac.ADDR_SET, mac))) {
      throw this.#refused("does not take the address");
    }
  }

  /** Promiscuous, all groups, and the groups one by one. */
  async applyReceive({ filter, multicast }: NetSetup): Promise<void> {
    if (!this.filters) {
      if (filter.promiscuous === false)
        throw new Ring3Error("NOT_SUPPORTED", `${this.#transport.address} cannot filter`);
      return;
    }
    await this.#receive(NetControlRx.PROMISC, filter.promiscuous === true);
    const tooMany = multicast.length > MAXIMUM_GROUPS;
    await this.#receive(NetControlRx.ALLMULTI, filter.allMulticast === true || tooMany);
    const groups = tooMany ? [] : multicast;
    const data = new Uint8Array(8 + MAC_BYTES * groups.length);
    new DataView(data.buffer).setUint32(4, groups.length, true);
    for (const [i, group] of groups.entries()) data.set(group, 8 + MAC_BYTES * i);
    if (!(await this.#control?.command(NetControl.MAC, NetControlMac.TABLE_SET, data))) {
      throw this.#refused("does not take its table of groups");
    }
  }

  async #receive(command: number, on: boolean): Promise<void> {
    if (!(await this.#control?.command(NetControl.RX, command, Uint8Array.of(on ? 1 : 0)))) {
      throw this.#refused(`does not switch receive mode ${command}`);
    }
  }

  /** From one list to another. */
  async changeVlans(before: readonly number[], after: readonly number[]): Promise<void> {
    for (const vlan of after) if (!before.includes(vlan)) await this.#vlan(NetControlVlan.ADD, vlan);
    for (const vlan of before) if (!after.includes(vlan)) await this.#vlan(NetControlVlan.DEL, vlan);
  }

  async #vlan(command: number, vlan: number): Promise<void> {
    if (this.#control === undefined || !this.#transport.negotiated.has(NetFeature.CTRL_VLAN)) {
      throw new Ring3Error("NOT_SUPPORTED", `${this.#transport.address} does not filter VLANs`);
    }
    if (!(await this.#control.command(NetControl.VLAN, command, Uint8Array.of(vlan, vlan >>> 8)))) {
      throw this.#refused(`does not change its filter for VLAN ${vlan}`);
    }
  }

  #refused(what: string): Ring3Error {
    return new Ring3Error("NET_REFUSED", `${this.#transport.address} ${what}`);
  }
}
