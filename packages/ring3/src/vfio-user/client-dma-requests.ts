// The server's requests to read and write memory by message: inside what is mapped, as the permissions say, and only while
// the function is bus master. A malicious server learns nothing that it could not reach by DMA.
import { ERRNO } from "../linux/errno.ts";
import type { Arena } from "../memory/arena.ts";
import type { DmaPermission } from "../pci/function.ts";
import type { CommandServer } from "./client-channel.ts";
import type { Lane } from "./client-lane.ts";
import { Command, HEADER_SIZE } from "./messages.ts";

/** Memory that the device may reach. */
export interface ReachableMemory {
  readonly iova: number;
  readonly size: number;
  readonly arenaOffset: number;
  readonly permission: DmaPermission;
}

/** What is mapped, by IOVA; looked up by halving. */
export class ReachableTable {
  readonly #entries: ReachableMemory[] = [];

  get all(): readonly ReachableMemory[] {
    return this.#entries;
  }

  add(memory: ReachableMemory): void {
    const last = this.#entries.at(-1);
    if (last === undefined || last.iova < memory.iova) this.#entries.push(memory);
    else this.#entries.splice(this.#after(memory.iova), 0, memory);
  }

  remove(iova: number): void {
    const at = this.#after(iova) - 1;
    if (this.#entries[at]?.iova === iova) this.#entries.splice(at, 1);
  }

  /** The memory that `iova` lies in. */
  at(iova: number): ReachableMemory | undefined {
    const found = this.#entries[this.#after(iova) - 1];
    return found !== undefined && iova < found.iova + found.size ? found : undefined;
  }

  /** The index behind the last entry that starts at `iova` or below. */
  #after(iova: number): number {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#entries[middle]?.iova ?? 0) <= iova) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

const ADDRESS_BYTES = 16;

export class DmaRequests implements CommandServer {
  readonly #arena: Arena;
  readonly #table: ReachableTable;
  readonly #mayAccess: () => boolean;
  readonly #maximumBytes: number;
  /** Requests that were refused. */
  refused = 0;

  /** `mayAccess` says whether the function is bus master now. */
  constructor(arena: Arena, table: ReachableTable, mayAccess: () => boolean, maximumBytes: number) {
    this.#arena = arena;
    this.#table = table;
    this.#mayAccess = mayAccess;
    this.#maximumBytes = maximumBytes;
  }

  serve(lane: Lane): number {
    const result = this.#serve(lane);
    if (result < 0) this.refused++;
    return result;
  }

  #serve(lane: Lane): number {
    const { command, view, payload, payloadSize } = lane;
    if (command !== Command.DMA_READ && command !== Command.DMA_WRITE) return -ERRNO.EOPNOTSUPP[0];
    if (payloadSize < ADDRESS_BYTES) return -ERRNO.EINVAL[0];
    const iova = view.getUint32(payload, true) + view.getUint32(payload + 4, true) * 2 ** 32;
    const count = view.getUint32(payload + 8, true) + view.getUint32(payload + 12, true) * 2 ** 32;
    const writes = command === Command.DMA_WRITE;
    if (count === 0 || count > this.#maximumBytes) return -ERRNO.EINVAL[0];
    if (writes && payloadSize < ADDRESS_BYTES + count) return -ERRNO.EINVAL[0];
    if (!(Number.isSafeInteger(iova) && Number.isSafeInteger(iova + count))) return -ERRNO.EFAULT[0];
    if (!this.#mayAccess()) return -ERRNO.ENODEV[0];
    const fault = this.#check(iova, count, writes);
    if (fault !== 0) return -fault;
    const replyAt = HEADER_SIZE + ADDRESS_BYTES;
    const source = payload + ADDRESS_BYTES;
    for (let done = 0; done < count; ) {
      const memory = this.#table.at(iova + done) as ReachableMemory;
      const inside = iova + done - memory.iova;
      const part = Math.min(count - done, memory.size - inside);
      const bytes = this.#arena.bytes(memory.arenaOffset + inside, part);
      if (writes) bytes.set(lane.bytes.subarray(source + done, source + done + part));
      else lane.replyBytes.set(bytes, replyAt + done);
      done += part;
    }
    lane.replyBytes.set(lane.bytes.subarray(payload, payload + ADDRESS_BYTES), HEADER_SIZE);
    return ADDRESS_BYTES + (writes ? 0 : count);
  }

  /** 0, or the errno: nothing is touched unless all of it may be. */
  #check(iova: number, count: number, writes: boolean): number {
    for (let done = 0; done < count; ) {
      const memory = this.#table.at(iova + done);
      if (memory === undefined) return ERRNO.EFAULT[0];
      if (memory.permission === (writes ? "read" : "write")) return ERRNO.EPERM[0];
      done += memory.iova + memory.size - (iova + done);
    }
    return 0;
  }
}
