// What a stack runs on: a whole device, or less: a queue of one in a worker, a queue that shares with others what it receives.
import type { Ring3Error } from "../../binary/error.ts";
import type { DriverEvents } from "../events.ts";
import type { NetCapabilities, NetEventMap, NetQueue, ReceiveWaitOptions } from "./device.ts";
import type { PortRange } from "./udp-ports.ts";

/** What a stack needs of its device; `NetDevice` has all of it. */
export interface StackDevice {
  readonly address: string;
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly capabilities: Pick<NetCapabilities, "l4Checksum" | "vlanFilter">;
  readonly queues: readonly NetQueue[];
  readonly events: Pick<DriverEvents<NetEventMap>, "on">;
  /** Where `udp.bind(0)` chooses a port, since others are received by somebody else; 49152 to 65535 by default. */
  readonly ephemeralPorts?: PortRange;
  readonly failure: Ring3Error | undefined;
  receivable(queue: number, options?: ReceiveWaitOptions): Promise<boolean>;
  setMulticast(addresses: readonly Uint8Array[]): Promise<void>;
  setVlans(ids: readonly number[] | undefined): Promise<void>;
}
