// The MAC of a physical function, as the 82574 and the 82576 have it alike: reset, link, address, filters, the spreading of
// packets over queues, statistics. 82574 section 10.2, 82576 section 8.
import type { Registers } from "../../memory/registers.ts";
import type { PciFunction } from "../../pci/function.ts";
import {
  Ctrl,
  DeviceStatus,
  Gigabit,
  Icr,
  multicastBit,
  QueueBase,
  QueueRegister,
  Rah,
  Rctl,
  Rxcsum,
  Tctl,
} from "../../specs/gigabit/registers.ts";
import { StatisticsRegister, WideStatisticsRegister } from "../../specs/gigabit/statistics.ts";
import { type Clock, sleep } from "../clock.ts";
import type { LinkState, NetStatistics } from "../net/device.ts";
import type { ChipSetup, Health, RingAddresses } from "./chip.ts";
import { waitFor } from "./wait-for.ts";

const TABLE_WORDS = 128;
const RECEIVE_ADDRESSES = 16;
const RESET_TIMEOUT_MS = 1000;
const SPEEDS = [10, 100, 1000, 1000] as const;
/** The key of the hash: as the drivers of Windows and Linux have it, so that packets spread as there. */
const HASH_KEY = [
  0xda56_5a6d, 0xc20e_5b25, 0x3d25_6741, 0xb08f_a343, 0xcb2b_cad0, 0xb430_7bae, 0xa32d_cb77, 0x0cf2_3080, 0x3bb7_426a,
  0xfa01_acbe,
] as const;

export class GigabitMac {
  readonly registers: Registers;
  readonly clock: Clock;
  readonly fn: PciFunction;
  readonly #counters: Map<string, number> = new Map();
  #first = true;

  constructor(fn: PciFunction, registers: Registers, clock: Clock) {
    this.fn = fn;
    this.registers = registers;
    this.clock = clock;
  }

  /** Lets all DMA end, resets all but the PHY, and waits until registers answer again. Interrupts are masked. */
  async reset(): Promise<void> {
    const { registers } = this;
    registers.write32(Gigabit.IMC, 0xffff_ffff);
    registers.write32(Gigabit.RCTL, 0);
    registers.write32(Gigabit.TCTL, Tctl.PSP.mask);
    const control = registers.read32(Gigabit.CTRL);
    registers.write32(Gigabit.CTRL, (control | Ctrl.GIO_MASTER_DISABLE.mask) >>> 0);
    // 82576 section 4.3.1: a reset amidst DMA may hang the bus; what does not end in time is reset all the same.
    const deadline = this.clock.now() + 100;
    while (DeviceStatus.GIO_MASTER_ENABLE.test(registers.read32(Gigabit.STATUS)) && this.clock.now() < deadline) {
      await sleep(this.clock, 1, this.fn.gone);
    }
    registers.write32(Gigabit.CTRL, (control | Ctrl.RST.mask) >>> 0);
    await sleep(this.clock, 1, this.fn.gone);
    await waitFor(this.fn, this.clock, { what: "no end of the reset", timeoutMs: RESET_TIMEOUT_MS }, () => {
      const now = registers.read32(Gigabit.CTRL);
      return now !== 0xffff_ffff && !Ctrl.RST.test(now);
    });
    registers.write32(Gigabit.IMC, 0xffff_ffff);
    registers.read32(Gigabit.ICR);
    this.#readCounters();
    // What was counted before is somebody else's.
    if (this.#first) this.#counters.clear();
    this.#first = false;
  }

  get mac(): Uint8Array {
    const low = this.registers.read32(Gigabit.RAL);
    const high = this.registers.read32(Gigabit.RAH);
    return Uint8Array.from([low, low >>> 8, low >>> 16, low >>> 24, high, high >>> 8]);
  }

  set mac(address: Uint8Array) {
    const [a, b, c, d, e, f] = address as unknown as [number, number, number, number, number, number];
    this.registers.write32(Gigabit.RAL, (a | (b << 8) | (c << 16) | (d << 24)) >>> 0);
    this.registers.write32(Gigabit.RAH, (e | (f << 8) | Rah.AV.mask) >>> 0);
  }

  /** Link up, speed and duplex as negotiated, VLAN tags as asked. */
  setControl(setup: ChipSetup): void {
    const control = this.registers.read32(Gigabit.CTRL);
    const cleared = control & ~(Ctrl.FRCSPD.mask | Ctrl.FRCDPX.mask | Ctrl.VME.mask | Ctrl.GIO_MASTER_DISABLE.mask);
    // VME: tags are taken out of what is received; inserting is the descriptor's choice, but needs it on the 82574.
    const tags = setup.vlanStripping ? Ctrl.VME.mask : 0;
    this.registers.write32(Gigabit.CTRL, (cleared | Ctrl.SLU.mask | tags) >>> 0);
  }

  /** Empties the tables that a reset leaves as they were. */
  clearFilters(): void {
    const { registers } = this;
    for (let i = 0; i < TABLE_WORDS; i++) {
      registers.write32(Gigabit.MTA + 4 * i, 0);
      registers.write32(Gigabit.VFTA + 4 * i, 0);
    }
    for (let i = 1; i < RECEIVE_ADDRESSES; i++) {
      registers.write32(Gigabit.RAL + 8 * i, 0);
      registers.write32(Gigabit.RAH + 8 * i, 0);
    }
  }

  /** RCTL for what is asked, besides the buffers' size. */
  receiveControl({ filter, vlans }: ChipSetup): number {
    const { EN, BAM, SECRC, UPE, MPE, VFE } = Rctl;
    let control = EN.mask | BAM.mask | SECRC.mask;
    if (filter.promiscuous === true) control |= UPE.mask | MPE.mask;
    if (filter.allMulticast === true) control |= MPE.mask;
    if (vlans !== undefined && filter.promiscuous !== true) control |= VFE.mask;
    return control;
  }

  setMulticast(addresses: readonly Uint8Array[]): void {
    const table = new Uint32Array(TABLE_WORDS);
    for (const address of addresses) {
      const { word, bit } = multicastBit(address);
      table[word] = (table[word] as number) | (1 << bit);
    }
    table.forEach((value, i) => this.registers.write32(Gigabit.MTA + 4 * i, value));
  }

  setVlans(ids: readonly number[]): void {
    const table = new Uint32Array(TABLE_WORDS);
    for (const id of ids) table[id >>> 5] = (table[id >>> 5] as number) | (1 << (id & 31));
    table.forEach((value, i) => this.registers.write32(Gigabit.VFTA + 4 * i, value));
  }

  /** Checksums of IPv4, TCP and UDP; the hash in the place of the packet checksum, which spreading needs. */
  setChecksums(): void {
    this.registers.write32(Gigabit.RXCSUM, Rxcsum.IPOFLD.mask | Rxcsum.TUOFLD.mask | Rxcsum.PCSD.mask);
  }

  /** Spreads packets over `queues` by hash, where there are several; `mrqc` switches it on. */
  setSteering(queues: readonly number[], mrqc: number, queueShift: number): void {
    const { registers } = this;
    if (queues.length < 2) {
      registers.write32(Gigabit.MRQC, 0);
      return;
    }
    HASH_KEY.forEach((word, i) => registers.write32(Gigabit.RSSRK + 4 * i, word));
    for (let i = 0; i < 32; i++) {
      let entries = 0;
      for (let j = 3; j >= 0; j--) {
        entries = entries * 256 + ((queues[(4 * i + j) % queues.length] as number) << queueShift);
      }
      registers.write32(Gigabit.RETA + 4 * i, entries);
    }
    registers.write32(Gigabit.MRQC, mrqc);
  }

  setSending(): void {
    const { EN, PSP, CT, COLD } = Tctl;
    this.registers.write32(Gigabit.TCTL, EN.mask | PSP.mask | CT.of(15) | COLD.of(64));
    // IEEE 802.3's gaps between packets: 82574 section 10.2.6.2, 82576 section 8.12.3.
    this.registers.write32(Gigabit.TIPG, 8 | (8 << 10) | (6 << 20));
  }

  /** Writes an empty ring pair's registers; `bases` are those of its queue. */
  setRing(ring: RingAddresses, bases: QueueBases): void {
    const { registers } = this;
    for (const [base, iova] of [
      [bases.receive, ring.receiveIova],
      [bases.transmit, ring.transmitIova],
    ] as const) {
      registers.write32(base + QueueRegister.BAL, iova % 2 ** 32);
      registers.write32(base + QueueRegister.BAH, Math.floor(iova / 2 ** 32));
      registers.write32(base + QueueRegister.LEN, ring.entries * 16);
      registers.write32(base + QueueRegister.HEAD, 0);
      registers.write32(base + QueueRegister.TAIL, 0);
    }
  }

  link(): LinkState {
    const status = this.registers.read32(Gigabit.STATUS);
    const up = status !== 0xffff_ffff && DeviceStatus.LU.test(status);
    const speedMbps = up ? (SPEEDS[DeviceStatus.SPEED.get(status)] ?? 0) : 0;
    return { up, speedMbps, fullDuplex: up && DeviceStatus.FD.test(status) };
  }

  health(): Health {
    return this.registers.read32(Gigabit.STATUS) === 0xffff_ffff ? "absent" : "well";
  }

  stop(): void {
    const { registers } = this;
    registers.write32(Gigabit.IMC, 0xffff_ffff);
    registers.write32(Gigabit.RCTL, 0);
    registers.write32(Gigabit.TCTL, 0);
  }

  /** The one cause register of MSI and INTx: reading clears, and what the mask lets through is acknowledged. */
  acknowledge(): { readonly receive: boolean } {
    const causes = this.registers.read32(Gigabit.ICR);
    this.registers.write32(Gigabit.ICR, causes);
    return { receive: causes !== 0xffff_ffff && Icr.RXT0.test(causes) };
  }

  #readCounters(): void {
    const add = (name: string, count: number): void => {
      if (count !== 0xffff_ffff) this.#counters.set(name, (this.#counters.get(name) ?? 0) + count);
    };
    for (const [name, offset] of Object.entries(StatisticsRegister)) add(name, this.registers.read32(offset));
    for (const [name, offset] of Object.entries(WideStatisticsRegister)) {
      const low = this.registers.read32(offset);
      const high = this.registers.read32(offset + 4);
      if (high !== 0xffff_ffff) add(name, low + high * 2 ** 32);
    }
  }

  statistics(): Omit<NetStatistics, "rx_dropped"> {
    this.#readCounters();
    const of = (...names: (keyof typeof StatisticsRegister | keyof typeof WideStatisticsRegister)[]): number =>
      names.reduce((sum, name) => sum + (this.#counters.get(name) ?? 0), 0);
    const lengthErrors = of("RLEC", "RUC", "ROC");
    return {
      rx_packets: of("GPRC"),
      tx_packets: of("GPTC"),
      rx_bytes: of("GORC"),
      tx_bytes: of("GOTC"),
      rx_errors: of("RXERRC", "CRCERRS", "ALGNERRC") + lengthErrors,
      tx_errors: of("ECOL", "LATECOL"),
      tx_dropped: 0,
      multicast: of("MPRC"),
      collisions: of("COLC"),
      rx_length_errors: lengthErrors,
      rx_crc_errors: of("CRCERRS"),
      rx_missed_errors: of("MPC"),
      device: Object.fromEntries(this.#counters),
    };
  }
}

/** Where the registers of a queue's rings begin. */
export interface QueueBases {
  readonly receive: number;
  readonly transmit: number;
}

/** Bases of the registers of queues 0 to 3. */
export function queueBases(index: number): QueueBases {
  return {
    receive: QueueBase.RECEIVE + index * QueueBase.STEP,
    transmit: QueueBase.TRANSMIT + index * QueueBase.STEP,
  };
}
