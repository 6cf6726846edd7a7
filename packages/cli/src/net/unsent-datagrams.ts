// Datagrams that wait to be sent: the ring may be full, or the target's address not known yet.
import type { UdpEndpoint } from "ring3/net";

export class UnsentDatagrams {
  readonly #endpoint: UdpEndpoint;
  /** A 32-bit integer, as `ipv4` of ring3/net makes it. */
  readonly #address: number;
  readonly #port: number;
  readonly #sizeBytes: number;
  readonly #batches: Uint8Array[] = [];
  /** Where in the first batch the next one lies. */
  #at = 0;

  constructor(endpoint: UdpEndpoint, address: number, port: number, sizeBytes: number) {
    this.#endpoint = endpoint;
    this.#address = address;
    this.#port = port;
    this.#sizeBytes = sizeBytes;
  }

  /** Takes datagrams one after the other, and sends what goes. Throws the end of the device. */
  add(datagrams: Uint8Array): void {
    this.#batches.push(datagrams);
    this.send();
  }

  /** Sends what goes. Throws the end of the device. */
  send(): void {
    for (let batch = this.#batches[0]; batch !== undefined; batch = this.#batches[0]) {
      for (; this.#at < batch.length; this.#at += this.#sizeBytes) {
        if (!this.#endpoint.sendFrom(batch, this.#at, this.#sizeBytes, this.#address, this.#port)) return;
      }
      this.#batches.shift();
      this.#at = 0;
    }
  }
}
