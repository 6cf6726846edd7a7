// The interrupts of a virtual function: what the model raises goes to whoever connected a signal, as far as config space,
// masks and bus mastering let it; what is masked waits in its pending bit. PCI 3.0, section 6.8; PCIe 6.0, section 6.1.4.
// Hard about it: INTx is a level over transports that know only signals, so each delivery masks the line until its user
// unmasks it, and it fires again while the level is up.
import { Ring3Error } from "../binary/error.ts";
import { Msi } from "../pci/capabilities/msi.ts";
import { MsiX, type MsiXLayout, readMsiXLayout } from "../pci/capabilities/msi-x.ts";
import { Header } from "../pci/header.ts";
import type { VirtualConfig } from "./config.ts";
import { MsiRegisters } from "./msi-registers.ts";
import { MsixTable } from "./msix-table.ts";
import type { StateRecord } from "./state.ts";
import { StateFields } from "./state-fields.ts";

/** Where signals go: an eventfd, a counter. Called from the model's own call; it must not block or throw. */
export interface InterruptSink {
  signal(): void;
  /** The number of the eventfd behind it, where there is one: for functions that let somebody else raise it. */
  readonly descriptor?: number;
}

export type InterruptKind = "intx" | "msi" | "msix" | "error" | "request";
export type InterruptMode = "none" | "intx" | "msi" | "msix";

/** What lets interrupts out. */
export interface InterruptGate {
  /** The function is in D0. */
  readonly awake: boolean;
  /** Messages are memory writes: without bus mastering none is sent, and what is raised is lost. */
  readonly busMaster: boolean;
  /** Nothing goes out now, and nothing is lost. */
  readonly held: boolean;
}

const kinds = ["intx", "msi", "msix", "error", "request"] as const;
const { MSIX_ENABLE, FUNCTION_MASK } = MsiX.CONTROL.fields;
const { INTX_DISABLE } = Header.COMMAND.fields;

export class VirtualInterrupts {
  readonly available: { readonly intx: 0 | 1; readonly msi: number; readonly msix: number };
  /** The table, where the function has MSI-X. */
  readonly table: MsixTable | undefined;
  readonly msixLayout: MsiXLayout | undefined;
  readonly #config: VirtualConfig;
  readonly #msi: MsiRegisters | undefined;
  readonly #sinks: Record<InterruptKind, (InterruptSink | undefined)[]> = {
    intx: [],
    msi: [],
    msix: [],
    error: [],
    request: [],
  };
  #mode: InterruptMode = "none";
  #gate: InterruptGate = { awake: true, busMaster: false, held: false };
  /** MSI messages that wait because the function is held, whether or not the capability has pending bits. */
  #heldMessages = 0;
  #functionMask = false;
  #level = false;
  #lineMasked = false;

  constructor(config: VirtualConfig) {
    this.#config = config;
    const msix = config.has(MsiX.CONTROL) ? readMsiXLayout(config.space) : undefined;
    this.msixLayout = msix;
    this.table = msix === undefined ? undefined : new MsixTable(msix.vectors, (vector) => this.#unmasked(vector));
    const message = config.has(Msi.CONTROL) ? new MsiRegisters(config) : undefined;
    this.#msi = message;
    this.available = {
      intx: config.space.readRaw(Header.INTERRUPT_PIN) === 0 ? 0 : 1,
      msi: message?.available ?? 0,
      msix: msix?.vectors ?? 0,
    };
    const follow = (): void => this.refresh();
    if (msix !== undefined) config.onWrite(MsiX.CONTROL, follow);
    if (message !== undefined) config.onWrite(Msi.CONTROL, follow);
    if (message?.maskBits !== undefined) config.onWrite(message.maskBits, () => this.#deliverPending());
    config.onWrite(Header.COMMAND, follow);
    this.refresh();
  }

  /** Which kind config space has on: MSI-X before MSI before INTx. */
  get mode(): InterruptMode {
    return this.#mode;
  }

  /** Messages that the present mode has: for MSI as many as software allowed. */
  get vectors(): number {
    return this.#mode === "msix" ? this.available.msix : this.#mode === "msi" ? (this.#msi?.vectors ?? 0) : 0;
  }

  /** Whether the INTx level is up. */
  get asserted(): boolean {
    return this.#level;
  }

  // --- The model's side -------------------------------------------------------------------------------------------

  /**
   * Sends a message. With fewer MSI vectors allowed than the function has, numbers wrap around. Dropped in INTx mode (use
   * {@link level}) and while bus mastering is off; pending while masked.
   */
  raise(vector: number): void {
    if (this.#mode === "msix") {
      const table = this.table as MsixTable;
      if (!(vector >= 0 && vector < table.vectors) || !this.#gate.busMaster) return;
      if (this.#gate.held || this.#functionMask || table.masked(vector)) table.setPending(vector, true);
      else this.#sinks.msix[vector]?.signal();
    } else if (this.#mode === "msi") {
      if (!(vector >= 0) || !this.#gate.busMaster) return;
      const msi = this.#msi as MsiRegisters;
      const message = vector % msi.vectors;
      if (this.#gate.held) this.#heldMessages |= 1 << message;
      else if (msi.masked(message)) msi.setPending(message, true);
      else this.#sinks.msi[message]?.signal();
    }
  }

  /** Takes back a message that waits, where its cause was dealt with meanwhile (PCIe 6.0, section 6.1.4.5). */
  withdraw(vector: number): void {
    if (this.#mode === "msix") this.table?.setPending(vector, false);
    else if (this.#mode === "msi") {
      const msi = this.#msi as MsiRegisters;
      const message = vector % msi.vectors;
      this.#heldMessages &= ~(1 << message);
      msi.setPending(message, false);
    }
  }

  /** Whether a message waits: masked, or because the function is held. */
  pending(vector: number): boolean {
    if (this.#mode === "msix") return this.table?.pending(vector) ?? false;
    if (this.#mode !== "msi") return false;
    const msi = this.#msi as MsiRegisters;
    return ((msi.pendingBits | this.#heldMessages) & (1 << (vector % msi.vectors))) !== 0;
  }

  /** The level of the INTx line; STATUS.INTERRUPT_STATUS follows it in every mode. */
  level(up: boolean): void {
    if (this.#level === up) return;
    this.#level = up;
    if (this.available.intx === 1) this.#config.set(Header.STATUS, { INTERRUPT_STATUS: up ? 1 : 0 });
    this.#fireLine();
  }

  // --- The bus side -----------------------------------------------------------------------------------------------

  /**
   * Connects a signal, or with `undefined` takes that vector's away. For MSI and MSI-X it also switches the kind on in config
   * space and unmasks the vector, as a kernel does for its users; a pending message is delivered then. Throws
   * `INTERRUPT_INVALID` for a vector that is not there.
   */
  connect(kind: InterruptKind, vector: number, sink: InterruptSink | undefined): void {
    const count = this.count(kind);
    if (!(Number.isInteger(vector) && vector >= 0 && vector < count)) {
      throw new Ring3Error("INTERRUPT_INVALID", `${kind} has ${count} vectors, and no vector ${vector}`, {
        errno: "EINVAL",
      });
    }
    this.#sinks[kind][vector] = sink;
    if (sink === undefined) return;
    if (kind === "intx") {
      this.#lineMasked = false;
      this.#fireLine();
    } else if (kind === "msi") {
      this.#msi?.enable(vector);
      this.refresh();
      this.#msi?.mask(vector, false);
      this.#deliverMsi(vector);
    } else if (kind === "msix") {
      this.#config.set(MsiX.CONTROL, { MSIX_ENABLE: 1 });
      this.refresh();
      this.table?.mask(vector, false);
      this.#deliverMsix(vector);
    }
  }

  /** Connects signals to the vectors from `first` on, as {@link connect} does each. */
  connectAll(kind: InterruptKind, first: number, sinks: readonly (InterruptSink | undefined)[]): void {
    for (const [i, sink] of sinks.entries()) this.connect(kind, first + i, sink);
  }

  /**
   * Takes those of these signals away that are still connected, by vector, and leaves all others. `true` where it took some and
   * none of the kind is left, which stays on in config space all the same.
   */
  release(kind: InterruptKind, sinks: ReadonlyMap<number, InterruptSink>): boolean {
    const own = [...sinks].filter(([vector, sink]) => this.#sinks[kind][vector] === sink);
    for (const [vector] of own) this.connect(kind, vector, undefined);
    return own.length > 0 && !this.anyConnected(kind);
  }

  /** Whether a signal is connected to any vector of the kind. */
  anyConnected(kind: InterruptKind): boolean {
    return this.#sinks[kind].some((sink) => sink !== undefined);
  }

  /** Takes all signals of a kind away, and switches MSI or MSI-X off in config space. */
  disconnect(kind: InterruptKind): void {
    this.#sinks[kind] = [];
    if (kind === "intx") this.#lineMasked = false;
    if (kind === "msi" && this.#msi !== undefined) {
      this.#msi.disable();
      this.refresh();
    }
    if (kind === "msix" && this.available.msix > 0) {
      this.#config.set(MsiX.CONTROL, { MSIX_ENABLE: 0 });
      for (let vector = 0; vector < this.available.msix; vector++) this.table?.mask(vector, true);
      this.refresh();
    }
  }

  disconnectAll(): void {
    for (const kind of kinds) this.disconnect(kind);
  }

  /** Takes all signals away and leaves config space and masks as they are, for a client that comes back. */
  forget(): void {
    for (const kind of kinds) this.#sinks[kind] = [];
  }

  /** Connects again what is connected: after a reset by somebody who gives the user's registers back. */
  reconnect(): void {
    for (const kind of ["intx", "msi", "msix"] as const) {
      for (const [vector, sink] of this.#sinks[kind].entries()) {
        if (sink !== undefined) this.connect(kind, vector, sink);
      }
    }
  }

  /** Whether a signal is connected. */
  connected(kind: InterruptKind, vector = 0): boolean {
    return this.#sinks[kind][vector] !== undefined;
  }

  /** Vectors of a kind; `error` and `request` have one each. */
  count(kind: InterruptKind): number {
    return kind === "error" || kind === "request" ? 1 : this.available[kind];
  }

  maskLine(): void {
    this.#lineMasked = true;
  }

  /** Lets the line fire again: at once where the level is up. */
  unmaskLine(): void {
    this.#lineMasked = false;
    this.#fireLine();
  }

  get lineMasked(): boolean {
    return this.#lineMasked;
  }

  /** Signals by software, whatever masks say. Nothing happens where nothing is connected. */
  trigger(kind: InterruptKind, vector = 0): void {
    this.#sinks[kind][vector]?.signal();
  }

  /** Tells the user that the platform saw an uncorrected error. */
  signalError(): void {
    this.trigger("error");
  }

  /** Asks the user to let the function go. */
  requestRemoval(): void {
    this.trigger("request");
  }

  // --- The function's side ----------------------------------------------------------------------------------------

  /** What lets interrupts out changed. */
  gate(gate: InterruptGate): void {
    this.#gate = gate;
    this.#deliverPending();
    this.#fireLine();
  }

  /** Nothing pending, everything masked, the line down. Signals stay connected: whoever connected them disconnects. */
  reset(): void {
    this.#level = false;
    this.#lineMasked = false;
    this.#heldMessages = 0;
    if (this.available.intx === 1) this.#config.set(Header.STATUS, { INTERRUPT_STATUS: 0 });
    this.table?.reset();
    this.refresh();
  }

  /** Follows config space, after a write, a reset or a restore. */
  refresh(): void {
    const { space } = this.#config;
    const msix = this.table === undefined ? 0 : space.readRaw(MsiX.CONTROL);
    this.#functionMask = FUNCTION_MASK.test(msix);
    this.#msi?.refresh();
    const line = this.available.intx === 1 && !INTX_DISABLE.test(space.readRaw(Header.COMMAND));
    const before = this.#mode;
    this.#mode = MSIX_ENABLE.test(msix) ? "msix" : this.#msi?.enabled === true ? "msi" : line ? "intx" : "none";
    // What waited for a kind that was switched off must not fire when it is on again.
    if (before === "msix" && this.#mode !== "msix") this.table?.clearPending();
    if (before === "msi" && this.#mode !== "msi") {
      this.#heldMessages = 0;
      this.#msi?.clearPending();
    }
    this.#deliverPending();
    this.#fireLine();
  }

  save(): StateRecord {
    const record = { level: this.#level, lineMasked: this.#lineMasked, heldMessages: this.#heldMessages >>> 0 };
    return this.table === undefined ? record : { ...record, table: this.table.save() };
  }

  /** After config space was restored. Throws `STATE_INVALID`. */
  restore(state: StateRecord): void {
    const fields = new StateFields(state, "interrupts");
    const level = fields.boolean("level");
    const lineMasked = fields.boolean("lineMasked");
    const heldMessages = fields.number("heldMessages", { maximum: 0xffff_ffff });
    if (this.table !== undefined) this.table.restore(fields.bytes("table"));
    this.#level = level;
    this.#lineMasked = lineMasked;
    this.#heldMessages = heldMessages | 0;
    this.refresh();
  }

  // --- Inside -----------------------------------------------------------------------------------------------------

  #fireLine(): void {
    if (!this.#level || this.#lineMasked || this.#mode !== "intx") return;
    if (!this.#gate.awake || this.#gate.held) return;
    const sink = this.#sinks.intx[0];
    if (sink === undefined) return;
    this.#lineMasked = true;
    sink.signal();
  }

  #unmasked(vector: number): void {
    if (this.#mode === "msix") this.#deliverMsix(vector);
  }

  get #open(): boolean {
    return this.#gate.busMaster && !this.#gate.held;
  }

  #deliverPending(): void {
    if (!this.#open) return;
    if (this.#mode === "msix" && !this.#functionMask) {
      for (const vector of this.table?.allPending() ?? []) this.#deliverMsix(vector);
    } else if (this.#mode === "msi") {
      const held = this.#heldMessages;
      this.#heldMessages = 0;
      for (let vector = 0; vector < 32; vector++) if ((held & (1 << vector)) !== 0) this.raise(vector);
      for (let rest = this.#msi?.pendingBits ?? 0, vector = 0; rest !== 0; rest >>>= 1, vector++) {
        if ((rest & 1) !== 0) this.#deliverMsi(vector);
      }
    }
  }

  #deliverMsix(vector: number): void {
    const { table } = this;
    if (table === undefined || !table.pending(vector) || table.masked(vector)) return;
    if (this.#functionMask || !this.#open) return;
    table.setPending(vector, false);
    this.#sinks.msix[vector]?.signal();
  }

  #deliverMsi(vector: number): void {
    const msi = this.#msi;
    if (msi === undefined || (msi.pendingBits & (1 << vector)) === 0 || msi.masked(vector) || !this.#open) return;
    msi.setPending(vector, false);
    this.#sinks.msi[vector]?.signal();
  }
}
