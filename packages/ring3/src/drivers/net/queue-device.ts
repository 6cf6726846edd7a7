// A queue in a worker as what a stack runs on.
import { Ring3Error } from "../../binary/error.ts";
import { type Clock, systemClock } from "../clock.ts";
import { DriverEvents } from "../events.ts";
import type { NetEventMap, NetQueue, ReceiveWaitOptions } from "./device.ts";
import { ReceiveWait } from "./receive-wait.ts";
import type { SteeredQueue } from "./receive-steering.ts";
import type { StackDevice } from "./stack-device.ts";
import type { PortRange } from "./udp-ports.ts";

/** What a worker has to be told of the device whose queue it has; structured-cloneable. */
export interface QueueDeviceFacts {
  readonly address: string;
  /** Six bytes. */
  readonly mac: Uint8Array;
  readonly mtu: number;
  /** Whether the device computes the checksums of UDP. */
  readonly l4Checksum: boolean;
}

/**
 * A queue in the worker that owns it, as a device for a stack. Filters are the device's, and for the thread that has it; a worker
 * has no interrupts, so it looks for packets. The end of the device shows at the queue's next burst.
 *
 * @example
 * import { workerData } from "node:worker_threads";
 * import { attachNetQueue, QueueDevice, Stack, SteeredQueue } from "ring3/net";
 * const { handle, steering, station, facts, address, neighbour } = workerData;
 * using queue = await attachNetQueue(handle);
 * const device = new QueueDevice(new SteeredQueue(queue, steering, station), facts);
 * await using stack = await Stack.start(device, { address, arp: false, permanentNeighbours: [neighbour] });
 */
export class QueueDevice implements StackDevice {
  readonly address: string;
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly capabilities: StackDevice["capabilities"];
  readonly queues: readonly NetQueue[];
  readonly ephemeralPorts: PortRange;
  readonly events: DriverEvents<NetEventMap> = new DriverEvents();
  readonly failure: undefined = undefined;
  readonly #wait: ReceiveWait;

  constructor(queue: SteeredQueue, facts: QueueDeviceFacts, clock: Clock = systemClock) {
    this.address = facts.address;
    this.mac = facts.mac;
    this.mtu = facts.mtu;
    this.capabilities = { l4Checksum: facts.l4Checksum, vlanFilter: false };
    this.queues = [queue];
    this.ephemeralPorts = queue.ports;
    const waited = {
      get ready(): boolean {
        return queue.ready;
      },
      arm: (): void => undefined,
    };
    this.#wait = new ReceiveWait("polled", waited, clock);
  }

  receivable(_queue: number, options?: ReceiveWaitOptions): Promise<boolean> {
    return this.#wait.wait(options);
  }

  setMulticast(): Promise<void> {
    return Promise.reject(this.#notHere());
  }

  setVlans(): Promise<void> {
    return Promise.reject(this.#notHere());
  }

  #notHere(): Ring3Error {
    return new Ring3Error("NOT_SUPPORTED", `filters of ${this.address} are set in the thread that has the device`);
  }
}
