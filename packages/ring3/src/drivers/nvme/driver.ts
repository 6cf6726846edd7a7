// The NVMe driver as its users see it: NVMe base 2.0 with the NVM command set 1.0, over any PciFunction. The engine keeps
// the queues going; here are start and end, namespaces, logs, features, and the answers to what happens to the function.
import { Ring3Error } from "../../binary/error.ts";
import type { DmaBuffer, PciFunction } from "../../pci/function.ts";
import type { ErrorLogEntry, FirmwareLog, HealthLog, IdentifyController } from "../../specs/nvme/structs.ts";
import { Sgls } from "../../specs/nvme/structs.ts";
import type { Admin, NamespaceIdentifier } from "./admin.ts";
import type { ControllerCapabilities } from "./controller.ts";
import { checkEntrySizes, readLimits } from "./controller-limits.ts";
import { NvmeEvents } from "./driver-events.ts";
import { Engine } from "./engine.ts";
import { EventWatch } from "./event-watch.ts";
import { type BlockLimits, Namespace, namespaceShape } from "./namespace.ts";
import { openRing, type RawRing, type RawRingOptions } from "./raw-ring.ts";
import { type NvmeOptions, settingsOf } from "./settings.ts";
import { openWorkerQueue, type WorkerQueue, type WorkerQueueOptions } from "./worker-queue.ts";

const NVME_SUBCLASS = 0x0108;
/** How long in-flight commands may take when the function is wanted back, in milliseconds. */
const REMOVAL_DRAIN_MS = 200;
/** How long a function may stay in error before the driver tries to bring it back itself. */
const ERROR_WAIT_MS = 10_000;

/**
 * A running NVMe controller.
 *
 * @example
 * import { NvmeDriver } from "ring3/nvme";
 * await using nvme = await NvmeDriver.start(fn);
 * const sector = await nvme.namespace(1).read(0n, 1);
 */
export class NvmeDriver implements AsyncDisposable {
  readonly events: NvmeEvents = new NvmeEvents();
  readonly #engine: Engine;
  readonly #fn: PciFunction;
  readonly #watch: EventWatch;
  readonly #namespaces: Map<number, Namespace | Ring3Error> = new Map();
  readonly #listening: Disposable[] = [];
  #identify: IdentifyController | undefined;
  #limits: BlockLimits | undefined;
  #ended: Promise<void> | undefined;
  #sleptMs: number | undefined;

  private constructor(fn: PciFunction, options: NvmeOptions) {
    this.#fn = fn;
    this.#engine = new Engine(fn, settingsOf(options));
    this.#watch = new EventWatch(this.#engine.admin, this.events, this.#engine.clock, fn.gone);
    this.#engine.onRecovered = (reason) => this.#recovered(reason);
    this.#engine.onFailed = (error) => this.#failed(error);
  }

  /**
   * Resets and enables the controller, identifies it and its namespaces, and creates the I/O queues.
   * Throws `WRONG_DEVICE`, `NVME_ABSENT`, `NVME_NOT_READY`, `NVME_FATAL`, `NVME_PROTOCOL`, `NVME_UNSUPPORTED`.
   */
  static async start(fn: PciFunction, options: NvmeOptions = {}): Promise<NvmeDriver> {
    const { classCode, address } = fn.identity;
    if (classCode >>> 8 !== NVME_SUBCLASS) {
      const found = classCode.toString(16).padStart(6, "0");
      throw new Ring3Error("WRONG_DEVICE", `${address} has class code ${found}; an NVMe controller has 0108xx`);
    }
    const driver = new NvmeDriver(fn, options);
    try {
      driver.#watchFunction();
      await driver.#begin();
      return driver;
    } catch (error) {
      const reason =
        error instanceof Ring3Error ? error : new Ring3Error("NVME_FAILED", String(error), { cause: error });
      await driver.#end(reason, 0);
      throw fn.gone.aborted && fn.gone.reason instanceof Ring3Error ? fn.gone.reason : error;
    }
  }

  async #begin(): Promise<void> {
    const engine = this.#engine;
    await engine.begin();
    const { admin } = engine;
    const identify = await admin.identifyController();
    checkEntrySizes(this.#fn.identity.address, identify);
    this.#identify = identify;
    const { pageSize } = engine.controller.capabilities;
    // MDTS counts the controller's smallest pages; 0 means no limit. Beyond 2^20 pages it limits nothing that we send.
    if (identify.MDTS !== 0 && identify.MDTS <= 20) {
      engine.maxTransferBytes = Math.min(engine.maxTransferBytes, pageSize * 2 ** identify.MDTS);
    }
    this.#limits = await readLimits(admin, identify, pageSize, engine.maxTransferBytes);
    const kind = engine.settings.dataPointers === "sgl" && Sgls.SUPPORT.get(identify.SGLS) !== 0 ? "sgl" : "prp";
    for (let i = 0; i < Math.min(engine.settings.ioQueues, engine.queueLimit); i++) await engine.addQueue(kind);
    await this.refreshNamespaces();
    await this.#watch.start(identify.OAES);
  }

  /** Reads the list of active namespaces again, for example after a notice that it changed. */
  async refreshNamespaces(): Promise<void> {
    const { admin } = this.#engine;
    const ids = await admin.activeNamespaces();
    for (const id of [...this.#namespaces.keys()]) if (!ids.includes(id)) this.#namespaces.delete(id);
    for (const id of ids) {
      const identify = await admin.identifyNamespace(id);
      try {
        const path = { execute: this.#engine.execute.bind(this.#engine), pool: this.#engine.pool, limits: this.limits };
        this.#namespaces.set(id, new Namespace(namespaceShape(id, identify), path));
      } catch (error) {
        if (!(error instanceof Ring3Error)) throw error;
        this.#namespaces.set(id, error);
      }
    }
  }

  /** What identify controller said at the start. */
  get controller(): IdentifyController {
    return this.#identify as IdentifyController;
  }

  /** What the registers CAP and VS say. */
  get capabilities(): ControllerCapabilities {
    return this.#engine.controller.capabilities;
  }

  /** What bounds commands. */
  get limits(): BlockLimits {
    return this.#limits as BlockLimits;
  }

  /** How interrupts come, how many I/O queues there are and may be. */
  get queues(): { readonly interrupts: string; readonly io: number; readonly limit: number } {
    const { interrupts, queues, queueLimit } = this.#engine;
    return { interrupts: interrupts.kind, io: queues.length, limit: queueLimit };
  }

  /** The active namespaces that can be used, by ascending id. */
  get namespaces(): readonly Namespace[] {
    return [...this.#namespaces.values()].filter((entry) => entry instanceof Namespace);
  }

  /** A namespace by id. Throws `NVME_NO_NAMESPACE`, or why the driver cannot use it. */
  namespace(id: number): Namespace {
    const found = this.#namespaces.get(id);
    if (found instanceof Namespace) return found;
    if (found !== undefined) throw found;
    const ids = [...this.#namespaces.keys()].join(", ") || "none";
    throw new Ring3Error(
      "NVME_NO_NAMESPACE",
      `${this.#fn.identity.address} has no active namespace ${id}; it has ${ids}`,
    );
  }

  /** The admin commands themselves. */
  get admin(): Admin {
    return this.#engine.admin;
  }

  /** Get and set features. */
  get features(): Pick<Admin, "getFeature" | "setFeature"> {
    return this.#engine.admin;
  }

  smart(): Promise<HealthLog> {
    return this.#engine.admin.smart();
  }

  /** The error log's entries, newest first. */
  errorLog(): Promise<readonly ErrorLogEntry[]> {
    return this.#engine.admin.errorLog(Math.min(this.controller.ELPE + 1, 256));
  }

  firmwareLog(): Promise<FirmwareLog> {
    return this.#engine.admin.firmwareLog();
  }

  identifiers(namespaceId: number): Promise<readonly NamespaceIdentifier[]> {
    return this.#engine.admin.namespaceIdentifiers(namespaceId);
  }

  /** Memory for `readInto` and `writeFrom`: zeroed, rounded up to a page, the caller's to dispose. */
  allocate(sizeBytes: number): DmaBuffer {
    return this.#fn.dma.allocate(sizeBytes);
  }

  /** An I/O queue of its own for the low-level face: post, ring, reap. */
  openRing(options: RawRingOptions = {}): Promise<RawRing> {
    return openRing(this.#engine, options);
  }

  /** An I/O queue for a worker thread: send its `handle()` there and call `attachQueue`. */
  openWorkerQueue(options: WorkerQueueOptions = {}): Promise<WorkerQueue> {
    return openWorkerQueue(this.#engine, this.limits, () => this.namespaces, options);
  }

  /** Resets the function and goes on: what is in flight and safe to repeat is repeated. */
  async reset(): Promise<void> {
    await this.#engine.resetAndRecover();
    if (this.#engine.failure !== undefined) throw this.#engine.failure;
  }

  // --- What happens to the function -------------------------------------------------------------------------------

  #watchFunction(): void {
    const engine = this.#engine;
    const { events, gone } = this.#fn;
    const onGone = (): void => {
      const { reason } = gone;
      engine.fail(reason instanceof Ring3Error ? reason : new Ring3Error("FUNCTION_REMOVED", String(reason)));
    };
    gone.addEventListener("abort", onGone, { once: true });
    this.#listening.push(
      { [Symbol.dispose]: () => gone.removeEventListener("abort", onGone) },
      events.on("removal-requested", ({ graceMs }) => void this.#letGo(graceMs)),
      events.on("removed", ({ reason }) => engine.fail(removedError(this.#fn, reason))),
      events.on("error", ({ description }) => this.#waitForRecovery(description)),
      events.on("recovered", ({ description }) => void engine.recoverAnew(description)),
      events.on("resumed", ({ sleptMs }) => {
        this.#sleptMs = sleptMs;
        void engine.recoverAnew(`the machine slept for ${sleptMs} ms`);
      }),
      events.on("reset", () => {
        if (!engine.resetting) void engine.recoverAnew("somebody reset the function");
      }),
      events.on("power", ({ state }) => {
        if (state === "D0" && this.#lostState()) void engine.recover("the function was powered down");
      }),
    );
  }

  #lostState(): boolean {
    try {
      return this.#engine.controller.health() !== "ready";
    } catch {
      return false;
    }
  }

  /** The platform handles an error: its end is told by `recovered`, and where it is not, we try ourselves. */
  #waitForRecovery(description: string): void {
    const { clock } = this.#engine.settings;
    const recovered = this.#fn.events.on("recovered", () => end());
    const timer = clock.after(ERROR_WAIT_MS, () => {
      end();
      void this.#engine.recover(description);
    });
    const end = (): void => {
      recovered[Symbol.dispose]();
      timer[Symbol.dispose]();
    };
    this.#listening.push({ [Symbol.dispose]: end });
  }

  async #letGo(graceMs: number): Promise<void> {
    await this.#end(removedError(this.#fn, "it was requested back"), Math.min(REMOVAL_DRAIN_MS, graceMs / 4));
    await this.#fn[Symbol.asyncDispose]();
  }

  #recovered(reason: string): void {
    const sleptMs = this.#sleptMs;
    this.#sleptMs = undefined;
    if (sleptMs !== undefined) this.events.emit("resumed", { sleptMs });
    this.events.emit("recovered", { reason });
    // Where this fails the next recovery, or the end, is under way.
    this.#watch.start(this.controller.OAES).catch(() => {});
  }

  #failed(error: Ring3Error): void {
    if (error.code !== "NVME_CLOSED") this.events.emit("removed", { code: error.code, reason: error.message });
  }

  #end(error: Ring3Error, drainMs: number): Promise<void> {
    this.#ended ??= (async () => {
      for (const listening of this.#listening.splice(0)) listening[Symbol.dispose]();
      await this.#engine.end(error, drainMs);
    })();
    return this.#ended;
  }

  /** Finishes what is in flight, shuts the controller down in order, and frees all memory. The function stays open. */
  async [Symbol.asyncDispose](): Promise<void> {
    const error = new Ring3Error("NVME_CLOSED", `the driver of ${this.#fn.identity.address} was closed`);
    await this.#end(error, this.#engine.settings.timeoutMs);
  }
}

function removedError(fn: PciFunction, reason: string): Ring3Error {
  const { gone } = fn;
  if (gone.aborted && gone.reason instanceof Ring3Error) return gone.reason;
  return new Ring3Error("FUNCTION_REMOVED", `${fn.identity.address} was taken away: ${reason}`);
}
