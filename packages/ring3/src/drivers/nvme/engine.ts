// The queues of a started controller and what keeps them going: set-up, time-outs, abort, reset and repetition, and the
// orderly end. Hard about it: at any await the function may be gone, asleep or reset by somebody else, and exactly one
// recovery may run at a time, during which nothing posts but the recovery itself.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import type { Registers } from "../../memory/registers.ts";
import type { ByteRange, DmaBuffer, PciFunction } from "../../pci/function.ts";
import { Nvme } from "../../specs/nvme/registers.ts";
import type { Clock } from "../clock.ts";
import { Admin } from "./admin.ts";
import type { Command } from "./command.ts";
import type { CompletionMode } from "./completion-wait.ts";
import { Controller } from "./controller.ts";
import { DataPointers } from "./data-pointer.ts";
import { doorbellQueues, doorbellRange } from "./doorbell-range.ts";
import { QueueInterrupts } from "./queue-interrupts.ts";
import { listsOf, type QueueLayout, ringOf } from "./queue-memory.ts";
import { type QueueOwner, QueuePair } from "./queue-pair.ts";
import { type QueueMemory, QueueSet } from "./queue-set.ts";
import { OwnQueue, type QueueUser } from "./queue-user.ts";
import { type Recoverable, Recovery } from "./recovery.ts";
import type { NvmeSettings } from "./settings.ts";
import { drain, stopBusMaster, stopController } from "./stop.ts";
import { TransferPool } from "./transfer-pool.ts";

const ADMIN_ENTRIES = 32;
const PAGE = 4096;

export class Engine implements QueueOwner, Recoverable {
  readonly fn: PciFunction;
  readonly settings: NvmeSettings;
  readonly controller: Controller;
  readonly interrupts: QueueInterrupts;
  readonly doorbells: Registers;
  readonly pool: TransferPool;
  readonly admin: Admin;
  /** I/O queues that the controller grants. */
  queueLimit = 1;
  maxTransferBytes: number;
  /** Called after the controller was brought back. */
  onRecovered: (reason: string) => void = () => {};
  /** Called once, when the driver cannot go on. */
  onFailed: (error: Ring3Error) => void = () => {};
  readonly clock: Clock;
  readonly #recovery: Recovery = new Recovery(this);
  readonly #queues: QueueSet;
  readonly #adminQueue: QueuePair;
  readonly #adminLayout: QueueLayout;
  /** Set-up or recovery is under way: an admin command that fails ends it instead of starting another. */
  #fragile = true;
  #begun = false;
  #failure: Ring3Error | undefined;
  /** Why no new I/O is taken. */
  #ending: Ring3Error | undefined;
  #resetting = false;

  constructor(fn: PciFunction, settings: NvmeSettings) {
    this.fn = fn;
    this.settings = settings;
    this.clock = settings.clock;
    this.maxTransferBytes = settings.maxTransferBytes;
    const bar = fn.bar(0);
    if (bar.size < Nvme.DOORBELLS + 8) {
      const message = `BAR0 of ${this.address} has ${bar.size} bytes, too few for an NVMe controller`;
      throw new Ring3Error("WRONG_DEVICE", message);
    }
    const registers = bar.registers({ offset: 0, size: PAGE });
    this.controller = new Controller(registers, this.address, this.clock, fn.gone);
    this.doorbells = bar.registers(this.doorbellRange);
    this.#queues = new QueueSet(fn, this.controller.capabilities);
    const sizes = { smallBytes: PAGE, largeBytes: settings.maxTransferBytes };
    this.pool = new TransferPool((size) => this.#queues.allocate(size), sizes);
    const { buffer, layout } = this.#queues.memory(0, ADMIN_ENTRIES, settings.maxTransferBytes);
    this.#adminLayout = layout;
    try {
      this.interrupts = new QueueInterrupts(fn, settings.interrupts, 1 + settings.ioQueues);
    } catch (error) {
      this.#queues.freeAll();
      throw error;
    }
    const mode = this.interrupts.kind === "none" || settings.completion === "polled" ? "polled" : "adaptive";
    this.#adminQueue = this.#pair({ buffer, layout }, mode, settings.adminTimeoutMs, "prp");
    if (mode !== "polled") this.interrupts.connect(0, () => this.#adminQueue.wait.look());
    this.admin = new Admin(this.#adminQueue, this.pool, this.address);
  }

  /** The doorbells that may be used, in whole pages, as a part of BAR0. */
  get doorbellRange(): ByteRange {
    return doorbellRange(this.fn, this.controller.capabilities, this.settings.maxIoQueues);
  }

  get failure(): Ring3Error | undefined {
    return this.#failure;
  }

  get address(): string {
    return this.fn.identity.address;
  }

  get recovering(): boolean {
    return this.#recovery.running !== undefined;
  }

  get queues(): readonly QueuePair[] {
    return this.#queues.own;
  }

  #pair({ buffer, layout }: QueueMemory, mode: CompletionMode, timeoutMs: number, kind: "prp" | "sgl"): QueuePair {
    const ring = ringOf(layout, buffer.words, this.doorbells, Nvme.DOORBELLS);
    const pointers = new DataPointers(kind, listsOf(layout, buffer.words), this.controller.capabilities.pageSize);
    const { clock, abortTimeoutMs } = this.settings;
    return new QueuePair(ring, pointers, this, { address: this.address, mode, clock, timeoutMs, abortTimeoutMs });
  }

  /** Resets and enables the controller and agrees on the number of queues; its I/O queues do not exist yet. */
  async begin(): Promise<void> {
    this.fn.busMaster = true;
    await this.controller.disable();
    this.#adminQueue.prepare();
    await this.#enable();
    this.queueLimit = await this.#negotiate();
    this.#fragile = false;
    this.#begun = true;
  }

  async #enable(): Promise<void> {
    const { iova, completionOffset, entries } = this.#adminLayout;
    await this.controller.enable({ entries, submission: iova, completion: iova + completionOffset });
    this.#adminQueue.thaw();
  }

  async #negotiate(): Promise<number> {
    const granted = await this.admin.negotiateQueues(this.settings.maxIoQueues);
    return Math.max(1, Math.min(granted, doorbellQueues(this.doorbellRange, this.controller.capabilities)));
  }

  /** Adds an I/O queue pair of this thread and creates it on the controller. */
  async addQueue(pointerKind: "prp" | "sgl"): Promise<void> {
    const { queueDepth, completion, timeoutMs } = this.settings;
    const memory = this.queueMemory(Math.min(queueDepth, this.controller.capabilities.maxQueueEntries), 0);
    const { layout } = memory;
    const mode = this.interrupts.kind === "none" ? "polled" : completion;
    const pair = this.#pair(memory, mode, timeoutMs, pointerKind);
    const connection = mode === "polled" ? undefined : this.interrupts.connect(layout.queueId, () => pair.wait.look());
    const create = (admin: Admin): Promise<void> => this.createOn(admin, layout, mode !== "polled");
    this.#queues.addOwn(new OwnQueue(pair, layout, create, connection));
    await create(this.admin);
  }

  /** Memory for a further queue pair under the next free id. Throws `NVME_NO_QUEUE`, `NVME_QUEUE_SIZE`. */
  queueMemory(entries: number, payloadBytes: number): QueueMemory {
    if (this.#ending !== undefined) throw this.#ending;
    return this.#queues.memory(this.#queues.freeId(this.queueLimit), entries, this.maxTransferBytes, payloadBytes);
  }

  freeMemory(buffer: DmaBuffer): void {
    this.#queues.free(buffer);
  }

  /** Creates a queue pair on the controller. */
  async createOn(admin: Admin, layout: QueueLayout, interrupt: boolean): Promise<void> {
    const { queueId, entries, iova, completionOffset } = layout;
    const vector = interrupt ? this.interrupts.vectorOf(queueId) : undefined;
    await admin.createCompletionQueue(queueId, entries, iova + completionOffset, vector);
    await admin.createSubmissionQueue(queueId, entries, iova);
  }

  /** Takes in a queue that somebody else runs (a worker, a raw ring) and creates it, without interrupts. */
  async addUser(user: QueueUser, { buffer, layout }: QueueMemory): Promise<void> {
    this.#queues.add(user);
    try {
      await this.createOn(this.admin, layout, false);
    } catch (error) {
      await this.admin.deleteQueue(user.queueId).catch(() => {});
      this.#queues.remove(user.queueId);
      this.#queues.free(buffer);
      throw error;
    }
  }

  /** Forgets a queue, and takes it off the controller where `onController` says that it is there. */
  async removeUser(queueId: number, onController: () => boolean): Promise<void> {
    await this.#recovery.running;
    const there = this.#queues.has(queueId) && this.#failure === undefined && onController();
    if (there) await this.admin.deleteQueue(queueId);
    this.#queues.remove(queueId);
  }

  /** Runs an I/O command in the queue with the least to do. */
  execute(command: Command): Promise<number> {
    const queue = this.#queues.leastLoaded();
    if (this.#ending !== undefined) return Promise.reject(this.#ending);
    if (queue === undefined) return Promise.reject(new Ring3Error("NVME_CLOSED", "the driver has no I/O queue yet"));
    return queue.execute(command);
  }

  // --- What goes wrong --------------------------------------------------------------------------------------------

  overdue(queue: QueuePair, identifier: number, aborted: boolean): void {
    if (this.#fragile) {
      const error = new Ring3Error("NVME_TIMEOUT", `${this.address} does not complete admin commands`);
      queue.refuse(error);
      return;
    }
    let health: string;
    try {
      health = this.controller.health();
    } catch (error) {
      this.broken(queue, error as Ring3Error);
      return;
    }
    if (health !== "ready") void this.recover(`the controller was found ${health}`);
    else if (aborted) void this.recover(`command ${identifier} of queue ${queue.queueId} could not be aborted`);
    else this.admin.abort(queue.queueId, identifier, this.settings.abortTimeoutMs).catch(() => {});
  }

  broken(queue: QueuePair, error: Ring3Error): void {
    const reason = this.#goneReason();
    if (reason !== undefined) {
      this.fail(reason);
    } else if (this.#fragile) {
      queue.refuse(error);
    } else {
      queue.condemn(error);
      void this.recover(error.message);
    }
  }

  #goneReason(): Ring3Error | undefined {
    const { aborted, reason } = this.fn.gone;
    if (!aborted) return undefined;
    return isRing3Error(reason) ? reason : new Ring3Error("FUNCTION_REMOVED", `${this.address} is gone`);
  }

  /** Resets the controller and goes on with everything that is safe to repeat. Never rejects; see `failure`. */
  recover(reason: string): Promise<void> {
    return this.#recovery.start(reason);
  }

  /**
   * As {@link recover}, for a function that came back without its state, or with an old one: also where a recovery was
   * under way. A driver that is only starting fails.
   */
  recoverAnew(reason: string): Promise<void> {
    if (this.#begun) return this.#recovery.startAnew(reason);
    this.interrupt(
      new Ring3Error("NVME_NOT_READY", `${this.address} lost its state while the driver started: ${reason}`),
    );
    return Promise.resolve();
  }

  interrupt(error: Ring3Error): void {
    this.controller.interrupt();
    this.#adminQueue.refuse(error);
  }

  freeze(): void {
    this.#fragile = true;
    this.#adminQueue.freeze();
    this.#queues.freeze();
  }

  over(): boolean {
    return this.fn.gone.aborted || this.#failure !== undefined;
  }

  recovered(reason: string): void {
    this.#fragile = false;
    this.onRecovered(reason);
  }

  async restart(): Promise<void> {
    if (this.interrupts.lost) this.interrupts.open();
    this.fn.busMaster = true;
    await this.controller.disable();
    this.#adminQueue.prepare();
    this.#queues.prepare();
    await this.#enable();
    await this.#negotiate();
    await this.#queues.restore(this.admin);
  }

  /** Resets the function where the controller's own reset did not help. */
  async resetFunction(): Promise<void> {
    if (this.fn.resetMethods.length === 0) return;
    this.#resetting = true;
    try {
      await this.fn.reset();
    } finally {
      this.#resetting = false;
    }
    this.fn.busMaster = true;
    this.interrupts.open();
  }

  /** Whether a reset of the function is the driver's own. */
  get resetting(): boolean {
    return this.#resetting;
  }

  /** Resets the function (FLR where it has one) and goes on. */
  async resetAndRecover(): Promise<void> {
    await this.#recovery.running;
    this.freeze();
    try {
      await this.resetFunction();
    } finally {
      await this.recover("a requested reset");
    }
  }

  /** Ends everything with `error`, or with the reason for which the function is gone. */
  fail(failure: Ring3Error): void {
    if (this.#failure !== undefined) return;
    const error = this.#goneReason() ?? failure;
    this.#failure = error;
    this.#ending = error;
    this.#recovery.stop();
    // Whoever is told that a command failed may use its memory again, so the controller must not.
    stopBusMaster(this.fn);
    this.#queues.fail(error);
    this.#adminQueue.fail(error);
    this.onFailed(error);
  }

  /** The orderly end: lets in-flight commands finish, deletes the queues, shuts the controller down, frees the memory. */
  async end(error: Ring3Error, drainMs: number): Promise<void> {
    this.#ending ??= error;
    await this.#recovery.running;
    if (this.#failure === undefined) {
      await drain(this.clock, this.fn, drainMs, () => this.queues.some(({ load }) => load > 0));
      // What has not completed by now is told the reason for the end, not how the controller answers for deleted queues.
      this.#queues.freeze();
      this.#fragile = true;
      const timeoutMs = Math.min(1000, this.settings.shutdownTimeoutMs);
      for (const queueId of this.#queues.ids) {
        if (this.#failure !== undefined) break;
        await this.admin.deleteQueue(queueId, timeoutMs).catch(() => {});
      }
    }
    await stopController(this.fn, this.controller, this.settings.shutdownTimeoutMs);
    this.fail(error);
    this.#release();
  }

  #release(): void {
    try {
      this.interrupts[Symbol.dispose]();
    } catch (error) {
      if (!isRing3Error(error)) throw error;
    } finally {
      this.#queues.freeAll();
    }
  }
}
