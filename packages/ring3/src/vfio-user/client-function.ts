// A PCI function over a vfio-user socket: the parts put together, and the order in which they come and go.
import { Ring3Error } from "../binary/error.ts";
import type { Arena } from "../memory/arena.ts";
import type { SharedFunctionHandle } from "../pci/attached-function.ts";
import { AdvancedFeatures } from "../pci/capabilities/advanced-features.ts";
import { PciExpress } from "../pci/capabilities/pci-express.ts";
import { PowerManagement } from "../pci/capabilities/power-management.ts";
import { ConfigSpace } from "../pci/config-space.ts";
import { closedError, Ending, removedError } from "../pci/ending.ts";
import { FunctionEventSource } from "../pci/events.ts";
import type { Bar, BarIndex, FunctionIdentity, PciFunction, ResetMethod } from "../pci/function.ts";
import { FunctionPower } from "../pci/function-power.ts";
import { Header } from "../pci/header.ts";
import { identify } from "../pci/identification.ts";
import { RegionBar } from "../pci/region-bar.ts";
import { actingRegisters, WatchedConfigAccess } from "../pci/watched-config.ts";
import { WindowGate } from "../pci/window-gate.ts";
import { ServedRegion } from "./client-bar.ts";
import { ServedConfig } from "./client-config.ts";
import { Continuity, type ReconnectOptions } from "./client-continuity.ts";
import type { ServedDevice } from "./client-device.ts";
import { VfioUserDmaSpace } from "./client-dma.ts";
import { DmaRequests, type ReachableTable } from "./client-dma-requests.ts";
import { VfioUserInterrupts } from "./client-interrupts.ts";
import { Migration } from "./client-migration.ts";
import { ServedRom } from "./client-rom.ts";
import type { Session, SessionOptions } from "./client-session.ts";
import { armSignals } from "./client-signals.ts";
import { Region } from "./messages.ts";

export interface VfioUserFunctionOptions extends SessionOptions {
  readonly arena: Arena;
  readonly shareMemory: boolean;
  readonly trustServerMemory: boolean;
  readonly postedWrites: boolean;
  readonly reconnect: ReconnectOptions | undefined;
  readonly removalGraceMs: number;
  readonly resetTimeoutMs: number;
}

const IO_AND_MEMORY = 3;
const BUS_MASTER = 4;
/** A served function. {@link connect} makes one; what is here beyond {@link PciFunction} is vfio-user's own. */
export class VfioUserFunction implements PciFunction {
  readonly identity: FunctionIdentity;
  readonly config: ConfigSpace;
  readonly rom: ServedRom | undefined;
  readonly interrupts: VfioUserInterrupts;
  readonly dma: VfioUserDmaSpace;
  readonly resetMethods: readonly ResetMethod[];
  readonly power: FunctionPower;
  readonly events: FunctionEventSource;
  /** State, stream and DMA log of live migration. */
  readonly migration: Migration;
  readonly #options: VfioUserFunctionOptions;
  readonly #device: ServedDevice;
  readonly #requests: DmaRequests;
  readonly #served: ServedConfig;
  readonly #access: WatchedConfigAccess;
  readonly #regions: readonly ServedRegion[];
  readonly #bars: readonly RegionBar[];
  readonly #gate: WindowGate = new WindowGate();
  readonly #ending: Ending = new Ending();
  readonly #life: { readonly index: number; readonly live: number };
  readonly #resettable: boolean;
  readonly #continuity: Continuity;
  #closing = false;
  #signals: Disposable | undefined;
  #graceTimer: ReturnType<typeof setTimeout> | undefined;
  #removal: string | undefined;
  #resetting: Promise<ResetMethod> | undefined;
  #disposal: Promise<void> | undefined;

  /** For `connect`: takes over what `open` opens. `onLost` of the session must reach {@link lost}. */
  constructor(
    path: string,
    session: Session,
    table: ReachableTable,
    requests: DmaRequests,
    options: VfioUserFunctionOptions,
  ) {
    const { device, regions } = session;
    this.#options = options;
    this.#device = device;
    this.#requests = requests;
    this.#resettable = session.info.resettable;
    const { arena } = options;
    this.#served = new ServedConfig(device, configSize(regions[Region.CONFIG]?.size ?? 0));
    this.#access = new WatchedConfigAccess(this.#served, this.#gate);
    this.config = new ConfigSpace(this.#access);
    if (!this.config.isPresent()) {
      throw new Ring3Error("FUNCTION_REMOVED", "config space reads all ones: the served function is not there");
    }
    this.events = new FunctionEventSource();
    this.interrupts = new VfioUserInterrupts(device, this.config, (error) =>
      this.events.emit("error", { description: `an interrupt's listener threw: ${String(error)}` }),
    );
    // Whoever is not the first finds the function as the others want it.
    if (device.negotiated.openings <= 1) this.#switchOn();
    else this.#served.adopt();
    this.#watchConfig();
    const parts = { device, arena, trustServerMemory: options.trustServerMemory };
    this.#regions = regions.slice(0, Region.CONFIG).map((region) => new ServedRegion(region, parts));
    this.#bars = this.#makeBars();
    for (const [bar, doorbells] of session.doorbells) this.#regions[bar]?.useDoorbells(doorbells);
    const rom = this.#regions[Region.ROM];
    this.rom = rom === undefined || rom.size === 0 ? undefined : new ServedRom(rom, this.#gate);
    this.identity = {
      ...identityOf(this.config),
      address: `vfio-user:${path}`,
      backend: "vfio-user",
      modelVersion: undefined,
    };
    this.dma = new VfioUserDmaSpace(device, arena, table, options.shareMemory);
    this.resetMethods = this.#findResetMethods();
    this.power = new FunctionPower(this.config, this.#gate, this.events, this.#ending);
    this.migration = new Migration(device);
    this.#life = arena.control.open();
    this.#continuity = new Continuity(path, {
      session: options,
      reconnect: options.reconnect,
      device,
      requests,
      served: this.#served,
      access: this.#access,
      config: this.config,
      dma: this.dma,
      interrupts: this.interrupts,
      regions: this.#regions,
      migration: this.migration,
      identity: this.identity,
      resettable: this.#resettable,
      armSignals: () => this.#armSignals(),
      lost: (reason) => this.lost(reason),
      recovered: (description) => this.events.emit("recovered", { description }),
      remove: (why) => this.#remove(why),
      over: () => this.#closing,
    });
    device.channel.watch();
    this.#armSignals();
    if (options.reconnect === undefined) device.channel.isFinal = true;
    else device.onLoss(() => this.#continuity.reconnectNow());
  }

  /** Where the function is served now; a move changes it. */
  get path(): string {
    return this.#continuity.path;
  }

  /** The server's requests to reach memory that were refused: outside the maps, without permission or bus master. */
  get refusedDmaRequests(): number {
    return this.#requests.refused;
  }

  /** Mappable areas that the server offers and that stay unmapped, since it could truncate their memory. */
  get refusedAreas(): number {
    return this.#regions.reduce((sum, region) => sum + region.refusedAreas, 0);
  }

  get busMaster(): boolean {
    return this.config.read(Header.COMMAND).BUS_MASTER === 1;
  }

  set busMaster(on: boolean) {
    this.config.write(Header.COMMAND, { BUS_MASTER: on ? 1 : 0 });
  }

  /** Whether the server may reach memory: COMMAND.BUS_MASTER as it was last seen, which others change too where there are any. */
  get mayAccessMemory(): boolean {
    return this.#served.busMaster || this.#shared;
  }

  /** How many had opened the function by then, this one included: more than one only where the server has clients share it. */
  get opening(): number {
    return Math.max(1, this.#device.negotiated.openings);
  }

  get gone(): AbortSignal {
    return this.#ending.signal;
  }

  bar(index: BarIndex): Bar {
    const bar = this.#bars[index];
    if (bar === undefined) throw new RangeError(`a function has BARs 0 to 5, not ${String(index)}`);
    return bar;
  }

  reset(): Promise<ResetMethod> {
    this.#resetting ??= this.#reset().finally(() => {
      this.#resetting = undefined;
    });
    return this.#resetting;
  }

  /**
   * What a worker needs. `vectors` are handed over: from now on the worker waits for them, and here they throw
   * `INTERRUPT_LENT`. Each handle is for one worker.
   */
  handle(vectors: readonly number[] = []): SharedFunctionHandle {
    this.#ending.check();
    return {
      identity: this.identity,
      arena: this.#options.arena.handle(),
      windows: this.#bars.flatMap((bar) => bar.windows()),
      buffers: this.dma.mappings(),
      vectors: vectors.map((vector) => ({ vector, eventfd: this.interrupts.lend(vector) })),
      life: this.#life,
    };
  }

  /**
   * Moves the function to another server, which serves the same device and has no client: its state goes there by the
   * migration commands, while DMA memory, interrupts and windows stay what they are to the driver. It blocks the thread, so
   * the driver cannot get in between; it throws, and all is as before, where the other server does not take the state.
   */
  moveTo(path: string): void {
    this.#ending.check();
    this.#continuity.moveTo(path);
  }

  /** The connection ended. For `connect`. */
  lost(reason: Ring3Error): void {
    if (this.#ending.reason !== undefined || this.#closing) return;
    const { reconnect } = this.#options;
    const sentence = reason.message.slice(reason.code.length + 2);
    if (reconnect === undefined) void this.#remove(sentence);
    else if (!this.#continuity.connecting) void this.#continuity.reconnect(sentence);
  }

  [Symbol.asyncDispose](): Promise<void> {
    const { address } = this.identity;
    this.#disposal ??= this.#close(
      this.#removal === undefined ? closedError(address) : removedError(address, this.#removal),
    );
    return this.#disposal;
  }

  get #shared(): boolean {
    return this.#device.negotiated.openings > 0;
  }

  /** As a kernel opens a function: bus master and interrupts off, memory and I/O decoding on, in D0. */
  #switchOn(): void {
    const { config } = this;
    const command = config.readRaw(Header.COMMAND);
    const wanted = (command & ~BUS_MASTER) | IO_AND_MEMORY;
    if (config.find(PowerManagement) !== undefined && config.read(PowerManagement.PMCSR).POWER_STATE !== 0) {
      config.write(PowerManagement.PMCSR, { POWER_STATE: 0 });
    }
    config.writeRaw(Header.COMMAND, wanted);
    this.interrupts.silence();
  }

  #watchConfig(): void {
    const acting = actingRegisters(this.config);
    this.#served.watch(acting);
    this.#access.watch(acting, () => this.config.invalidate());
  }

  #makeBars(): RegionBar[] {
    const mapped = this.#regions.some((region) => region.mappable.length > 0);
    let upperHalf = false;
    return this.#regions.slice(0, Region.ROM).map((region, i) => {
      const low = this.config.read32(0x10 + 4 * i);
      const kind = upperHalf || region.size === 0 ? "none" : kindOf(low);
      upperHalf = kind === "memory64";
      const prefetchable = (kind === "memory32" || kind === "memory64") && (low & 8) !== 0;
      // A posted write whose server dies before it was read is lost, which somebody who reconnects does not want.
      const { reconnect } = this.#options;
      const postedWrites = this.#options.postedWrites && this.#device.negotiated.postedWrites;
      region.posted = postedWrites && reconnect === undefined && !mapped && kind !== "io";
      const mappable = kind === "io" ? [] : region.mappable;
      const shape = { index: i as BarIndex, kind, prefetchable, size: region.size, mappable } as const;
      return new RegionBar(shape, region, this.#gate);
    });
  }

  #findResetMethods(): ResetMethod[] {
    const { config } = this;
    if (
      config.find(PciExpress) !== undefined &&
      config.read(PciExpress.DEVICE_CAPABILITIES).FUNCTION_LEVEL_RESET_CAPABILITY === 1
    ) {
      return ["flr"];
    }
    if (
      config.find(AdvancedFeatures) !== undefined &&
      config.read(AdvancedFeatures.CAPABILITIES).FUNCTION_LEVEL_RESET === 1
    ) {
      return ["af_flr"];
    }
    return this.#resettable ? ["device_specific"] : [];
  }

  async #reset(): Promise<ResetMethod> {
    this.#ending.check();
    const [method] = this.resetMethods;
    if (method === undefined) {
      throw new Ring3Error(
        "NOT_SUPPORTED",
        "the vfio-user server cannot reset its device, nor has it a function-level reset",
      );
    }
    this.interrupts.disable();
    this.busMaster = false;
    this.#gate.block("a reset is under way");
    try {
      if (this.#resettable) await this.#device.reset(this.#options.resetTimeoutMs);
      else if (method === "flr") this.config.write(PciExpress.DEVICE_CONTROL, { INITIATE_FUNCTION_LEVEL_RESET: 1 });
      else this.config.write(AdvancedFeatures.CONTROL, { INITIATE_FLR: 1 });
    } finally {
      if (this.#ending.reason === undefined) {
        if (this.#device.channel.dead === undefined) this.#afterReset();
        this.#gate.unblock("a reset is under way");
      }
    }
    this.#ending.check();
    this.busMaster = false;
    this.interrupts.silence();
    this.events.emit("reset", { method });
    return method;
  }

  #afterReset(): void {
    this.#served.restoreAfterReset();
    this.config.invalidate();
    this.#access.followState();
  }

  #armSignals(): void {
    this.#signals?.[Symbol.dispose]();
    this.#signals = armSignals(this.#device, {
      onRequest: () => this.#removalRequested(),
      onError: () => this.events.emit("error", { description: "the device reported an uncorrected error (AER)" }),
    });
  }

  #removalRequested(): void {
    if (this.#removal !== undefined || this.#ending.reason !== undefined) return;
    const graceMs = this.#options.removalGraceMs;
    this.#removal = "its removal was requested by the server";
    this.#graceTimer = setTimeout(() => void this[Symbol.asyncDispose](), graceMs);
    this.#graceTimer.unref();
    this.events.emit("removal-requested", { graceMs });
  }

  async #remove(why: string): Promise<void> {
    this.#removal ??= why;
    await this[Symbol.asyncDispose]();
  }

  /** The safe order: bus master, interrupts, DMA, windows, files. A server that is gone fails some steps; all are tried. */
  async #close(reason: Ring3Error): Promise<void> {
    const errors: unknown[] = [];
    const step = (what: () => void): void => {
      try {
        what();
      } catch (error) {
        if (!(error instanceof Ring3Error)) errors.push(error);
        // One time-out is enough: the steps that are left do not ask a server that says nothing.
        else if (error.code === "SERVER_TIMEOUT") this.#device.channel.close(reason);
      }
    };
    this.#closing = true;
    if (this.#graceTimer !== undefined) clearTimeout(this.#graceTimer);
    // A function that others may use besides is the server's to switch off, when the last one has left.
    if (this.#device.channel.dead === undefined && !this.#shared) step(() => (this.busMaster = false));
    this.#ending.end(reason);
    step(() => this.#signals?.[Symbol.dispose]());
    const toWaiters =
      this.#removal === undefined
        ? new Ring3Error("INTERRUPT_CLOSED", "the function was closed", { cause: reason })
        : reason;
    step(() => this.interrupts.end(reason, toWaiters));
    step(() => this.dma.end(reason));
    step(() => this.#gate.close(reason));
    step(() => this.#access.end(reason));
    step(() => this.#options.arena.control.close(this.#life.index, this.#life.live));
    step(() => this.interrupts.wakeBorrowers());
    for (const region of this.#regions) step(() => region[Symbol.dispose]());
    step(() => this.#device.channel.close(reason));
    if (this.#removal !== undefined) this.events.emit("removed", { reason: this.#removal });
    this.#ending.announce();
    this.events.close();
    await Promise.resolve();
    if (errors.length > 0) throw new AggregateError(errors, "closing a function failed in part");
  }
}

/** Config space has 64, 256 or 4096 bytes, whatever size its region claims. */
function configSize(size: number): number {
  return size >= 4096 ? 4096 : size >= 256 ? 256 : 64;
}

function kindOf(low: number): "io" | "memory32" | "memory64" {
  if ((low & 1) === 1) return "io";
  return (low & 6) === 4 ? "memory64" : "memory32";
}

function identityOf(config: ConfigSpace): Omit<FunctionIdentity, "address" | "backend" | "modelVersion"> {
  const { vendorId, deviceId, subsystemVendorId, subsystemId, revision, classCode } = identify(config);
  return { vendorId, deviceId, subsystemVendorId, subsystemId, revision, classCode };
}
