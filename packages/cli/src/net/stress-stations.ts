// The queues of a device for ring3 echo-stress: the main thread's, and one for each of as many threads, which share what they
// receive by software, whatever the device steers where.
import type { NetDevice, ReceiveSteering, Stack, StackDevice, SteeredDevice, SteeredQueue } from "ring3/net";
import { UsageError } from "../usage-error.ts";
import type { QueueCounts, StressStation } from "./stress-worker.ts";

/** Around what an MTU counts: Ethernet header and VLAN tag. */
const LINK_BYTES = 18;
/** IPv4 and UDP headers. */
const HEADER_BYTES = 28;
const [LEAST_SLOTS, MOST_SLOTS] = [256, 8192];

export interface StationsWanted {
  /** All of them, the main thread's among them. */
  readonly queues: number;
  /** Requests that are on their way at once to the busiest of the queues. */
  readonly onTheWay: number;
  readonly sizeBytes: number;
}

export class StressStations implements AsyncDisposable {
  /** For the stack of the main thread. */
  readonly device: StackDevice;
  readonly #device: NetDevice;
  readonly #queues: number;
  readonly #steered: { readonly steering: ReceiveSteering; readonly queue: SteeredQueue } | undefined;
  readonly #resources: AsyncDisposableStack = new AsyncDisposableStack();

  private constructor(
    device: NetDevice,
    queues: number,
    steered:
      | { readonly steering: ReceiveSteering; readonly queue: SteeredQueue; readonly device: SteeredDevice }
      | undefined,
  ) {
    this.#device = device;
    this.#queues = queues;
    this.#steered = steered;
    this.device = steered === undefined ? device : this.#resources.use(steered.device);
  }

  /** Throws a {@link UsageError} where the device has not so many queues, or a request takes fragments. */
  static async open(device: NetDevice, { queues, onTheWay, sizeBytes }: StationsWanted): Promise<StressStations> {
    const [own] = device.queues;
    if (queues === 1 || own === undefined) return new StressStations(device, queues, undefined);
    const { maxQueues } = device.capabilities;
    if (queues > maxQueues) {
      const has = maxQueues === 1 ? "one queue" : `${maxQueues} queues`;
      throw new UsageError(`${device.address} has ${has}, so --queues takes ${maxQueues} at most`);
    }
    if (sizeBytes > device.mtu - HEADER_BYTES) {
      throw new UsageError(
        `with --queues a request has ${device.mtu - HEADER_BYTES} bytes at most: it would be sent in fragments, which do not say ` +
          "for which thread they are",
      );
    }
    const { receiveSteering, SteeredDevice, SteeredQueue } = await import("ring3/net");
    const slots = Math.min(MOST_SLOTS, 2 ** Math.ceil(Math.log2(Math.max(LEAST_SLOTS, 2 * onTheWay))));
    const steering = receiveSteering({ stations: queues, slots, frameBytes: device.mtu + LINK_BYTES });
    const queue = new SteeredQueue(own, steering, 0);
    return new StressStations(device, queues, { steering, queue, device: new SteeredDevice(device, queue) });
  }

  /** Opens the threads' queues. `stack` has found its address; it finds the next station on the way to the peer. */
  async others(
    stack: Stack<StackDevice>,
    peer: { readonly address: string; readonly port: number },
  ): Promise<StressStation[]> {
    if (this.#steered === undefined) return [];
    const { steering } = this.#steered;
    const { address, prefix, gateway, vlan } = stack.configuration;
    const neighbour = await stack.resolve(peer.address);
    const { mac, mtu, capabilities } = this.#device;
    const stations: StressStation[] = [];
    for (let station = 1; station < this.#queues; station++) {
      const queue = this.#resources.use(await this.#device.openWorkerQueue());
      stations.push({
        queue: queue.handle(),
        steering,
        station,
        facts: { address: this.#device.address, mac, mtu, l4Checksum: capabilities.l4Checksum },
        stack: {
          address: `${address}/${prefix}`,
          ...(gateway === undefined ? {} : { gateway }),
          ...(vlan === undefined ? {} : { vlan }),
          permanentNeighbours: [neighbour],
        },
        peer,
      });
    }
    return stations;
  }

  /** What the main thread's queue did. */
  counts(): QueueCounts[] {
    const none = { handedOver: 0, takenOver: 0, lost: 0 };
    return this.#device.queues.map((queue) => ({
      index: queue.index,
      ...queue.statistics(),
      ...(this.#steered?.queue.steered ?? none),
    }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources[Symbol.asyncDispose]();
  }
}
