// A virtio block device: virtio 1.3, section 5.2. Hard about it: backings may answer later, in any order, and by then the
// device may have been reset or the memory be gone; a request from before a reset can still change the disk, so that no
// new one starts before the last of those has ended.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import { BlockFeature, Feature } from "../../specs/virtio/features.ts";
import {
  BLOCK_ID_BYTES,
  BlockConfig,
  BlockRange,
  BlockRequestHeader,
  BlockRequestWord,
  BlockStatus,
  BlockRequest as RequestType,
  SECTOR_BYTES,
} from "../../specs/virtio/structs.ts";
import type { MemoryMap, StateFields, StateRecord } from "../../virtual/index.ts";
import type { BlockBacking } from "../block-backing.ts";
import {
  blockConfiguration,
  blockModel,
  checkBlockOptions,
  MAXIMUM_TRANSFER_BYTES,
  refusesWrites,
  sectorsOf,
  type VirtioBlockOptions,
} from "./block-configuration.ts";
import { type DiskRange, MAXIMUM_RANGES, readRanges } from "./block-ranges.ts";
import { BlockRequest } from "./block-request.ts";
import { ringViolation } from "./descriptor-chain.ts";
import type { QueueRegisters } from "./queue-registers.ts";
import { VirtioFunction } from "./transport.ts";

export type { VirtioBlockOptions } from "./block-configuration.ts";

/** What a device has done so far. */
export interface VirtioBlockStatistics {
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  readonly discards: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  /** Requests that ended with an error. */
  readonly errors: number;
}

const HEADER_BYTES: number = BlockRequestHeader.size;
/** Beyond this much in buffers of our own new requests wait. */
const BOUNCE_BYTES = 32 * 2 ** 20;
/** Bytes moved for one unit of cost. */
const COST_BYTES = 64 * 1024;

type Outcome = Promise<void> | void;

/**
 * A disk.
 *
 * @example
 * import { memoryBacking } from "ring3/devices";
 * import { VirtioBlock } from "ring3/devices/virtio";
 * const disk = new VirtioBlock({ backing: memoryBacking(64 * 2 ** 20), serial: "ring3-0" });
 */
export class VirtioBlock extends VirtioFunction {
  readonly #backing: BlockBacking;
  readonly #readOnly: boolean;
  readonly #serial: Uint8Array = new Uint8Array(BLOCK_ID_BYTES);
  readonly #idle: BlockRequest[] = [];
  /** Requests that wait for the backing. */
  readonly #inFlight: Set<BlockRequest> = new Set();
  /** By queue, with IN_ORDER: requests in the order in which they were taken. */
  readonly #order: BlockRequest[][];
  /** Requests that have to be done, after a pause or a restore. */
  #restored: BlockRequest[] = [];
  readonly #idleWaiters: (() => void)[] = [];
  /** Requests from before a reset that have not ended. */
  #orphans = 0;
  #bounceBytes = 0;
  readonly #header: Uint8Array = new Uint8Array(HEADER_BYTES);
  readonly #headerWords: Uint32Array = new Uint32Array(this.#header.buffer);
  readonly #statusByte: Uint8Array = new Uint8Array(1);
  readonly #counts = { reads: 0, writes: 0, flushes: 0, discards: 0, readBytes: 0, writtenBytes: 0, errors: 0 };

  /** Throws `VIRTIO_OPTION` or `BACKING_INVALID` for what no disk can be. */
  constructor(options: VirtioBlockOptions) {
    checkBlockOptions(options);
    const { backing, serial = "" } = options;
    super(blockModel(options), options);
    this.#backing = backing;
    this.#readOnly = refusesWrites(options);
    this.#order = this.queues.map(() => []);
    for (let i = 0; i < serial.length; i++) this.#serial[i] = serial.charCodeAt(i);
    this.deviceConfig.set(blockConfiguration(options));
  }

  get statistics(): VirtioBlockStatistics {
    return { ...this.#counts };
  }

  /** Tells the guest the backing's present size. */
  resized(): void {
    new DataView(this.deviceConfig.buffer).setBigUint64(BlockConfig.offsets.capacity, BigInt(this.#sectors()), true);
    this.configChanged();
  }

  #sectors(): number {
    return sectorsOf(this.#backing);
  }

  // ---- requests

  protected override stalled(_queue: QueueRegisters): boolean {
    return this.#orphans > 0 || this.#bounceBytes >= BOUNCE_BYTES;
  }

  protected override serveOne(queue: QueueRegisters): number {
    if (this.stalled(queue)) return 0;
    const request = this.#idle.pop() ?? new BlockRequest();
    const restored = this.#restored.length === 0 ? undefined : this.#takeRestored(queue);
    if (restored !== undefined) {
      this.#idle.push(request);
      return this.#start(queue, restored);
    }
    if (queue.ring?.pop(request.chain) !== true) {
      this.#idle.push(request);
      return 0;
    }
    return this.#start(queue, request);
  }

  #takeRestored(queue: QueueRegisters): BlockRequest | undefined {
    const at = this.#restored.findIndex((request) => request.queue === queue);
    return at < 0 ? undefined : this.#restored.splice(at, 1)[0];
  }

  /** Begins a request; its cost. Throws `VIRTIO_RING` where there is no room for header and status. */
  #start(queue: QueueRegisters, request: BlockRequest): number {
    const { chain } = request;
    if (chain.readableBytes < HEADER_BYTES || chain.writableBytes < 1) {
      throw ringViolation(`a request has ${chain.readableBytes} readable and ${chain.writableBytes} writable bytes`);
    }
    request.queue = queue;
    if (this.negotiated.has(Feature.IN_ORDER)) this.#order[queue.index]?.push(request);
    try {
      return this.#begin(queue, request);
    } catch (error) {
      this.#drop(request);
      throw error;
    }
  }

  /** A request that ended without an answer. */
  #drop(request: BlockRequest): void {
    // Given back before another one failed.
    if (request.queue === undefined) return;
    this.#bounceBytes -= request.bounce?.length ?? 0;
    request.clear();
    this.#idle.push(request);
  }

  #begin(queue: QueueRegisters, request: BlockRequest): number {
    const { chain } = request;
    const { ring } = queue;
    const { resets } = this;
    chain.readInto(this.memory, 0, this.#header);
    const type = this.#headerWords[BlockRequestWord.TYPE] as number;
    const low = this.#headerWords[BlockRequestWord.SECTOR_LOW] as number;
    const high = this.#headerWords[BlockRequestWord.SECTOR_HIGH] as number;
    const length = type === RequestType.OUT ? chain.readableBytes - HEADER_BYTES : chain.writableBytes - 1;
    const outcome = this.#attempt(request, () => this.#execute(request, type, high * 2 ** 32 + low, length));
    // Messages with the client let a reset in, of the device or of the queue.
    const outlived = resets !== this.resets || queue.ring !== ring;
    if (outcome === undefined && outlived) this.#drop(request);
    else if (outcome === undefined) this.#finish(request);
    else {
      this.#inFlight.add(request);
      if (outlived) this.#abandon(request);
      outcome.then(
        () => this.#settled(request),
        (error: unknown) => {
          this.#failed(request, error);
          this.#settled(request);
        },
      );
    }
    const moves = type === RequestType.IN || type === RequestType.OUT;
    return 1 + (moves ? Math.floor(length / COST_BYTES) : 0);
  }

  /** An operation that throws is a request that fails; a rule of the ring that is broken stays what it is. */
  #attempt(request: BlockRequest, act: () => Outcome): Outcome {
    try {
      return act();
    } catch (error) {
      if (isRing3Error(error, "DMA_FAULT") || isRing3Error(error, "VIRTIO_RING")) throw error;
      this.#failed(request, error);
      return undefined;
    }
  }

  #failed(request: BlockRequest, error: unknown): void {
    request.status = BlockStatus.IO_ERROR;
    if (!request.orphan) this.fail(error);
  }

  #execute(request: BlockRequest, type: number, sector: number, length: number): Outcome {
    switch (type) {
      case RequestType.IN:
        this.#counts.reads++;
        return this.#inside(request, sector, length) ? this.#read(request, sector * SECTOR_BYTES, length) : undefined;
      case RequestType.OUT:
        this.#counts.writes++;
        if (this.#readOnly) return this.#refuse(request, BlockStatus.IO_ERROR);
        return this.#inside(request, sector, length) ? this.#write(request, sector * SECTOR_BYTES, length) : undefined;
      case RequestType.FLUSH:
        this.#counts.flushes++;
        return this.#backing.flush();
      case RequestType.GET_ID: {
        request.written = Math.min(BLOCK_ID_BYTES, length);
        request.chain.writeFrom(this.memory, 0, this.#serial.subarray(0, request.written));
        return undefined;
      }
      case RequestType.DISCARD:
        if (!this.offers(BlockFeature.DISCARD)) break;
        this.#counts.discards++;
        return this.#ranges(request, false);
      case RequestType.WRITE_ZEROES:
        if (!this.offers(BlockFeature.WRITE_ZEROES)) break;
        this.#counts.writes++;
        return this.#ranges(request, true);
    }
    return this.#refuse(request, BlockStatus.UNSUPPORTED);
  }

  #refuse(request: BlockRequest, status: number): undefined {
    request.status = status;
    return undefined;
  }

  #inside(request: BlockRequest, sector: number, length: number): boolean {
    const sectors = length / SECTOR_BYTES;
    if (Number.isInteger(sectors) && length <= MAXIMUM_TRANSFER_BYTES && sector + sectors <= this.#sectors())
      return true;
    request.status = BlockStatus.IO_ERROR;
    return false;
  }

  #read(request: BlockRequest, offset: number, length: number): Outcome {
    const { chain, views } = request;
    request.written = length;
    this.#counts.readBytes += length;
    if (chain.views(this.memory, "write", 0, length, views) && wholeSectors(views)) {
      const outcome = this.#eachView(request, offset, (at, view) => this.#backing.read(at, view, request));
      if (outcome !== undefined) return outcome.then(() => this.#filled(request, length));
      chain.written(this.memory, 0, length);
      return undefined;
    }
    const bounce = this.#bounce(request, length);
    const put = (): void => {
      if (!request.aborted) chain.writeFrom(this.memory, 0, bounce);
    };
    const outcome = this.#backing.read(offset, bounce, request);
    if (outcome !== undefined) return outcome.then(put);
    put();
    return undefined;
  }

  #filled(request: BlockRequest, length: number): void {
    if (!request.aborted) request.chain.written(this.memory, 0, length);
  }

  #write(request: BlockRequest, offset: number, length: number): Outcome {
    const { chain, views } = request;
    this.#counts.writtenBytes += length;
    let outcome: Outcome;
    if (chain.views(this.memory, "read", HEADER_BYTES, length, views) && wholeSectors(views)) {
      outcome = this.#eachView(request, offset, (at, view) => this.#backing.write(at, view, request));
    } else {
      const bounce = this.#bounce(request, length);
      chain.readInto(this.memory, HEADER_BYTES, bounce);
      outcome = this.#backing.write(offset, bounce, request);
    }
    return this.#writeThrough(outcome);
  }

  /** One operation after the other; synchronous as long as the backing is. */
  #eachView(request: BlockRequest, offset: number, act: (offset: number, view: Uint8Array) => Outcome): Outcome {
    const { views } = request;
    let at = offset;
    for (let i = 0; i < views.length; i++) {
      const view = views[i] as Uint8Array;
      const outcome = act(at, view);
      at += view.length;
      if (outcome !== undefined) return outcome.then(() => this.#restOfViews(request, i + 1, at, act));
    }
    return undefined;
  }

  async #restOfViews(
    request: BlockRequest,
    first: number,
    offset: number,
    act: (offset: number, view: Uint8Array) => Outcome,
  ): Promise<void> {
    let at = offset;
    for (let i = first; i < request.views.length && !request.aborted; i++) {
      const view = request.views[i] as Uint8Array;
      await act(at, view);
      at += view.length;
    }
  }

  #bounce(request: BlockRequest, length: number): Uint8Array {
    request.views.length = 0;
    request.bounce = new Uint8Array(length);
    this.#bounceBytes += length;
    return request.bounce;
  }

  /** Where the driver relies on writes being stable once they are done, section 5.2.6.2, the flush belongs to them. */
  #writeThrough(outcome: Outcome): Outcome {
    if (this.deviceConfig[BlockConfig.offsets.writeback] !== 0) return outcome;
    return outcome === undefined ? this.#backing.flush() : outcome.then(() => this.#backing.flush());
  }

  /** Discard and write zeroes: all ranges are checked before any is touched. */
  #ranges(request: BlockRequest, zeroes: boolean): Outcome {
    const { chain } = request;
    const bytes = chain.readableBytes - HEADER_BYTES;
    const count = bytes / BlockRange.size;
    if (!Number.isInteger(count) || count < 1 || count > MAXIMUM_RANGES)
      return this.#refuse(request, BlockStatus.IO_ERROR);
    const content = new Uint8Array(bytes);
    chain.readInto(this.memory, HEADER_BYTES, content);
    const ranges = readRanges(content, zeroes, this.#sectors());
    if (typeof ranges === "number") return this.#refuse(request, ranges);
    return this.#eachRange(request, ranges, zeroes);
  }

  async #eachRange(request: BlockRequest, ranges: readonly DiskRange[], zeroes: boolean): Promise<void> {
    const backing = this.#backing;
    for (const { offset, size, unmap } of ranges) {
      if (request.orphan) return;
      // What was discarded reads as zeros too: the backing promises that.
      if (zeroes && backing.zero !== undefined && !(unmap && backing.discard !== undefined))
        await backing.zero(offset, size);
      else await backing.discard?.(offset, size);
    }
    await this.#writeThrough(undefined);
  }

  // ---- the end of a request

  #settled(request: BlockRequest): void {
    this.#end(request);
    if (this.#inFlight.size === 0) for (const wake of this.#idleWaiters.splice(0)) wake();
  }

  #end(request: BlockRequest): void {
    this.#inFlight.delete(request);
    const waited = this.#bounceBytes >= BOUNCE_BYTES;
    this.#bounceBytes -= request.bounce?.length ?? 0;
    request.bounce = undefined;
    if (request.orphan) {
      this.#orphans--;
      if (this.#orphans === 0) this.#goOn();
      return;
    }
    if (request.aborted) request.status = BlockStatus.IO_ERROR;
    // After DEVICE_NEEDS_RESET nothing is given back any more.
    if (!this.answering) return;
    const queue = request.queue as QueueRegisters;
    this.guarded(() => {
      this.#finish(request);
      this.publish(queue);
    });
    if (waited && this.#bounceBytes < BOUNCE_BYTES) this.#goOn();
  }

  /** Everything that had to wait may go on. */
  #goOn(): void {
    for (const queue of this.queues) if (queue.ring !== undefined && this.running) this.serveLater(queue);
  }

  /** Gives the request back, as soon as its turn has come. */
  #finish(request: BlockRequest): void {
    this.#bounceBytes -= request.bounce?.length ?? 0;
    request.bounce = undefined;
    if (!this.negotiated.has(Feature.IN_ORDER)) {
      this.#giveBack(request);
      return;
    }
    request.done = true;
    const order = this.#order[request.queue?.index ?? 0] as BlockRequest[];
    while (order[0]?.done === true) this.#giveBack(order.shift() as BlockRequest);
  }

  #giveBack(request: BlockRequest): void {
    const { chain, status } = request;
    const ring = request.queue?.ring;
    if (status !== BlockStatus.OK) {
      this.#counts.errors++;
      request.written = 0;
    }
    const capacity = chain.writableBytes - 1;
    this.#statusByte[0] = status;
    chain.writeFrom(this.memory, capacity, this.#statusByte);
    // The length counts from the first writable byte, and the status is the last: with a gap between it does not count.
    ring?.use(chain.head, chain.span, request.written === capacity ? capacity + 1 : request.written);
    request.clear();
    this.#idle.push(request);
  }

  // ---- configuration, reset, state

  protected override featuresChosen(): void {
    const flush = this.negotiated.has(BlockFeature.FLUSH);
    this.deviceConfig[BlockConfig.offsets.writeback] = flush ? 1 : 0;
  }

  /** The disk at the new place decides how large it is. */
  protected override restored(): void {
    const capacity = new DataView(this.deviceConfig.buffer).getBigUint64(BlockConfig.offsets.capacity, true);
    if (capacity !== BigInt(this.#sectors())) this.resized();
  }

  protected override writeConfig(offset: number, value: number): void {
    if (offset === BlockConfig.offsets.writeback && this.negotiated.has(BlockFeature.CONFIG_WCE)) {
      this.deviceConfig[offset] = value === 0 ? 0 : 1;
    }
  }

  protected override deviceReset(): void {
    for (const request of this.#inFlight) this.#abandon(request);
    for (const order of this.#order) order.length = 0;
    this.#restored = [];
    this.deviceConfig[BlockConfig.offsets.writeback] = 1;
  }

  protected override finishAll(): void | Promise<void> {
    if (this.#inFlight.size > 0) return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** What is under way goes on without the guest; it is done once more when DMA is allowed again. */
  protected override held(): void {
    if (this.negotiated.has(Feature.IN_ORDER)) {
      for (const order of this.#order) {
        this.#restored.push(...order.map((request) => request.again()));
        order.length = 0;
      }
    } else {
      for (const request of this.#inFlight) if (!request.orphan) this.#restored.push(request.again());
    }
    for (const request of this.#inFlight) this.#abandon(request);
  }

  protected override queueReset(queue: QueueRegisters): void {
    for (const request of this.#inFlight) if (request.queue === queue) this.#abandon(request);
    (this.#order[queue.index] as BlockRequest[]).length = 0;
    this.#restored = this.#restored.filter((request) => request.queue !== queue);
  }

  #abandon(request: BlockRequest): void {
    if (request.orphan) return;
    request.aborted = true;
    request.orphan = true;
    this.#orphans++;
  }

  protected override memoryGone(map: MemoryMap): void {
    for (const request of this.#inFlight) if (request.overlaps(map.iova, map.size)) request.aborted = true;
  }

  protected override saveModel(): StateRecord {
    const waiting = this.negotiated.has(Feature.IN_ORDER)
      ? this.#order.flat()
      : [...this.#inFlight].filter((request) => !request.orphan);
    return { requests: [...waiting, ...this.#restored].map((request) => request.save()) };
  }

  protected override restoreModel(fields: StateFields): void {
    this.#restored = fields.records("requests").map((saved) => {
      const request = new BlockRequest();
      request.queue = this.queues[request.restore(saved)];
      if (request.queue?.ring === undefined) {
        throw new Ring3Error("STATE_INVALID", "a saved request belongs to no queue; it was not saved by this model");
      }
      return request;
    });
  }
}

/** Backings take whole sectors; a driver may cut its memory anywhere. */
function wholeSectors(views: readonly Uint8Array[]): boolean {
  for (const view of views) if (view.length % SECTOR_BYTES !== 0) return false;
  return true;
}
