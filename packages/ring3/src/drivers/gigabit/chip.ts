// What each controller does its own way; the rest of a driver is in device.ts, and in net/driver.ts what all network drivers do alike.
import type { Registers } from "../../memory/registers.ts";
import type { LinkState, NetCapabilities, NetStatistics } from "../net/device.ts";
import type { InterruptKind, InterruptSource } from "../net/interrupts.ts";
import type { NetSetup } from "../net/setup.ts";
import type { DescriptorFormat } from "./queue-place.ts";

/** How a controller is to be set up; what the program may change while it runs is set up again after a reset. */
export interface ChipSetup extends NetSetup {
  readonly vlanStripping: boolean;
  /** Queues over which received packets are spread. */
  steered: readonly number[];
  /** Most bytes of a frame that a buffer takes. */
  readonly room: number;
}

/** What is known of the interrupts when the chip is set up. */
export interface ChipInterrupts {
  readonly kind: InterruptKind;
  /** The MSI-X vector of a queue, `undefined` where nobody waits for it; and that of everything else. */
  vectorOf(queue: number): number | undefined;
  readonly otherVector: number;
}

/** A ring pair as the device is told about it. */
export interface RingAddresses {
  readonly index: number;
  readonly entries: number;
  readonly receiveIova: number;
  readonly transmitIova: number;
}

/** `reset`: the controller lost what it was told, by itself or by its parent. `absent`: registers read all ones. */
export type Health = "well" | "reset" | "absent";

export interface Chip extends InterruptSource {
  readonly driver: string;
  readonly format: DescriptorFormat;
  readonly registers: Registers;
  readonly maxQueues: number;
  readonly capabilities: Omit<NetCapabilities, "maxQueues" | "maxMtu" | "receiveSteering">;
  /** Largest MTU for buffers with so much room. */
  maxMtu(room: number): number;
  /** Whether packets can be spread over several queues. */
  readonly steers: boolean;
  /** The MAC address as it is now. */
  readonly mac: Uint8Array;
  /** Whether to try again for as long as it takes when a reset fails: somebody else has to let it. */
  readonly patient: boolean;
  /** Masks interrupts, resets, and waits until the controller works again. */
  reset(): Promise<void>;
  /** Sets everything up but queues, with receiving and sending on. */
  start(setup: ChipSetup, interrupts: ChipInterrupts): Promise<void>;
  /** Offsets of a queue's tail registers. */
  tails(index: number): { readonly receive: number; readonly transmit: number };
  /** Tells the device an empty ring pair and enables it. */
  enableQueue(ring: RingAddresses, setup: ChipSetup): Promise<void>;
  disableQueue(index: number): void;
  /** Ends DMA and interrupts. */
  stop(): void;
  /** Lets one interrupt come for the queue. */
  arm(queue: number): void;
  link(): LinkState;
  health(): Health;
  applyMac(mac: Uint8Array): Promise<void>;
  /** Asks whoever decides for another MTU, before the device is set up anew for it. */
  applyMtu(mtu: number): Promise<void>;
  applyFilter(setup: ChipSetup): Promise<void>;
  applyMulticast(setup: ChipSetup): Promise<void>;
  applyVlans(setup: ChipSetup): Promise<void>;
  applySteering(setup: ChipSetup): void;
  /** The device's counters since it was first reset. */
  statistics(): Omit<NetStatistics, "rx_dropped">;
}
