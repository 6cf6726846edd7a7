// An Ethernet switch in process: it learns where addresses are from what they send, and floods what it does not know
// (IEEE 802.1Q, section 8.7). Hard about it: ports may be wired into a loop, so that a frame which a delivery brings forth
// waits in its port's bounded queue for a later turn; a storm then costs frames and neither the stack nor the event loop.
import { type DeviceClock, machineClock } from "../clock.ts";
import { ETHERNET_HEADER_BYTES, macAt, macText } from "../../specs/ethernet/index.ts";
import type { NetLink, NetReceiver } from "./net-link.ts";

export interface SwitchOptions {
  /** How long an address that sends nothing is remembered, in milliseconds; 300,000 by default. */
  readonly ageingMs?: number;
  /** Addresses remembered at most; 4096 by default. */
  readonly maximumAddresses?: number;
  /** Frames that wait at a port at most; 256 by default. */
  readonly queueFrames?: number;
  /** Larger frames are dropped; 65,553 bytes by default. */
  readonly maximumFrameBytes?: number;
  readonly clock?: DeviceClock;
}

/** What went through a port. */
export interface SwitchPortStatistics {
  /** Frames that came in. */
  readonly received: number;
  readonly receivedBytes: number;
  /** Frames that went out. */
  readonly sent: number;
  readonly sentBytes: number;
  /** Frames that came in and went to all other ports, their addresses being unknown or for many. */
  readonly flooded: number;
  /** Frames that came in and had nowhere to go. */
  readonly filtered: number;
  /** Frames that were malformed. */
  readonly malformed: number;
  /** Frames for this port that were lost: its queue was full, nobody was plugged in, or it would not take them. */
  readonly dropped: number;
}

interface LearntAddress {
  readonly port: SwitchPort;
  readonly atMs: number;
}

/** An address counts as heard of again only so often: it keeps the table from being written for each frame. */
const REFRESH_MS = 1000;
/** Frames that one turn of the event loop moves out of a queue. */
const FRAMES_PER_TURN = 64;
/** Addresses that no bridge forwards, IEEE 802.1Q, table 8-1: 01-80-c2-00-00-00 to -0f. */
const RESERVED = 0x0180_c200_0000;
const MULTICAST = 2 ** 40;

/** A learning switch. */
export class EthernetSwitch {
  readonly #ports: Set<SwitchPort> = new Set();
  /** By address; what was heard of longest ago comes first. */
  readonly #addresses: Map<number, LearntAddress> = new Map();
  readonly #options: Required<SwitchOptions>;
  #delivering = false;
  #count = 0;

  constructor(options: SwitchOptions = {}) {
    this.#options = {
      ageingMs: options.ageingMs ?? 300_000,
      maximumAddresses: options.maximumAddresses ?? 4096,
      queueFrames: options.queueFrames ?? 256,
      maximumFrameBytes: options.maximumFrameBytes ?? 65_553,
      clock: options.clock ?? machineClock,
    };
  }

  /** A port for a device to be plugged into. */
  port(name?: string): SwitchPort {
    return this.#add(name);
  }

  /** Wires another link (a stream socket, a tap, a port of another switch) to a new port. */
  connect(link: NetLink, name?: string): SwitchPort {
    const port = this.#add(name);
    const receiver: NetReceiver = {
      receive: (frame) => port.send(frame),
      linkChanged: (up) => port.setUp(up),
      writable: () => port.drainLater(),
    };
    // The far end hears through the link; the port hears from it.
    port.attach({
      receive: (frame) => link.send(frame),
      linkChanged() {},
      writable() {},
    });
    port.waitsWhile(() => link.congested);
    port.onDispose(() => link.attach(undefined));
    link.attach(receiver);
    port.setUp(link.up);
    return port;
  }

  get ports(): readonly SwitchPort[] {
    return [...this.#ports];
  }

  /** Which addresses are known, and at which port. */
  addresses(): { readonly mac: string; readonly port: string; readonly ageMs: number }[] {
    const now = this.#options.clock.now();
    return [...this.#addresses]
      .filter(([, { atMs }]) => now - atMs < this.#options.ageingMs)
      .map(([mac, { port, atMs }]) => ({ mac: macText(mac), port: port.name, ageMs: now - atMs }));
  }

  #add(name: string | undefined): SwitchPort {
    const { queueFrames, clock } = this.#options;
    const port: SwitchPort = new SwitchPort(name ?? `port ${++this.#count}`, queueFrames, clock, {
      forward: (frame) => this.#forward(port, frame),
      delivering: () => this.#delivering,
      deliver: (act) => {
        this.#delivering = true;
        try {
          return act();
        } finally {
          this.#delivering = false;
        }
      },
      forget: () => this.#forget(port),
      remove: () => {
        this.#ports.delete(port);
        this.#forget(port);
      },
    });
    this.#ports.add(port);
    return port;
  }

  /** What was learnt at a port that goes down is no longer true (IEEE 802.1Q, section 8.8.3). */
  #forget(port: SwitchPort): void {
    for (const [mac, learnt] of this.#addresses) if (learnt.port === port) this.#addresses.delete(mac);
  }

  #forward(from: SwitchPort, frame: Uint8Array): "malformed" | "filtered" | "flooded" | "sent" {
    if (frame.length < ETHERNET_HEADER_BYTES || frame.length > this.#options.maximumFrameBytes) return "malformed";
    const destination = macAt(frame, 0);
    const source = macAt(frame, 6);
    if (isMulticast(source)) return "malformed";
    const now = this.#options.clock.now();
    this.#learn(source, from, now);
    if (destination >= RESERVED && destination <= RESERVED + 0xf) return "filtered";
    const learnt = isMulticast(destination) ? undefined : this.#addresses.get(destination);
    if (learnt !== undefined && now - learnt.atMs < this.#options.ageingMs) {
      if (learnt.port === from) return "filtered";
      learnt.port.take(frame);
      return "sent";
    }
    for (const port of this.#ports) if (port !== from) port.take(frame);
    return "flooded";
  }

  #learn(mac: number, port: SwitchPort, now: number): void {
    const learnt = this.#addresses.get(mac);
    if (learnt !== undefined && learnt.port === port && now - learnt.atMs < REFRESH_MS) return;
    if (learnt !== undefined) this.#addresses.delete(mac);
    else if (this.#addresses.size >= this.#options.maximumAddresses) {
      const [oldest] = this.#addresses.keys();
      if (oldest !== undefined) this.#addresses.delete(oldest);
    }
    this.#addresses.set(mac, { port, atMs: now });
  }
}

interface PortOwner {
  forward(frame: Uint8Array): "malformed" | "filtered" | "flooded" | "sent";
  /** Whether a delivery is going on somewhere up the stack. */
  delivering(): boolean;
  deliver(act: () => boolean): boolean;
  forget(): void;
  remove(): void;
}

/** A port of a switch: the link that a device is plugged into. Disposal unplugs it and forgets what was learnt there. */
export class SwitchPort implements NetLink, Disposable {
  readonly name: string;
  readonly #limit: number;
  readonly #clock: DeviceClock;
  readonly #owner: PortOwner;
  readonly #queue: Uint8Array[] = [];
  readonly #counts = {
    received: 0,
    receivedBytes: 0,
    sent: 0,
    sentBytes: 0,
    flooded: 0,
    filtered: 0,
    malformed: 0,
    dropped: 0,
  };
  #receiver: NetReceiver | undefined;
  #waits: () => boolean = () => false;
  #disposed: (() => void) | undefined;
  #scheduled = false;
  #up = true;
  #gone = false;

  /** Made by {@link EthernetSwitch}. */
  constructor(name: string, limit: number, clock: DeviceClock, owner: PortOwner) {
    this.name = name;
    this.#limit = limit;
    this.#clock = clock;
    this.#owner = owner;
  }

  get statistics(): SwitchPortStatistics {
    return { ...this.#counts };
  }

  get up(): boolean {
    return this.#up && !this.#gone;
  }

  /** A switch always takes frames; what it cannot pass on is lost. */
  get congested(): boolean {
    return false;
  }

  attach(receiver: NetReceiver | undefined): void {
    this.#receiver = receiver;
    this.#queue.length = 0;
  }

  /** Pulls the cable, or plugs it in again. */
  setUp(up: boolean): void {
    if (this.#up === up || this.#gone) return;
    this.#up = up;
    if (!up) {
      this.#queue.length = 0;
      this.#owner.forget();
    }
    this.#receiver?.linkChanged(up);
  }

  send(frame: Uint8Array): boolean {
    if (!this.up) return false;
    this.#counts.received++;
    this.#counts.receivedBytes += frame.length;
    const result = this.#owner.forward(frame);
    if (result !== "sent") this.#counts[result]++;
    return result !== "malformed";
  }

  [Symbol.dispose](): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#queue.length = 0;
    this.#owner.remove();
    this.#disposed?.();
    this.#receiver?.linkChanged(false);
    this.#receiver = undefined;
  }

  // ---- the switch's side

  /** A frame for whoever is plugged in: at once, or in a later turn. */
  take(frame: Uint8Array): void {
    if (this.#receiver === undefined || !this.up) {
      this.#counts.dropped++;
      return;
    }
    if (this.#owner.delivering() || this.#queue.length > 0 || this.#waits()) {
      if (this.#queue.length >= this.#limit) {
        this.#counts.dropped++;
        return;
      }
      this.#queue.push(new Uint8Array(frame));
      if (!this.#waits()) this.drainLater();
      return;
    }
    this.#hand(frame);
  }

  /** Has frames wait while `waits` is true; `drainLater` ends that. */
  waitsWhile(waits: () => boolean): void {
    this.#waits = waits;
  }

  onDispose(act: () => void): void {
    this.#disposed = act;
  }

  drainLater(): void {
    if (this.#scheduled || this.#queue.length === 0) return;
    this.#scheduled = true;
    this.#clock.soon(() => {
      this.#scheduled = false;
      const frames = this.#queue.splice(0, FRAMES_PER_TURN);
      for (let i = 0; i < frames.length; i++) {
        if (this.#waits()) {
          this.#queue.unshift(...frames.slice(i));
          return;
        }
        this.#hand(frames[i] as Uint8Array);
      }
      this.drainLater();
    });
  }

  #hand(frame: Uint8Array): void {
    const receiver = this.#receiver;
    const taken = receiver !== undefined && this.up && this.#owner.deliver(() => receiver.receive(frame));
    if (!taken) {
      this.#counts.dropped++;
      return;
    }
    this.#counts.sent++;
    this.#counts.sentBytes += frame.length;
  }
}

function isMulticast(mac: number): boolean {
  return Math.floor(mac / MULTICAST) % 2 === 1;
}
