// A queue as its thread uses it: the emitted loops or the TypeScript rings, and the word that says whether the device is there.
// Hard about it: a reset may begin at any time, in another thread, so a queue is filled anew only while nobody forbade it.
import { Ring3Error } from "../../binary/error.ts";
import type { Arena } from "../../memory/arena.ts";
import { type BurstCode, type EmittedBursts, emittedBursts } from "./burst-emitted.ts";
import type { NetQueue, NetQueueStatistics } from "./device.ts";
import type { PacketPool } from "./packet-pool.ts";
import { PACKET_WORDS, type Packets } from "./packets.ts";
import { QUEUE_WORDS, QueueControl, QueueWord, signedWords } from "./queue-state.ts";

// Constants of this module, which V8 folds into the code as it does not with imported ones.
const { CONTROL, FILLED } = QueueWord;
const { RUNNING, RENEW, ENDED } = QueueControl;
const PACKET_BYTES = 4 * PACKET_WORDS;

export interface RingQueueParts {
  readonly index: number;
  readonly pool: PacketPool;
  /** Arena offset of the state: {@link QUEUE_WORDS} and what the family keeps behind them. */
  readonly state: number;
  /** The bursts, where they are to be emitted. */
  readonly code: BurstCode | undefined;
  /** Gives what bursts throw once the driver has ended. */
  readonly ended: () => Error;
}

export abstract class RingQueue implements NetQueue {
  readonly index: number;
  readonly pool: PacketPool;
  /** What the emitted loops consist of; absent where the loops are TypeScript. */
  readonly code: BurstCode | undefined;
  readonly #arena: Arena;
  /** The shared words; after the end a copy of our own, for their memory is somebody else's then. */
  #state: Int32Array;
  readonly #loops: EmittedBursts | undefined;
  readonly #ended: () => Error;

  constructor({ index, pool, state, code, ended }: RingQueueParts) {
    this.index = index;
    this.pool = pool;
    this.#arena = pool.arena;
    this.#state = signedWords(pool.arena, state, QUEUE_WORDS);
    this.#ended = ended;
    if (code !== undefined && pool.arena.memory !== undefined) {
      this.code = code;
      this.#loops = emittedBursts(pool.arena, code);
    }
  }

  /** The reference of the emitted loops. `max` is from 1 to what `packets` takes. */
  protected abstract receive(packets: Packets, max: number): number;
  /** `count` packets from `first` on lie in `packets`. */
  protected abstract transmit(packets: Packets, count: number, first: number): number;
  /** Gives sent buffers back to the pool and returns how many are still being sent. */
  protected abstract clean(): number;
  /** Whether the next packet is there: one load. */
  protected abstract readonly received: boolean;
  /** Makes the rings anew and fills the one to receive. False, and nothing taken, where the pool has too few buffers. */
  protected abstract fill(): boolean;
  /** Tells the device of rings that were filled. */
  protected abstract show(): void;
  /** Gives all buffers of the rings back to the pool. */
  protected abstract drain(): void;
  /** Does what emitted code leaves to be done after each burst. */
  settle(): void {}

  protected get state(): Int32Array {
    return this.#state;
  }

  /** Whether the loops are emitted. */
  get emitted(): boolean {
    return this.#loops !== undefined;
  }

  rxBurst(packets: Packets, max: number = packets.capacity): number {
    if (this.#state[CONTROL] !== RUNNING && !this.#mayRun()) return 0;
    if (packets.arena !== this.#arena) throw foreignPackets();
    const most = max < packets.capacity ? max : packets.capacity;
    if (!(most > 0)) return 0;
    if (this.#loops === undefined) return this.receive(packets, most);
    const taken = this.#loops.receive(packets.arenaOffset, most);
    this.settle();
    return taken;
  }

  txBurst(packets: Packets, count: number, first: number = 0): number {
    if (this.#state[CONTROL] !== RUNNING && !this.#mayRun()) return 0;
    if (packets.arena !== this.#arena) throw foreignPackets();
    const most = first + count <= packets.capacity ? count : packets.capacity - first;
    if (!(most > 0 && first >= 0)) return 0;
    if (this.#loops === undefined) return this.transmit(packets, most, first);
    const taken = this.#loops.transmit(packets.arenaOffset + first * PACKET_BYTES, most);
    this.settle();
    return taken;
  }

  txPending(): number {
    if (this.#state[CONTROL] !== RUNNING && !this.#mayRun()) return 0;
    return this.clean();
  }

  get ready(): boolean {
    return this.running && this.received;
  }

  /** Whether the device has the rings. */
  get running(): boolean {
    return this.#state[CONTROL] === RUNNING;
  }

  /** Whether bursts find anything at all now. Throws once the driver has ended. */
  get usable(): boolean {
    return this.#state[CONTROL] === RUNNING || this.#mayRun();
  }

  /** Whether the queue may be used; fills it anew where the device has come back. Throws once the driver has ended. */
  #mayRun(): boolean {
    const control = Atomics.load(this.#state, CONTROL);
    if (control === ENDED) throw this.#ended();
    return control === RENEW && this.renew();
  }

  /**
   * Gives back what the rings held and starts them anew. False where the pool has too few buffers, or where the next reset has
   * begun meanwhile.
   */
  renew(): boolean {
    const before = Atomics.load(this.#state, CONTROL);
    this.empty();
    if (!this.fill()) return false;
    this.#state[FILLED] = 1;
    if (Atomics.compareExchange(this.#state, CONTROL, before, RUNNING) !== before) return false;
    this.show();
    return true;
  }

  /** Gives all buffers back to the pool; the device does not use them any more. */
  empty(): void {
    if (this.#state[FILLED] !== 1) return;
    this.#state[FILLED] = 0;
    this.drain();
  }

  /** From now on bursts find nothing (`STOPPED`), or throw (`ENDED`). */
  control(value: (typeof QueueControl)["STOPPED" | "ENDED"]): void {
    Atomics.store(this.#state, CONTROL, value);
  }

  /** Whether the driver has ended, and the pool with it if it was its own. */
  get ended(): boolean {
    return this.#state[CONTROL] === ENDED;
  }

  /** From now on bursts throw. The queue's memory is not touched any more. */
  end(): void {
    this.#state = this.#state.slice();
    this.#state[CONTROL] = ENDED;
  }

  statistics(): NetQueueStatistics {
    const state = this.#state;
    const word = (index: number): number => (state[index] as number) >>> 0;
    const wide = (low: number): number => word(low) + word(low + 1) * 2 ** 32;
    return {
      rx_packets: word(QueueWord.RX_PACKETS),
      rx_bytes: wide(QueueWord.RX_BYTES_LOW),
      tx_packets: word(QueueWord.TX_PACKETS),
      tx_bytes: wide(QueueWord.TX_BYTES_LOW),
      rx_errors: word(QueueWord.RX_ERRORS),
      rx_length_errors: word(QueueWord.RX_LENGTH_ERRORS),
      rx_no_buffer: word(QueueWord.RX_NO_BUFFER),
      tx_errors: word(QueueWord.TX_ERRORS),
    };
  }
}

function foreignPackets(): Ring3Error {
  return new Ring3Error(
    "NET_INVALID",
    "these packets lie in another arena: make them with the arena of the queue's pool",
  );
}
