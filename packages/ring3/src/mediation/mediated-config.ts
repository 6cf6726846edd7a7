// Config space of a mediated function: bits of the user's own copy over bits of the hardware. Hard about it: an access is
// split as the kernel splits it, so that it lies in one capability, and a write acts in one order: what has to be true before
// the hardware gets it, the hardware, the copy, and then what the register does.
import type { ConfigAccess, ConfigSpace } from "../pci/config-space.ts";
import type { FieldDeclarations, Register, RegisterValues } from "../pci/register.ts";
import type { CapabilityEntry } from "../pci/capability-walk.ts";
import type { ConfigListener } from "../virtual/capability-builder.ts";
import { type ResetKind, VirtualConfig } from "../virtual/config.ts";
import { type ConfigBits, get, put } from "../virtual/config-bits.ts";
import type { FunctionDeclaration } from "../virtual/declaration.ts";
import { type ConfigPlan, isShaped } from "./config-plan.ts";
import type { Observers } from "./observer.ts";
import type { ConfigPiece, RegisterActions } from "./register-actions.ts";

export interface MediatedConfigParts {
  readonly plan: ConfigPlan;
  /** The function's own config space. */
  readonly hardware: ConfigSpace;
  readonly observers: Observers;
  /** Whether somebody has the function: without a user nothing is written, and once it is gone all reads as ones. */
  readonly use: () => "used" | "unused" | "gone";
  /** What registers do, made once the copy is there. */
  readonly actions: (copy: UserCopy) => RegisterActions;
}

/** The user's own bits, for what acts on them. */
export interface UserCopy {
  read(at: number, width: 1 | 2 | 4): number;
  write(at: number, width: 1 | 2 | 4, value: number): void;
}

export class MediatedConfig extends VirtualConfig {
  readonly #plan: ConfigPlan;
  readonly #hardware: ConfigSpace;
  readonly #observers: Observers;
  readonly #bits: ConfigBits;
  readonly #actions: RegisterActions;
  readonly #use: () => "used" | "unused" | "gone";

  constructor(declaration: FunctionDeclaration, listener: ConfigListener, parts: MediatedConfigParts) {
    const { plan, hardware, observers, actions } = parts;
    let copy: ConfigBits | undefined;
    const keep = (bits: ConfigBits): void => {
      copy = bits;
    };
    super(declaration, listener, { size: plan.size, prepare: keep });
    const bits = copy as unknown as ConfigBits;
    this.#use = parts.use;
    this.#bits = bits;
    this.#plan = plan;
    this.#hardware = hardware;
    this.#observers = observers;
    const mirrored = new Set(plan.builders.map(({ at }) => at));
    const own = this.capabilities.filter(({ offset }) => !mirrored.has(offset));
    const sizes = new Map((declaration.capabilities ?? []).map((builder) => [builder.group, builder.size]));
    const added = own.map((entry) => {
      const size = Array.from(sizes).find(([group]) => group.kind === entry.kind && group.id === entry.id)?.[1] ?? 4;
      return { offset: entry.offset, size: Math.ceil(size / 4) * 4 };
    });
    plan.prepare(bits, added);
    this.#actions = actions({
      read: (at, width) => get(bits.live, at, width),
      write: (at, width, value) => put(bits.live, at, width, value),
    });
  }

  // ---- the bus side

  override read(offset: number, width: 1 | 2 | 4): number {
    let value = 0;
    for (let done = 0; done < width; ) {
      const at = offset + done;
      if (!this.#inside(at)) {
        value += 0xff * 2 ** (8 * done++);
        continue;
      }
      const piece = this.#plan.pieceAt(at, width - done);
      value += this.#readPiece(at, piece) * 2 ** (8 * done);
      done += piece;
    }
    return value;
  }

  override readInto(offset: number, target: Uint8Array): void {
    for (let done = 0; done < target.length; ) {
      const at = offset + done;
      if (!this.#inside(at)) {
        target[done++] = 0xff;
        continue;
      }
      const piece = this.#plan.pieceAt(at, target.length - done);
      put(target, done, piece, this.#readPiece(at, piece));
      done += piece;
    }
  }

  override write(offset: number, width: 1 | 2 | 4, value: number): void {
    for (let done = 0; done < width; ) {
      const at = offset + done;
      if (!this.#inside(at)) {
        done++;
        continue;
      }
      const piece = this.#plan.pieceAt(at, width - done);
      this.#writePiece(at, piece, (value >>> (8 * done)) & ones(piece));
      done += piece;
    }
  }

  override writeFrom(offset: number, source: Uint8Array): void {
    for (let done = 0; done < source.length; ) {
      const at = offset + done;
      if (!this.#inside(at)) {
        done++;
        continue;
      }
      const piece = this.#plan.pieceAt(at, source.length - done);
      this.#writePiece(at, piece, get(source, done, piece));
      done += piece;
    }
  }

  // ---- the model's side

  override readRaw(register: Register, within?: CapabilityEntry): number {
    return this.read(this.offsetOf(register, within), register.width);
  }

  /** Sets bits of the user's copy; what the hardware holds stays as it is. */
  override set<D extends FieldDeclarations>(
    register: Register<D>,
    values: Readonly<Partial<RegisterValues<D>>>,
    within?: CapabilityEntry,
  ): void {
    super.set(register, values, within);
  }

  /** What a reset brings back of the user's copy, if the rules say that it does. BARs are where their user put them. */
  override reset(_kind: ResetKind): void {
    if (!this.#plan.rules.resetForgets) return;
    const { live, initial, extent } = this.#bits;
    for (let at = 0; at < extent; at++) if (!isShaped(at)) live[at] = initial[at] ?? 0;
  }

  // ---- inside

  #inside(at: number): boolean {
    return Number.isInteger(at) && at >= 0 && at < this.size;
  }

  #readPiece(at: number, width: 1 | 2 | 4): number {
    if (this.#use() === "gone") return ones(width);
    const virtual = get(this.#plan.virtual, at, width);
    const own = super.read(at, width);
    let hardware: number | undefined;
    let value = own;
    if (virtual !== ones(width)) {
      hardware = this.#ask(at, width);
      value = (((hardware & ~virtual) | (own & virtual)) >>> 0) & ones(width);
      value >>>= 0;
    }
    value = this.#actions.afterRead({ at, width, value });
    if (this.#observers.wants("config")) {
      this.#observers.tell("config", { kind: "read", offset: at, width, value, hardware });
    }
    return value;
  }

  #writePiece(at: number, width: 1 | 2 | 4, written: number): void {
    // A connection may outlive its user's right to the function.
    if (this.#use() !== "used") return;
    const piece: ConfigPiece = { at, width, value: written >>> 0 };
    if (this.#observers.wants("rule")) this.#reportDropped(piece);
    let hardware: number | undefined;
    try {
      const value = this.#actions.beforeWrite(piece);
      hardware = this.#writeHardware(at, width, value);
      // The copy, its guards, and whoever listens to registers: by now the hardware has what it was to get.
      super.write(at, width, value);
      this.#actions.afterWrite({ at, width, value });
    } catch (error) {
      // The function went away in the middle: nothing of that gets to the bus.
      this.#actions.failed(error);
    }
    if (this.#observers.wants("config")) {
      this.#observers.tell("config", { kind: "write", offset: at, width, value: written >>> 0, hardware });
    }
  }

  #writeHardware(at: number, width: 1 | 2 | 4, value: number): number | undefined {
    const plan = this.#plan;
    const raw = plan.rawAt(at);
    const virtual = raw ? 0 : get(plan.virtual, at, width);
    const mask = (get(plan.writable, at, width) & ~virtual) >>> 0;
    if (mask === 0) return undefined;
    let word = value;
    if (!raw) {
      const before = this.#ask(at, width) & ~get(plan.latched, at, width);
      word = ((before & ~mask) | (value & mask)) >>> 0;
    }
    this.#tell(at, width, word);
    return word;
  }

  /** The hardware's answer; ones where it is gone. */
  #ask(at: number, width: 1 | 2 | 4): number {
    try {
      return access(this.#hardware).read(at, width);
    } catch {
      return ones(width);
    }
  }

  #tell(at: number, width: 1 | 2 | 4, value: number): void {
    access(this.#hardware).write(at, width, value);
  }

  #reportDropped({ at, width, value }: ConfigPiece): void {
    const refused = ((value ^ this.read(at, width)) & ~get(this.#plan.writable, at, width)) >>> 0;
    if (refused === 0) return;
    const acting = this.#actions.takes({ at, width, value });
    const lost = (refused & ~acting) >>> 0;
    if (lost === 0) return;
    this.#observers.tell("rule", {
      rule: "config-write",
      place: this.#plan.nameAt(at),
      description: `a ${8 * width}-bit write of 0x${value.toString(16)} at 0x${at.toString(16)}: the bits 0x${lost.toString(16)} were dropped`,
    });
  }
}

/** Accesses of one width, by the function's own checks. */
function access(config: ConfigSpace): ConfigAccess {
  return {
    size: config.size,
    read: (at, width) => (width === 4 ? config.read32(at) : width === 2 ? config.read16(at) : config.read8(at)),
    write: (at, width, value) => {
      if (width === 4) config.write32(at, value >>> 0);
      else if (width === 2) config.write16(at, value);
      else config.write8(at, value);
    },
  };
}

function ones(width: 1 | 2 | 4): number {
  return width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
}
