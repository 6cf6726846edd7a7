// The 82574's own way: extended receive descriptors, buffers by RCTL, two queues, MSI-X by IVAR and a cause for each queue.
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
import { sleep } from "../clock.ts";
import type { ChipInterrupts, ChipSetup, RingAddresses } from "../gigabit/chip.ts";
import { queueBases } from "../gigabit/mac.ts";
import { PhysicalChip } from "../gigabit/physical-chip.ts";

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

export class E1000eChip extends PhysicalChip {
  readonly driver: string = "e1000e";
  readonly format = "e1000e";
  readonly maxQueues: number = E1000E_QUEUES;

  maxMtu(room: number): number {
    const size = [1024, 512, 256].find((bytes) => room >= bytes) ?? 0;
    if (room < SHORT_FRAME_BYTES) return size - OVERHEAD_BYTES;
    return Math.min(LARGEST_MTU, Math.max(1500, Math.floor(room / 1024) * 1024 - OVERHEAD_BYTES));
  }

  protected setUp(): void {
    const { registers } = this;
    // Not every model has it again after a reset.
    registers.write32(Gigabit.VET, VLAN_ETHERTYPE);
    registers.write32(Gigabit.RFCTL, E1000eRfctl.EXSTEN.mask);
    for (const tarc of [E1000e.TARC0, E1000e.TARC1]) registers.write32(tarc, Tarc.COUNT.of(3) | Tarc.ENABLE.mask);
  }

  protected setInterrupts(interrupts: ChipInterrupts): void {
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
  protected receiveControl(setup: ChipSetup): number {
    const control = this.macBlock.receiveControl(setup);
    if (setup.mtu > 1500) {
      return (control | Rctl.LPE.mask | (Math.min(15, Math.floor(setup.room / 1024)) << FLXBUF_SHIFT)) >>> 0;
    }
    // Without LPE no frame is longer than 1522 bytes, so a buffer of 2048 needs no more room than that.
    const size = setup.room >= SHORT_FRAME_BYTES ? 0 : setup.room >= 1024 ? 1 : setup.room >= 512 ? 2 : 3;
    return control | Rctl.BSIZE.of(size);
  }

  enableQueue(ring: RingAddresses): Promise<void> {
    const bases = queueBases(ring.index);
    this.macBlock.setRing(ring, bases);
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

  #cause(queue: number): number {
    if (this.interrupts?.kind !== "msix") return Icr.RXT0.mask;
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
    if (this.interrupts?.kind !== "msix") return this.macBlock.acknowledge();
    // Only what is not a queue's: their causes clear themselves.
    this.registers.write32(Gigabit.ICR, Icr.LSC.mask | Icr.OTHER.mask);
    this.registers.write32(Gigabit.IMS, Icr.LSC.mask | Icr.OTHER.mask);
    return { receive: false };
  }

  applySteering({ steered }: ChipSetup): void {
    const { TCP_IPV4, IPV4, IPV6, TCP_IPV6 } = HashFields;
    this.macBlock.setSteering(steered, E1000E_MRQC_RSS | TCP_IPV4 | IPV4 | IPV6 | TCP_IPV6, E1000E_RETA_QUEUE_SHIFT);
  }

  protected releasePhy(): void {
    this.#ownership(false);
  }

  #ownership(own: boolean): void {
    const control = this.registers.read32(E1000e.EXTCNF_CTRL);
    const { mask } = ExtcnfCtrl.MDIO_SW_OWNERSHIP;
    this.registers.write32(E1000e.EXTCNF_CTRL, (own ? control | mask : control & ~mask) >>> 0);
  }

  /** 82574 section 4.6.1: the bit stays set once software owns the PHY. A PHY that is never given is used all the same. */
  protected async acquirePhy(): Promise<void> {
    const { clock, fn } = this;
    const deadline = clock.now() + OWNERSHIP_TIMEOUT_MS;
    for (;;) {
      this.#ownership(true);
      const control = this.registers.read32(E1000e.EXTCNF_CTRL);
      if (ExtcnfCtrl.MDIO_SW_OWNERSHIP.test(control) || clock.now() >= deadline) return;
      await sleep(clock, 2, fn.gone);
    }
  }
}
