// A real function behind rules: what its user sees is a virtual one, made of the user's own bits and of what the rules let
// through. Hard about it: one user after another has it, and between two of them it must become as after power-on, in an
// order in which the device cannot reach memory that is no longer there.
import { isRing3Error, messageOf, Ring3Error } from "../binary/error.ts";
import type { IovaRange } from "../memory/iova-allocator.ts";
import { Msi } from "../pci/capabilities/msi.ts";
import { MsiX } from "../pci/capabilities/msi-x.ts";
import type { PciFunction, ResetMethod } from "../pci/function.ts";
import { Header } from "../pci/header.ts";
import { giveBack, type KeptRegisters, readKept } from "../pci/kept-registers.ts";
import type { ConfigListener } from "../virtual/capability-builder.ts";
import { type FunctionHost, VirtualFunction } from "../virtual/function.ts";
import type { MemoryMap } from "../virtual/guest-memory.ts";
import { BarPolicy } from "./bar-policy.ts";
import { ConfigPlan } from "./config-plan.ts";
import { declarationOf } from "./function-shape.ts";
import { MediatedBar } from "./mediated-bar.ts";
import { MediatedConfig } from "./mediated-config.ts";
import { MediatedInterrupts } from "./mediated-interrupts.ts";
import { type MediationObserver, type NoticeObservation, Observers } from "./observer.ts";
import type { MediationOptions } from "./options.ts";
import { RegisterActions } from "./register-actions.ts";
import type { RuleSet } from "./rules.ts";
import { strict } from "./rules-strict.ts";
import { UserMemory } from "./user-memory.ts";

const { BUS_MASTER, IO, MEMORY } = Header.COMMAND.fields;

/** A real function as its users see it: serve it over vfio-user, or open it in process. {@link mediate} makes one. */
export class MediatedFunction extends VirtualFunction implements AsyncDisposable {
  /** The real one. It stays its owner's: it is to be closed after this one. */
  readonly real: PciFunction;
  readonly rules: RuleSet;
  declare readonly interrupts: MediatedInterrupts;
  readonly #observers: Observers;
  readonly #memory: UserMemory;
  readonly #listener: ConfigListener;
  readonly #resettable: boolean;
  /** What the owner of the machine programmed: users may change some of it, each for itself. */
  readonly #kept: KeptRegisters;
  readonly #listening: DisposableStack = new DisposableStack();
  #settling: Promise<void> | undefined;
  /** Why the function cannot be given to anybody. */
  #spoilt: Ring3Error | undefined;

  /** Use {@link mediate}. */
  constructor(fn: PciFunction, options: MediationOptions) {
    const { rules = strict, trap = false, ranges = [], add = [], hide = [] } = options;
    const name = options.name ?? fn.identity.address;
    const now = options.now ?? ((): number => performance.now());
    // What follows is used by the parts while the function is being made, before there is a `this`.
    const self: { fn?: MediatedFunction; listener?: ConfigListener } = {};
    const failed = (error: unknown): void => self.fn?.fail(error);
    const observers = new Observers(() => self.fn?.interrupts.followObservers(), failed);
    const plan = new ConfigPlan(fn.config, { rules, hide, vectors: fn.interrupts.available });
    super(declarationOf(fn, plan, name, add), {
      config: (declaration, listener) => {
        self.listener = listener;
        return new MediatedConfig(declaration, listener, {
          plan,
          hardware: fn.config,
          observers,
          use: () => (self.fn?.removed !== undefined ? "gone" : self.fn?.connectedTo === undefined ? "unused" : "used"),
          actions: (copy) =>
            new RegisterActions(plan, fn.config, copy, listener, {
              busMasterRefusal: () => self.fn?.busMasterRefusal,
              msiConnected: () => self.fn?.interrupts.msiConnected ?? 0,
              resetting: (kind, run) => {
                if (self.fn !== undefined) self.fn.#resetByRegister(kind, run);
              },
              refused: (place, description) => {
                if (self.fn !== undefined) self.fn.#refused(place, description);
              },
              failed,
            }),
        });
      },
      interrupts: (config) => {
        const inUse = (): boolean => self.fn?.connectedTo !== undefined;
        return new MediatedInterrupts(config, { real: fn.interrupts, observers, failed, inUse });
      },
      bar: (index, parts) => {
        const real = fn.bar(index);
        const trapped = typeof trap === "boolean" ? trap : trap.includes(index);
        const policy = new BarPolicy(real, ranges, now);
        return new MediatedBar(index, parts, { real, arena: fn.dma.arena, policy, trapped, observers, failed });
      },
    });
    self.fn = this;
    this.real = fn;
    this.rules = rules;
    this.#observers = observers;
    this.#listener = self.listener ?? {};
    this.#resettable = fn.resetMethods.length > 0;
    this.#kept = readKept(fn.config);
    const { lockedBytes = Number.POSITIVE_INFINITY, maps = 65_535 } = options;
    this.#memory = new UserMemory(fn.dma, { lockedBytes, maps }, observers);
    if (options.observer !== undefined) this.observe(options.observer);
    this.#listen();
    this.#settle("its owner");
  }

  // === For whoever runs the mediator ===============================================================================

  /** Has `observer` hear of everything that happens, until disposed. */
  observe(observer: MediationObserver): Disposable {
    return this.#observers.add(observer);
  }

  /** Bytes of the user's memory that are locked for the device. */
  get lockedBytes(): number {
    return this.#memory.lockedBytes;
  }

  /** Why bus mastering must stay off, if it must. */
  get busMasterRefusal(): string | undefined {
    return this.#memory.refusal;
  }

  /** Why the function cannot be given to anybody, if it cannot. */
  get spoilt(): Ring3Error | undefined {
    return this.#spoilt;
  }

  /** Tries the reset once more that failed before, and resolves once the function can be used. Throws `RESET_FAILED`. */
  async resetAgain(): Promise<void> {
    if (this.#spoilt !== undefined && this.#settling === undefined) this.#settle("a reset that failed");
    await this.#settling;
    if (this.#spoilt !== undefined) throw this.#spoilt;
  }

  override get settling(): Promise<void> | undefined {
    return this.#settling;
  }

  override get dmaRanges(): readonly IovaRange[] {
    return this.real.dma.limits().ranges;
  }

  /** Its state is in a device that does not give it away. */
  override get movable(): boolean {
    return false;
  }

  /** Takes the function from its user and waits until it is reset; the real function stays open. */
  async [Symbol.asyncDispose](): Promise<void> {
    const user = this.connectedTo;
    this[Symbol.dispose]();
    if (user !== undefined) await this.#settling;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#listening.dispose();
  }

  // === The bus side ================================================================================================

  override connect(host: FunctionHost): void {
    if (this.#spoilt !== undefined) throw this.#spoilt;
    if (this.#settling !== undefined) {
      throw new Ring3Error("FUNCTION_BUSY", `${this.name} is being reset after its last user; try again`, {
        errno: "EBUSY",
      });
    }
    super.connect(host);
    this.#tellSession("opened", host.name);
    // As a kernel's enabling does.
    this.#writeCommand(IO.mask | MEMORY.mask, BUS_MASTER.mask);
    this.#listener.power?.({ state: 0, before: 0, softReset: false });
  }

  /** Bus master, interrupts, DMA, and then the reset: until it is done nobody else gets the function. */
  override disconnect(): void {
    const user = this.connectedTo;
    if (user === undefined) return;
    this.#busMasterOff();
    this.interrupts.disconnectAll();
    super.disconnect();
    this.#tellSession("closed", user);
    this.#settle(user);
  }

  override resetByUser(): Promise<ResetMethod> {
    return this.resetBy(() => this.real.reset());
  }

  /** Stops the function, has `reset` reset it under its user, and shows that a function after its reset. */
  async resetBy(reset: () => Promise<ResetMethod>): Promise<ResetMethod> {
    for (const kind of ["intx", "msi", "msix"] as const) this.interrupts.disconnect(kind);
    this.#busMasterOff();
    const method = await reset();
    if (this.#observers.wants("reset")) this.#observers.tell("reset", { cause: "user", kind: method });
    this.#writeCommand(IO.mask | MEMORY.mask, BUS_MASTER.mask);
    this.#listener.flr?.("flr");
    return method;
  }

  override readRom(offset: number, target: Uint8Array): boolean {
    const { rom } = this.real;
    target.fill(0xff);
    if (rom === undefined || this.removed !== undefined) return false;
    if (!(Number.isInteger(offset) && offset >= 0 && offset + target.length <= rom.size)) return false;
    try {
      target.set(rom.read(offset, target.length));
    } catch (error) {
      this.fail(error);
      return false;
    }
    return true;
  }

  override pause(): void {
    this.#busMasterOff();
    super.pause();
  }

  override save(): never {
    throw new Ring3Error("NOT_SUPPORTED", `${this.name} is a real function: its state cannot be saved`, {
      errno: "EOPNOTSUPP",
    });
  }

  override restore(): never {
    return this.save();
  }

  // === The model's side ============================================================================================

  protected override admitMap(map: MemoryMap): void {
    if (this.connectedTo === undefined) {
      throw new Ring3Error("FUNCTION_REMOVED", `${this.name} is not this user's any more`, { errno: "ENODEV" });
    }
    this.#memory.admit(map);
    const refusal = this.#memory.refusal;
    if (refusal === undefined || !this.#masters()) return;
    this.#busMasterOff();
    this.#refused("HEADER.COMMAND.BUS_MASTER", refusal);
  }

  protected override onUnmap(map: MemoryMap): void {
    this.#memory.remove(map);
  }

  protected override fail(error: unknown): void {
    super.fail(error);
    if (this.#observers.wants("notice")) {
      const description = messageOf(error);
      this.#observers.tell("notice", { kind: "fault", description });
    }
  }

  // === Inside ======================================================================================================

  #listen(): void {
    const { events, gone } = this.real;
    const listening = this.#listening;
    const notice = (kind: NoticeObservation["kind"], description: string, reset?: ResetMethod): void => {
      if (!this.#observers.wants("notice")) return;
      this.#observers.tell("notice", { kind, description, ...(reset === undefined ? {} : { reset }) });
    };
    listening.use(
      events.on("error", ({ description }) => {
        notice("error", description);
        this.events.emit("error", { description });
        this.interrupts.signalError();
      }),
    );
    listening.use(
      events.on("recovered", ({ description, reset }) => {
        if (reset !== undefined) {
          this.#listener.flr?.("flr");
          this.#armAgain();
        }
        notice("recovered", description, reset);
      }),
    );
    listening.use(
      events.on("removal-requested", () => {
        notice("removal-requested", `${this.name} is wanted back`);
        this.requestRemoval();
      }),
    );
    listening.use(
      events.on("removed", ({ reason }) => {
        notice("removed", reason);
        this.remove(reason);
      }),
    );
    const ended = (): void => this.remove("its owner closed it");
    gone.addEventListener("abort", ended, { once: true });
    listening.defer(() => gone.removeEventListener("abort", ended));
  }

  /** Resets the function so that the next user finds it as after power-on. */
  #settle(after: string): void {
    if (this.removed !== undefined) return;
    const settled = this.#resetForNext(after).finally(() => {
      if (this.#settling === settled) this.#settling = undefined;
    });
    this.#settling = settled;
  }

  async #resetForNext(after: string): Promise<void> {
    try {
      this.#busMasterOff();
      if (this.#resettable) {
        const method = await this.real.reset();
        if (this.#observers.wants("reset")) this.#observers.tell("reset", { cause: "handover", kind: method });
      }
      // A back end that hides a reset gives back what it found, which is what the last user made of it.
      giveBack(this.real.config, this.#kept, (error) => this.fail(error));
      this.#spoilt = undefined;
      this.#tellSession("ready", after);
    } catch (error) {
      const why = messageOf(error);
      this.#spoilt = new Ring3Error(
        "RESET_FAILED",
        `${this.name} was not reset after ${after}, so nobody gets it: ${why}`,
        {
          errno: "EIO",
          cause: error,
        },
      );
      this.fail(this.#spoilt);
    }
  }

  #resetByRegister(kind: "flr" | "af_flr" | "pm", run: () => void): void {
    run();
    if (this.#observers.wants("reset")) this.#observers.tell("reset", { cause: "user", kind });
    if (kind === "pm") this.#listener.power?.({ state: 0, before: 3, softReset: true });
    else this.#listener.flr?.(kind);
    this.#armAgain();
  }

  /** Sets up interrupts that a reset has switched off under the user. */
  #armAgain(): void {
    const { config } = this.real;
    const lostMsix = config.has(MsiX.CONTROL) && config.read(MsiX.CONTROL).MSIX_ENABLE === 0;
    const lostMsi = config.has(Msi.CONTROL) && config.read(Msi.CONTROL).MSI_ENABLE === 0;
    this.interrupts.armAgain({ msix: lostMsix, msi: lostMsi, intx: true });
  }

  #refused(place: string, description: string): void {
    if (this.#observers.wants("rule")) this.#observers.tell("rule", { rule: "bus-master", place, description });
    this.fail(new Ring3Error("BUS_MASTER_REFUSED", `bus mastering of ${this.name} stays off: ${description}`));
  }

  #masters(): boolean {
    return BUS_MASTER.test(this.config.read(Header.COMMAND.offset, 2));
  }

  #busMasterOff(): void {
    this.#writeCommand(0, BUS_MASTER.mask);
    // Whoever follows COMMAND learns of it.
    this.#listener.power?.({ state: 0, before: 0, softReset: false });
  }

  #writeCommand(set: number, clear: number): void {
    try {
      const { config } = this.real;
      const before = config.readRaw(Header.COMMAND);
      const after = (before | set) & ~clear;
      if (after !== before) config.writeRaw(Header.COMMAND, after);
    } catch (error) {
      // A function that is gone needs no switching off.
      if (!isRing3Error(error)) throw error;
    }
  }

  #tellSession(kind: "opened" | "closed" | "ready", user: string): void {
    if (this.#observers.wants("session")) this.#observers.tell("session", { kind, user });
  }
}

/**
 * Puts a {@link VirtualFunction} in front of a real function, and resolves once that is reset and can be used. The real one
 * is the mediator's alone from then on, and its owner closes it afterwards. Throws `NO_IOMMU`, `NOT_SUPPORTED` (a bridge, or
 * a function that cannot be reset), `RULE_INVALID`, `CAPABILITY_CONFLICT` or `RESET_FAILED`.
 *
 * @example
 * import { open } from "ring3";
 * import { mediate } from "ring3/mediation";
 * import { serve } from "ring3/vfio-user";
 * await using fn = await open("0000:01:00.0");
 * await using mediated = await mediate(fn, { lockedBytes: 2 ** 30 });
 * await using server = await serve(mediated, "/run/user/1000/disk.sock");
 */
export async function mediate(fn: PciFunction, options: MediationOptions = {}): Promise<MediatedFunction> {
  // Without an IOMMU this throws: a device that reaches everything is nobody's to give away.
  fn.dma.limits();
  if (fn.resetMethods.length === 0 && options.withoutReset !== "allow") {
    throw new Ring3Error(
      "NOT_SUPPORTED",
      `${fn.identity.address} cannot be reset alone, so that a user would find what the one before left in it; ` +
        'allow it with withoutReset: "allow"',
    );
  }
  const mediated = new MediatedFunction(fn, options);
  await mediated.settling;
  const { spoilt } = mediated;
  if (spoilt === undefined) return mediated;
  mediated[Symbol.dispose]();
  throw spoilt;
}
