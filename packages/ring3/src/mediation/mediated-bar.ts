// A BAR of a mediated function: accesses go to the real BAR unless a rule keeps them, the MSI-X structures are the user's
// own, and a user in this process maps the very pages of the device.
import { isRing3Error } from "../binary/error.ts";
import { ArenaRange } from "../memory/arena-range.ts";
import type { Arena } from "../memory/arena.ts";
import type { Registers } from "../memory/registers.ts";
import type { Bar, BarIndex, MappedRegisters } from "../pci/function.ts";
import { type BarArea, type BarParts, VirtualBar } from "../virtual/bars.ts";
import type { BarPolicy, BarRangeRule } from "./bar-policy.ts";
import type { Observers } from "./observer.ts";

export interface MediatedBarParts {
  readonly real: Bar;
  readonly arena: Arena;
  readonly policy: BarPolicy;
  /** Nothing is mapped, and every access is told. */
  readonly trapped: boolean;
  readonly observers: Observers;
  readonly failed: (error: unknown) => void;
}

interface Place {
  readonly offset: number;
  readonly size: number;
}

const NO_AREAS: readonly BarArea[] = [];

export class MediatedBar extends VirtualBar {
  readonly #parts: MediatedBarParts;
  readonly #structures: readonly Place[];
  readonly #mapped: MappedRegisters[] = [];
  #registers: Registers | undefined;
  #areas: readonly BarArea[] | undefined;
  readonly #placement: BarParts["msix"];

  constructor(index: BarIndex, own: BarParts, parts: MediatedBarParts) {
    super(index, own);
    this.#parts = parts;
    this.#placement = own.msix;
    this.#structures =
      own.msix === undefined ? [] : [own.msix.tablePlace, own.msix.pendingPlace].filter(({ bar }) => bar === index);
  }

  /** The pages are the device's: another process cannot be given them by a memory file. */
  override get shareable(): boolean {
    return false;
  }

  /** The device's own pages in the arena, where a user in this process may have them. */
  override get areas(): readonly BarArea[] {
    if (this.#areas !== undefined) return this.#areas;
    const { real, policy, trapped, arena } = this.#parts;
    if (trapped || real.kind === "none" || real.kind === "io") return NO_AREAS;
    const msix = this.#placement;
    const layout =
      msix === undefined
        ? undefined
        : { vectors: msix.table.vectors, table: msix.tablePlace, pendingBits: msix.pendingPlace };
    try {
      this.#areas = policy.mappable(real.mappable, real.index, layout).map((area) => {
        const mapped = real.map(area);
        this.#mapped.push(mapped);
        return { ...area, range: new ArenaRange(arena, mapped.arenaOffset, area.size, () => undefined) };
      });
    } catch (error) {
      // A BAR that does not answer now, or an arena without room: accesses go through the function.
      if (!isRing3Error(error)) throw error;
      return NO_AREAS;
    }
    return this.#areas;
  }

  override areaAt(_offset: number): undefined {
    return undefined;
  }

  override read(offset: number, width: 1 | 2 | 4): number {
    if (this.#isStructure(offset)) return super.read(offset, width);
    const value = this.#hidden(offset, width) ? ones(width) : this.#readReal(offset, width);
    this.#tell("read", offset, width, value);
    return value;
  }

  override read64(offset: number): bigint {
    if (this.#isStructure(offset) || this.kind === "io") {
      return BigInt(this.read(offset, 4)) | (BigInt(this.read(offset + 4, 4)) << 32n);
    }
    let value = 0xffff_ffff_ffff_ffffn;
    if (!this.#hidden(offset, 8)) {
      try {
        value = this.#real.read64(offset);
      } catch (error) {
        this.#fail(error);
      }
    }
    this.#tell("read", offset, 8, value);
    return value;
  }

  override write(offset: number, width: 1 | 2 | 4, value: number): void {
    if (this.#isStructure(offset)) {
      super.write(offset, width, value);
      return;
    }
    this.#tell("write", offset, width, value);
    if (!this.#lets(offset, width)) return;
    try {
      if (width === 4) this.#real.write32(offset, value >>> 0);
      else if (width === 2) this.#real.write16(offset, value);
      else this.#real.write8(offset, value);
    } catch (error) {
      this.#fail(error);
    }
  }

  override write64(offset: number, value: bigint): void {
    if (this.#isStructure(offset) || this.kind === "io") {
      this.write(offset, 4, Number(value & 0xffff_ffffn));
      this.write(offset + 4, 4, Number(value >> 32n));
      return;
    }
    this.#tell("write", offset, 8, value);
    if (!this.#lets(offset, 8)) return;
    try {
      this.#real.write64(offset, value);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** The device's registers are not this function's to clear. */
  override clear(): void {}

  override resize(): void {}

  override dispose(): void {
    for (const mapped of this.#mapped.splice(0)) mapped[Symbol.dispose]();
    this.#areas = NO_AREAS;
    super.dispose();
  }

  get #real(): Registers {
    this.#registers ??= this.#parts.real.registers();
    return this.#registers;
  }

  #readReal(offset: number, width: 1 | 2 | 4): number {
    try {
      const registers = this.#real;
      return width === 4 ? registers.read32(offset) : width === 2 ? registers.read16(offset) : registers.read8(offset);
    } catch (error) {
      this.#fail(error);
      return ones(width);
    }
  }

  /** What does not answer reads as ones, as on a bus; anything else is worth a word. */
  #fail(error: unknown): void {
    if (isRing3Error(error, "REGION_DISABLED") || isRing3Error(error, "REGION_REVOKED")) return;
    this.#parts.failed(error);
  }

  #isStructure(offset: number): boolean {
    for (const place of this.#structures) if (offset >= place.offset && offset < place.offset + place.size) return true;
    return false;
  }

  #hidden(offset: number, width: number): boolean {
    const rule = this.#parts.policy.ruleAt(offset, width);
    if (rule?.access !== "hidden") return false;
    this.#hit("bar-hidden", rule, offset, "a read found nothing");
    return true;
  }

  #lets(offset: number, width: number): boolean {
    const { policy } = this.#parts;
    const rule = policy.ruleAt(offset, width);
    if (rule === undefined || rule.access === "trapped") return true;
    if (rule.access === "limited" && policy.passes(rule)) return true;
    const kind = rule.access === "hidden" ? "bar-hidden" : rule.access === "limited" ? "bar-rate" : "bar-read-only";
    this.#hit(kind, rule, offset, "a write was dropped");
    return false;
  }

  #hit(kind: "bar-hidden" | "bar-read-only" | "bar-rate", rule: BarRangeRule, offset: number, what: string): void {
    const { observers } = this.#parts;
    if (!observers.wants("rule")) return;
    const place = `BAR ${this.index} 0x${rule.offset.toString(16)}+0x${rule.size.toString(16)}`;
    observers.tell("rule", { rule: kind, place, description: `${what} at 0x${offset.toString(16)}` });
  }

  #tell(kind: "read" | "write", offset: number, width: 1 | 2 | 4 | 8, value: number | bigint): void {
    const { observers } = this.#parts;
    if (observers.wants("bar")) observers.tell("bar", { kind, bar: this.index, offset, width, value });
  }
}

function ones(width: 1 | 2 | 4): number {
  return width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
}
