// A station's address by DHCP: it is asked for in the network before it is used (RFC 5227), kept, and given back. Hard about it:
// what the client says may change while a probe is under way.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import { type Clock, sleep } from "../clock.ts";
import { DhcpClient, type DhcpLease, type DhcpMessage } from "./dhcp-client.ts";
import { DHCP_CLIENT_PORT, DHCP_SERVER_PORT } from "./dhcp-message.ts";
import type { IpInput } from "./ip-input.ts";
import type { Configuration, IpOutput } from "./ip-output.ts";
import { ANY_ADDRESS } from "./ipv4-address.ts";
import type { StackCounts } from "./stack-statistics.ts";

export interface StackDhcpOptions {
  readonly hostName?: string;
  /** How long to wait for a lease, in milliseconds; 30,000 by default. */
  readonly timeoutMs?: number;
  /** Asks everybody whether somebody has the address already (RFC 5227), for this long; 200 ms by default, 0 for not. */
  readonly probeMs?: number;
  readonly signal?: AbortSignal;
}

/** What is needed of the stack. */
export interface DhcpStation {
  readonly clock: Clock;
  /** Six bytes. */
  readonly mac: Uint8Array;
  readonly output: IpOutput;
  readonly input: IpInput;
  readonly counts: StackCounts;
  /** Aborts with the stack. */
  readonly closing: AbortSignal;
  working(): boolean;
  configure(configuration: Configuration): void;
  /** Sends what waits once the program lets go of the thread. */
  flushLater(): void;
  /** Sends what waits. */
  flush(): void;
  /** Takes what has come. Throws the device's end. */
  poll(): void;
  /** Whether something waits to be sent, for a neighbour's answer or for the device. Throws the device's end. */
  sending(): boolean;
  /** Calls {@link AddressByDhcp.tick} soon. */
  tickSoon(): void;
}

const TIMEOUT_MS = 30_000;
const PROBE_MS = 200;
/** For a last word to the server, whose neighbour's answer may take its time. */
const RELEASE_PATIENCE_MS = 1000;
const RELEASE_LOOK_MS = 1;

export class AddressByDhcp {
  readonly #station: DhcpStation;
  readonly #options: StackDhcpOptions;
  readonly #client: DhcpClient;
  readonly #configured: PromiseWithResolvers<void> = Promise.withResolvers();
  #probing = false;

  constructor(station: DhcpStation, options: StackDhcpOptions) {
    const { hostName } = options;
    this.#station = station;
    this.#options = options;
    this.#client = new DhcpClient(
      { mac: station.mac, ...(hostName === undefined ? {} : { hostName }) },
      station.clock.now(),
    );
    this.#configured.promise.catch(() => undefined);
    station.input.unconfigured = true;
  }

  get lease(): DhcpLease | undefined {
    return this.#client.lease;
  }

  /** When {@link tick} has something to do. */
  get dueMs(): number {
    return this.#client.dueMs;
  }

  /** Resolves once there is an address. Rejects with `DHCP_NO_LEASE`, the signal's reason, and what {@link fail} is told. */
  async configured(): Promise<void> {
    const { timeoutMs = TIMEOUT_MS, signal } = this.#options;
    const { reject, promise } = this.#configured;
    const timer = this.#station.clock.after(timeoutMs, () => {
      const message = `no DHCP server gave an address within ${timeoutMs} ms; is one on this network?`;
      reject(new Ring3Error("DHCP_NO_LEASE", message));
    });
    const abort = (): void => reject(signal?.reason as Error);
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted) abort();
    try {
      await promise;
    } finally {
      timer[Symbol.dispose]();
      signal?.removeEventListener("abort", abort);
    }
  }

  /** The stack ends before there was an address. */
  fail(error: Error): void {
    this.#configured.reject(error);
  }

  /** A datagram came to the client's port. */
  receive(payload: Uint8Array): void {
    const message = this.#client.receive(payload, this.#station.clock.now());
    this.#leaseChanged();
    if (message !== undefined) this.#send(message);
    this.#station.tickSoon();
  }

  tick(nowMs: number): void {
    if (this.#client.dueMs > nowMs) return;
    const message = this.#client.tick(nowMs);
    this.#leaseChanged();
    if (message !== undefined) this.#send(message);
  }

  /**
   * Tells the server that its lease is free, where there is one, and stays until that has left: the server may have to be asked
   * for its Ethernet address first, and who closes the stack closes the device next.
   */
  async giveBack(): Promise<void> {
    const station = this.#station;
    const { clock } = station;
    const message = this.#client.release(clock.now());
    if (message === undefined) return;
    this.#send(message);
    const deadline = clock.now() + RELEASE_PATIENCE_MS;
    station.flush();
    try {
      while (station.working() && station.sending() && clock.now() < deadline) {
        await sleep(clock, RELEASE_LOOK_MS);
        station.poll();
      }
    } catch (error) {
      // The device has ended meanwhile: the lease runs out by itself.
      if (!isRing3Error(error)) throw error;
    }
  }

  /** Takes over what the client has, after it was asked for in the network whether somebody uses it. */
  #leaseChanged(): void {
    const { lease } = this.#client;
    const current = this.#station.output.configuration.address;
    if (lease === undefined) {
      if (current !== ANY_ADDRESS) this.#station.configure({ address: ANY_ADDRESS, prefix: 0, gateway: 0 });
      return;
    }
    if (lease.address === current) this.#use(lease);
    else if (!this.#probing) void this.#probe(lease);
  }

  async #probe(lease: DhcpLease): Promise<void> {
    const { clock, closing, input, output, counts } = this.#station;
    const { probeMs = PROBE_MS } = this.#options;
    const probing = { address: lease.address, heard: new AbortController() };
    this.#probing = true;
    try {
      if (probeMs > 0) {
        input.probing = probing;
        output.probe(lease.address);
        this.#station.flushLater();
        await sleep(clock, probeMs, AbortSignal.any([closing, probing.heard.signal])).catch(() => undefined);
      }
    } finally {
      this.#probing = false;
      input.probing = undefined;
    }
    if (!this.#station.working()) return;
    if (this.#client.lease?.address !== lease.address) {
      this.#leaseChanged();
      return;
    }
    if (!probing.heard.signal.aborted) {
      this.#use(lease);
      return;
    }
    counts.addressConflicts++;
    const message = this.#client.decline(clock.now());
    if (message !== undefined) this.#send(message);
    this.#station.flushLater();
  }

  #use({ address, prefix, routers }: DhcpLease): void {
    const { configuration } = this.#station.output;
    const gateway = routers.find((router) => router !== address) ?? 0;
    if (configuration.address !== address || configuration.prefix !== prefix || configuration.gateway !== gateway) {
      this.#station.configure({ address, prefix, gateway });
    }
    this.#configured.resolve();
  }

  #send({ destination, source, payload }: DhcpMessage): void {
    this.#station.output.udp(payload, 0, payload.length, DHCP_CLIENT_PORT, destination, DHCP_SERVER_PORT, source);
  }
}
