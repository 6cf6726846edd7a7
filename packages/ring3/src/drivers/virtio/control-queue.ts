// The control queue of a network device: virtio 1.3, section 5.1.6.5. One command at a time, in memory of its own, waited for
// by looking: filters change seldom, and a device that does not answer must not hold anybody for ever.
import { Ring3Error } from "../../binary/error.ts";
import type { DmaBuffer, PciFunction } from "../../pci/function.ts";
import {
  AvailHalfword,
  DESCRIPTOR_BYTES,
  DescriptorFlag,
  DescriptorWord,
  UsedHalfword,
} from "../../specs/virtio/rings.ts";
import { NetControlAck } from "../../specs/virtio/structs.ts";
import { type Clock, sleep } from "../clock.ts";
import { packedAddresses, packedRingBytes } from "./packed-ring.ts";
import { splitAddresses, splitRingBytes } from "./split-ring.ts";
import type { QueueAddresses, VirtioTransport } from "./transport.ts";

const PAGE = 4096;
const ANSWER_TIMEOUT_MS = 5000;
/** A command is a head of two bytes, data, and the answer's byte behind them. */
const HEAD_BYTES = 2;
const ACK_AT: number = PAGE - 1;
/** Most data of a command. */
export const CONTROL_DATA_BYTES: number = ACK_AT - HEAD_BYTES;
const SIZE = 16;

export class ControlQueue implements Disposable {
  readonly index: number;
  readonly #transport: VirtioTransport;
  readonly #buffer: DmaBuffer;
  readonly #packed: boolean;
  readonly #size: number;
  readonly #addresses: QueueAddresses;
  readonly #commandIova: number;
  readonly #command: Uint8Array;
  readonly #words: Uint32Array;
  readonly #halfwords: Uint16Array;
  readonly #clock: Clock;
  readonly #gone: AbortSignal;
  #busy: Promise<unknown> = Promise.resolve();
  #next = 0;
  #wrap = true;
  #notifyOffset = 0;
  /** Counts set-ups: a command of an earlier one is not answered any more. */
  #round = 0;

  /** `size`: entries that the device's queue can have. */
  constructor(fn: PciFunction, transport: VirtioTransport, index: number, size: number, packed: boolean, clock: Clock) {
    this.index = index;
    this.#transport = transport;
    this.#packed = packed;
    this.#size = Math.min(size, SIZE);
    this.#clock = clock;
    this.#gone = fn.gone;
    const ringBytes = packed ? packedRingBytes(this.#size) : splitRingBytes(this.#size);
    const commandAt = Math.ceil(ringBytes / PAGE) * PAGE;
    this.#buffer = fn.dma.allocate(commandAt + PAGE);
    const { iova, arena, arenaOffset, size: bytes } = this.#buffer;
    this.#words = this.#buffer.words;
    this.#halfwords = arena.halfwords(arenaOffset, bytes / 2);
    this.#command = this.#buffer.bytes.subarray(commandAt, commandAt + PAGE);
    this.#commandIova = iova + commandAt;
    this.#addresses = (packed ? packedAddresses : splitAddresses)(this.#size, iova);
  }

  /** Tells the device the queue, empty. */
  enable(): void {
    this.#buffer.bytes.fill(0);
    this.#next = 0;
    this.#wrap = true;
    this.#round++;
    this.#transport.enableQueue(this.index, this.#size, this.#addresses, undefined);
    this.#notifyOffset = this.#transport.notifyOffset(this.index);
  }

  /** Does a command; whether the device says that it has. Rejects with `TIMEOUT`, `NET_RESET`, and the function's end. */
  command(kind: number, command: number, data: Uint8Array = NOTHING): Promise<boolean> {
    const result = this.#busy.then(() => this.#execute(kind, command, data));
    this.#busy = result.catch(() => undefined);
    return result;
  }

  async #execute(kind: number, command: number, data: Uint8Array): Promise<boolean> {
    const bytes = this.#command;
    bytes[0] = kind;
    bytes[1] = command;
    bytes.set(data, HEAD_BYTES);
    // No answer that a device gives.
    bytes[ACK_AT] = 0xff;
    const round = this.#round;
    const answered = this.#put(HEAD_BYTES + data.length);
    fence();
    this.#transport.notifyRegisters.write16(this.#notifyOffset, this.index);
    const deadline = this.#clock.now() + ANSWER_TIMEOUT_MS;
    while (!answered()) {
      if (round !== this.#round)
        throw new Ring3Error("NET_RESET", `${this.#transport.address} was reset during a command`);
      if (this.#clock.now() >= deadline) {
        throw new Ring3Error("TIMEOUT", `${this.#transport.address} did not answer a control command; reset it`);
      }
      await sleep(this.#clock, 1, this.#gone);
    }
    return bytes[ACK_AT] === NetControlAck.OK;
  }

  /** Makes the command available; what it returns tells whether the device has used it. */
  #put(length: number): () => boolean {
    const flags = [DescriptorFlag.NEXT, DescriptorFlag.WRITE] as const;
    const write = (index: number, iova: number, size: number): void => {
      const at = (index * DESCRIPTOR_BYTES) / 4;
      this.#words[at + DescriptorWord.ADDRESS_LOW] = iova;
      this.#words[at + DescriptorWord.ADDRESS_HIGH] = iova / 2 ** 32;
      this.#words[at + DescriptorWord.LENGTH] = size;
    };
    const last = (index: number): number => (index * DESCRIPTOR_BYTES) / 4 + DescriptorWord.LAST;
    const { driver, device } = this.#addresses;
    const { iova } = this.#buffer;
    if (!this.#packed) {
      write(0, this.#commandIova, length);
      write(1, this.#commandIova + ACK_AT, 1);
      this.#words[last(0)] = flags[0] | (1 << 16);
      this.#words[last(1)] = flags[1];
      const avail = (driver - iova) / 2;
      this.#halfwords[avail + AvailHalfword.FLAGS] = 1;
      this.#halfwords[avail + AvailHalfword.RING + (this.#next % this.#size)] = 0;
      this.#next = (this.#next + 1) & 0xffff;
      const expected = this.#next;
      this.#halfwords[avail + AvailHalfword.INDEX] = expected;
      const used = (device - iova) / 2 + UsedHalfword.INDEX;
      return () => Atomics.load(this.#halfwords, used) === expected;
    }
    const first = this.#next;
    const wrapBefore = this.#wrap;
    const owner = (wrap: boolean): number => (wrap ? DescriptorFlag.AVAIL : DescriptorFlag.USED);
    const [firstWord, secondAt] = [((flags[0] | owner(wrapBefore)) << 16) >>> 0, (first + 1) % this.#size];
    const wrapAt = secondAt === 0 ? !wrapBefore : wrapBefore;
    write(first, this.#commandIova, length);
    write(secondAt, this.#commandIova + ACK_AT, 1);
    this.#words[last(secondAt)] = ((flags[1] | owner(wrapAt)) << 16) >>> 0;
    this.#words[last(first)] = firstWord;
    this.#next = (secondAt + 1) % this.#size;
    this.#wrap = this.#next === 0 ? !wrapAt : wrapAt;
    const bits = (DescriptorFlag.AVAIL | DescriptorFlag.USED) << 16;
    return () => {
      const seen = Atomics.load(this.#words, last(first)) & bits;
      return wrapBefore ? seen === bits : seen === 0;
    };
  }

  [Symbol.dispose](): void {
    this.#buffer[Symbol.dispose]();
  }
}

const NOTHING: Uint8Array = new Uint8Array(0);

/** Orders our stores before the notification: any locked operation does. */
const fenceWord: Int32Array = new Int32Array(1);
function fence(): void {
  Atomics.add(fenceWord, 0, 1);
}
