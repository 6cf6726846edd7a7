// A gigabit queue as its thread uses it: its rings, and the registers that tell the device of them.
import type { Registers } from "../../memory/registers.ts";
import type { PacketPool } from "../net/packet-pool.ts";
import type { Packets } from "../net/packets.ts";
import { RingQueue } from "../net/ring-queue.ts";
import { gigabitBurstCode } from "./burst-code.ts";
import { type QueuePlace, ringTail, StateWord } from "./queue-place.ts";
import { ReceiveRing } from "./receive-ring.ts";
import { TransmitRing } from "./transmit-ring.ts";

export class GigabitQueue extends RingQueue {
  readonly place: QueuePlace;
  readonly #registers: Registers;
  readonly #receive: ReceiveRing;
  readonly #transmit: TransmitRing;

  /** `ended` gives what bursts throw once the driver has ended. */
  constructor(
    pool: PacketPool,
    place: QueuePlace,
    registers: Registers,
    options: { readonly emit: boolean; readonly ended: () => Error },
  ) {
    const { index, state, receiveTail, transmitTail } = place;
    const base = registers.arenaOffset;
    const emit = options.emit && base !== undefined;
    const code = emit ? gigabitBurstCode(place, base + receiveTail, base + transmitTail) : undefined;
    super({ index, pool, state, code, ended: options.ended });
    this.place = place;
    this.#registers = registers;
    this.#receive = new ReceiveRing(pool.arena, place, registers);
    this.#transmit = new TransmitRing(pool.arena, place, registers);
  }

  protected override receive(packets: Packets, max: number): number {
    return this.#receive.burst(packets, max);
  }

  protected override transmit(packets: Packets, count: number, first: number): number {
    return this.#transmit.burst(packets, count, first);
  }

  protected override clean(): number {
    return this.#transmit.clean();
  }

  protected override get received(): boolean {
    return this.#receive.ready;
  }

  /** Whether the device reports descriptors out of order. */
  get stuck(): boolean {
    return this.running && this.#receive.stuck;
  }

  /** The oldest descriptor that is being sent. */
  get oldest(): number {
    return this.state[StateWord.TX_CLEAN] as number;
  }

  protected override fill(): boolean {
    if (!this.#receive.fill()) return false;
    this.#transmit.clear();
    return true;
  }

  protected override show(): void {
    ringTail(this.#registers, this.place.transmitTail, 0);
    ringTail(this.#registers, this.place.receiveTail, this.place.entries - 1);
  }

  protected override drain(): void {
    this.#transmit.drain();
    this.#receive.drain();
  }
}
