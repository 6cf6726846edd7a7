// The physical function of the 82576: its own way of buffers (SRRCTL), interrupts (EICR) and queues. Virtual functions are the
// business of whoever drives the physical function with the kernel's driver: this one leaves SR-IOV off.
import { Ring3Error } from "../../binary/error.ts";
import type { PciFunction } from "../../pci/function.ts";
import {
  Dctl,
  DeviceStatus,
  Gigabit,
  HashFields,
  Icr,
  QueueRegister,
  Rctl,
  Swsm,
} from "../../specs/gigabit/registers.ts";
import {
  DESCTYPE_ADVANCED_ONE_BUFFER,
  Gpie,
  IGB_IVAR_VALID,
  IGB_MRQC_RSS,
  IGB_QUEUES,
  IGB_VECTORS,
  Igb,
  IgbCtrlExt,
  IgbHashFields,
  Srrctl,
  SwFwSync,
} from "../../specs/igb/registers.ts";
import { type Clock, sleep } from "../clock.ts";
import type { ChipInterrupts, ChipSetup, RingAddresses } from "../gigabit/chip.ts";
import { type GigabitMac, type QueueBases, queueBases } from "../gigabit/mac.ts";
import { PhysicalChip } from "../gigabit/physical-chip.ts";
import { waitFor } from "../gigabit/wait-for.ts";

/** Header, a VLAN tag and FCS. */
export const IGB_OVERHEAD_BYTES = 22;
const LARGEST_FRAME = 9728;
/** Queues that RSS can spread over without virtual functions; queues from 4 on have their registers elsewhere. */
const LOW_QUEUES = 4;
const QUEUE_TIMEOUT_MS = 100;
const SEMAPHORE_TIMEOUT_MS = 200;
const ALL = 0xffff_ffff;

export class IgbChip extends PhysicalChip {
  readonly driver: string = "igb";
  readonly format = "igb";
  readonly maxQueues: number = IGB_QUEUES;

  maxMtu(room: number): number {
    return Math.min(LARGEST_FRAME, room) - IGB_OVERHEAD_BYTES;
  }

  override async reset(): Promise<void> {
    this.registers.write32(Igb.EIMC, ALL);
    await super.reset();
    this.registers.write32(Igb.EIMC, ALL);
  }

  protected setUp({ mtu }: ChipSetup): void {
    const { registers } = this;
    registers.write32(Igb.VT_CTL, 0);
    registers.write32(Igb.RLPML, mtu + IGB_OVERHEAD_BYTES);
    const extended = registers.read32(Gigabit.CTRL_EXT);
    registers.write32(Gigabit.CTRL_EXT, (extended | IgbCtrlExt.PFRSTD.mask | IgbCtrlExt.DRV_LOAD.mask) >>> 0);
  }

  protected setInterrupts(interrupts: ChipInterrupts): void {
    const { kind, otherVector } = interrupts;
    const { registers } = this;
    if (kind !== "msix") {
      registers.write32(Igb.GPIE, 0);
      if (kind !== "none") registers.write32(Gigabit.IMS, Icr.LSC.mask);
      return;
    }
    const { MULTIPLE_MSIX, EIAME, PBA_SUPPORT, NSICR } = Gpie;
    registers.write32(Igb.GPIE, (MULTIPLE_MSIX.mask | EIAME.mask | PBA_SUPPORT.mask | NSICR.mask) >>> 0);
    let vectors = 1 << otherVector;
    const entries = new Uint32Array(IGB_QUEUES / 2);
    for (let queue = 0; queue < IGB_QUEUES; queue++) {
      // A word holds queues n and n + 8, each with its receive and its transmit entry: 82576 section 7.3.1.2.
      const shift = queue < 8 ? 0 : 16;
      const vector = interrupts.vectorOf(queue);
      if (vector === undefined) continue;
      entries[queue % 8] = (entries[queue % 8] as number) | ((IGB_IVAR_VALID | vector) << shift);
      vectors |= 1 << vector;
    }
    entries.forEach((entry, i) => registers.write32(Igb.IVAR + 4 * i, entry));
    registers.write32(Igb.IVAR_MISC, (IGB_IVAR_VALID | otherVector) << 8);
    // A packet that is waited for is told of at once.
    for (let i = 0; i < IGB_VECTORS; i++) registers.write32(Igb.EITR + 4 * i, 0);
    registers.write32(Igb.EIAC, vectors);
    registers.write32(Igb.EIAM, vectors);
    registers.write32(Igb.EIMS, 1 << otherVector);
    registers.write32(Gigabit.IMS, Icr.LSC.mask);
  }

  protected receiveControl(setup: ChipSetup): number {
    return this.macBlock.receiveControl(setup) | Rctl.LPE.mask;
  }

  protected override bases(index: number): QueueBases {
    if (index < LOW_QUEUES) return queueBases(index);
    return {
      receive: Igb.RECEIVE_HIGH + index * Igb.HIGH_STEP,
      transmit: Igb.TRANSMIT_HIGH + index * Igb.HIGH_STEP,
    };
  }

  enableQueue(ring: RingAddresses, setup: ChipSetup): Promise<void> {
    const bases = this.bases(ring.index);
    return enableIgbQueue(this.fn, this.clock, this.macBlock, ring, bases, setup);
  }

  disableQueue(index: number): void {
    const { receive, transmit } = this.bases(index);
    this.registers.write32(receive + QueueRegister.DCTL, 0);
    this.registers.write32(transmit + QueueRegister.DCTL, 0);
  }

  override stop(): void {
    this.registers.write32(Igb.EIMC, ALL);
    super.stop();
    const extended = this.registers.read32(Gigabit.CTRL_EXT);
    this.registers.write32(Gigabit.CTRL_EXT, (extended & ~IgbCtrlExt.DRV_LOAD.mask) >>> 0);
  }

  arm(queue: number): void {
    const interrupts = this.interrupts;
    if (interrupts?.kind === "msix") {
      const vector = 1 << (interrupts.vectorOf(queue) ?? 0);
      this.registers.write32(Igb.EICR, vector);
      this.registers.write32(Igb.EIMS, vector);
    } else {
      this.registers.write32(Gigabit.ICR, Icr.RXT0.mask);
      this.registers.write32(Gigabit.IMS, Icr.RXT0.mask);
    }
  }

  quiet(queue: number): void {
    const interrupts = this.interrupts;
    if (interrupts?.kind === "msix") this.registers.write32(Igb.EIMC, 1 << (interrupts.vectorOf(queue) ?? 0));
    else this.registers.write32(Gigabit.IMC, Icr.RXT0.mask);
  }

  acknowledge(): { readonly receive: boolean } {
    const { receive } = this.macBlock.acknowledge();
    const interrupts = this.interrupts;
    if (interrupts?.kind !== "msix") return { receive };
    this.registers.write32(Gigabit.IMS, Icr.LSC.mask);
    this.registers.write32(Igb.EIMS, 1 << interrupts.otherVector);
    return { receive: false };
  }

  applySteering({ steered }: ChipSetup): void {
    const { TCP_IPV4, IPV4, IPV6, TCP_IPV6 } = HashFields;
    const fields = TCP_IPV4 | IPV4 | IPV6 | TCP_IPV6 | IgbHashFields.UDP_IPV4 | IgbHashFields.UDP_IPV6;
    // With several queues a full one must not hold the others up: what comes for it is dropped.
    for (const queue of steered) {
      const register = this.bases(queue).receive + QueueRegister.SRRCTL;
      const control = this.registers.read32(register);
      const drop = steered.length > 1 ? control | Srrctl.DROP_EN.mask : control & ~Srrctl.DROP_EN.mask;
      this.registers.write32(register, drop >>> 0);
    }
    this.macBlock.setSteering(steered, IGB_MRQC_RSS | fields, 0);
  }

  /** The bit of this port's PHY in SW_FW_SYNC. */
  get #phyBit(): number {
    return DeviceStatus.FUNC.get(this.registers.read32(Gigabit.STATUS)) === 0 ? SwFwSync.PHY0 : SwFwSync.PHY1;
  }

  /** 82576 section 4.7: the semaphore of the semaphores, then the PHY's bits of software and firmware. */
  protected async acquirePhy(): Promise<void> {
    const { registers } = this;
    const deadline = this.clock.now() + SEMAPHORE_TIMEOUT_MS;
    for (;;) {
      if (!Swsm.SMBI.test(registers.read32(Gigabit.SWSM)) || this.clock.now() >= deadline) {
        // Whoever holds it for so long has ended without giving it back.
        registers.write32(Gigabit.SWSM, Swsm.SMBI.mask | Swsm.SWESMBI.mask);
        const owners = registers.read32(Gigabit.SW_FW_SYNC);
        const late = this.clock.now() >= deadline;
        const taken = (owners & (this.#phyBit | (this.#phyBit << 16))) !== 0;
        if (!taken || late) registers.write32(Gigabit.SW_FW_SYNC, (owners | this.#phyBit) >>> 0);
        registers.write32(Gigabit.SWSM, 0);
        if (!taken || late) return;
      }
      await sleep(this.clock, 2, this.fn.gone);
    }
  }

  protected releasePhy(): void {
    const { registers } = this;
    const owners = registers.read32(Gigabit.SW_FW_SYNC);
    registers.write32(Gigabit.SW_FW_SYNC, (owners & ~this.#phyBit) >>> 0);
  }
}

/** Tells an 82576 function an empty ring pair, and waits until the device has it. */
export async function enableIgbQueue(
  fn: PciFunction,
  clock: Clock,
  mac: GigabitMac,
  ring: RingAddresses,
  bases: QueueBases,
  { mtu, room, steered }: ChipSetup,
): Promise<void> {
  const { registers } = mac;
  const receiveControl = bases.receive + QueueRegister.DCTL;
  const transmitControl = bases.transmit + QueueRegister.DCTL;
  registers.write32(receiveControl, 0);
  registers.write32(transmitControl, 0);
  mac.setRing(ring, bases);
  const kibibytes = Math.ceil((mtu + IGB_OVERHEAD_BYTES) / 1024);
  if (mtu + IGB_OVERHEAD_BYTES > room) {
    throw new Ring3Error(
      "NET_INVALID",
      `an MTU of ${mtu} needs ${mtu + IGB_OVERHEAD_BYTES} bytes of a buffer, not ${room}`,
    );
  }
  const drop = steered.length > 1 ? Srrctl.DROP_EN.mask : 0;
  const shape = Srrctl.BSIZEPACKET.of(kibibytes) | Srrctl.DESCTYPE.of(DESCTYPE_ADVANCED_ONE_BUFFER);
  registers.write32(bases.receive + QueueRegister.SRRCTL, (shape | drop) >>> 0);
  const { PTHRESH, HTHRESH, WTHRESH, ENABLE } = Dctl;
  const thresholds = PTHRESH.of(8) | HTHRESH.of(8) | WTHRESH.of(1) | ENABLE.mask;
  registers.write32(receiveControl, thresholds);
  registers.write32(transmitControl, thresholds);
  const limit = { what: `queue ${ring.index} was not enabled`, timeoutMs: QUEUE_TIMEOUT_MS };
  await waitFor(fn, clock, limit, () => {
    return ENABLE.test(registers.read32(receiveControl)) && ENABLE.test(registers.read32(transmitControl));
  });
}
