// What writes to registers do beyond being stored: the hooks that rules name. Each follows what Linux does at that place.
// Hard about it: a reset or a change of power loses the function's registers, and what the owner of the machine programmed
// there (BARs, COMMAND, link and error settings) must be back before the user can notice.
import { AdvancedFeatures } from "../pci/capabilities/advanced-features.ts";
import { Msi } from "../pci/capabilities/msi.ts";
import { PciExpress } from "../pci/capabilities/pci-express.ts";
import { PowerManagement } from "../pci/capabilities/power-management.ts";
import { VitalProductData } from "../pci/capabilities/vital-product-data.ts";
import type { ConfigSpace } from "../pci/config-space.ts";
import { Header } from "../pci/header.ts";
import { giveBack, type KeptRegisters, readKept } from "../pci/kept-registers.ts";
import type { Register } from "../pci/register.ts";
import type { ConfigListener } from "../virtual/capability-builder.ts";
import type { ConfigPlan, PlannedHook } from "./config-plan.ts";
import type { UserCopy } from "./mediated-config.ts";

/** An access to config space inside one capability, aligned to its width. */
export interface ConfigPiece {
  readonly at: number;
  readonly width: 1 | 2 | 4;
  readonly value: number;
}

/** What actions ask of the function. */
export interface ActionHost {
  /** Why bus mastering must stay off, if it must. */
  busMasterRefusal(): string | undefined;
  /** Messages that are connected for MSI; 0 where MSI is off. */
  msiConnected(): number;
  /** A register started a reset of the function. `run` does it: interrupts must be set up again behind it. */
  resetting(kind: "flr" | "af_flr" | "pm", run: () => void): void;
  refused(place: string, description: string): void;
  failed(error: unknown): void;
}

const COMMAND = Header.COMMAND.offset;
const { IO, MEMORY, BUS_MASTER } = Header.COMMAND.fields;
const DECODING = IO.mask | MEMORY.mask;
const { POWER_STATE, NO_SOFT_RESET } = PowerManagement.PMCSR.fields;
const { MAX_READ_REQUEST_SIZE, MAX_PAYLOAD_SIZE, INITIATE_FUNCTION_LEVEL_RESET } = PciExpress.DEVICE_CONTROL.fields;
const { MSI_ENABLE, MULTIPLE_MESSAGE_ENABLE } = Msi.CONTROL.fields;
const FIRST_BAR = 0x10;
const LAST_BAR = 0x24;
const ROM = 0x30;
/** Looks at F before a transfer of vital product data counts as failed; behind a kernel or in software it flips at once. */
const VPD_LOOKS = 100;

export class RegisterActions {
  readonly #plan: ConfigPlan;
  readonly #hardware: ConfigSpace;
  readonly #copy: UserCopy;
  readonly #listener: ConfigListener;
  readonly #host: ActionHost;
  /** A function whose hardware does not tell its ids nor has a memory bit: a VF, behind a back end that does not fill in. */
  readonly #virtualFunction: boolean;
  /** BARs 0 to 5 and the ROM's, as the owner of the machine programmed them. */
  readonly #bars: readonly number[];
  #asleep: KeptRegisters | undefined;
  #readRequestBefore = 0;

  constructor(plan: ConfigPlan, hardware: ConfigSpace, copy: UserCopy, listener: ConfigListener, host: ActionHost) {
    this.#plan = plan;
    this.#hardware = hardware;
    this.#copy = copy;
    this.#listener = listener;
    this.#host = host;
    this.#virtualFunction = hardware.read16(0) === 0xffff;
    this.#bars = [0, 1, 2, 3, 4, 5].map((index) => hardware.read32(FIRST_BAR + 4 * index)).concat(hardware.read32(ROM));
    if (this.#virtualFunction) copy.write(COMMAND, 2, copy.read(COMMAND, 2) | MEMORY.mask);
  }

  afterRead({ at, value }: ConfigPiece): number {
    if (at !== COMMAND || !this.#virtualFunction) return value;
    return (value | (this.#copy.read(COMMAND, 1) & MEMORY.mask)) >>> 0;
  }

  /** What must be true before the hardware gets the write; gives what it is to get. */
  beforeWrite(piece: ConfigPiece): number {
    let { value } = piece;
    for (const { hook, at } of this.#plan.hooks) {
      if (hook === "command" && piece.at === at) value = this.#beforeCommand(piece);
      if (hook === "device-control") this.#readRequestBefore = MAX_READ_REQUEST_SIZE.get(this.#copy.read(at, 2));
    }
    return value;
  }

  afterWrite(piece: ConfigPiece): void {
    for (const planned of this.#plan.hooks) this.#act(planned, piece);
  }

  /** Bits of a write that a hook takes, though no mask lets them through. */
  takes({ at }: ConfigPiece): number {
    const power = this.#plan.hooks.find(({ hook }) => hook === "power");
    return power?.at === at ? POWER_STATE.mask : 0;
  }

  failed(error: unknown): void {
    this.#host.failed(error);
  }

  /** Gives lost BARs back to the function. */
  restoreBars(): void {
    if (this.#virtualFunction) return;
    const hardware = this.#hardware;
    for (const [index, value] of this.#bars.slice(0, 6).entries()) {
      if (hardware.read32(FIRST_BAR + 4 * index) !== value) hardware.write32(FIRST_BAR + 4 * index, value);
    }
    const rom = this.#bars[6] ?? 0;
    if (hardware.read32(ROM) !== rom) hardware.write32(ROM, rom);
  }

  // ---- COMMAND

  #beforeCommand({ value }: ConfigPiece): number {
    const copy = this.#copy.read(COMMAND, 1);
    const hardware = this.#hardware.read16(COMMAND);
    const lostMemory = MEMORY.test(value) && MEMORY.test(copy) && !MEMORY.test(hardware) && !this.#virtualFunction;
    const lostIo = IO.test(value) && IO.test(copy) && !IO.test(hardware);
    if (lostMemory || lostIo || this.#lostBars()) this.restoreBars();
    // The copy remembers what decoding the user asked for, even where the bits themselves are the hardware's.
    this.#copy.write(COMMAND, 1, (copy & ~DECODING) | (value & DECODING));
    this.#followDecoding(value);
    const refusal = BUS_MASTER.test(value) ? this.#host.busMasterRefusal() : undefined;
    if (refusal === undefined) return value;
    this.#host.refused("HEADER.COMMAND.BUS_MASTER", refusal);
    return (value & ~BUS_MASTER.mask) >>> 0;
  }

  /** Where decoding is the user's copy, the hardware follows it. */
  #followDecoding(value: number): void {
    const virtual = (this.#plan.virtual[COMMAND] ?? 0) & DECODING;
    if (virtual === 0) return;
    const before = this.#hardware.read16(COMMAND);
    const after = (before & ~virtual) | (value & virtual);
    if (before !== after) this.#hardware.write16(COMMAND, after);
  }

  #lostBars(): boolean {
    for (let at = FIRST_BAR; at <= LAST_BAR; at += 4) {
      const wanted = this.#bars[(at - FIRST_BAR) / 4] ?? 0;
      if (wanted !== 0 && this.#hardware.read32(at) !== wanted) return true;
    }
    return false;
  }

  // ---- after the write

  #act({ hook, at, register }: PlannedHook, piece: ConfigPiece): void {
    const { width } = register;
    const touched = piece.at < at + width && at < piece.at + piece.width;
    if (!touched) return;
    switch (hook) {
      case "power":
        if (piece.at === at) this.#setPower(at, POWER_STATE.get(piece.value));
        return;
      case "flr":
        this.#flr(register, at);
        return;
      case "device-control":
        this.#flr(register, at);
        this.#passReadRequest(at);
        return;
      case "msi":
        this.#clampMsi(at);
        return;
      case "vpd":
        if (piece.at <= at + 1 && piece.at + piece.width > at + 1) this.#transferVpd(at);
        return;
      case "command":
        return;
    }
  }

  #setPower(at: number, wanted: number): void {
    const hardware = this.#hardware;
    const before = hardware.read16(at);
    const from = POWER_STATE.get(before);
    if (from === wanted) return;
    const able = hardware.read16(at - 2);
    const { D1_SUPPORT, D2_SUPPORT } = PowerManagement.PMC.fields;
    const exists = wanted === 0 || wanted === 3 || (wanted === 1 ? D1_SUPPORT : D2_SUPPORT).test(able);
    // From a deeper state there is only the way to D0.
    if (!exists || (wanted !== 0 && wanted < from)) return;
    if (wanted === 3) this.#asleep = readKept(hardware);
    const move = (): void => {
      try {
        hardware.write16(at, wanted === 0 ? 0 : POWER_STATE.set(before, wanted));
        if (forgets && this.#asleep !== undefined) this.#giveBack(this.#asleep);
      } catch (error) {
        this.#host.failed(error);
      }
    };
    const forgets = wanted === 0 && from === 3 && !NO_SOFT_RESET.test(before);
    if (forgets) {
      this.#host.resetting("pm", move);
      this.#asleep = undefined;
      return;
    }
    move();
    this.#listener.power?.({ state: POWER_STATE.get(hardware.read16(at)), before: from, softReset: false });
  }

  #giveBack(kept: KeptRegisters): void {
    const forget = this.#plan.rules.resetForgets ? BUS_MASTER.mask : 0;
    const wanted = kept.map((one) => (one.at === COMMAND ? { ...one, value: one.value & ~forget } : one));
    giveBack(this.#hardware, wanted, (error) => this.#host.failed(error));
  }

  #flr(register: Register, at: number): void {
    const express = register === PciExpress.DEVICE_CONTROL;
    const bit = express ? INITIATE_FUNCTION_LEVEL_RESET.mask : AdvancedFeatures.CONTROL.fields.INITIATE_FLR.mask;
    const width = register.width as 1 | 2;
    const value = this.#copy.read(at, width);
    if ((value & bit) === 0) return;
    this.#copy.write(at, width, value & ~bit);
    if (!this.#resettable(express)) return;
    this.#host.resetting(express ? "flr" : "af_flr", () => {
      // A function that sleeps is woken first, as the kernel does: what it holds then is what it gets back.
      const power = this.#plan.hooks.find((one) => one.hook === "power");
      if (power !== undefined && POWER_STATE.get(this.#hardware.read16(power.at)) !== 0) {
        this.#hardware.write16(power.at, 0);
      }
      const kept = readKept(this.#hardware);
      if (express) this.#hardware.write16(at, this.#hardware.read16(at) | bit);
      else this.#hardware.write8(at, bit);
      this.#asleep = undefined;
      this.#giveBack(kept);
    });
  }

  #resettable(express: boolean): boolean {
    if (express) return this.#hardware.read(PciExpress.DEVICE_CAPABILITIES).FUNCTION_LEVEL_RESET_CAPABILITY === 1;
    const { FUNCTION_LEVEL_RESET, TRANSACTIONS_PENDING } = this.#hardware.read(AdvancedFeatures.CAPABILITIES);
    return FUNCTION_LEVEL_RESET === 1 && TRANSACTIONS_PENDING === 1;
  }

  /** The user chooses how large its reads are, but not so small that they are smaller than what the machine transfers. */
  #passReadRequest(at: number): void {
    const wanted = MAX_READ_REQUEST_SIZE.get(this.#copy.read(at, 2));
    if (wanted === this.#readRequestBefore || wanted > 5) return;
    const before = this.#hardware.read16(at);
    const floor = MAX_PAYLOAD_SIZE.get(before);
    this.#hardware.write16(at, MAX_READ_REQUEST_SIZE.set(before, Math.max(wanted, floor)));
  }

  /** MSI is on only while signals are connected, and for as many messages at most. */
  #clampMsi(at: number): void {
    const connected = this.#host.msiConnected();
    const order = connected === 0 ? 0 : Math.ceil(Math.log2(connected));
    let control = this.#copy.read(at, 2);
    if (connected === 0) control &= ~MSI_ENABLE.mask;
    if (MULTIPLE_MESSAGE_ENABLE.get(control) > order) control = MULTIPLE_MESSAGE_ENABLE.set(control, order);
    this.#copy.write(at, 2, control);
  }

  #transferVpd(at: number): void {
    const { ADDRESS, DATA } = VitalProductData;
    const address = this.#copy.read(at, 2);
    const write = ADDRESS.fields.F.test(address);
    const data = at + DATA.offset - ADDRESS.offset;
    try {
      if (write) this.#hardware.write32(data, this.#copy.read(data, 4));
      this.#hardware.write16(at, address);
      for (let look = 0; ADDRESS.fields.F.test(this.#hardware.read16(at)) === write; look++) {
        // Without F flipping the user's driver runs into its own time-out, as it would with the hardware.
        if (look === VPD_LOOKS) return;
      }
      if (!write) this.#copy.write(data, 4, this.#hardware.read32(data));
      this.#copy.write(at, 2, address ^ ADDRESS.fields.F.mask);
    } catch (error) {
      this.#host.failed(error);
    }
  }
}
