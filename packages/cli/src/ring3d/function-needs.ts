// What a function of the service needs of what is around it: the machine, and those who listen.
import type { PciFunction, ResetMethod } from "ring3";
import type { NoticeBroker } from "ring3/notices";
import type { BusMember } from "./bus-reset.ts";
import type { Lease, ServiceEvent } from "./service-interface.ts";

/** What a function of the service needs of the machine. */
export interface Hardware {
  /**
   * Takes the function from its driver, unless VFIO has it already; tells whether it did. It is noted, so that what a service
   * that was killed has taken is given back.
   */
  take(address: string): Promise<boolean>;
  /** Gives it back to the driver that had it, if it was taken; tells whether it was. */
  giveBack(address: string): Promise<boolean>;
  open(address: string, options: { readonly removalGraceMs: number }): Promise<PciFunction>;
  /** Addresses of what a reset of a function's bus takes down, itself among them; `undefined` where it cannot be reset. */
  sharedBus(fn: PciFunction): readonly string[] | undefined;
  /** Resets the bus of `fn`, and with it its link. `neighbours` is all that is on it besides. */
  resetBus(fn: PciFunction, neighbours: readonly PciFunction[]): Promise<ResetMethod>;
  /** Opens the kernel's descriptors of a function that is not open, to be given away. */
  lend(address: string): Pick<Lease, "backend" | "descriptors">;
}

export interface ManagedOptions {
  readonly hardware: Hardware;
  /** Without the name of the function. */
  readonly emit: (event: FunctionEvent) => void;
  /** Tells users what is about to happen. */
  readonly notices: NoticeBroker;
  /** All functions of the service. */
  readonly members: () => Iterable<BusMember>;
  /** The users' sockets by path where somebody else listens already, as systemd does. */
  readonly listenFd?: ((path: string) => number | undefined) | undefined;
}

type Without<E, K extends string> = E extends unknown ? Omit<E, K> : never;
export type FunctionEvent = Without<Extract<ServiceEvent, { readonly function: string }>, "function">;
