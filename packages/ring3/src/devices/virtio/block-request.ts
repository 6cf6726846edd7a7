// One request of a virtio block device, from the moment it is taken out of the ring until it is given back. Requests are
// used again, but never while a backing may still write to their memory.
import { Ring3Error } from "../../binary/error.ts";
import { BlockStatus } from "../../specs/virtio/structs.ts";
import type { StateRecord } from "../../virtual/state.ts";
import type { StateFields } from "../../virtual/state-fields.ts";
import type { Cancellation } from "../block-backing.ts";
import { CHAIN_LIMIT, DescriptorChain } from "./descriptor-chain.ts";
import type { QueueRegisters } from "./queue-registers.ts";

export class BlockRequest implements Cancellation {
  readonly chain: DescriptorChain = new DescriptorChain();
  /** Views of the guest's memory, while they are needed. */
  readonly views: Uint8Array[] = [];
  /** Where the guest's memory cannot be viewed: what is moved in between. */
  bounce: Uint8Array | undefined;
  queue: QueueRegisters | undefined;
  /** Nobody waits for it any more, or its memory is gone. */
  aborted = false;
  /** Its queue was reset, or another request took its place: it must not be given back. */
  orphan = false;
  /** Done, where it has to wait for its predecessors (IN_ORDER). */
  done = false;
  status: number = BlockStatus.OK;
  /** Bytes at the start of its writable part that the guest may look at. */
  written = 0;

  /** Ready for the next buffer. */
  clear(): void {
    this.views.length = 0;
    this.bounce = undefined;
    this.queue = undefined;
    this.aborted = false;
    this.orphan = false;
    this.done = false;
    this.status = BlockStatus.OK;
    this.written = 0;
  }

  /** Whether some of its memory lies in these bytes. */
  overlaps(iova: number, size: number): boolean {
    const { count, addresses, lengths } = this.chain;
    for (let i = 0; i < count; i++) {
      const start = addresses[i] as number;
      if (start < iova + size && iova < start + (lengths[i] as number)) return true;
    }
    return false;
  }

  /** A request for the same buffer, to be done again. */
  again(): BlockRequest {
    const request = new BlockRequest();
    request.chain.copy(this.chain);
    request.queue = this.queue;
    return request;
  }

  save(): StateRecord {
    const { head, span, count, readableCount, addresses, lengths } = this.chain;
    return {
      queue: this.queue?.index ?? 0,
      head,
      span,
      readable: readableCount,
      addresses: Array.from(addresses.subarray(0, count)),
      lengths: Array.from(lengths.subarray(0, count)),
    };
  }

  /** Takes what `save` gave; the queue's index is the result. Throws `STATE_INVALID`. */
  restore(fields: StateFields): number {
    const addresses = fields.numbers("addresses", 2 ** 53 - 1, CHAIN_LIMIT);
    const lengths = fields.numbers("lengths", 0xffff_ffff, CHAIN_LIMIT);
    const readable = fields.number("readable", { maximum: addresses.length });
    if (addresses.length !== lengths.length) {
      throw new Ring3Error(
        "STATE_INVALID",
        "a saved request has addresses without lengths; it was not saved by this model",
      );
    }
    this.chain.clear();
    this.chain.head = fields.number("head", { maximum: 0xffff });
    this.chain.span = fields.number("span", { minimum: 1, maximum: 32768 });
    for (const [i, address] of addresses.entries()) {
      this.chain.append(address % 2 ** 32, Math.floor(address / 2 ** 32), lengths[i] as number, i >= readable);
    }
    return fields.number("queue", { maximum: 0xffff });
  }
}
