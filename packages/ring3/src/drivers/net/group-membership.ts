// The groups that a station receives: told to the device, which filters them, and to the network by IGMP.
import { Ring3Error } from "../../binary/error.ts";
import { putMac } from "../../specs/ethernet/index.ts";
import type { NetDevice } from "./device.ts";
import type { IgmpHost } from "./igmp.ts";
import type { IpOutput } from "./ip-output.ts";
import { IpProtocol, ROUTER_ALERT } from "./ipv4.ts";
import { ipv4, multicastMac } from "./ipv4-address.ts";

export class GroupMembership {
  readonly #host: IgmpHost;
  readonly #device: Pick<NetDevice, "setMulticast">;
  readonly #output: IpOutput;

  constructor(host: IgmpHost, device: Pick<NetDevice, "setMulticast">, output: IpOutput) {
    this.#host = host;
    this.#device = device;
    this.#output = output;
  }

  /** When {@link tick} has something to do. */
  get dueMs(): number {
    return this.#host.dueMs;
  }

  /** Rejects with `ADDRESS_INVALID`, `NET_INVALID`, and what the device's filter does. */
  async join(group: string, nowMs: number): Promise<void> {
    if (!this.#host.join(ipv4(group), nowMs)) {
      throw new Ring3Error("NET_INVALID", `${group} is no group, or 64 are joined already`);
    }
    await this.#filter();
  }

  /** Resolves to whether it was joined. */
  async leave(group: string, nowMs: number): Promise<boolean> {
    const left = this.#host.leave(ipv4(group), nowMs);
    if (left) await this.#filter();
    return left;
  }

  async #filter(): Promise<void> {
    const macs = [...this.#host.groups].map((group) => {
      const mac = new Uint8Array(6);
      putMac(mac, 0, multicastMac(group));
      return mac;
    });
    await this.#device.setMulticast(macs);
  }

  /** Sends the reports that are due. */
  tick(nowMs: number): void {
    if (this.#host.dueMs > nowMs) return;
    for (const { destination, payload } of this.#host.tick(nowMs)) {
      this.#output.datagram(payload, payload.length, {
        protocol: IpProtocol.IGMP,
        destination,
        timeToLive: 1,
        options: ROUTER_ALERT,
      });
    }
  }
}
