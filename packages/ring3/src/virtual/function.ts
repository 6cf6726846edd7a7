// A PCI function in software. The model overrides a few methods; whoever serves the function (in process, over a socket)
// uses the bus side. Hard about it: what a bus may do at any time (reset, power, unmap, vanish) reaches the model in one
// order, and nothing that the bus sends, and no exception of the model, gets through to the other side.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import type { Arena } from "../memory/arena.ts";
import { defaultArena } from "../memory/default-arena.ts";
import type { IovaRange } from "../memory/iova-allocator.ts";
import { AdvancedErrorReporting } from "../pci/capabilities/advanced-error-reporting.ts";
import { PowerManagement } from "../pci/capabilities/power-management.ts";
import type { BarIndex, FunctionIdentity, ResetMethod } from "../pci/function.ts";
import { Header } from "../pci/header.ts";
import { BarAccess } from "./bar-access.ts";
import { type BarParts, VirtualBar } from "./bars.ts";
import type { ConfigListener } from "./capability-builder.ts";
import { type ResetKind, VirtualConfig } from "./config.ts";
import type { FunctionDeclaration } from "./declaration.ts";
import type { AerInjection } from "./error-recording.ts";
import { VirtualFunctionEvents, type VirtualPowerState } from "./function-events.ts";
import { identityOf, msixPlacementOf, paddedRom, resetMethodsOf } from "./function-parts.ts";
import { checkIdentity, restoreBars, saveBars, saveIdentity } from "./function-state.ts";
import { type DmaFault, GuestMemory } from "./guest-memory.ts";
import { VirtualInterrupts } from "./interrupts.ts";
import { FunctionModel } from "./model.ts";
import { decodeState, encodeState, type StateRecord } from "./state.ts";
import { StateFields } from "./state-fields.ts";
import { readUserRegisters, writeUserRegisters } from "./user-registers.ts";

/** What a function is put together from: a subclass that is a front of something else brings its own. */
export interface FunctionFactory {
  config(declaration: FunctionDeclaration, listener: ConfigListener): VirtualConfig;
  interrupts(config: VirtualConfig): VirtualInterrupts;
  bar(index: BarIndex, parts: BarParts): VirtualBar;
}

const ownParts: FunctionFactory = {
  config: (declaration, listener) => new VirtualConfig(declaration, listener),
  interrupts: (config) => new VirtualInterrupts(config),
  bar: (index, parts) => new VirtualBar(index, parts),
};

/** Who uses a function: one at a time. */
export interface FunctionHost {
  /** For messages. */
  readonly name: string;
  /** Hears what the model did wrong. */
  fault?(description: string): void;
}

const { IO, MEMORY, BUS_MASTER } = Header.COMMAND.fields;
const stateNames = ["D0", "D1", "D2", "D3hot"] as const;

/**
 * A PCI function in software. Subclasses override what they need; simple models pass handlers in the declaration.
 *
 * Config space, interrupts and guest memory are the model's to use at any time. DMA reaches what a client mapped, while
 * `memory.busMaster` is on.
 */
export class VirtualFunction extends FunctionModel implements Disposable {
  readonly identity: FunctionIdentity;
  readonly config: VirtualConfig;
  readonly interrupts: VirtualInterrupts;
  readonly memory: GuestMemory;
  /** BARs 0 to 5; those that are not there have the kind `none`. */
  readonly bars: readonly VirtualBar[];
  /** Content of the expansion ROM, as long as its address range. */
  readonly rom: Uint8Array | undefined;
  readonly events: VirtualFunctionEvents = new VirtualFunctionEvents((error) => this.fail(error));
  /** What `resetForUser` may use, best first. */
  readonly resetMethods: readonly ResetMethod[];
  readonly #access: BarAccess;
  #arena: Arena | undefined;
  #host: FunctionHost | undefined;
  #state: VirtualPowerState = "D0";
  #paused = false;
  /** Paused until the client that came back to kept state says that it is ready, by writing COMMAND. */
  #waitsForCommand = false;
  #keptState = false;
  #removed: Ring3Error | undefined;

  /** Throws `DECLARATION_INVALID`, `CAPABILITY_CONFLICT`, `BAR_CONFLICT` or `ARENA_FULL`. */
  constructor(declaration: FunctionDeclaration, make: FunctionFactory = ownParts) {
    super(declaration);
    this.#arena = declaration.arena;
    this.config = make.config(declaration, {
      flr: () => this.#reset("flr", true),
      power: ({ state, softReset }) => this.#power(state, softReset),
      resize: (bar, size) => this.#resize(bar, size),
      fault: (error) => this.fail(error),
    });
    this.interrupts = make.interrupts(this.config);
    this.memory = new GuestMemory({
      admit: (map) => this.admitMap(map),
      onMap: (map) => {
        this.#guard(() => this.onMap(map));
        this.events.emit("mapped", map);
      },
      onUnmap: (map) => {
        this.#guard(() => this.onUnmap(map));
        this.events.emit("unmapped", map);
      },
      onFault: (fault) => this.#dmaFault(fault),
    });
    const { config } = this;
    const model = this.accesses();
    const msix = msixPlacementOf(this.interrupts);
    const arena = (): Arena => this.arena;
    this.bars = ([0, 1, 2, 3, 4, 5] as const).map((index) =>
      make.bar(index, { declaration: config.bars[index], arena, model, msix }),
    );
    this.#access = new BarAccess(this.bars, (error) => this.fail(error));
    this.rom = paddedRom(declaration.rom, config.barSize("rom"));
    this.resetMethods = resetMethodsOf(config);
    this.identity = identityOf(declaration, config);
    config.onWrite(Header.COMMAND, () => this.#commandWritten());
  }

  // === The model's side, besides what it overrides ================================================================

  /** Reports that the model failed; the function goes on. */
  protected fail(error: unknown): void {
    const description = isRing3Error(error)
      ? error.message
      : error instanceof Error
        ? `${error.name}: ${error.message}`
        : String(error);
    this.events.emit("fault", { description });
    try {
      this.#host?.fault?.(description);
    } catch {
      // Whoever only listens cannot stop the model.
    }
  }

  // === What both sides see =========================================================================================

  get name(): string {
    return this.config.name;
  }

  /** Where memory BARs lie; made when it is first needed. */
  get arena(): Arena {
    this.#arena ??= defaultArena();
    return this.#arena;
  }

  get powerState(): VirtualPowerState {
    return this.#state;
  }

  /** Whether the device wants {@link runPoll} to be called. A device may switch it with its state. */
  get polled(): boolean {
    return this.poll !== undefined;
  }

  /** The client's name, while there is one. */
  get connectedTo(): string | undefined {
    return this.#host?.name;
  }

  /** Why the function is gone, once it is. */
  get removed(): Ring3Error | undefined {
    return this.#removed;
  }

  /** Resolves once a client may connect, where the function is still busy with the one before; it never rejects. */
  get settling(): Promise<void> | undefined {
    return undefined;
  }

  /** Where a driver in this process may map memory for DMA; anywhere by default. */
  get dmaRanges(): readonly IovaRange[] | undefined {
    return undefined;
  }

  /** Whether the function can be saved and restored. */
  get movable(): boolean {
    return true;
  }

  /** Whether state of a client that vanished waits for it. */
  get keepsState(): boolean {
    return this.#keptState;
  }

  // === The bus side ================================================================================================

  /**
   * A client opens the function: memory and I/O decoding on, bus mastering off, as a kernel's enabling does. Where state was
   * kept, everything stays as it was, and DMA begins with the client's first write to COMMAND. Throws `FUNCTION_BUSY`, or
   * `FUNCTION_REMOVED`.
   */
  connect(host: FunctionHost): void {
    if (this.#removed !== undefined) throw this.#removed;
    if (this.#host !== undefined) {
      throw new Ring3Error("FUNCTION_BUSY", `${this.name} is in use by ${this.#host.name}; it has one user at a time`, {
        errno: "EBUSY",
      });
    }
    this.#host = host;
    this.#waitsForCommand = this.#keptState;
    if (!this.#keptState) this.config.set(Header.COMMAND, { IO: 1, MEMORY: 1, BUS_MASTER: 0 });
    this.#keptState = false;
    this.#follow();
    this.events.emit("connected", { host: host.name });
    this.#guard(() => this.onConnect());
  }

  /**
   * The client is gone: nothing is mapped, no interrupt connected, and the next one finds the function as after power-on.
   * With `keepState` config space and the model stay as they are, and pending interrupts wait.
   */
  disconnect(options: { readonly keepState?: boolean } = {}): void {
    const host = this.#host;
    if (host === undefined) return;
    this.#host = undefined;
    this.#paused = false;
    this.#waitsForCommand = false;
    this.#follow();
    this.memory.unmapAll();
    this.memory.dirty.stop();
    if (options.keepState === true) this.interrupts.forget();
    else this.interrupts.disconnectAll();
    this.#guard(() => this.onDisconnect());
    this.#keptState = options.keepState === true;
    if (!this.#keptState) this.powerOn();
    this.events.emit("disconnected", { host: host.name });
  }

  /** Whether the BAR answers: COMMAND's memory or I/O bit is on and the function is in D0. */
  decodes(bar: BarIndex): boolean {
    return this.#access.decodes(bar);
  }

  /**
   * Reads from a BAR: any offset and length inside it, in aligned pieces. Gives `false`, and ones, where the BAR does not
   * decode or the range leaves it. Never throws.
   */
  readBar(bar: BarIndex, offset: number, target: Uint8Array): boolean {
    return this.#access.readInto(bar, offset, target);
  }
  /** Writes to a BAR, as {@link readBar} reads. */
  writeBar(bar: BarIndex, offset: number, source: Uint8Array): boolean {
    return this.#access.writeFrom(bar, offset, source);
  }

  /** Single aligned accesses of 1, 2 or 4 bytes; ones where nothing answers. They never throw. */
  barRead(bar: BarIndex, offset: number, width: 1 | 2 | 4): number {
    return this.#access.read(bar, offset, width);
  }
  barWrite(bar: BarIndex, offset: number, width: 1 | 2 | 4, value: number): void {
    this.#access.write(bar, offset, width, value);
  }
  barRead8(bar: BarIndex, offset: number): number {
    return this.#access.read(bar, offset, 1);
  }
  barRead16(bar: BarIndex, offset: number): number {
    return this.#access.read(bar, offset, 2);
  }
  barRead32(bar: BarIndex, offset: number): number {
    return this.#access.read(bar, offset, 4);
  }
  barRead64(bar: BarIndex, offset: number): bigint {
    return this.#access.read64(bar, offset);
  }
  barWrite8(bar: BarIndex, offset: number, value: number): void {
    this.#access.write(bar, offset, 1, value);
  }
  barWrite16(bar: BarIndex, offset: number, value: number): void {
    this.#access.write(bar, offset, 2, value);
  }
  barWrite32(bar: BarIndex, offset: number, value: number): void {
    this.#access.write(bar, offset, 4, value);
  }
  barWrite64(bar: BarIndex, offset: number, value: bigint): void {
    this.#access.write64(bar, offset, value);
  }

  /** Reads the expansion ROM, whatever COMMAND says, as a kernel's users can. `false`, and ones, outside of it. */
  readRom(offset: number, target: Uint8Array): boolean {
    const { rom } = this;
    const inside = rom !== undefined && Number.isInteger(offset) && offset >= 0 && offset + target.length <= rom.length;
    if (!inside || this.#removed !== undefined) {
      target.fill(0xff);
      return false;
    }
    target.set(rom.subarray(offset, offset + target.length));
    return true;
  }

  /**
   * Resets as a kernel does for its user: by the best method there is, then BAR addresses, sizes of resizable BARs and
   * COMMAND's memory and I/O bits are given back. Bus mastering and interrupts are off afterwards.
   */
  resetForUser(): ResetMethod {
    const method = this.resetMethods[0] ?? "bus";
    for (const kind of ["intx", "msi", "msix"] as const) this.interrupts.disconnect(kind);
    const { config } = this;
    const { IO: io, MEMORY: memory } = config.space.read(Header.COMMAND);
    const kept = readUserRegisters(config);
    this.#waitsForCommand = false;
    this.#reset(method === "bus" ? "conventional" : "flr", true);
    writeUserRegisters(config, kept);
    config.set(Header.COMMAND, { IO: io, MEMORY: memory });
    this.#follow();
    return method;
  }

  /** What a client's reset does: {@link resetForUser}, in a function of which it takes its time. */
  resetByUser(): ResetMethod | Promise<ResetMethod> {
    return this.resetForUser();
  }

  /** The bare event, as hardware has it: BAR addresses and COMMAND are lost. */
  reset(kind: ResetKind): void {
    this.#reset(kind, false);
  }

  /** As if power had been off: sticky registers are lost too. */
  powerOn(): void {
    this.config.powerOn();
    this.#afterReset("conventional", false);
  }

  /**
   * Stops DMA, interrupts and polling at once, until {@link resume} or until the client goes. Nothing is lost: messages wait, and what is under way is
   * in what {@link save} gives or goes on afterwards.
   */
  pause(): void {
    this.#paused = true;
    this.#follow();
  }

  /** As {@link pause}, after the model has finished what is under way; not at all where the client is another one by then. */
  async suspend(): Promise<void> {
    const host = this.#host;
    try {
      await this.onSuspend();
    } catch (error) {
      this.fail(error);
    }
    if (this.#host === host) this.pause();
  }

  resume(): void {
    if (!this.#paused && !this.#waitsForCommand) return;
    this.#paused = false;
    this.#waitsForCommand = false;
    this.#follow();
    this.#guard(() => this.onResume());
  }

  /** Whether DMA, interrupts and polling are held back. */
  get paused(): boolean {
    return this.#paused || this.#waitsForCommand || this.#host === undefined;
  }

  /** Everything that another function of the same model and version needs to go on from here. */
  save(): Uint8Array {
    return encodeState({
      ...saveIdentity(this.#modelIdentity),
      connected: this.#host !== undefined,
      config: this.config.save(),
      interrupts: this.interrupts.save(),
      bars: saveBars(this.bars),
      device: this.saveDevice(),
    });
  }

  /**
   * Takes what {@link save} gave. Maps and connected signals stay as they are: they are the client's. Throws
   * `STATE_MISMATCH` for another model, version or declaration, `STATE_INVALID` for what is no state; the function is as
   * after power-on then, unless nothing had been touched yet.
   *
   * With `stale` the function that was saved went on afterwards, for all one knows, and came to an end somewhere: where it
   * had a client, whose memory may tell of more than the state does, the model decides what that means.
   */
  restore(state: Uint8Array, options: { readonly stale?: boolean } = {}): void {
    const fields = new StateFields(decodeState(state));
    checkIdentity(fields, this.#modelIdentity, this.name);
    const stale = fields.boolean("connected") && options.stale === true;
    const config = fields.bytes("config");
    const bars = fields.records("bars", 6);
    const interrupts = fields.raw("interrupts");
    const device = fields.raw("device");
    // Nothing may begin before the model knows that its state is stale.
    const wasPaused = this.#paused;
    if (stale) this.pause();
    try {
      this.config.restore(config);
      this.#restoreParts(bars, interrupts, device);
      if (stale) this.#guard(() => this.onStale());
    } finally {
      if (stale && !wasPaused) this.resume();
    }
    if (this.#host === undefined) this.#keptState = true;
  }

  #restoreParts(bars: readonly StateFields[], interrupts: StateRecord, device: StateRecord): void {
    try {
      restoreBars(this.bars, bars);
      this.interrupts.restore(interrupts);
      this.#follow();
      this.restoreDevice(device);
    } catch (error) {
      this.powerOn();
      throw error;
    }
  }

  /** Records an error as hardware does and reports it to the user where the registers say so. Throws `NOT_SUPPORTED`. */
  injectError(injection: AerInjection): void {
    const messages = this.config.recordError(injection);
    const worst = messages.includes("ERR_FATAL")
      ? "fatal"
      : messages.includes("ERR_NONFATAL")
        ? "non-fatal"
        : undefined;
    if (worst === undefined) return;
    this.events.emit("error", { description: `${injection.error} (${worst})` });
    this.interrupts.signalError();
  }

  /** Asks the user to let go. */
  requestRemoval(): void {
    this.events.emit("removal-requested", { description: `${this.identity.address} is wanted back` });
    this.interrupts.requestRemoval();
  }

  /** The function is gone, at once: whatever comes now reads ones. */
  remove(reason = "unplugged"): void {
    if (this.#removed !== undefined) return;
    this.#removed = new Ring3Error("FUNCTION_REMOVED", `${this.name} was removed: ${reason}`);
    this.#follow();
    this.events.emit("removed", { reason });
    this.disconnect();
  }

  /** Does some of the work that was found by polling; 0 where there is none. Never throws. */
  runPoll(): number {
    if (this.poll === undefined || this.paused) return 0;
    try {
      return this.poll();
    } catch (error) {
      this.fail(error);
      return 0;
    }
  }

  /** Removes the function and gives its memory back. */
  [Symbol.dispose](): void {
    this.remove("it was disposed");
    for (const bar of this.bars) bar.dispose();
  }

  // === Inside ======================================================================================================

  get #modelIdentity(): { vendorId: number; deviceId: number; modelVersion: number } {
    const { vendorId, deviceId, modelVersion = 1 } = this.identity;
    return { vendorId, deviceId, modelVersion };
  }

  #reset(kind: ResetKind, byUser: boolean): void {
    this.config.reset(kind);
    this.#afterReset(kind, byUser);
  }

  #afterReset(kind: ResetKind, byUser: boolean): void {
    this.interrupts.reset();
    this.#follow();
    for (const bar of this.bars) bar.clear();
    this.#guard(() => this.onReset(kind));
    this.events.emit("reset", { kind, byUser });
  }

  #power(state: number, softReset: boolean): void {
    if (softReset) this.#reset("d3hot", true);
    else if (stateNames[state] !== undefined) this.#follow();
  }

  #commandWritten(): void {
    this.#waitsForCommand = false;
    this.#follow();
  }

  /** Brings in line what depends on COMMAND, the power state and the client. */
  #follow(): void {
    const command = this.config.read(Header.COMMAND.offset, 2);
    const state = this.#readPowerState();
    const awake = state === "D0" && this.#removed === undefined;
    const memory = awake && MEMORY.test(command);
    const io = awake && IO.test(command);
    const busMaster = awake && BUS_MASTER.test(command);
    const held = this.paused;
    if (this.#access.decode(memory, io)) this.events.emit("decoding", { memory, io });
    const mayMaster = busMaster && !held;
    if (mayMaster !== this.memory.busMaster) {
      this.memory.busMaster = mayMaster;
      this.#guard(() => this.onBusMaster(mayMaster));
    }
    this.interrupts.gate({ awake, busMaster, held });
    if (state === this.#state) return;
    this.#state = state;
    this.#guard(() => this.onPower(state));
    this.events.emit("power", { state });
  }

  #readPowerState(): VirtualPowerState {
    if (!this.config.has(PowerManagement.PMCSR)) return "D0";
    return stateNames[this.config.space.read(PowerManagement.PMCSR).POWER_STATE] ?? "D0";
  }

  #resize(bar: BarIndex, size: number): void {
    try {
      this.bars[bar]?.resize(size);
    } catch (error) {
      this.fail(error);
    }
    this.#guard(() => this.onResize(bar, size));
    this.events.emit("resized", { bar, size });
  }

  /** A request that no completion came for: STATUS tells, and AER. Writes are posted: no function learns of those. */
  #dmaFault(fault: DmaFault): void {
    this.fail(new Ring3Error("DMA_FAULT", fault.description));
    if (fault.access === "write" || fault.reason === "bus-master") return;
    this.config.latch(Header.STATUS, ["RECEIVED_MASTER_ABORT"]);
    if (this.config.has(AdvancedErrorReporting.UNCORRECTABLE_ERROR_STATUS))
      this.injectError({ error: "COMPLETION_TIMEOUT" });
  }

  #guard(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.fail(error);
    }
  }
}
