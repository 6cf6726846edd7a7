// An 82576 whose registers are memory, so that threads with queues of its reach them, on a cable where a station answers ARP and
// echoes UDP. Which queue receives what is the test's: a frame that finds no descriptor waits.
import type { NetDevice } from "../../packages/ring3/src/drivers/net/device.ts";
import { get16, put16 } from "../../packages/ring3/src/drivers/net/byte-order.ts";
import { openNetDevice } from "../../packages/ring3/src/drivers/net/open.ts";
import { FakeFunction } from "./fake-function.ts";

const BAR_BYTES = 0x2_0000;
const [CTRL, STATUS, MDIC] = [0x0, 0x8, 0x20];
const [RESET, LINK_UP, PHY_READY] = [0x0400_0000, 0x83, 0x1000_0000];
/** Registers of a queue, of the first four at these places. */
const [RECEIVE, TRANSMIT, STRIDE] = [0x2800, 0x3800, 0x100];
const [LENGTH, HEAD, TAIL] = [0x8, 0x10, 0x18];
const QUEUES = 4;
const DATA_DESCRIPTOR = 3;
const REPORT = 0x0800_0000;
/** Done, end of packet, checksums looked at and found right. */
const RECEIVED = 0x73;
const ARP = 0x0806;

/** The station at the other end. */
const PEER_MAC: readonly number[] = [0x52, 0x54, 0, 0, 0, 9];

export class EchoingIgb implements AsyncDisposable {
  readonly fn: FakeFunction = new FakeFunction({
    vendorId: 0x8086,
    deviceId: 0x10c9,
    msix: 4,
    bars: { 0: { size: BAR_BYTES, memory: { offset: 0, size: BAR_BYTES } } },
  });
  /** Which queue receives an echo that came from queue `from`, of the thread that has `port`; the `nth` of all. */
  readonly #steer: (port: number, from: number, nth: number) => number;
  readonly #waiting: Uint8Array[][] = Array.from({ length: QUEUES }, () => []);
  #echoes = 0;

  constructor(steer: (port: number, from: number, nth: number) => number) {
    this.#steer = steer;
    const turn = (): void => {
      if (this.fn.gone.aborted) return;
      this.#turn();
      setImmediate(turn);
    };
    turn();
  }

  /** With a queue in this thread that waits by interrupt. */
  start(): Promise<NetDevice> {
    return openNetDevice(this.fn, { interrupts: "msix", receiveMode: "interrupt" });
  }

  get #words(): Uint32Array {
    return (this.fn.bar(0).memory as { readonly words: Uint32Array }).words;
  }

  #turn(): void {
    const words = this.#words;
    words[CTRL / 4] = (words[CTRL / 4] as number) & ~RESET;
    words[STATUS / 4] = LINK_UP;
    words[MDIC / 4] = (words[MDIC / 4] as number) | PHY_READY;
    for (let queue = 0; queue < QUEUES; queue++) {
      this.#send(queue);
      const waiting = this.#waiting[queue] ?? [];
      let received = 0;
      for (const frame of waiting) {
        if (!this.#receive(queue, frame)) break;
        received++;
      }
      waiting.splice(0, received);
      if (queue === 0 && received > 0) this.fn.interrupts.raise(0);
    }
  }

  #send(queue: number): void {
    const base = TRANSMIT + queue * STRIDE;
    this.#walk(base, (at, view) => {
      const command = view.getUint32(8, true);
      if (((command >>> 20) & 0xf) !== DATA_DESCRIPTOR) return true;
      const frame = this.fn.dma.read(address(view), command & 0xffff);
      if (frame !== undefined) this.#answer(frame, queue);
      if ((command & REPORT) !== 0) this.fn.dma.write32(at + 12, (view.getUint32(12, true) | 1) >>> 0);
      return true;
    });
  }

  #receive(queue: number, frame: Uint8Array): boolean {
    let received = false;
    this.#walk(RECEIVE + queue * STRIDE, (at, view) => {
      if (received) return false;
      received = true;
      this.fn.dma.write(address(view), frame);
      this.fn.dma.write32(at + 12, frame.length);
      this.fn.dma.write32(at + 8, RECEIVED);
      return true;
    });
    return received;
  }

  /** Goes from a ring's head towards its tail for as long as `use` takes descriptors. */
  #walk(base: number, use: (at: number, descriptor: DataView) => boolean): void {
    const words = this.#words;
    const register = (offset: number): number => words[(base + offset) / 4] as number;
    const entries = register(LENGTH) / 16;
    if (entries === 0) return;
    const tail = Atomics.load(words, (base + TAIL) / 4);
    let head = register(HEAD);
    while (head !== tail) {
      const at = register(0) + register(4) * 2 ** 32 + head * 16;
      const descriptor = this.fn.dma.read(at, 16);
      if (descriptor === undefined || !use(at, new DataView(descriptor.buffer))) break;
      head = (head + 1) % entries;
    }
    words[(base + HEAD) / 4] = head;
  }

  /** The station's answer: to a question who has an address that it has it, to a datagram the same datagram. */
  #answer(frame: Uint8Array, from: number): void {
    if (get16(frame, 12) === ARP) {
      // What is announced asks for the sender's own address.
      const announced = [0, 1, 2, 3].every((i) => frame[28 + i] === frame[38 + i]);
      if (announced || get16(frame, 20) !== 1) return;
      const answer = new Uint8Array(60);
      answer.set([...frame.subarray(6, 12), ...PEER_MAC, ...frame.subarray(12, 20), 0, 2]);
      answer.set([...PEER_MAC, ...frame.subarray(38, 42), ...frame.subarray(22, 32)], 22);
      this.#waiting[0]?.push(answer);
      return;
    }
    const answer = frame.slice();
    answer.set([...frame.subarray(6, 12), ...PEER_MAC]);
    answer.set([...frame.subarray(30, 34), ...frame.subarray(26, 30)], 26);
    put16(answer, 34, get16(frame, 36));
    put16(answer, 36, get16(frame, 34));
    this.#waiting[this.#steer(get16(frame, 34), from, this.#echoes++)]?.push(answer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.fn[Symbol.asyncDispose]();
  }
}

function address(descriptor: DataView): number {
  return descriptor.getUint32(0, true) + descriptor.getUint32(4, true) * 2 ** 32;
}
