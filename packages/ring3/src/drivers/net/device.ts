// The interface that every network driver keeps: bursts of packets between a program and a device's queues, without an
// object, a promise or a copy for a packet; and what the device is, can do, counts and tells. Bursts are for the thread
// that owns the queue; what takes milliseconds (filters, MTU, link) is a promise.
import type { Ring3Error } from "../../binary/error.ts";
import type { ArenaHandle } from "../../memory/arena.ts";
import type { Clock } from "../clock.ts";
import type { DriverEvents } from "../events.ts";
import type { PacketPool, PacketPoolHandle } from "./packet-pool.ts";
import type { Packets } from "./packets.ts";

/** How a wait for packets learns of them: by looking, by interrupt, or adaptively: it looks for a while, then arms. */
export type ReceiveMode = "polled" | "interrupt" | "adaptive";

export interface LinkState {
  readonly up: boolean;
  /** Megabits per second; 0 where the link is down or the device does not say. */
  readonly speedMbps: number;
  readonly fullDuplex: boolean;
}

/** What a device can do, after the program's options. */
export interface NetCapabilities {
  /** Queues that could be opened, each a receive and a transmit ring. */
  readonly maxQueues: number;
  /** Largest MTU that device and pool take. */
  readonly maxMtu: number;
  /** Checks IPv4 header, and TCP and UDP checksums of what it receives. */
  readonly receiveChecksums: boolean;
  /** Computes an IPv4 header's checksum. */
  readonly ipv4Checksum: boolean;
  /** Computes the checksums of TCP and UDP. */
  readonly l4Checksum: boolean;
  /** Takes the VLAN tag out of received frames, and puts it into frames to be sent. */
  readonly vlanOffload: boolean;
  readonly vlanFilter: boolean;
  readonly promiscuous: boolean;
  /** Spreads received packets over the queues by a hash of their addresses. */
  readonly receiveSteering: boolean;
}

/**
 * Counters since the driver started, named as the kernel names them (`rtnl_link_stats64`, `ip -s link`). `rx_dropped`: frames
 * that the driver left out (malformed descriptors among them); `rx_missed_errors`: frames that came while no buffer was there.
 */
export interface NetStatistics {
  readonly rx_packets: number;
  readonly tx_packets: number;
  readonly rx_bytes: number;
  readonly tx_bytes: number;
  readonly rx_errors: number;
  readonly tx_errors: number;
  readonly rx_dropped: number;
  readonly tx_dropped: number;
  readonly multicast: number;
  readonly collisions: number;
  readonly rx_length_errors: number;
  readonly rx_crc_errors: number;
  readonly rx_missed_errors: number;
  /** The device's own counters, by its datasheet's names. */
  readonly device: Readonly<Record<string, number>>;
}

/** What a queue counted itself, in this thread or its worker. */
export interface NetQueueStatistics {
  readonly rx_packets: number;
  readonly rx_bytes: number;
  readonly tx_packets: number;
  readonly tx_bytes: number;
  /** Frames that the device marked as damaged. */
  readonly rx_errors: number;
  /** Frames that did not fit in a buffer, and descriptors that say what cannot be. */
  readonly rx_length_errors: number;
  /** Times that a frame had to wait because the pool was empty. */
  readonly rx_no_buffer: number;
  /** Packets that `txBurst` refused for good: a place outside the pool, a length that no frame has. */
  readonly tx_errors: number;
}

/** What can happen to a device while its driver runs. */
export interface NetEventMap {
  readonly link: LinkState;
  /** The device was reset and works again: what its rings held is lost and counted, filters and MTU are as they were. */
  readonly reset: { readonly reason: string };
  /** The driver has ended: the function is gone, wanted back, or cannot be brought back. Bursts throw from now on. */
  readonly removed: { readonly code: string; readonly reason: string };
}

export interface ReceiveModeFilter {
  /** Every frame, whomever it is for. */
  readonly promiscuous?: boolean;
  /** Every multicast frame. */
  readonly allMulticast?: boolean;
}

/** A receive and a transmit ring, for the one thread that owns them. */
export interface NetQueue {
  readonly index: number;
  /** The buffers of everything that passes this queue. */
  readonly pool: PacketPool;
  /**
   * Takes up to `max` received packets into the front of `packets` and returns how many; their buffers are the caller's.
   * 0 while the device is being reset; throws the driver's end (`FUNCTION_REMOVED`, `NET_CLOSED`) once it has ended.
   */
  rxBurst(packets: Packets, max?: number): number;
  /**
   * Sends up to `count` packets from index `first` on and returns how many it took: their buffers are the queue's, which gives
   * them back to the pool when they were sent. Fewer where the ring is full. What cannot be a frame is taken, dropped and
   * counted. Throws as `rxBurst`.
   */
  txBurst(packets: Packets, count: number, first?: number): number;
  /** Gives sent buffers back to the pool and returns how many are still being sent. */
  txPending(): number;
  /** Whether a received packet waits; one load, safe to spin on. */
  readonly ready: boolean;
  statistics(): NetQueueStatistics;
}

/** A queue that is to be used by a worker: send `handle()` there and call `attachNetQueue`. */
export interface NetWorkerQueue extends AsyncDisposable {
  readonly index: number;
  handle(): NetQueueHandle;
  /** Whether a worker has it now. */
  readonly owned: boolean;
}

/** What a worker needs to take a queue over; structured-cloneable. `kind` names the driver family. */
export interface NetQueueHandle {
  readonly kind: string;
  readonly address: string;
  readonly index: number;
  readonly arena: ArenaHandle;
  readonly pool: PacketPoolHandle;
}

/** A queue in the worker that owns it. Disposal stops using it; the owner of the device may hand it out again. */
export interface AttachedNetQueue extends NetQueue, Disposable {}

export interface NetWorkerQueueOptions {
  /** The worker's own pool; its size as the device's pool by default. */
  readonly buffers?: number;
}

export interface ReceiveWaitOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * A running network device.
 *
 * @example
 * import { openNetDevice, Packets } from "ring3/net";
 * await using device = await openNetDevice(fn);
 * using packets = new Packets(device.pool.arena, 32);
 * await device.waitForLink();
 * while (await device.receivable(0)) {
 *   const count = device.rxBurst(0, packets);
 *   const sent = device.txBurst(0, packets, count); // echoes every frame
 *   device.pool.giveAll(packets, count - sent, sent);
 * }
 */
export interface NetDevice extends AsyncDisposable {
  /** The driver: `igb`, `igbvf`, `e1000e`, `virtio-net`. */
  readonly driver: string;
  /** Where the function was opened. */
  readonly address: string;
  readonly events: DriverEvents<NetEventMap>;
  readonly capabilities: NetCapabilities;
  /** The buffers of the queues of this thread. */
  readonly pool: PacketPool;
  /** The queues of this thread, by index. */
  readonly queues: readonly NetQueue[];
  /** Why the driver has ended. */
  readonly failure: Ring3Error | undefined;

  /** As `queues[queue].rxBurst`. */
  rxBurst(queue: number, packets: Packets, max?: number): number;
  /** As `queues[queue].txBurst`. */
  txBurst(queue: number, packets: Packets, count: number, first?: number): number;
  /**
   * Waits until packets may wait in the queue, in the device's receive mode; false after `timeoutMs`. Lets the event loop
   * have a turn every few milliseconds however busy the queue is. Rejects with the driver's end or the signal's reason.
   */
  receivable(queue: number, options?: ReceiveWaitOptions): Promise<boolean>;

  readonly link: LinkState;
  /** Resolves once the link is up; 10 s by default. Rejects with `NET_NO_LINK`. */
  waitForLink(options?: ReceiveWaitOptions): Promise<LinkState>;
  statistics(): NetStatistics;

  /** Six bytes. */
  readonly mac: Uint8Array;
  /** Rejects with `NET_REFUSED` where the device (a virtual function's parent) does not let it. */
  setMac(mac: Uint8Array): Promise<void>;
  readonly mtu: number;
  /** Rejects with `NET_INVALID` beyond `capabilities.maxMtu`, `NET_REFUSED`. */
  setMtu(mtu: number): Promise<void>;
  /** Rejects with `NET_REFUSED`, `NOT_SUPPORTED`. */
  setReceiveMode(filter: ReceiveModeFilter): Promise<void>;
  /** The multicast addresses to receive, instead of those before; a device may let more pass. */
  setMulticast(addresses: readonly Uint8Array[]): Promise<void>;
  /** The VLANs to receive; `undefined` for all. Rejects with `NET_REFUSED`, `NOT_SUPPORTED`. */
  setVlans(ids: readonly number[] | undefined): Promise<void>;

  /** A queue of its own with a pool of its own for a worker. Rejects with `NOT_SUPPORTED`, `NET_NO_QUEUE`. */
  openWorkerQueue(options?: NetWorkerQueueOptions): Promise<NetWorkerQueue>;
  /** Resets the device; everything is set up again as it was. */
  reset(): Promise<void>;
}

/** What every network driver can be told at its start. */
export interface NetDeviceOptions {
  /** Queues of this thread; 1 by default. */
  readonly queues?: number;
  /** Entries of each ring; 256 by default. */
  readonly ringEntries?: number;
  /** The pool of this thread's queues, shared with other devices; one of the device's own by default. */
  readonly pool?: PacketPool;
  /** `adaptive` by default where the function has interrupts. */
  readonly receiveMode?: ReceiveMode;
  /** Which interrupts; the best that the function has by default. */
  readonly interrupts?: "msix" | "msi" | "intx" | "none";
  /** Burst loops: emitted WebAssembly where that is possible (default), or the TypeScript that they are tested against. */
  readonly loops?: "emitted" | "typescript";
  /** 1500 by default. */
  readonly mtu?: number;
  /** Whether the device takes VLAN tags out of received frames; true by default where it can. */
  readonly vlanStripping?: boolean;
  readonly clock?: Clock;
}
