// A device of whose queues other threads have some, for the stack of the thread that has it. Hard about it: what others hand over
// comes without an interrupt of the device.
import type { Ring3Error } from "../../binary/error.ts";
import type { DriverEvents } from "../events.ts";
import type { NetCapabilities, NetDevice, NetEventMap, NetQueue, ReceiveWaitOptions } from "./device.ts";
import type { SteeredQueue } from "./receive-steering.ts";
import type { StackDevice } from "./stack-device.ts";
import type { PortRange } from "./udp-ports.ts";

/** Waits for what its queue receives, and for what other stations hand over. Everything else is the device's. */
export class SteeredDevice implements StackDevice, Disposable {
  readonly queues: readonly NetQueue[];
  readonly ephemeralPorts: PortRange;
  readonly #device: NetDevice;
  readonly #queue: SteeredQueue;
  readonly #listening: Disposable;
  #wake: () => void = () => undefined;

  /** `queue`: over the first of the device's own. */
  constructor(device: NetDevice, queue: SteeredQueue) {
    this.#device = device;
    this.#queue = queue;
    this.queues = [queue];
    this.ephemeralPorts = queue.ports;
    this.#listening = queue.onHandedOver(() => this.#wake());
  }

  get address(): string {
    return this.#device.address;
  }

  get mac(): Uint8Array {
    return this.#device.mac;
  }

  get mtu(): number {
    return this.#device.mtu;
  }

  get capabilities(): NetCapabilities {
    return this.#device.capabilities;
  }

  get events(): DriverEvents<NetEventMap> {
    return this.#device.events;
  }

  get failure(): Ring3Error | undefined {
    return this.#device.failure;
  }

  async receivable(queue: number, { timeoutMs, signal }: ReceiveWaitOptions = {}): Promise<boolean> {
    signal?.throwIfAborted();
    const waking = new AbortController();
    const wake = (): void => waking.abort();
    this.#wake = wake;
    signal?.addEventListener("abort", wake, { once: true });
    try {
      if (this.#queue.ready) return true;
      const options = { signal: waking.signal, ...(timeoutMs === undefined ? {} : { timeoutMs }) };
      return await this.#device.receivable(queue, options);
    } catch (error) {
      if (error !== waking.signal.reason) throw error;
      signal?.throwIfAborted();
      return true;
    } finally {
      signal?.removeEventListener("abort", wake);
    }
  }

  setMulticast(addresses: readonly Uint8Array[]): Promise<void> {
    return this.#device.setMulticast(addresses);
  }

  setVlans(ids: readonly number[] | undefined): Promise<void> {
    return this.#device.setVlans(ids);
  }

  [Symbol.dispose](): void {
    this.#listening[Symbol.dispose]();
  }
}
