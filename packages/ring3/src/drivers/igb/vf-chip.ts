// The virtual function of the 82576: queues, interrupts and counters of its own; everything else it asks of the physical
// function. 82576 section 7.10.2 and 8.26. Hard about it: the physical function may be reset at any time, and takes all of
// this function's settings with it.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import type { Registers } from "../../memory/registers.ts";
import type { PciFunction } from "../../pci/function.ts";
import { Ctrl, multicastBit, QueueRegister } from "../../specs/gigabit/registers.ts";
import { MAILBOX_MULTICAST, MailboxMessage } from "../../specs/igb/mailbox.ts";
import { IGB_IVAR_VALID, IGB_VF_QUEUES, IGB_VF_VECTORS, IgbVf, IgbVfStatistics } from "../../specs/igb/registers.ts";
import { type Clock, sleep } from "../clock.ts";
import type { Chip, ChipInterrupts, ChipSetup, Health, RingAddresses } from "../gigabit/chip.ts";
import { GigabitMac, queueBases } from "../gigabit/mac.ts";
import type { LinkState, NetStatistics } from "../net/device.ts";
import { enableIgbQueue, IGB_OVERHEAD_BYTES } from "./chip.ts";
import { isStationMac, randomMac } from "../net/setup.ts";
import { Mailbox, macWords } from "./mailbox.ts";

const LARGEST_FRAME = 9216;
const PARENT_TIMEOUT_MS = 10_000;
const ALL_VECTORS = 7;
const { INFO_SHIFT } = MailboxMessage;

export class IgbVfChip implements Chip {
  readonly driver: string = "igbvf";
  readonly format = "igb";
  readonly registers: Registers;
  readonly maxQueues: number = IGB_VF_QUEUES;
  readonly steers: boolean = false;
  readonly patient: boolean = true;
  readonly capabilities = {
    receiveChecksums: true,
    ipv4Checksum: true,
    l4Checksum: true,
    vlanOffload: true,
    vlanFilter: true,
    promiscuous: false,
  } as const;
  readonly #fn: PciFunction;
  readonly #clock: Clock;
  readonly #mac: GigabitMac;
  readonly #mailbox: Mailbox;
  readonly #counters: Map<string, { last: number; sum: number }> = new Map();
  /** A random address, administered locally, for as long as the driver runs. */
  readonly #chosen: Uint8Array = randomMac();
  #address: Uint8Array = this.#chosen;
  #vlans: readonly number[] = [];
  #lost = false;
  #interrupts: ChipInterrupts | undefined;

  constructor(fn: PciFunction, clock: Clock) {
    this.#fn = fn;
    this.#clock = clock;
    this.registers = fn.bar(0).registers();
    this.#mac = new GigabitMac(fn, this.registers, clock);
    this.#mailbox = new Mailbox(fn, this.registers, clock);
  }

  maxMtu(room: number): number {
    return Math.min(LARGEST_FRAME, room) - IGB_OVERHEAD_BYTES;
  }

  get mac(): Uint8Array {
    return this.#address;
  }

  /** Resets queues and interrupts, then says so to the physical function, which answers with the MAC address. */
  async reset(): Promise<void> {
    const { registers } = this;
    registers.write32(IgbVf.VTEIMC, ALL_VECTORS);
    registers.write32(IgbVf.VTCTRL, Ctrl.RST.mask);
    await sleep(this.#clock, 1, this.#fn.gone);
    await this.#mailbox.awaitParent(PARENT_TIMEOUT_MS);
    const answer = await this.#mailbox.ask("be reset", [MailboxMessage.RESET]);
    const [, low = 0, high = 0] = answer ?? [];
    const given = Uint8Array.from([low, low >>> 8, low >>> 16, low >>> 24, high, high >>> 8]);
    // Where nobody has chosen an address it is ours to choose, as the kernel's drivers do.
    if (answer === undefined || !isStationMac(given)) await this.applyMac(this.#chosen);
    else this.#address = given;
    this.#lost = false;
    this.#vlans = [];
    this.#readCounters();
  }

  async start(setup: ChipSetup, interrupts: ChipInterrupts): Promise<void> {
    this.#interrupts = interrupts;
    if (setup.mac !== undefined) await this.#keepMac(setup);
    await this.applyMtu(setup.mtu);
    if (setup.multicast.length > 0 || setup.filter.allMulticast === true) await this.applyMulticast(setup);
    if (setup.vlans !== undefined) await this.applyVlans(setup);
    this.registers.write32(IgbVf.PSRTYPE, 0);
    this.#setInterrupts(interrupts);
  }

  /** Asks for the program's MAC address again; where it is refused by now, the physical function's choice holds. */
  async #keepMac(setup: ChipSetup): Promise<void> {
    try {
      await this.applyMac(setup.mac as Uint8Array);
    } catch (error) {
      if (!isRing3Error(error, "NET_REFUSED")) throw error;
      setup.mac = undefined;
    }
  }

  #setInterrupts(interrupts: ChipInterrupts): void {
    const { kind, otherVector } = interrupts;
    if (kind !== "msix") return;
    const { registers } = this;
    let entries = 0;
    for (let queue = 0; queue < IGB_VF_QUEUES; queue++) {
      const vector = interrupts.vectorOf(queue);
      if (vector !== undefined) entries |= (IGB_IVAR_VALID | vector) << (16 * queue);
    }
    registers.write32(IgbVf.VTIVAR, entries >>> 0);
    registers.write32(IgbVf.VTIVAR_MISC, IGB_IVAR_VALID | otherVector);
    for (let i = 0; i < IGB_VF_VECTORS; i++) registers.write32(IgbVf.EITR + 4 * i, 0);
    registers.write32(IgbVf.VTEIAC, ALL_VECTORS);
    registers.write32(IgbVf.VTEIAM, ALL_VECTORS);
    registers.write32(IgbVf.VTEIMS, 1 << otherVector);
  }

  tails(index: number): { readonly receive: number; readonly transmit: number } {
    const { receive, transmit } = queueBases(index);
    return { receive: receive + QueueRegister.TAIL, transmit: transmit + QueueRegister.TAIL };
  }

  async enableQueue(ring: RingAddresses, setup: ChipSetup): Promise<void> {
    await enableIgbQueue(this.#fn, this.#clock, this.#mac, ring, queueBases(ring.index), setup);
  }

  disableQueue(index: number): void {
    const { receive, transmit } = queueBases(index);
    this.registers.write32(receive + QueueRegister.DCTL, 0);
    this.registers.write32(transmit + QueueRegister.DCTL, 0);
  }

  stop(): void {
    this.registers.write32(IgbVf.VTEIMC, ALL_VECTORS);
    this.registers.write32(IgbVf.VTCTRL, Ctrl.RST.mask);
  }

  #vector(queue: number): number {
    return 1 << (this.#interrupts?.vectorOf(queue) ?? 0);
  }

  arm(queue: number): void {
    this.registers.write32(IgbVf.VTEICR, this.#vector(queue));
    this.registers.write32(IgbVf.VTEIMS, this.#vector(queue));
  }

  quiet(queue: number): void {
    this.registers.write32(IgbVf.VTEIMC, this.#vector(queue));
  }

  acknowledge(): { readonly receive: boolean } {
    if (this.#interrupts !== undefined) this.registers.write32(IgbVf.VTEIMS, 1 << this.#interrupts.otherVector);
    void this.#hear();
    return { receive: false };
  }

  /** What the physical function says by itself: where it does not know us any more, we start anew. */
  async #hear(): Promise<void> {
    try {
      if ((await this.#mailbox.unsolicited()) === "lost") this.#lost = true;
    } catch {
      this.#lost = true;
    }
  }

  link(): LinkState {
    return this.#mac.link();
  }

  health(): Health {
    if (this.#mac.health() === "absent") return "absent";
    const { resetting, wasReset } = this.#mailbox.state();
    if (resetting || wasReset) this.#lost = true;
    void this.#hear();
    return this.#lost ? "reset" : "well";
  }

  async applyMac(mac: Uint8Array): Promise<void> {
    await this.#mailbox.request("have another MAC address", [MailboxMessage.SET_MAC, ...macWords(mac)]);
    this.#address = mac.slice();
  }

  async applyMtu(mtu: number): Promise<void> {
    // The physical function adds the room for a VLAN tag.
    const frame = mtu + IGB_OVERHEAD_BYTES - 4;
    await this.#mailbox.request(`receive frames of ${frame} bytes`, [MailboxMessage.SET_LPE, frame]);
  }

  /** Only all multicast frames can be asked for. */
  async applyFilter({ filter }: ChipSetup): Promise<void> {
    if (filter.promiscuous === true) {
      throw new Ring3Error(
        "NOT_SUPPORTED",
        "a virtual function of the 82576 receives what is for its own addresses only",
      );
    }
    const all = filter.allMulticast === true ? MailboxMessage.PROMISCUOUS_MULTICAST : 0;
    await this.#mailbox.request("receive all multicast frames", [MailboxMessage.SET_PROMISCUOUS | all]);
  }

  /** The physical function takes hashes; more than a message holds become all multicast frames. */
  async applyMulticast(setup: ChipSetup): Promise<void> {
    const { multicast, filter } = setup;
    const many = multicast.length > MAILBOX_MULTICAST;
    await this.applyFilter(many ? { ...setup, filter: { ...filter, allMulticast: true } } : setup);
    const hashes = multicast.slice(0, MAILBOX_MULTICAST).map((address) => {
      const { word, bit } = multicastBit(address);
      return word * 32 + bit;
    });
    const words = [MailboxMessage.SET_MULTICAST | (hashes.length << INFO_SHIFT)];
    for (let i = 0; i < hashes.length; i += 2) {
      words.push(((hashes[i] as number) | ((hashes[i + 1] ?? 0) << 16)) >>> 0);
    }
    await this.#mailbox.request("receive multicast addresses", words);
  }

  async applyVlans({ vlans = [] }: ChipSetup): Promise<void> {
    const set = async (id: number, on: number): Promise<void> => {
      const words = [MailboxMessage.SET_VLAN | (on << INFO_SHIFT), id];
      await this.#mailbox.request(`${on === 1 ? "receive" : "leave"} VLAN ${id}`, words);
    };
    for (const id of this.#vlans.filter((id) => !vlans.includes(id))) await set(id, 0);
    for (const id of vlans.filter((id) => !this.#vlans.includes(id))) await set(id, 1);
    this.#vlans = [...vlans];
  }

  /** Spreading is the physical function's to set up: without it the second queue only sends. */
  applySteering(): void {}

  /** The counters wrap at 32 bits and survive our resets. */
  #readCounters(): void {
    for (const [name, offset] of Object.entries(IgbVfStatistics)) {
      const now = this.registers.read32(offset);
      const counter = this.#counters.get(name) ?? { last: now, sum: 0 };
      this.#counters.set(name, { last: now, sum: counter.sum + ((now - counter.last) >>> 0) });
    }
  }

  statistics(): Omit<NetStatistics, "rx_dropped"> {
    this.#readCounters();
    const of = (name: keyof typeof IgbVfStatistics): number => this.#counters.get(name)?.sum ?? 0;
    return {
      rx_packets: of("VFGPRC"),
      tx_packets: of("VFGPTC"),
      rx_bytes: of("VFGORC"),
      tx_bytes: of("VFGOTC"),
      rx_errors: 0,
      tx_errors: 0,
      tx_dropped: 0,
      multicast: of("VFMPRC"),
      collisions: 0,
      rx_length_errors: 0,
      rx_crc_errors: 0,
      rx_missed_errors: 0,
      device: Object.fromEntries([...this.#counters].map(([name, { sum }]) => [name, sum])),
    };
  }
}
