// A PCI function over the kernel's VFIO: the parts put together, and the order in which they come and go.
import { Ring3Error } from "../binary/error.ts";
import { EventFd } from "../linux/event-fd.ts";
import type { ConfigSpace } from "../pci/config-space.ts";
import { closedError, Ending, removedError } from "../pci/ending.ts";
import { FunctionEventSource } from "../pci/events.ts";
import type { Bar, BarIndex, FunctionIdentity, PciFunction, ResetMethod } from "../pci/function.ts";
import { FunctionPower, type LowPower } from "../pci/function-power.ts";
import { Header } from "../pci/header.ts";
import { identify } from "../pci/identification.ts";
import { giveBack, type KeptRegisters, wasReset } from "../pci/kept-registers.ts";
import { WindowGate } from "../pci/window-gate.ts";
import type { AddressSpace } from "./address-space.ts";
import type { VfioBar } from "./bar.ts";
import type { VfioConfigAccess } from "./config-access.ts";
import { DeviceFile } from "./device-file.ts";
import { VfioDmaSpace } from "./dma-space.ts";
import { DeviceFeatures } from "./features.ts";
import type { VfioFunctionHandle } from "./handle.ts";
import { type HotResetScope, hotResetScope } from "./hot-reset.ts";
import { VfioInterrupts } from "./interrupts.ts";
import type { AttachedDevice } from "./iommu.ts";
import type { FunctionLocation } from "./locate.ts";
import { buildParts } from "./parts.ts";
import type { Region } from "./region.ts";
import { readResetMethods, retryReset, untilReady } from "./reset.ts";
import type { VfioRom } from "./rom.ts";
import { armSignals } from "./signals.ts";
import { IoeventfdWidth } from "./uapi.ts";

export interface VfioFunctionOptions {
  /** How long the driver gets to let go when somebody wants the function back; 3000 ms by default. */
  readonly removalGraceMs?: number;
  /** Bound on waiting for the function after a reset; 10,000 ms by default. */
  readonly resetTimeoutMs?: number;
  /** Aborts when whoever gave this process the function wants it back: as a request of the kernel, with the same time. */
  readonly wantedBack?: AbortSignal;
}

/** A function bound to vfio-pci. {@link open} makes one; what is here beyond {@link PciFunction} is Linux's own. */
export class VfioFunction implements PciFunction {
  readonly identity: FunctionIdentity;
  readonly config: ConfigSpace;
  readonly rom: VfioRom | undefined;
  readonly interrupts: VfioInterrupts;
  readonly dma: VfioDmaSpace;
  readonly resetMethods: readonly ResetMethod[];
  readonly power: FunctionPower;
  readonly events: FunctionEventSource;
  /** Migration, DMA logging, dma-buf export, VF token. */
  readonly features: DeviceFeatures;
  /** Where the function's DMA goes; several functions may share it. */
  readonly addressSpace: AddressSpace;
  readonly #device: DeviceFile;
  readonly #attached: AttachedDevice;
  readonly #ownsSpace: boolean;
  readonly #access: VfioConfigAccess;
  readonly #bars: readonly VfioBar[];
  readonly #gate: WindowGate = new WindowGate();
  readonly #ending: Ending = new Ending();
  readonly #signals: Disposable;
  readonly #life: { readonly index: number; readonly live: number };
  readonly #regionCount: number;
  readonly #kept: KeptRegisters;
  readonly #removalGraceMs: number;
  readonly #resetTimeoutMs: number;
  #graceTimer: ReturnType<typeof setTimeout> | undefined;
  #removal: string | undefined;
  #resetting: Promise<ResetMethod> | undefined;
  /** An error was reported and is not dealt with: the kernel may have reset the link. */
  #inError = false;
  #disposal: Promise<void> | undefined;

  /** For `open`: takes over `attached`, and the address space where `ownsSpace`. */
  constructor(
    location: FunctionLocation,
    space: AddressSpace,
    attached: AttachedDevice,
    ownsSpace: boolean,
    options: VfioFunctionOptions,
  ) {
    this.addressSpace = space;
    this.#attached = attached;
    this.#ownsSpace = ownsSpace;
    this.#removalGraceMs = options.removalGraceMs ?? 3000;
    this.#resetTimeoutMs = options.resetTimeoutMs ?? 10_000;
    this.#device = new DeviceFile(attached.file);
    const { pci, resettable, regionCount } = this.#device.info();
    if (!pci) throw new Ring3Error("NOT_SUPPORTED", `${location.address} is no PCI device to VFIO`);
    this.#regionCount = regionCount;
    const { access, config, bars, rom, kept } = buildParts(this.#device, space.arena, this.#gate);
    this.#kept = kept;
    this.#access = access;
    this.config = config;
    this.#bars = bars;
    this.rom = rom;
    this.identity = {
      ...identityOf(config),
      address: location.address,
      backend: attached.iommufdDevice === undefined ? "vfio-group" : "vfio-iommufd",
      modelVersion: undefined,
    };
    this.events = new FunctionEventSource();
    this.interrupts = new VfioInterrupts(this.#device, (error) =>
      this.events.emit("error", { description: `an interrupt's listener threw: ${String(error)}` }),
    );
    this.dma = new VfioDmaSpace(space, location.noIommu);
    this.resetMethods = readResetMethods(location.sysfsFolder, resettable);
    this.power = new FunctionPower(config, this.#gate, this.events, this.#ending, lowPowerOf(this.#device));
    this.features = new DeviceFeatures(this.#device);
    this.#life = space.arena.control.open();
    this.#signals = armSignals(this.#device, location.address, {
      onRequest: () => this.#removalRequested("its removal was requested (unplug or unbind)"),
      onError: () => this.#errorReported(),
      onRecovery: (succeeded) => this.#errorHandled(succeeded),
      onResume: (sleptMs) => this.#machineSlept(sleptMs),
    });
    const wanted = (): void => this.#removalRequested("whoever lent it wants it back");
    options.wantedBack?.addEventListener("abort", wanted, { once: true, signal: this.#ending.signal });
  }

  get busMaster(): boolean {
    return this.config.read(Header.COMMAND).BUS_MASTER === 1;
  }

  set busMaster(on: boolean) {
    this.config.write(Header.COMMAND, { BUS_MASTER: on ? 1 : 0 });
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
    return this.#resetting ?? this.#reset([this], () => this.#device.reset(), this.resetMethods[0]);
  }

  /** Which functions a hot reset would take along; `undefined` where slot and bus cannot be reset. */
  hotResetScope(): HotResetScope | undefined {
    this.#ending.check();
    return hotResetScope(this.#device);
  }

  /**
   * Resets the whole slot or bus, and with it its link. Every affected function must be open in this address space or, by
   * groups, among `others`, which may have spaces of their own; their drivers must be stopped, and re-initialise. Throws
   * `NOT_SUPPORTED`, or `SYSTEM_CALL` where one is not ours.
   */
  async hotReset(others: readonly VfioFunction[] = []): Promise<ResetMethod> {
    if (this.hotResetScope() === undefined) {
      throw new Ring3Error("NOT_SUPPORTED", "neither the slot nor the bus can be reset");
    }
    const byGroup = this.#attached.group !== undefined;
    const all = [...new Set([this, ...others])];
    const spaces = new Set(all.map((fn) => fn.addressSpace));
    if (!byGroup && spaces.size > 1) {
      throw new Ring3Error("NOT_SUPPORTED", "by iommufd only functions of one address space are reset together");
    }
    const groups = byGroup ? [...spaces].flatMap((space) => space.groupFiles()) : [];
    await Promise.allSettled(all.flatMap((fn) => fn.#resetting ?? []));
    const attempt = (): "done" | "busy" => this.#device.hotReset(groups);
    return await this.#reset(all, attempt, "bus");
  }

  /** What the kernel says of each region, those beyond the BARs too. */
  regions(): Region[] {
    this.#ending.check();
    return Array.from({ length: this.#regionCount }, (_, index) => this.#device.region(index));
  }

  /**
   * Has the kernel write `value` to a register each time the eventfd is signalled, also by another process. Disposal ends
   * that. Throws `SYSTEM_CALL` for the MSI-X table, or beyond the kernel's 1000.
   */
  ioeventfd(bar: BarIndex, offset: number, width: 1 | 2 | 4 | 8, value: bigint): EventFd {
    this.#ending.check();
    if (!(Number.isInteger(offset) && offset >= 0 && offset % width === 0 && offset + width <= this.bar(bar).size)) {
      throw new Ring3Error("REGISTER_RANGE", `${width} bytes at ${offset} are no register of BAR ${bar}`);
    }
    const at = this.#device.region(bar).fileOffset + offset;
    const eventFd = new EventFd();
    try {
      this.#device.ioeventfd(at, IoeventfdWidth[width], value, eventFd.fd.number);
    } catch (error) {
      eventFd[Symbol.dispose]();
      throw error;
    }
    eventFd.fd.closesAfter({
      [Symbol.dispose]: () => {
        if (!this.#device.fd.closed) this.#device.ioeventfd(at, IoeventfdWidth[width], value, -1);
      },
    });
    return eventFd;
  }

  /**
   * What a worker needs. `vectors` are handed over: from now on the worker waits for them, and here they throw
   * `INTERRUPT_LENT`. Each handle is for one worker.
   */
  handle(vectors: readonly number[] = []): VfioFunctionHandle {
    this.#ending.check();
    return {
      identity: this.identity,
      arena: this.addressSpace.arena.handle(),
      windows: this.#bars.flatMap((bar) => bar.windows()),
      buffers: this.dma.mappings(),
      vectors: vectors.map((vector) => ({ vector, eventfd: this.interrupts.lend(vector) })),
      life: this.#life,
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    const { address } = this.identity;
    this.#disposal ??= this.#close(
      this.#removal === undefined ? closedError(address) : removedError(address, this.#removal),
    );
    return this.#disposal;
  }

  /** Resets these functions by `attempt`; whoever asks for a reset of one of them meanwhile gets this one. */
  #reset(
    functions: readonly VfioFunction[],
    attempt: () => "done" | "busy" | "unsupported",
    method: ResetMethod | undefined,
  ): Promise<ResetMethod> {
    const reset = this.#resetNow(functions, attempt, method).finally(() => {
      for (const fn of functions) fn.#resetting = undefined;
    });
    for (const fn of functions) fn.#resetting = reset;
    return reset;
  }

  async #resetNow(
    functions: readonly VfioFunction[],
    attempt: () => "done" | "busy" | "unsupported",
    method: ResetMethod | undefined,
  ): Promise<ResetMethod> {
    for (const fn of functions) fn.#ending.check();
    if (method === undefined) {
      throw new Ring3Error("NOT_SUPPORTED", "the kernel has no way to reset this function alone; see hotResetScope()");
    }
    for (const fn of functions) fn.#stopForReset();
    try {
      await retryReset(attempt, this.#ending, this.#resetTimeoutMs);
      for (const fn of functions) await untilReady(fn.config, fn.#ending, fn.#resetTimeoutMs);
    } finally {
      for (const fn of functions) fn.#followReset();
    }
    for (const fn of functions) {
      // The kernel gives back what it found: that is nothing where a link reset came before, and else what the user wrote.
      if (fn.#inError) fn.#giveBackLost();
      fn.busMaster = false;
      fn.events.emit("reset", { method });
    }
    return method;
  }

  #stopForReset(): void {
    this.interrupts.disable();
    this.busMaster = false;
    this.#gate.block("a reset is under way");
  }

  #followReset(): void {
    if (this.#ending.reason !== undefined) return;
    this.config.invalidate();
    this.#access.followState();
    this.#gate.unblock("a reset is under way");
  }

  #removalRequested(reason: string): void {
    // The kernel repeats the request; the driver hears it once.
    if (this.#removal !== undefined || this.#ending.reason !== undefined) return;
    const graceMs = this.#removalGraceMs;
    this.#removal = reason;
    this.#graceTimer = setTimeout(() => void this[Symbol.asyncDispose](), graceMs);
    this.#graceTimer.unref();
    this.events.emit("removal-requested", { graceMs });
  }

  #errorReported(): void {
    this.#inError = true;
    this.events.emit("error", { description: "the platform reported an uncorrected error (AER)" });
  }

  #errorHandled(succeeded: boolean): void {
    if (this.#ending.reason !== undefined) return;
    this.config.invalidate();
    if (!succeeded || !this.config.isPresent()) {
      this.events.emit("error", {
        description: "error recovery failed: the function is lost until it is reset or unplugged",
      });
      return;
    }
    if (this.#giveBackLost()) {
      this.events.emit("recovered", { description: "error recovery succeeded by a reset of the link", reset: "bus" });
    } else this.events.emit("recovered", { description: "error recovery succeeded; nothing was reset" });
  }

  /**
   * After a fatal error the kernel resets the link, and gives nothing back: that would be vfio-pci's, which leaves it to its
   * user (`pci_bus_error_reset`, `vfio_pci_core_aer_err_detected`, Linux 7.2). Without its error reporting the function
   * would keep every later error to itself. BARs the kernel does give back, as soon as decoding is switched on.
   */
  #giveBackLost(): boolean {
    this.#inError = false;
    if (!wasReset(this.config, this.#kept)) return false;
    giveBack(this.config, this.#kept, (error) => this.events.emit("error", { description: String(error) }));
    return true;
  }

  #machineSlept(sleptMs: number): void {
    if (this.#ending.reason !== undefined) return;
    this.config.invalidate();
    this.#access.followState();
    this.events.emit("resumed", { sleptMs });
  }

  /** The safe order: bus master, interrupts, DMA, windows, files. A device that is gone fails some steps; all are tried. */
  async #close(reason: Ring3Error): Promise<void> {
    const errors: unknown[] = [];
    const step = (what: () => void): void => {
      try {
        what();
      } catch (error) {
        // Config space and ioctls of an unplugged device may fail; closing its file cleans up all the same.
        if (!(error instanceof Ring3Error)) errors.push(error);
      }
    };
    if (this.#graceTimer !== undefined) clearTimeout(this.#graceTimer);
    step(() => (this.busMaster = false));
    this.#ending.end(reason);
    step(() => this.#signals[Symbol.dispose]());
    step(() => this.interrupts.end(reason, this.#removal === undefined ? interruptClosed(reason) : reason));
    step(() => this.dma.end(reason));
    step(() => this.#gate.close(reason));
    step(() => this.#access.end(reason));
    step(() => this.addressSpace.arena.control.close(this.#life.index, this.#life.live));
    step(() => this.interrupts.wakeBorrowers());
    step(() => this.addressSpace.detach(this.#attached));
    if (this.#ownsSpace) step(() => this.addressSpace[Symbol.dispose]());
    if (this.#removal !== undefined) this.events.emit("removed", { reason: this.#removal });
    this.#ending.announce();
    this.events.close();
    await Promise.resolve();
    if (errors.length > 0) throw new AggregateError(errors, "closing a function failed in part");
  }
}

function lowPowerOf(device: DeviceFile): LowPower {
  return {
    offered: () => device.hasFeature("LOW_POWER_ENTRY", "set"),
    enter: () => void device.setFeature("LOW_POWER_ENTRY"),
    leave: () => void device.setFeature("LOW_POWER_EXIT"),
  };
}

/** Iterators over interrupts end without an error when the driver itself closed the function. */
function interruptClosed(cause: Ring3Error): Ring3Error {
  return new Ring3Error("INTERRUPT_CLOSED", "the function was closed", { cause });
}

function identityOf(config: ConfigSpace): Omit<FunctionIdentity, "address" | "backend" | "modelVersion"> {
  const { vendorId, deviceId, subsystemVendorId, subsystemId, revision, classCode } = identify(config);
  return { vendorId, deviceId, subsystemVendorId, subsystemId, revision, classCode };
}
