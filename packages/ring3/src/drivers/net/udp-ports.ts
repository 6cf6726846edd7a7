// Which UDP ports of a stack are bound, and to whom.
import { Ring3Error } from "../../binary/error.ts";
import { type UdpBindOptions, UdpEndpoint, type UdpSender } from "./udp-endpoint.ts";

/** `count` ports from `first` on. */
export interface PortRange {
  readonly first: number;
  readonly count: number;
}

/** RFC 6335, section 6. */
export const EPHEMERAL_PORTS: PortRange = { first: 49_152, count: 16_384 };

export class UdpPorts {
  readonly #sender: UdpSender;
  readonly #free: PortRange;
  readonly #endpoints: Map<number, UdpEndpoint> = new Map();

  /** `send`: how what an endpoint sends leaves. `free`: where a port is chosen that nobody has named. Throws `NET_INVALID`. */
  constructor(send: UdpSender["sendUdp"], free: PortRange = EPHEMERAL_PORTS) {
    const { first, count } = free;
    if (!(Number.isInteger(first) && Number.isInteger(count) && first > 0 && count > 0 && first + count <= 0x1_0000)) {
      throw new Ring3Error("NET_INVALID", `ports are 1 to 65535, not ${count} from ${first} on`);
    }
    this.#free = free;
    this.#sender = { sendUdp: send, closeUdp: (port) => this.#endpoints.delete(port) };
  }

  /** Who has bound `port`. */
  get(port: number): UdpEndpoint | undefined {
    return this.#endpoints.get(port);
  }

  /** Binds `port`, or a free one for 0. Throws `NET_PORT_BUSY`, `NET_INVALID`. */
  bind(port: number, options: UdpBindOptions): UdpEndpoint {
    if (!(Number.isInteger(port) && port >= 0 && port <= 0xffff)) {
      throw new Ring3Error("NET_INVALID", `a port is 1 to 65535, or 0 for any, not ${port}`);
    }
    const chosen = port === 0 ? this.#freePort() : port;
    if (chosen === undefined || this.#endpoints.has(chosen)) {
      throw new Ring3Error("NET_PORT_BUSY", `port ${port} is bound already`);
    }
    const endpoint = new UdpEndpoint(chosen, this.#sender, options);
    this.#endpoints.set(chosen, endpoint);
    return endpoint;
  }

  #freePort(): number | undefined {
    const { first, count } = this.#free;
    const start = Math.floor(Math.random() * count);
    for (let i = 0; i < count; i++) {
      const port = first + ((start + i) % count);
      if (!this.#endpoints.has(port)) return port;
    }
    return undefined;
  }

  /** The stack has ended by itself. */
  fail(error: Error): void {
    for (const endpoint of [...this.#endpoints.values()]) endpoint.fail(error);
  }

  /** The stack was closed. */
  close(): void {
    for (const endpoint of [...this.#endpoints.values()]) endpoint[Symbol.dispose]();
  }
}
