// Where a function's state outlives the process. A file has two slots that take turns, each with a checksum: a process that
// is killed while it writes one leaves the other, and what was written before it was killed is there.
import { fdatasyncSync, fstatSync } from "node:fs";
import { Ring3Error } from "../binary/error.ts";
import { struct, u32, u64 } from "../binary/struct.ts";
import { FileDescriptor, OPEN, tryReadAt, writeAt } from "../linux/index.ts";
import type { StateStore } from "./server-options.ts";

const SlotHeader = struct("ring3_state_slot", 24, {
  magic: [0, u32],
  checksum: [4, u32],
  generation: [8, u64],
  size: [16, u64],
});
const MAGIC = 0x3353_4752;
/** The slots lie this far apart, or as far as the largest state needs. */
const SLOT_BYTES = 2 ** 30;

/** State in the file at `path`, made where it is not there. Throws `STATE_INVALID` for a file of something else. */
export class StateFile implements StateStore, Disposable {
  readonly #fd: FileDescriptor;
  #generation = 0n;
  #last: Uint8Array | undefined;
  #made: boolean;

  constructor(path: string) {
    this.#fd = FileDescriptor.open(path, OPEN.READ_WRITE | OPEN.CREATE, 0o600, "the state file must be writable");
    try {
      const slots = [0, 1].map((slot) => this.#read(slot)).filter((slot) => slot !== undefined);
      const newest = slots.sort((a, b) => (a.generation < b.generation ? 1 : -1))[0];
      this.#generation = newest?.generation ?? 0n;
      this.#last = newest?.state;
      this.#made = newest === undefined;
      if (newest === undefined) this.#checkUnused(path);
    } catch (error) {
      this.#fd.close();
      throw error;
    }
  }

  load(): Uint8Array | undefined {
    return this.#last;
  }

  /** Nothing is written where nothing changed. */
  save(state: Uint8Array): void {
    if (this.#last !== undefined && same(this.#last, state)) return;
    if (state.length > SLOT_BYTES - SlotHeader.size) throw new Ring3Error("STATE_INVALID", "the state is too large");
    const generation = this.#generation + 1n;
    const checksum = checksumOf(state, generation);
    const header = SlotHeader.bytes({ magic: MAGIC, checksum, generation, size: BigInt(state.length) });
    const slot = new Uint8Array(header.length + state.length);
    slot.set(header);
    slot.set(state, header.length);
    writeAt(this.#fd, Number(generation % 2n) * SLOT_BYTES, slot);
    if (this.#made) {
      fdatasyncSync(this.#fd.number);
      this.#made = false;
    }
    this.#generation = generation;
    this.#last = state.slice();
  }

  [Symbol.dispose](): void {
    this.#fd.close();
  }

  #read(slot: number): { generation: bigint; state: Uint8Array } | undefined {
    const bytes = new Uint8Array(SlotHeader.size);
    if (tryReadAt(this.#fd, slot * SLOT_BYTES, bytes) !== bytes.length) return undefined;
    const { magic, checksum, generation, size } = SlotHeader.from(bytes);
    if (magic !== MAGIC || size > BigInt(SLOT_BYTES - SlotHeader.size)) return undefined;
    const state = new Uint8Array(Number(size));
    if (tryReadAt(this.#fd, slot * SLOT_BYTES + SlotHeader.size, state) !== state.length) return undefined;
    return checksumOf(state, generation) === checksum ? { generation, state } : undefined;
  }

  /** Without a whole slot the file must be empty, or one whose very first write was interrupted: that goes to slot 1. */
  #checkUnused(path: string): void {
    if (fstatSync(this.#fd.number).size === 0) return;
    const [first, second] = [0, 1].map((slot) => {
      const header = new Uint8Array(SlotHeader.size);
      tryReadAt(this.#fd, slot * SLOT_BYTES, header);
      return { used: header.some((byte) => byte !== 0), ours: SlotHeader.from(header).magic === MAGIC };
    });
    if (first?.used === false && second?.ours === true) return;
    throw new Ring3Error(
      "STATE_INVALID",
      first?.ours === true && second?.ours === true
        ? `both copies of the state in ${path} are damaged: remove the file, and the device starts as new`
        : `${path} holds something else than a state of ring3: name another file`,
    );
  }
}

/** FNV-1a over 32-bit words: against half-written slots, not against forgery. */
function checksumOf(state: Uint8Array, generation: bigint): number {
  let hash = 0x811c_9dc5 ^ Number(generation & 0xffff_ffffn);
  for (const byte of state) hash = Math.imul(hash ^ byte, 0x0100_0193);
  return hash >>> 0;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
