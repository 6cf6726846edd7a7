// Which frames a network device passes on to its driver, as the control queue says: virtio 1.3, sections 5.1.6.5.1 to
// 5.1.6.5.3. A device begins promiscuous, as drivers without a control queue expect.
import {
  BROADCAST_MAC,
  ETHERNET_HEADER_BYTES,
  EtherType,
  MAC_BYTES,
  macAt,
  VLANS,
} from "../../specs/ethernet/index.ts";
import { NetControl, NetControlMac, NetControlRx, NetControlVlan } from "../../specs/virtio/structs.ts";
import type { StateFields, StateRecord } from "../../virtual/index.ts";

/** Addresses kept of each kind; a driver with more gets everything of that kind. */
const MAXIMUM_ADDRESSES = 256;
/** The switches of class RX, in the order of their commands. */
const MODES = ["promiscuous", "allMulticast", "allUnicast", "noMulticast", "noUnicast", "noBroadcast"] as const;
/** Commands of class RX that need CTRL_RX_EXTRA begin here. */
const FIRST_EXTRA: number = NetControlRx.ALLUNI;

interface AddressTable {
  readonly addresses: ReadonlySet<number>;
  readonly overflow: boolean;
}

const EMPTY: AddressTable = { addresses: new Set(), overflow: false };

export class ReceiveFilter {
  /** The device's own address. */
  mac = 0;
  /** Whether VLANs are filtered: CTRL_VLAN was negotiated. */
  filtersVlans = false;
  readonly #modes: boolean[] = MODES.map(() => false);
  readonly #vlans: Uint8Array = new Uint8Array(VLANS / 8);
  #unicast: AddressTable = EMPTY;
  #multicast: AddressTable = EMPTY;

  constructor() {
    this.reset();
  }

  reset(): void {
    this.#modes.fill(false);
    this.#modes[NetControlRx.PROMISC] = true;
    this.#vlans.fill(0);
    this.#unicast = EMPTY;
    this.#multicast = EMPTY;
    this.filtersVlans = false;
  }

  accepts(frame: Uint8Array): boolean {
    const modes = this.#modes;
    if (modes[NetControlRx.PROMISC]) return true;
    if (this.filtersVlans && !this.#vlanPasses(frame)) return false;
    const destination = macAt(frame, 0);
    if (destination === BROADCAST_MAC) return !modes[NetControlRx.NOBCAST];
    if (((frame[0] as number) & 1) === 1) {
      if (modes[NetControlRx.NOMULTI]) return false;
      if (modes[NetControlRx.ALLMULTI] || this.#multicast.overflow) return true;
      return this.#multicast.addresses.has(destination);
    }
    if (modes[NetControlRx.NOUNI]) return false;
    if (modes[NetControlRx.ALLUNI] || this.#unicast.overflow || destination === this.mac) return true;
    return this.#unicast.addresses.has(destination);
  }

  /** VLAN 0 is no VLAN but a priority (IEEE 802.1Q, table 9-2). */
  #vlanPasses(frame: Uint8Array): boolean {
    if (frame.length < ETHERNET_HEADER_BYTES + 2) return true;
    const type = ((frame[12] as number) << 8) | (frame[13] as number);
    if (type !== EtherType.VLAN) return true;
    const vlan = (((frame[14] as number) << 8) | (frame[15] as number)) & 0xfff;
    return vlan === 0 || ((this.#vlans[vlan >> 3] as number) & (1 << (vlan & 7))) !== 0;
  }

  /** Does a command of class RX, MAC (TABLE_SET) or VLAN; `false` where it is none or malformed. */
  control(kind: number, command: number, data: Uint8Array, extra: boolean): boolean {
    switch (kind) {
      case NetControl.RX:
        if (command >= MODES.length || (command >= FIRST_EXTRA && !extra) || data.length !== 1) return false;
        this.#modes[command] = data[0] !== 0;
        return true;
      case NetControl.MAC:
        return command === NetControlMac.TABLE_SET && this.#setTables(data);
      case NetControl.VLAN: {
        if (command !== NetControlVlan.ADD && command !== NetControlVlan.DEL) return false;
        if (data.length !== 2) return false;
        const vlan = (data[0] as number) | ((data[1] as number) << 8);
        if (vlan >= VLANS) return false;
        const bit = 1 << (vlan & 7);
        const byte = this.#vlans[vlan >> 3] as number;
        this.#vlans[vlan >> 3] = command === NetControlVlan.ADD ? byte | bit : byte & ~bit;
        return true;
      }
    }
    return false;
  }

  /** Unicast addresses, then multicast ones, each with their count before them. */
  #setTables(data: Uint8Array): boolean {
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    let at = 0;
    const take = (): AddressTable | undefined => {
      if (at + 4 > data.length) return undefined;
      const count = view.getUint32(at, true);
      at += 4;
      if (count * MAC_BYTES > data.length - at) return undefined;
      const addresses = new Set<number>();
      for (let i = 0; i < Math.min(count, MAXIMUM_ADDRESSES); i++) addresses.add(macAt(data, at + MAC_BYTES * i));
      at += count * MAC_BYTES;
      return { addresses, overflow: count > MAXIMUM_ADDRESSES };
    };
    const unicast = take();
    const multicast = unicast === undefined ? undefined : take();
    if (unicast === undefined || multicast === undefined || at !== data.length) return false;
    this.#unicast = unicast;
    this.#multicast = multicast;
    return true;
  }

  save(): StateRecord {
    return {
      mac: this.mac,
      filtersVlans: this.filtersVlans,
      modes: this.#modes.slice(),
      vlans: this.#vlans.slice(),
      unicast: [...this.#unicast.addresses],
      multicast: [...this.#multicast.addresses],
      unicastOverflow: this.#unicast.overflow,
      multicastOverflow: this.#multicast.overflow,
    };
  }

  /** Throws `STATE_INVALID`, with nothing changed. */
  restore(fields: StateFields): void {
    const mac = fields.number("mac", { maximum: BROADCAST_MAC });
    const filtersVlans = fields.boolean("filtersVlans");
    const modes = fields.list("modes", MODES.length);
    const vlans = fields.bytes("vlans", this.#vlans.length);
    const table = (name: "unicast" | "multicast"): AddressTable => ({
      addresses: new Set(fields.numbers(name, BROADCAST_MAC, MAXIMUM_ADDRESSES)),
      overflow: fields.boolean(`${name}Overflow`),
    });
    const [unicast, multicast] = [table("unicast"), table("multicast")];
    this.mac = mac;
    this.filtersVlans = filtersVlans;
    for (let i = 0; i < MODES.length; i++) this.#modes[i] = modes[i] === true;
    this.#vlans.set(vlans);
    this.#unicast = unicast;
    this.#multicast = multicast;
  }
}
