// The 82574's own way: extended receive descriptors, buffers by RCTL, two queues, MSI-X by IVAR and a cause for each queue.
import type { Registers } from "../../memory/registers.ts";
import type { PciFunction } from "../../pci/function.ts";
import {
  E1000E_MRQC_RSS,
  E1000E_QUEUES,
  E1000E_RETA_QUEUE_SHIFT,
  E1000E_VECTORS,
  E1000e,
  E1000eCtrlExt,
  E1000eRfctl,
  ExtcnfCtrl,
  IVAR_VALID,
  IvarShift,
  Tarc,
} from "../../specs/e1000e/registers.ts";
import { Dctl, Gigabit, HashFields, Icr, QueueRegister, Rctl } from "../../specs/gigabit/registers.ts";
import { type Clock, sleep } from "../clock.ts";
import type { Chip, ChipInterrupts, ChipSetup, Health, RingAddresses } from "../gigabit/chip.ts";
import { GigabitMac, queueBases } from "../gigabit/mac.ts";
import { Phy } from "../gigabit/phy.ts";
import type { LinkState, NetStatistics } from "../net/device.ts";

/** Header, a VLAN tag and FCS. */
const OVERHEAD_BYTES = 22;
const LARGEST_MTU = 9212;
/** What comes at most without RCTL.LPE: 82574 section 10.2.5.1. */
const SHORT_FRAME_BYTES = 1522;
/** RCTL.FLXBUF: buffers in KiB, 82574 section 10.2.5.1. */
const FLXBUF_SHIFT = 27;
const OWNERSHIP_TIMEOUT_MS = 200;
/** IEEE 802.1Q. */
const VLAN_ETHERTYPE = 0x8100;

export class E1000eChip implements Chip {
  readonly driver: string = "e1000e";
  readonly format = "e1000e";
  readonly registers: Registers;
  readonly maxQueues: number = E1000E_QUEUES;
  readonly steers: boolean = true;
  readonly patient: boolean = false;
  readonly capabilities = {
    receiveChecksums: true,
    ipv4Checksum: true,
    l4Checksum: true,
    vlanOffload: true,
    vlanFilter: true,
    promiscuous: true,
  } as const;
  readonly #mac: GigabitMac;
  readonly #phy: Phy;
  #interrupts: ChipInterrupts["kind"] = "none";

  constructor(fn: PciFunction, clock: Clock) {
    this.registers = fn.bar(0).registers();
    this.#mac = new GigabitMac(fn, this.registers, clock);
    this.#phy = new Phy(fn, this.registers, clock, {
      acquire: () => this.#own(fn, clock),
      release: () => this.#ownership(false),
    });
  }

  maxMtu(room: number): number {
    const size = [1024, 512, 256].find((bytes) => room >= bytes) ?? 0;
    if (room < SHORT_FRAME_BYTES) return size - OVERHEAD_BYTES;
    return Math.min(LARGEST_MTU, Math.max(1500, Math.floor(room / 1024) * 1024 - OVERHEAD_BYTES));
  }

  get mac(): Uint8Array {
    return this.#mac.mac;
  }

  async reset(): Promise<void> {
    await this.#mac.reset();
  }

  async start(setup: ChipSetup, interrupts: ChipInterrupts): Promise<void> {
    const { registers } = this;
    const mac = this.#mac;
    this.#interrupts = interrupts.kind;
    mac.clearFilters();
    if (setup.mac !== undefined) mac.mac = setup.mac;
    // Not every model has it again after a reset.
    registers.write32(Gigabit.VET, VLAN_ETHERTYPE);
    mac.setControl(setup);
    mac.setMulticast(setup.multicast);
    mac.setVlans(setup.vlans ?? []);
    mac.setChecksums();
    registers.write32(Gigabit.RFCTL, E1000eRfctl.EXSTEN.mask);
    this.applySteering(setup);
    for (const tarc of [E1000e.TARC0, E1000e.TARC1]) registers.write32(tarc, Tarc.COUNT.of(3) | Tarc.ENABLE.mask);
    this.#setInterrupts(interrupts);
    mac.setSending();
    if (!mac.link().up) await this.#phy.negotiate();
    registers.write32(Gigabit.RCTL, this.#receiveControl(setup));
  }

  #setInterrupts(interrupts: ChipInterrupts): void {
    const { kind, otherVector } = interrupts;
    const { registers } = this;
    if (kind !== "msix") {
      if (kind !== "none") registers.write32(Gigabit.IMS, Icr.LSC.mask);
      return;
    }
    const entry = (shift: number, vector: number | undefined): number =>
      vector === undefined ? 0 : (IVAR_VALID | vector) << shift;
    const { RXQ0, RXQ1, OTHER } = IvarShift;
    const receive = entry(RXQ0, interrupts.vectorOf(0)) | entry(RXQ1, interrupts.vectorOf(1));
    registers.write32(E1000e.IVAR, (receive | entry(OTHER, otherVector)) >>> 0);
    const extended = registers.read32(Gigabit.CTRL_EXT);
    registers.write32(Gigabit.CTRL_EXT, (extended | E1000eCtrlExt.PBA_SUPPORT.mask) >>> 0);
    registers.write32(E1000e.EIAC, Icr.RXQ0.mask | Icr.RXQ1.mask);
    for (let i = 0; i < E1000E_VECTORS; i++) registers.write32(E1000e.EITR + 4 * i, 0);
    registers.write32(Gigabit.IMS, Icr.LSC.mask | Icr.OTHER.mask);
  }

  /** The register's value for the buffers' size. */
  #receiveControl(setup: ChipSetup): number {
    const control = this.#mac.receiveControl(setup);
    if (setup.mtu > 1500) {
      return (control | Rctl.LPE.mask | (Math.min(15, Math.floor(setup.room / 1024)) << FLXBUF_SHIFT)) >>> 0;
    }
    // Without LPE no frame is longer than 1522 bytes, so a buffer of 2048 needs no more room than that.
    const size = setup.room >= SHORT_FRAME_BYTES ? 0 : setup.room >= 1024 ? 1 : setup.room >= 512 ? 2 : 3;
    return control | Rctl.BSIZE.of(size);
  }

  tails(index: number): { readonly receive: number; readonly transmit: number } {
    const { receive, transmit } = queueBases(index);
    return { receive: receive + QueueRegister.TAIL, transmit: transmit + QueueRegister.TAIL };
  }

  enableQueue(ring: RingAddresses): Promise<void> {
    const bases = queueBases(ring.index);
    this.#mac.setRing(ring, bases);
    // Written back one by one: 82574 sections 10.2.5.8 and 10.2.6.9.
    const { GRAN, WTHRESH, COUNT_DESC } = Dctl;
    this.registers.write32(bases.receive + QueueRegister.DCTL, GRAN.mask | WTHRESH.of(1));
    this.registers.write32(bases.transmit + QueueRegister.DCTL, GRAN.mask | COUNT_DESC.mask | WTHRESH.of(1));
    return Promise.resolve();
  }

  disableQueue(index: number): void {
    const { receive, transmit } = queueBases(index);
    this.registers.write32(receive + QueueRegister.LEN, 0);
    this.registers.write32(transmit + QueueRegister.LEN, 0);
  }

  stop(): void {
    this.#mac.stop();
  }

  #cause(queue: number): number {
    if (this.#interrupts !== "msix") return Icr.RXT0.mask;
    return queue === 0 ? Icr.RXQ0.mask : Icr.RXQ1.mask;
  }

  arm(queue: number): void {
    const cause = this.#cause(queue);
    this.registers.write32(Gigabit.ICR, cause);
    this.registers.write32(Gigabit.IMS, cause);
  }

  quiet(queue: number): void {
    this.registers.write32(Gigabit.IMC, this.#cause(queue));
  }

  acknowledge(): { readonly receive: boolean } {
    if (this.#interrupts !== "msix") return this.#mac.acknowledge();
    // Only what is not a queue's: their causes clear themselves.
    this.registers.write32(Gigabit.ICR, Icr.LSC.mask | Icr.OTHER.mask);
    this.registers.write32(Gigabit.IMS, Icr.LSC.mask | Icr.OTHER.mask);
    return { receive: false };
  }

  link(): LinkState {
    return this.#mac.link();
  }

  health(): Health {
    return this.#mac.health();
  }

  applyMac(mac: Uint8Array): Promise<void> {
    this.#mac.mac = mac;
    return Promise.resolve();
  }

  applyMtu(): Promise<void> {
    return Promise.resolve();
  }

  applyFilter(setup: ChipSetup): Promise<void> {
    this.registers.write32(Gigabit.RCTL, this.#receiveControl(setup));
    return Promise.resolve();
  }

  applyMulticast({ multicast }: ChipSetup): Promise<void> {
    this.#mac.setMulticast(multicast);
    return Promise.resolve();
  }

  applyVlans(setup: ChipSetup): Promise<void> {
    this.#mac.setVlans(setup.vlans ?? []);
    return this.applyFilter(setup);
  }

  applySteering({ steered }: ChipSetup): void {
    const { TCP_IPV4, IPV4, IPV6, TCP_IPV6 } = HashFields;
    this.#mac.setSteering(steered, E1000E_MRQC_RSS | TCP_IPV4 | IPV4 | IPV6 | TCP_IPV6, E1000E_RETA_QUEUE_SHIFT);
  }

  statistics(): Omit<NetStatistics, "rx_dropped"> {
    return this.#mac.statistics();
  }

  #ownership(own: boolean): void {
    const control = this.registers.read32(E1000e.EXTCNF_CTRL);
    const { mask } = ExtcnfCtrl.MDIO_SW_OWNERSHIP;
    this.registers.write32(E1000e.EXTCNF_CTRL, (own ? control | mask : control & ~mask) >>> 0);
  }

  /** 82574 section 4.6.1: the bit stays set once software owns the PHY. A PHY that is never given is used all the same. */
  async #own(fn: PciFunction, clock: Clock): Promise<void> {
    const deadline = clock.now() + OWNERSHIP_TIMEOUT_MS;
    for (;;) {
      this.#ownership(true);
      const control = this.registers.read32(E1000e.EXTCNF_CTRL);
      if (ExtcnfCtrl.MDIO_SW_OWNERSHIP.test(control) || clock.now() >= deadline) return;
      await sleep(clock, 2, fn.gone);
    }
  }
}
