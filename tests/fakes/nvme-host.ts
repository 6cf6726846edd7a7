// A bare NVMe host for tests of the device: it writes the bytes of each command itself and looks at the bytes that come
// back, without any of the driver. So a test can send what no driver sends.
import assert from "node:assert/strict";
import type { DmaBuffer, PciFunction } from "../../packages/ring3/src/pci/function.ts";

/** A command, field by field; what is left out is 0. */
export interface RawCommand {
  readonly opcode: number;
  /** Bits 15:8 of dword 0: FUSE and PSDT. */
  readonly flags?: number;
  readonly nsid?: number;
  readonly prp1?: number;
  readonly prp2?: number;
  /** All 16 bytes of the data pointer, instead of the PRPs. */
  readonly pointer?: Uint8Array;
  readonly cdw10?: number;
  readonly cdw11?: number;
  readonly cdw12?: number;
  readonly cdw13?: number;
  readonly cdw14?: number;
}

export interface RawCompletion {
  readonly dw0: number;
  readonly sqHead: number;
  readonly sqId: number;
  readonly identifier: number;
  /** Status field without phase: 15 bits. */
  readonly field: number;
  /** `type << 8 | code`. */
  readonly status: number;
}

interface RawQueue {
  readonly entries: number;
  readonly submission: DmaBuffer;
  readonly completion: DmaBuffer;
  tail: number;
  head: number;
  phase: number;
}

const HIGH = 2 ** 32;

export class NvmeHost {
  readonly fn: PciFunction;
  readonly queues: Map<number, RawQueue> = new Map();
  readonly #doorbellStride: number;
  #identifier = 0x100;

  constructor(fn: PciFunction) {
    this.fn = fn;
    this.#doorbellStride = 4 << (fn.bar(0).read32(4) & 0xf);
  }

  /** Enables the controller with admin queues of `entries`. `cc` goes beside EN, IOSQES and IOCQES. */
  enable(entries = 16, cc = 0): void {
    const bar = this.fn.bar(0);
    this.fn.busMaster = true;
    const admin = this.newQueue(entries);
    this.queues.clear();
    this.queues.set(0, admin);
    bar.write32(0x24, (entries - 1) | ((entries - 1) << 16));
    bar.write32(0x28, admin.submission.iova % HIGH);
    bar.write32(0x2c, Math.floor(admin.submission.iova / HIGH));
    bar.write32(0x30, admin.completion.iova % HIGH);
    bar.write32(0x34, Math.floor(admin.completion.iova / HIGH));
    bar.write32(0x14, 0x0046_0001 | cc);
  }

  get csts(): number {
    return this.fn.bar(0).read32(0x1c);
  }

  newQueue(entries: number): RawQueue {
    const submission = this.fn.dma.allocate(entries * 64);
    const completion = this.fn.dma.allocate(entries * 16);
    return { entries, submission, completion, tail: 0, head: 0, phase: 1 };
  }

  /** Creates an I/O queue pair; `vector` switches its interrupt on. */
  async createPair(id: number, entries = 16, vector?: number): Promise<void> {
    const queue = this.newQueue(entries);
    const interrupt = vector === undefined ? 0 : 2 | (vector << 16);
    const size = ((entries - 1) << 16) | id;
    await this.ok({ opcode: 0x05, prp1: queue.completion.iova, cdw10: size, cdw11: 1 | interrupt });
    await this.ok({ opcode: 0x01, prp1: queue.submission.iova, cdw10: size, cdw11: 1 | (id << 16) });
    this.queues.set(id, queue);
  }

  /** Writes a command into the queue without ringing; returns its identifier. */
  post(command: RawCommand, id = 0): number {
    const queue = this.#queue(id);
    const identifier = this.#identifier++ & 0xffff;
    const words = queue.submission.words.subarray(queue.tail * 16, queue.tail * 16 + 16).fill(0);
    words[0] = command.opcode | ((command.flags ?? 0) << 8) | (identifier << 16);
    words[1] = command.nsid ?? 0;
    if (command.pointer !== undefined) {
      const pointer = command.pointer.slice();
      words.set(new Uint32Array(pointer.buffer, 0, 4), 6);
    } else {
      words[6] = (command.prp1 ?? 0) % HIGH;
      words[7] = Math.floor((command.prp1 ?? 0) / HIGH);
      words[8] = (command.prp2 ?? 0) % HIGH;
      words[9] = Math.floor((command.prp2 ?? 0) / HIGH);
    }
    words[10] = command.cdw10 ?? 0;
    words[11] = command.cdw11 ?? 0;
    words[12] = command.cdw12 ?? 0;
    words[13] = command.cdw13 ?? 0;
    words[14] = command.cdw14 ?? 0;
    queue.tail = (queue.tail + 1) % queue.entries;
    return identifier;
  }

  ring(id = 0): void {
    this.fn.bar(0).write32(0x1000 + 2 * id * this.#doorbellStride, this.#queue(id).tail);
  }

  /** The next completion that has come, without telling the controller. */
  reap(id = 0): RawCompletion | undefined {
    const queue = this.#queue(id);
    const words = queue.completion.words;
    const at = queue.head * 4;
    const last = words[at + 3] as number;
    if (((last >>> 16) & 1) !== queue.phase) return undefined;
    const dw2 = words[at + 2] as number;
    if (++queue.head === queue.entries) {
      queue.head = 0;
      queue.phase ^= 1;
    }
    const field = last >>> 17;
    const status = field & 0x7ff;
    return {
      dw0: words[at] as number,
      sqHead: dw2 & 0xffff,
      sqId: dw2 >>> 16,
      identifier: last & 0xffff,
      field,
      status,
    };
  }

  /** Tells the controller what was reaped. */
  acknowledge(id = 0): void {
    this.fn.bar(0).write32(0x1000 + (2 * id + 1) * this.#doorbellStride, this.#queue(id).head);
  }

  /** The next completion, waiting some turns of the event loop for it. */
  async completion(id = 0): Promise<RawCompletion> {
    for (let turn = 0; turn < 2000; turn++) {
      const found = this.reap(id);
      if (found !== undefined) {
        this.acknowledge(id);
        return found;
      }
      // A controller in another process gets its turn by being asked something.
      if (turn % 8 === 7) this.fn.bar(0).read32(0x1c);
      await new Promise((resolve) => setImmediate(resolve));
    }
    throw new Error(`no completion came in queue ${id}`);
  }

  /** Sends a command and waits for it. */
  async execute(command: RawCommand, id = 0): Promise<RawCompletion> {
    const identifier = this.post(command, id);
    this.ring(id);
    const completion = await this.completion(id);
    assert.equal(completion.identifier, identifier);
    assert.equal(completion.sqId, id);
    return completion;
  }

  /** As `execute`, and it must succeed; returns dword 0. */
  async ok(command: RawCommand, id = 0): Promise<number> {
    const completion = await this.execute(command, id);
    assert.equal(
      completion.field,
      0,
      `opcode ${command.opcode.toString(16)}: status ${completion.status.toString(16)}`,
    );
    return completion.dw0;
  }

  /** The status of a command. */
  async status(command: RawCommand, id = 0): Promise<number> {
    return (await this.execute(command, id)).status;
  }

  /** A page that the device fills. */
  async page(command: RawCommand): Promise<Uint8Array> {
    const buffer = this.fn.dma.allocate(4096);
    buffer.bytes.fill(0xaa);
    await this.ok({ ...command, prp1: buffer.iova });
    const bytes = buffer.bytes.slice();
    buffer[Symbol.dispose]();
    return bytes;
  }

  #queue(id: number): RawQueue {
    const queue = this.queues.get(id);
    if (queue === undefined) throw new Error(`no queue ${id}`);
    return queue;
  }
}

/** Lets everything that is due in the event loop happen. */
export async function turns(count = 8): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}
