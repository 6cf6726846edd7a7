// What a stack is told at its start, and what it says about itself.
import type { Clock } from "../clock.ts";
import type { StackDhcpOptions } from "./address-by-dhcp.ts";
import type { DhcpLease } from "./dhcp-client.ts";
import type { NeighbourLimits } from "./neighbours.ts";
import type { ReassemblyLimits } from "./reassembly.ts";

/** A station of this link; as `ip neighbour add ... nud permanent`. */
export interface PermanentNeighbour {
  readonly address: string;
  /** Six bytes. */
  readonly mac: Uint8Array;
}

export interface StackOptions {
  /** `192.0.2.1/24`. Without it the stack has no address until {@link Stack.configure} or DHCP gives one. */
  readonly address?: string;
  /** Where everything goes that is not on this link. */
  readonly gateway?: string;
  /** Takes an address by DHCP before `start` resolves, and keeps its lease. */
  readonly dhcp?: boolean | StackDhcpOptions;
  /** The VLAN to speak in; none by default. */
  readonly vlan?: number;
  /** Which queue of the device; 0 by default. */
  readonly queue?: number;
  /** Whether echo requests are answered; true by default. */
  readonly answerEcho?: boolean;
  /** Whether the device computes checksums of UDP where it can; true by default. */
  readonly checksumOffload?: boolean;
  /** `false`: the program calls {@link Stack.poll} itself. */
  readonly drive?: boolean;
  /**
   * Whether ARP is spoken: asked, answered, announced; true by default. Not by a stack in a worker beside one with the same
   * address, which speaks for both.
   */
  readonly arp?: boolean;
  /** Neighbours that are known, and stay as they are. */
  readonly permanentNeighbours?: readonly PermanentNeighbour[];
  readonly neighbours?: NeighbourLimits;
  readonly reassembly?: ReassemblyLimits;
  readonly clock?: Clock;
}

/** Who a stack is. */
export interface StackConfiguration {
  /** `undefined` while there is none. */
  readonly address: string | undefined;
  readonly prefix: number;
  readonly gateway: string | undefined;
  readonly mac: string;
  readonly mtu: number;
  readonly vlan: number | undefined;
  readonly lease: DhcpLease | undefined;
}
