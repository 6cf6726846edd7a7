// A physical function's chip, as far as the 82574 and the 82576 have it alike: everything that their MAC does, and the order in
// which it is set up.
import type { Registers } from "../../memory/registers.ts";
import type { PciFunction } from "../../pci/function.ts";
import { Gigabit, QueueRegister } from "../../specs/gigabit/registers.ts";
import type { Clock } from "../clock.ts";
import type { LinkState, NetStatistics } from "../net/device.ts";
import type { Chip, ChipInterrupts, ChipSetup, Health, RingAddresses } from "./chip.ts";
import { GigabitMac, type QueueBases, queueBases } from "./mac.ts";
import { Phy } from "./phy.ts";
import type { DescriptorFormat } from "./queue-place.ts";

export abstract class PhysicalChip implements Chip {
  abstract readonly driver: string;
  abstract readonly format: DescriptorFormat;
  abstract readonly maxQueues: number;
  readonly registers: Registers;
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
  protected readonly fn: PciFunction;
  protected readonly clock: Clock;
  protected readonly macBlock: GigabitMac;
  /** Known from `start` on. */
  protected interrupts: ChipInterrupts | undefined;
  readonly #phy: Phy;

  constructor(fn: PciFunction, clock: Clock) {
    this.fn = fn;
    this.clock = clock;
    this.registers = fn.bar(0).registers();
    this.macBlock = new GigabitMac(fn, this.registers, clock);
    this.#phy = new Phy(fn, this.registers, clock, {
      acquire: () => this.acquirePhy(),
      release: () => this.releasePhy(),
    });
  }

  /** Takes the PHY's registers from firmware, for a while. */
  protected abstract acquirePhy(): Promise<void>;
  protected abstract releasePhy(): void;
  /** Registers of its own that `start` sets, with receiving and sending off. */
  protected abstract setUp(setup: ChipSetup): void;
  protected abstract setInterrupts(interrupts: ChipInterrupts): void;
  /** RCTL, buffers' size and all. */
  protected abstract receiveControl(setup: ChipSetup): number;

  abstract maxMtu(room: number): number;
  abstract enableQueue(ring: RingAddresses, setup: ChipSetup): Promise<void>;
  abstract disableQueue(index: number): void;
  abstract arm(queue: number): void;
  abstract quiet(queue: number): void;
  abstract acknowledge(): { readonly receive: boolean };
  abstract applySteering(setup: ChipSetup): void;

  get mac(): Uint8Array {
    return this.macBlock.mac;
  }

  reset(): Promise<void> {
    return this.macBlock.reset();
  }

  async start(setup: ChipSetup, interrupts: ChipInterrupts): Promise<void> {
    const { macBlock } = this;
    this.interrupts = interrupts;
    macBlock.clearFilters();
    if (setup.mac !== undefined) macBlock.mac = setup.mac;
    macBlock.setControl(setup);
    macBlock.setMulticast(setup.multicast);
    macBlock.setVlans(setup.vlans ?? []);
    macBlock.setChecksums();
    this.setUp(setup);
    this.applySteering(setup);
    this.setInterrupts(interrupts);
    macBlock.setSending();
    if (!macBlock.link().up) await this.#phy.negotiate();
    this.registers.write32(Gigabit.RCTL, this.receiveControl(setup));
  }

  stop(): void {
    this.macBlock.stop();
  }

  /** Where a queue's registers lie. */
  protected bases(index: number): QueueBases {
    return queueBases(index);
  }

  tails(index: number): { readonly receive: number; readonly transmit: number } {
    const { receive, transmit } = this.bases(index);
    return { receive: receive + QueueRegister.TAIL, transmit: transmit + QueueRegister.TAIL };
  }

  link(): LinkState {
    return this.macBlock.link();
  }

  health(): Health {
    return this.macBlock.health();
  }

  applyMac(mac: Uint8Array): Promise<void> {
    this.macBlock.mac = mac;
    return Promise.resolve();
  }

  /** Nobody has to be asked. */
  applyMtu(): Promise<void> {
    return Promise.resolve();
  }

  applyFilter(setup: ChipSetup): Promise<void> {
    this.registers.write32(Gigabit.RCTL, this.receiveControl(setup));
    return Promise.resolve();
  }

  applyMulticast({ multicast }: ChipSetup): Promise<void> {
    this.macBlock.setMulticast(multicast);
    return Promise.resolve();
  }

  applyVlans(setup: ChipSetup): Promise<void> {
    this.macBlock.setVlans(setup.vlans ?? []);
    return this.applyFilter(setup);
  }

  statistics(): Omit<NetStatistics, "rx_dropped"> {
    return this.macBlock.statistics();
  }
}
