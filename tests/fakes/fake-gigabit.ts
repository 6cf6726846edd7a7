// An 82574, an 82576 or its virtual function, in the test's hands, behind a fake function: registers, queues, interrupts, and for
// the virtual function a physical one that answers, refuses, stays silent or is reset.
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";
import { INTEL_VENDOR_ID } from "../../packages/ring3/src/specs/gigabit/registers.ts";
import { FakeFunction } from "./fake-function.ts";

export type FakeGigabitKind = "e1000e" | "igb" | "igbvf";

const IDS = { e1000e: 0x10d3, igb: 0x10c9, igbvf: 0x10ca } as const;
/** The vector of everything that is no queue's, with one queue. */
const OTHER_VECTOR = { e1000e: 1, igb: 1, igbvf: 1 } as const;
const [CTRL, STATUS, MDIC, RAL, RAH] = [0x0, 0x8, 0x20, 0x5400, 0x5404];
const [MAILBOX, MEMORY] = [0xc40, 0x800];
const RESET = 0x0400_0000;
const [REQ, VFU, PFSTS, PFACK, RSTI, RSTD] = [1, 4, 0x10, 0x20, 0x40, 0x80];
const [ANSWER_ACK, ANSWER_NACK, CLEAR_TO_SEND] = [0x8000_0000, 0x4000_0000, 0x2000_0000];
const MAC = [0x52, 0x54, 0, 0, 3, 7] as const;

/** How the physical function behaves. */
export interface FakeParent {
  /** Leaves every message unanswered. */
  silent: boolean;
  /** Low 16 bits of messages that are refused. */
  readonly refuses: Set<number>;
  /** Is in reset, which virtual functions see. */
  resetting: boolean;
  /** Words of what was asked, in order. */
  readonly asked: number[][];
}

export class FakeGigabit {
  readonly fn: FakeFunction;
  readonly kind: FakeGigabitKind;
  /** Frames sent, in order. */
  readonly sent: Uint8Array[] = [];
  readonly parent: FakeParent = { silent: false, refuses: new Set(), resetting: false, asked: [] };
  link = true;
  /** Every register reads all ones. */
  absent = false;
  /** What a read gives instead of the register's value. */
  lie: (value: number) => number = (value) => value;
  /** Nothing is sent. */
  hangs = false;
  /** How often it was reset. */
  resets = 0;
  readonly #registers: Map<number, number> = new Map();
  #mailbox = 0;

  constructor(kind: FakeGigabitKind, options: { readonly arena?: Arena } = {}) {
    this.kind = kind;
    this.fn = new FakeFunction({
      vendorId: INTEL_VENDOR_ID,
      deviceId: IDS[kind],
      classCode: 0x020000,
      msi: kind === "igbvf" ? 0 : 1,
      msix: kind === "igbvf" ? 2 : 4,
      intx: kind !== "igbvf",
      bars: {
        0: {
          size: kind === "igbvf" ? 0x4000 : 0x2_0000,
          read: (offset) => this.lie(this.#read(offset)) >>> 0,
          write: (offset, _width, value) => this.#write(offset, value),
        },
      },
      onReset: () => this.#reset(),
      ...options,
    });
    this.#reset();
    this.resets = 0;
  }

  register(offset: number): number {
    return this.#registers.get(offset) ?? 0;
  }

  #reset(): void {
    this.resets++;
    this.#registers.clear();
    const [a, b, c, d, e, f] = MAC;
    this.#registers.set(RAL, (a | (b << 8) | (c << 16) | (d << 24)) >>> 0);
    this.#registers.set(RAH, (e | (f << 8) | 0x8000_0000) >>> 0);
  }

  #read(offset: number): number {
    if (this.absent) return 0xffff_ffff;
    if (offset === STATUS) return this.link ? 0x83 : 0x81;
    if (offset === MDIC) return (this.register(offset) | 0x1000_0000) >>> 0;
    if (this.kind === "igbvf" && offset === MAILBOX) {
      const value = this.#mailbox | (this.parent.resetting ? RSTI : 0);
      this.#mailbox &= ~(PFSTS | PFACK | RSTD);
      return value;
    }
    // Statistics and causes: nothing.
    if ((offset >= 0x4000 && offset < 0x4200) || offset === 0xc0) return 0;
    return this.register(offset);
  }

  #write(offset: number, value: number): void {
    if (this.absent) return;
    if (offset === CTRL && (value & RESET) !== 0) {
      this.#reset();
      return;
    }
    if (this.kind === "igbvf" && offset === MAILBOX) {
      this.#control(value);
      return;
    }
    this.#registers.set(offset, value);
    if (offset === 0x3818 || offset === 0x3918) this.#send(offset - 0x18);
  }

  /** The virtual function's mailbox register was written. */
  #control(value: number): void {
    this.#mailbox = (this.#mailbox & ~VFU) | (value & VFU);
    if ((value & REQ) === 0 || this.parent.silent) return;
    const words = Array.from({ length: 16 }, (_, i) => this.register(MEMORY + 4 * i));
    this.parent.asked.push(words);
    const kind = (words[0] as number) & 0xffff;
    const verdict = this.parent.refuses.has(kind) ? ANSWER_NACK : ANSWER_ACK;
    this.say(((words[0] as number) | verdict | CLEAR_TO_SEND) >>> 0);
    if (kind === 1 && verdict === ANSWER_ACK) {
      this.#registers.set(MEMORY + 4, this.register(RAL));
      this.#registers.set(MEMORY + 8, this.register(RAH) & 0xffff);
    }
    this.#mailbox |= PFACK;
  }

  /** The physical function writes a message. */
  say(word: number): void {
    this.#registers.set(MEMORY, word);
    this.#mailbox |= PFSTS;
  }

  /** The physical function was reset and is back: everything that this function had told it is gone. */
  parentWasReset(): void {
    this.#reset();
    this.#mailbox |= RSTD;
  }

  #send(base: number): void {
    if (this.hangs) return;
    const entries = this.register(base + 0x08) / 16;
    const tail = this.register(base + 0x18);
    let head = this.register(base + 0x10);
    while (entries > 0 && head !== tail) {
      const at = this.register(base) + this.register(base + 4) * 2 ** 32 + head * 16;
      const descriptor = this.fn.dma.read(at, 16);
      if (descriptor === undefined) return;
      const view = new DataView(descriptor.buffer);
      const command = view.getUint32(8, true);
      const type = (command >>> 20) & 0xf;
      if (type === (this.kind === "e1000e" ? 1 : 3)) {
        const address = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
        const frame = this.fn.dma.read(address, command & 0xffff);
        if (frame !== undefined) this.sent.push(frame);
        if ((command & 0x0800_0000) !== 0) this.fn.dma.write32(at + 12, (view.getUint32(12, true) | 1) >>> 0);
      }
      head = head + 1 === entries ? 0 : head + 1;
    }
    this.#registers.set(base + 0x10, head);
  }

  /** Receives a frame into a queue; false where there is no descriptor. `skip` reports a later descriptor instead. */
  receive(frame: Uint8Array, options: { queue?: number; status?: number; skip?: number } = {}): boolean {
    const { queue = 0, status = 3, skip = 0 } = options;
    const base = 0x2800 + 0x100 * queue;
    const entries = this.register(base + 0x08) / 16;
    const head = this.register(base + 0x10);
    if (!(entries > 0) || head === this.register(base + 0x18)) return false;
    const at = this.register(base) + this.register(base + 4) * 2 ** 32 + ((head + skip) % entries) * 16;
    const descriptor = this.fn.dma.read(at, 16);
    if (descriptor === undefined) return false;
    const view = new DataView(descriptor.buffer);
    this.fn.dma.write(view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32, frame);
    this.fn.dma.write32(at + 12, frame.length);
    this.fn.dma.write32(at + 8, status >>> 0);
    if (skip === 0) this.#registers.set(base + 0x10, (head + 1) % entries);
    this.#interrupt(queue);
    return true;
  }

  /** Tells of a change of the link, or with a virtual function of a message. */
  interruptOther(): void {
    if (this.fn.interrupts.active === "msix") this.fn.interrupts.raise(OTHER_VECTOR[this.kind]);
  }

  #interrupt(queue: number): void {
    const { interrupts } = this.fn;
    if (interrupts.active !== "msix") return;
    const mask = this.kind === "e1000e" ? this.register(0xd0) >>> 20 : this.register(0x1524);
    if ((mask & (1 << queue)) !== 0) interrupts.raise(queue);
  }
}
