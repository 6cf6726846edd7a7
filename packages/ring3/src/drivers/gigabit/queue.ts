// A queue as its thread uses it: the emitted loops or the TypeScript rings, and the word that says whether the device is there.
import { Ring3Error } from "../../binary/error.ts";
import type { Arena } from "../../memory/arena.ts";
import type { Registers } from "../../memory/registers.ts";
import type { NetQueue, NetQueueStatistics } from "../net/device.ts";
import type { PacketPool } from "../net/packet-pool.ts";
import { PACKET_WORDS, type Packets } from "../net/packets.ts";
import { type EmittedBursts, emittedBursts } from "./burst-emitted.ts";
import { QueueControl, type QueuePlace, ringTail, STATE_WORDS, StateWord, signedWords } from "./queue-place.ts";
import { ReceiveRing } from "./receive-ring.ts";
import { TransmitRing } from "./transmit-ring.ts";

const { CONTROL, FILLED } = StateWord;
const { RUNNING, RENEW, ENDED } = QueueControl;
const PACKET_BYTES = 4 * PACKET_WORDS;

export class GigabitQueue implements NetQueue {
  readonly index: number;
  readonly pool: PacketPool;
  readonly place: QueuePlace;
  /** Whether the loops are emitted. */
  readonly emitted: boolean;
  readonly registers: Registers;
  readonly #arena: Arena;
  /** The shared words; after the end a copy of our own, for their memory is somebody else's then. */
  #state: Int32Array;
  readonly #receive: ReceiveRing;
  readonly #transmit: TransmitRing;
  readonly #loops: EmittedBursts | undefined;
  readonly #ended: () => Error;

  /** `ended` gives what bursts throw once the driver has ended. */
  constructor(
    pool: PacketPool,
    place: QueuePlace,
    registers: Registers,
    options: { readonly emit: boolean; readonly ended: () => Error },
  ) {
    const { arena } = pool;
    this.index = place.index;
    this.pool = pool;
    this.place = place;
    this.#arena = arena;
    this.registers = registers;
    this.#state = signedWords(arena, place.state, STATE_WORDS);
    this.#receive = new ReceiveRing(arena, place, registers);
    this.#transmit = new TransmitRing(arena, place, registers);
    this.#ended = options.ended;
    const base = registers.arenaOffset;
    if (options.emit && arena.memory !== undefined && base !== undefined) {
      this.#loops = emittedBursts(arena, place, base + place.receiveTail, base + place.transmitTail);
    }
    this.emitted = this.#loops !== undefined;
  }

  rxBurst(packets: Packets, max: number = packets.capacity): number {
    if (this.#state[CONTROL] !== RUNNING && !this.#mayRun()) return 0;
    if (packets.arena !== this.#arena) throw foreignPackets();
    const most = max < packets.capacity ? max : packets.capacity;
    return this.#loops === undefined
      ? this.#receive.burst(packets, most)
      : this.#loops.receive(packets.arenaOffset, most);
  }

  txBurst(packets: Packets, count: number, first: number = 0): number {
    if (this.#state[CONTROL] !== RUNNING && !this.#mayRun()) return 0;
    if (packets.arena !== this.#arena) throw foreignPackets();
    const most = first + count <= packets.capacity ? count : packets.capacity - first;
    if (!(most > 0 && first >= 0)) return 0;
    return this.#loops === undefined
      ? this.#transmit.burst(packets, most, first)
      : this.#loops.transmit(packets.arenaOffset + first * PACKET_BYTES, most);
  }

  txPending(): number {
    if (this.#state[CONTROL] !== RUNNING && !this.#mayRun()) return 0;
    return this.#transmit.clean();
  }

  get ready(): boolean {
    return this.#state[CONTROL] === RUNNING && this.#receive.ready;
  }

  /** Whether the device reports descriptors out of order. */
  get stuck(): boolean {
    return this.#state[CONTROL] === RUNNING && this.#receive.stuck;
  }

  /** The oldest descriptor that is being sent. */
  get oldest(): number {
    return this.#state[StateWord.TX_CLEAN] as number;
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

  /** Gives back what the rings held and starts them anew. False where the pool has too few buffers. */
  renew(): boolean {
    this.empty();
    if (!this.#receive.fill()) return false;
    this.#transmit.clear();
    this.#state[FILLED] = 1;
    Atomics.store(this.#state, CONTROL, RUNNING);
    ringTail(this.registers, this.place.transmitTail, 0);
    ringTail(this.registers, this.place.receiveTail, this.place.entries - 1);
    return true;
  }

  /** Gives all buffers back to the pool; the device does not use them any more. */
  empty(): void {
    if (this.#state[FILLED] !== 1) return;
    this.#state[FILLED] = 0;
    this.#transmit.drain();
    this.#receive.drain();
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
      rx_packets: word(StateWord.RX_PACKETS),
      rx_bytes: wide(StateWord.RX_BYTES_LOW),
      tx_packets: word(StateWord.TX_PACKETS),
      tx_bytes: wide(StateWord.TX_BYTES_LOW),
      rx_errors: word(StateWord.RX_ERRORS),
      rx_length_errors: word(StateWord.RX_LENGTH_ERRORS),
      rx_no_buffer: word(StateWord.RX_NO_BUFFER),
      tx_errors: word(StateWord.TX_ERRORS),
    };
  }
}

function foreignPackets(): Ring3Error {
  return new Ring3Error(
    "NET_INVALID",
    "these packets lie in another arena: make them with the arena of the queue's pool",
  );
}
