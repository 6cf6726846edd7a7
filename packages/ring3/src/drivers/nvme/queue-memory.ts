// The memory of one queue pair, one DMA buffer: submission queue, completion queue, a list for each command slot, a page
// of control words, and payload for queues that another thread owns. Described by plain numbers, so that it can travel.
import type { Registers } from "../../memory/registers.ts";
import type { DmaBuffer, PciFunction } from "../../pci/function.ts";
import { type ListMemory, listBytesFor } from "./data-pointer.ts";
import { Ring, ringBytes } from "./ring.ts";

/** Where the parts lie, in bytes from the start of the buffer. Structured-cloneable. */
export interface QueueLayout {
  readonly queueId: number;
  readonly entries: number;
  readonly iova: number;
  readonly arenaOffset: number;
  readonly sizeBytes: number;
  readonly completionOffset: number;
  readonly listOffset: number;
  readonly listSlotBytes: number;
  readonly controlOffset: number;
  readonly payloadOffset: number;
  readonly payloadBytes: number;
  readonly doorbellStride: number;
}

/** What a queue pair needs. */
export interface QueueShape {
  readonly queueId: number;
  readonly entries: number;
  readonly maxTransferBytes: number;
  readonly pageSize: number;
  readonly payloadBytes?: number;
  readonly doorbellStride: number;
}

/** Allocates a queue pair's memory in the function's DMA space. */
export function allocateQueue(
  fn: PciFunction,
  shape: QueueShape,
): { readonly buffer: DmaBuffer; readonly layout: QueueLayout } {
  const { queueId, entries, pageSize, doorbellStride } = shape;
  const { submission, completion } = ringBytes(entries, pageSize);
  const listSlotBytes = listBytesFor(shape.maxTransferBytes, pageSize);
  const lists = Math.ceil(((entries - 1) * listSlotBytes) / pageSize) * pageSize;
  const payloadBytes = shape.payloadBytes ?? 0;
  const listOffset = submission + completion;
  const controlOffset = listOffset + lists;
  const payloadOffset = controlOffset + pageSize;
  const sizeBytes = payloadOffset + payloadBytes;
  const buffer = fn.dma.allocate(sizeBytes, pageSize > 4096 ? { alignment: 2 ** 21 } : {});
  const layout = {
    queueId,
    entries,
    iova: buffer.iova,
    arenaOffset: buffer.arenaOffset,
    sizeBytes,
    completionOffset: submission,
    listOffset,
    listSlotBytes,
    controlOffset,
    payloadOffset,
    payloadBytes,
    doorbellStride,
  };
  return { buffer, layout };
}

/** The ring of a layout over its words. `doorbellOrigin` is the controller offset at which `doorbells` begins. */
export function ringOf(layout: QueueLayout, words: Uint32Array, doorbells: Registers, doorbellOrigin: number): Ring {
  return new Ring({
    queueId: layout.queueId,
    entries: layout.entries,
    words,
    submissionBase: 0,
    completionBase: layout.completionOffset / 4,
    doorbells,
    doorbellOrigin,
    doorbellStride: layout.doorbellStride,
  });
}

/** The list memory of a layout. */
export function listsOf(layout: QueueLayout, words: Uint32Array): ListMemory {
  const { listOffset, listSlotBytes, iova } = layout;
  return { words, base: listOffset / 4, iova: iova + listOffset, slotBytes: listSlotBytes };
}
