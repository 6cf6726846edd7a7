// The completion queues of an NVMe controller as its driver makes them: the admin queue by AQA and ACQ, the others by the
// commands that create and delete them (NVMe base 2.0, sections 3.1.3 and 5.4 to 5.7). Entries: section 3.3.3.2.
import type { CompletionPlace, CompletionPlaces, MemoryReader } from "../../binary/completion-places.ts";
import { AdminOpcode, COMPLETION_ENTRY_SIZE, CommandWord, SUBMISSION_ENTRY_SIZE } from "./commands.ts";
import { Aqa, Cc, Nvme, submissionDoorbell } from "./registers.ts";

/** The byte that has the phase tag changes whenever an entry becomes valid. */
const PHASE_BYTE = 14;
/** Status code of an internal error, generic command status. */
const INTERNAL_ERROR = 6;

interface Queue {
  readonly iova: number;
  readonly entries: number;
}

export class NvmeCompletionPlaces implements CompletionPlaces {
  readonly #queues: Map<number, Queue> = new Map();
  readonly #registers: Map<number, number> = new Map();
  readonly #doorbell: number;
  #tail = 0;

  constructor({ stride = 0 }: { readonly stride?: number } = {}) {
    this.#doorbell = submissionDoorbell(0, stride);
  }

  written(bar: number, offset: number, value: number, memory: MemoryReader): void {
    if (bar !== 0) return;
    if (offset === this.#doorbell) this.#submitted(value, memory);
    if (offset >= Nvme.DOORBELLS) return;
    const enabled = Cc.EN.test(this.#register(Nvme.CC));
    this.#registers.set(offset, value);
    if (offset !== Nvme.CC || Cc.EN.test(value) === enabled) return;
    this.#queues.clear();
    this.#tail = 0;
    if (Cc.EN.test(value)) this.#queues.set(0, { iova: this.#address(Nvme.ACQ_LOW), entries: this.#entries("ACQS") });
  }

  completed(iova: number, size: number): CompletionPlace | undefined {
    for (const [queue, { iova: start, entries }] of this.#queues) {
      const index = Math.ceil((iova - start - PHASE_BYTE) / COMPLETION_ENTRY_SIZE);
      const entry = start + Math.max(0, index) * COMPLETION_ENTRY_SIZE;
      if (index < entries && entry + PHASE_BYTE >= iova && entry + PHASE_BYTE < iova + size)
        return { queue, iova: entry, entries };
    }
    return undefined;
  }

  spoil(entry: Uint8Array, field: string, { queue, entries }: CompletionPlace, value: number | undefined): void {
    const view = new DataView(entry.buffer, entry.byteOffset, entry.byteLength);
    const word = view.getUint16(PHASE_BYTE, true);
    if (field === "status") view.setUint16(PHASE_BYTE, (word & 1) | ((value ?? INTERNAL_ERROR) << 1), true);
    else if (field === "phase") view.setUint16(PHASE_BYTE, word ^ 1, true);
    else if (field === "identifier") view.setUint16(12, value ?? view.getUint16(12, true) ^ 0xffff, true);
    else if (field === "queue") view.setUint16(10, value ?? queue + 1, true);
    else view.setUint16(8, value ?? entries, true);
  }

  #register(offset: number): number {
    return this.#registers.get(offset) ?? 0;
  }

  #address(low: number): number {
    return this.#register(low) + this.#register(low + 4) * 2 ** 32;
  }

  #entries(field: "ASQS" | "ACQS"): number {
    return Aqa[field].get(this.#register(Nvme.AQA)) + 1;
  }

  /** Looks at the admin commands up to the new tail. */
  #submitted(tail: number, memory: MemoryReader): void {
    const entries = this.#entries("ASQS");
    const start = this.#address(Nvme.ASQ_LOW);
    for (let left = entries; this.#tail !== tail && left > 0; left--) {
      const command = memory(start + this.#tail * SUBMISSION_ENTRY_SIZE, SUBMISSION_ENTRY_SIZE);
      if (command !== undefined) this.#command(new DataView(command.buffer, command.byteOffset, command.byteLength));
      this.#tail = (this.#tail + 1) % entries;
    }
  }

  #command(view: DataView): void {
    const word = (index: number): number => view.getUint32(index * 4, true);
    const opcode = word(0) & 0xff;
    const identity = word(CommandWord.CDW10);
    if (opcode === AdminOpcode.CREATE_IO_COMPLETION_QUEUE) {
      const iova = word(CommandWord.PRP1_LOW) + word(CommandWord.PRP1_HIGH) * 2 ** 32;
      this.#queues.set(identity & 0xffff, { iova, entries: (identity >>> 16) + 1 });
    } else if (opcode === AdminOpcode.DELETE_IO_COMPLETION_QUEUE) this.#queues.delete(identity & 0xffff);
  }
}
