// The controller behind its registers: enabling, resets, shutdown, fatal errors. NVMe base 2.0, sections 3.1.3 (registers),
// 3.5 (initialisation), 3.6 (shutdown), 3.7 (reset). Hard about it: after a reset nothing of before may still happen, while
// the backing is still at work; CSTS.RDY tells the host when that is over.
import { isRing3Error } from "../../binary/error.ts";
import { CommandSetSelected, CommandWord } from "../../specs/nvme/index.ts";
import { Aqa, Cc, ShutdownNotification, ShutdownStatus } from "../../specs/nvme/registers.ts";
import { Status, StatusFlag } from "../../specs/nvme/status.ts";
import type { ArenaRange } from "../../memory/arena.ts";
import type { GuestMemory, MemoryMap } from "../../virtual/guest-memory.ts";
import type { VirtualInterrupts } from "../../virtual/interrupts.ts";
import { AdminCommands } from "./admin-commands.ts";
import { CompletionQueue } from "./completion-queue.ts";
import { MPS_MAX } from "./controller-registers.ts";
import { Doorbells } from "./doorbells.ts";
import { Events } from "./events.ts";
import { FastLane } from "./fast-lane.ts";
import { Features } from "./features.ts";
import { Flights } from "./flights.ts";
import { InterruptLines } from "./interrupt-lines.ts";
import { IoCommands } from "./io-commands.ts";
import { LogPages } from "./log-pages.ts";
import type { DeviceNamespace } from "./namespace.ts";
import type { NvmeSettings } from "./options.ts";
import { QueueSet } from "./queue-set.ts";
import { flushSteps } from "./range-commands.ts";
import { runSteps } from "./steps.ts";
import { SubmissionQueue } from "./submission-queue.ts";

const ENTRY_SIZES = { IOSQES: 6, IOCQES: 4 } as const;
const HIGH = 2 ** 32;
/** Operations under way in the backing at most, and bytes of memory that they may take: whatever is less. */
const FLIGHTS_MAX = 256;
const FLIGHT_BYTES_MAX = 2 ** 28;
/** Statuses that say nothing about a fault: they are not logged as errors. */
const NOT_LOGGED: ReadonlySet<number> = new Set([
  Status.ABORT_REQUESTED,
  Status.ABORTED_QUEUE_DELETION,
  Status.ASYNCHRONOUS_EVENT_LIMIT,
]);

export interface ControllerParts {
  readonly settings: NvmeSettings;
  readonly subsystem: { readonly vendorId: number; readonly id: number };
  readonly memory: GuestMemory;
  readonly interrupts: VirtualInterrupts;
  readonly namespaces: readonly (DeviceNamespace | undefined)[];
  /** The doorbells as memory, where clients map them. */
  readonly doorbells: ArenaRange | undefined;
  /** Reports what went wrong without the host's doing. */
  readonly fail: (error: unknown) => void;
}

/** Registers that the host sets, besides CC; kept by a controller reset. */
export interface AdminQueueRegisters {
  aqa: number;
  asqLow: number;
  asqHigh: number;
  acqLow: number;
  acqHigh: number;
}

export class NvmeController {
  readonly features: Features;
  readonly events: Events;
  readonly logs: LogPages;
  readonly io: IoCommands;
  readonly admin: AdminCommands;
  readonly queues: QueueSet;
  readonly flights: Flights = new Flights();
  readonly lines: InterruptLines;
  readonly doorbells: Doorbells;
  readonly lane: FastLane | undefined;
  readonly adminQueue: AdminQueueRegisters = { aqa: 0, asqLow: 0, asqHigh: 0, acqLow: 0, acqHigh: 0 };
  cc = 0;
  /** CSTS.RDY. */
  ready = false;
  /** CSTS.CFS: only a reset helps. */
  fatal = false;
  /** CSTS.SHST. */
  shutdownStatus: number = ShutdownStatus.NORMAL;
  /** CSTS.NSSRO. */
  subsystemReset = false;
  readonly #parts: ControllerParts;
  /** Changes with each reset, for what ends later. */
  #epoch = 0;

  constructor(parts: ControllerParts) {
    this.#parts = parts;
    const { settings, memory, namespaces } = parts;
    const { flights } = this;
    flights.onCleared = () => this.#cleared();
    this.features = new Features(settings);
    this.lines = new InterruptLines(parts.interrupts);
    this.doorbells = new Doorbells(memory, settings.doorbellStride, parts.doorbells?.words);
    this.events = new Events((identifier, status, dw0) => this.#completeAdmin(identifier, status, dw0));
    this.io = new IoCommands({
      memory,
      flights,
      namespaces,
      maxTransferBytes: settings.maxTransferBytes,
      writeCache: () => this.features.writeCache,
      complete: (queue, words, status) =>
        this.queues.complete(queue, (words[CommandWord.CDW0] as number) >>> 16, status, 0, words),
      exclusively: (act) => this.queues.exclusively(act),
    });
    this.logs = new LogPages(settings, this.io.counters, this.features);
    this.admin = new AdminCommands({
      settings,
      subsystem: parts.subsystem,
      memory,
      namespaces,
      features: this.features,
      events: this.events,
      logs: this.logs,
      flights,
      doorbells: this.doorbells,
      queues: () => this.queues,
      vectors: () => this.#vectors(),
      entrySizes: () => ({
        submission: Cc.IOSQES.get(this.cc) === ENTRY_SIZES.IOSQES,
        completion: Cc.IOCQES.get(this.cc) === ENTRY_SIZES.IOCQES,
      }),
    });
    this.lane = this.#laneFor(parts);
    this.queues = new QueueSet({
      lane: this.lane,
      memory,
      clock: settings.clock,
      doorbells: this.doorbells,
      lines: this.lines,
      flights,
      flightsMax: Math.min(FLIGHTS_MAX, FLIGHT_BYTES_MAX / settings.maxTransferBytes),
      execute: (words, queue) => (queue.id === 0 ? this.admin.execute(words) : this.io.execute(words, queue)),
      onError: (queue, identifier, status, words) => this.#logError(queue, identifier, status, words),
      onDoorbellError: (information) => this.events.error(information),
      onFatal: (error) => this.#stop(error),
      onOutlived: () => this.#cleared(),
    });
  }

  /** Nothing is gained where a doorbell is a message, and nothing can be emitted without shared memory. */
  #laneFor({ doorbells, settings, memory, namespaces }: ControllerParts): FastLane | undefined {
    if (doorbells?.arena.memory === undefined) return undefined;
    return new FastLane({
      arena: doorbells.arena,
      memory,
      doorbells: this.doorbells,
      doorbellOffset: doorbells.offset,
      doorbellBytes: 4 * 2 ** settings.doorbellStride,
      namespaces,
      maxTransferBytes: settings.maxTransferBytes,
      counters: this.io.counters,
      pageSize: () => this.io.pageSize,
    });
  }

  // --- Enabling and resets ----------------------------------------------------------------------------------------

  /** CC was written. */
  configure(value: number): void {
    const before = this.cc;
    this.cc = value;
    if (Cc.EN.test(value) && !Cc.EN.test(before)) this.#enable();
    else if (!Cc.EN.test(value) && Cc.EN.test(before)) this.#disable();
    const notification = Cc.SHN.get(this.cc);
    if (notification !== ShutdownNotification.NONE && notification !== Cc.SHN.get(before)) void this.#shutDown();
  }

  /** Becomes ready at once, or when what a former life left with the backing has ended. */
  #enable(): void {
    if (this.#outlived) return;
    const { aqa, asqLow, asqHigh, acqLow, acqHigh } = this.adminQueue;
    const { memory } = this.#parts;
    const pageSize = this.pageSize;
    const set = Cc.CSS.get(this.cc);
    const valid =
      Cc.MPS.get(this.cc) <= MPS_MAX &&
      Cc.AMS.get(this.cc) === 0 &&
      (set === CommandSetSelected.NVM || set === CommandSetSelected.ALL) &&
      Aqa.ASQS.get(aqa) > 0 &&
      Aqa.ACQS.get(aqa) > 0 &&
      (asqLow & (pageSize - 1)) === 0 &&
      (acqLow & (pageSize - 1)) === 0;
    if (!valid) {
      this.fatal = true;
      return;
    }
    this.io.pageSize = pageSize;
    this.admin.pageSize = pageSize;
    const completion = new CompletionQueue(memory, 0, acqLow + acqHigh * HIGH, Aqa.ACQS.get(aqa) + 1, 0);
    this.queues.addCompletion(completion);
    const entries = Aqa.ASQS.get(aqa) + 1;
    this.queues.addSubmission(new SubmissionQueue(memory, 0, asqLow + asqHigh * HIGH, entries, completion));
    this.queues.running = true;
    this.ready = true;
  }

  /** The memory page size that CC.MPS names. */
  get pageSize(): number {
    return 4096 * 2 ** Cc.MPS.get(this.cc);
  }

  /** A controller reset by CC.EN: the admin queue's registers stay, everything else goes. RDY falls when all is quiet. */
  #disable(): void {
    this.#clear();
    this.ready = this.#outlived;
  }

  /** Whether something that was begun before a reset is still going on. */
  get #outlived(): boolean {
    return this.flights.stale > 0 || this.queues.serving;
  }

  #clear(): void {
    this.#epoch++;
    this.flights.abandonAll();
    this.queues.clear();
    this.events.reset();
    this.features.reset();
    this.lines.mask = 0;
    this.cc = 0;
    this.fatal = false;
    this.shutdownStatus = ShutdownStatus.NORMAL;
  }

  /** The last operation of a former life has ended. */
  #cleared(): void {
    if (this.#outlived) return;
    if (!Cc.EN.test(this.cc)) this.ready = false;
    else if (!this.ready && !this.fatal) this.#enable();
  }

  /** Goes on, after the state was restored, with what was waited for when it was saved. */
  continue(): void {
    this.#cleared();
    if (this.shutdownStatus === ShutdownStatus.OCCURRING) void this.#shutDown();
  }

  /**
   * Fatal, where the controller is enabled: queues in the host's memory are ahead of what is known of them here. Commands
   * that seem to be on their way may be done, and their memory in use for something else.
   */
  giveUp(): void {
    if (!Cc.EN.test(this.cc)) return;
    this.flights.abandonAll();
    this.queues.running = false;
    this.ready = true;
    this.fatal = true;
  }

  /** Everything back to power-on state. */
  reset(): void {
    if (Cc.EN.test(this.cc) && this.shutdownStatus !== ShutdownStatus.COMPLETE) this.logs.unsafeShutdowns++;
    this.#clear();
    this.ready = false;
    this.subsystemReset = false;
    Object.assign(this.adminQueue, { aqa: 0, asqLow: 0, asqHigh: 0, acqLow: 0, acqHigh: 0 });
  }

  /** NSSR was written. */
  resetSubsystem(): void {
    this.reset();
    this.subsystemReset = true;
  }

  /** Everything that was written is made durable, whichever kind of shutdown it is. */
  async #shutDown(): Promise<void> {
    const epoch = this.#epoch;
    this.shutdownStatus = ShutdownStatus.OCCURRING;
    const flushed = this.#flush();
    if (flushed !== undefined) await flushed;
    if (epoch === this.#epoch) this.shutdownStatus = ShutdownStatus.COMPLETE;
  }

  /** A promise only where it takes time. A failure is reported: nobody could do anything about it. */
  #flush(): Promise<unknown> | undefined {
    try {
      const flushed = runSteps(flushSteps(this.#parts.namespaces.filter((entry) => entry !== undefined)));
      return typeof flushed === "number" ? undefined : flushed.catch((error: unknown) => this.#parts.fail(error));
    } catch (error) {
      this.#parts.fail(error);
      return undefined;
    }
  }

  /** Takes nothing new and resolves when everything taken is done and durable: another machine may go on from here. */
  async suspend(): Promise<void> {
    this.queues.suspended = true;
    await this.flights.idle();
    await this.#flush();
  }

  resume(): void {
    this.queues.suspended = false;
    this.queues.resume();
  }

  /** A queue's memory cannot be reached: nothing can be completed any more. */
  #stop(error: unknown): void {
    this.fatal = true;
    if (!isRing3Error(error, "DMA_FAULT")) this.#parts.fail(error);
  }

  // --- What the function tells ------------------------------------------------------------------------------------

  /** Guest memory came into reach, or went out of it. */
  setReach(reachable: boolean): void {
    if (!reachable) {
      this.flights.suspend();
      return;
    }
    if (this.queues.serving) {
      // In the middle of a command, by a message that it let in.
      const { settings, memory } = this.#parts;
      settings.clock.soon(() => {
        if (memory.busMaster) this.setReach(true);
      });
      return;
    }
    for (const { queue, words } of this.flights.takeHeld()) this.io.resume(words, queue);
    this.queues.resume();
  }

  /** A map is about to go. */
  forget(map: MemoryMap): void {
    this.io.unmapped(map.iova, map.size);
    this.queues.forget(map);
  }

  namespaceChanged(id: number): void {
    this.lane?.namespacesChanged();
    this.logs.namespaceChanged(id);
    this.events.namespacesChanged();
  }

  setTemperature(kelvin: number): void {
    const { over, under } = this.features.thresholds;
    const crossed = (value: number): boolean => value >= over || value <= under;
    const news = crossed(kelvin) && !crossed(this.logs.temperature);
    this.logs.temperature = kelvin;
    if (news) this.events.temperature();
  }

  /** Interrupt vectors that a completion queue may name at present. */
  #vectors(): number {
    const { interrupts } = this.#parts;
    if (interrupts.mode === "msi") return interrupts.vectors;
    return interrupts.mode === "intx" ? 1 : Math.max(1, interrupts.available.msix);
  }

  #completeAdmin(identifier: number, status: number, dw0: number): void {
    const queue = this.queues.submission[0];
    if (queue !== undefined) this.queues.complete(queue, identifier, status, dw0);
  }

  #logError(queue: SubmissionQueue, identifier: number, status: number, words: Uint32Array | undefined): number {
    if (NOT_LOGGED.has(status)) return 0;
    const io = queue.id > 0 && words !== undefined;
    this.logs.recordError({
      submissionId: queue.id,
      identifier,
      status,
      nsid: words?.[CommandWord.NSID] ?? 0,
      lba: io ? (words[CommandWord.CDW10] as number) + (words[CommandWord.CDW11] as number) * HIGH : 0,
    });
    return StatusFlag.MORE;
  }
}
