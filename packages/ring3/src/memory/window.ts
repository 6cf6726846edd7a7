// Registers over arena bytes that may be taken away at any time: a BAR is disabled, the device unplugged, the function
// closed, while other threads hold the same window. Each access first compares a word that all threads see.
import { Ring3Error } from "../binary/error.ts";
import type { Accessors } from "./accessors.ts";
import type { Arena } from "./arena.ts";
import type { ControlWords, WindowState } from "./control-words.ts";
import type { Registers } from "./registers.ts";

/** Names a window to another thread; structured-cloneable. */
export interface WindowHandle {
  readonly offset: number;
  readonly size: number;
  readonly control: number;
  readonly live: number;
}

/**
 * A block of registers inside the arena. Loads are atomic, stores plain: one access of the register's width each.
 * Whoever made the window suspends and revokes it ({@link OwnedWindow}); slices and other threads' windows follow.
 */
export class ArenaWindow implements Registers {
  readonly arena: Arena;
  readonly size: number;
  readonly arenaOffset: number;
  readonly #accessors: Accessors;
  readonly #controlWords: ControlWords;
  readonly #words: Int32Array;
  readonly #control: number;
  readonly #live: number;
  // Views from the arena's start rather than the window's, so that any alignment of the window will do.
  readonly #bytes: Uint8Array;
  readonly #halfwords: Uint16Array;
  readonly #fullwords: Uint32Array;
  readonly #longwords: BigUint64Array;

  protected constructor(arena: Arena, { offset, size, control, live }: WindowHandle) {
    if (!(Number.isSafeInteger(offset) && offset >= 0 && offset % 8 === 0 && size > 0 && offset + size <= arena.size)) {
      throw new Ring3Error(
        "ARENA_RANGE",
        `a window of ${size} bytes at ${offset} does not lie in the arena's ${arena.size}`,
      );
    }
    this.arena = arena;
    this.size = size;
    this.arenaOffset = offset;
    this.#accessors = arena.accessors;
    this.#controlWords = arena.control;
    this.#words = arena.control.words;
    this.#control = control;
    this.#live = live;
    this.#bytes = new Uint8Array(arena.buffer);
    this.#halfwords = new Uint16Array(arena.buffer);
    this.#fullwords = new Uint32Array(arena.buffer);
    this.#longwords = new BigUint64Array(arena.buffer);
  }

  /** The same window in another thread, whose arena is attached. */
  static attach(arena: Arena, handle: WindowHandle): ArenaWindow {
    return new ArenaWindow(arena, handle);
  }

  get state(): WindowState {
    return this.#controlWords.state(this.#control, this.#live);
  }

  read8(offset: number): number {
    if (offset >>> 0 !== offset || offset >= this.size) this.#outside(offset, 1);
    if (this.#words[this.#control] !== this.#live) this.#refuse();
    return this.#accessors.load8(this.arenaOffset + offset);
  }

  read16(offset: number): number {
    if (offset >>> 0 !== offset || (offset & 1) !== 0 || offset > this.size - 2) this.#outside(offset, 2);
    if (this.#words[this.#control] !== this.#live) this.#refuse();
    return this.#accessors.load16(this.arenaOffset + offset);
  }

  read32(offset: number): number {
    if (offset >>> 0 !== offset || (offset & 3) !== 0 || offset > this.size - 4) this.#outside(offset, 4);
    if (this.#words[this.#control] !== this.#live) this.#refuse();
    return this.#accessors.load32(this.arenaOffset + offset) >>> 0;
  }

  read64(offset: number): bigint {
    if (offset >>> 0 !== offset || (offset & 7) !== 0 || offset > this.size - 8) this.#outside(offset, 8);
    if (this.#words[this.#control] !== this.#live) this.#refuse();
    return BigInt.asUintN(64, this.#accessors.load64(this.arenaOffset + offset));
  }

  write8(offset: number, value: number): void {
    if (offset >>> 0 !== offset || offset >= this.size) this.#outside(offset, 1);
    if (this.#words[this.#control] !== this.#live) this.#refuse();
    this.#bytes[this.arenaOffset + offset] = value;
  }

  write16(offset: number, value: number): void {
    if (offset >>> 0 !== offset || (offset & 1) !== 0 || offset > this.size - 2) this.#outside(offset, 2);
    if (this.#words[this.#control] !== this.#live) this.#refuse();
    this.#halfwords[(this.arenaOffset + offset) >>> 1] = value;
  }

  write32(offset: number, value: number): void {
    if (offset >>> 0 !== offset || (offset & 3) !== 0 || offset > this.size - 4) this.#outside(offset, 4);
    if (this.#words[this.#control] !== this.#live) this.#refuse();
    this.#fullwords[(this.arenaOffset + offset) >>> 2] = value;
  }

  write64(offset: number, value: bigint): void {
    if (offset >>> 0 !== offset || (offset & 7) !== 0 || offset > this.size - 8) this.#outside(offset, 8);
    if (this.#words[this.#control] !== this.#live) this.#refuse();
    this.#longwords[(this.arenaOffset + offset) >>> 3] = value;
  }

  /** A part of this window, suspended and revoked with it. `offset` is a multiple of 8. */
  slice(offset: number, size: number): ArenaWindow {
    if (!(Number.isSafeInteger(offset) && offset >= 0 && offset % 8 === 0 && size > 0 && offset + size <= this.size)) {
      throw new Ring3Error("REGISTER_RANGE", `${size} bytes at ${offset} are no part of a window of ${this.size}`);
    }
    return new ArenaWindow(this.arena, { ...this.handle(), offset: this.arenaOffset + offset, size });
  }

  /** What another thread needs for `ArenaWindow.attach`, besides the arena. */
  handle(): WindowHandle {
    return { offset: this.arenaOffset, size: this.size, control: this.#control, live: this.#live };
  }

  #outside(offset: number, width: number): never {
    const reason =
      Number.isInteger(offset) && offset >= 0 && offset + width <= this.size
        ? `is not a multiple of ${width}`
        : `does not lie within ${this.size} bytes`;
    throw new Ring3Error("REGISTER_RANGE", `a ${width * 8}-bit access at offset ${offset} ${reason}`);
  }

  #refuse(): never {
    if (this.state === "suspended") {
      throw new Ring3Error(
        "REGION_DISABLED",
        "the device does not answer here now: memory decoding is off or it sleeps in D3; switch it on first",
      );
    }
    throw new Ring3Error("REGION_REVOKED", "these registers are gone: the function was closed, removed or unmapped");
  }
}

/** A window with the power over its state. Disposal revokes it. */
export class OwnedWindow extends ArenaWindow implements Disposable {
  readonly #control: number;
  readonly #live: number;

  protected constructor(arena: Arena, offset: number, size: number) {
    const { index, live } = arena.control.open();
    super(arena, { offset, size, control: index, live });
    this.#control = index;
    this.#live = live;
  }

  /** A window over memory of the arena, for registers that are plain memory. */
  static over(arena: Arena, offset: number, size: number): OwnedWindow {
    return new OwnedWindow(arena, offset, size);
  }

  /** Makes every access in every thread throw `REGION_DISABLED` until `resume`. No effect on a revoked window. */
  suspend(): void {
    if (this.state === "live") this.arena.control.set(this.#control, this.#live, "suspended");
  }

  resume(): void {
    if (this.state === "suspended") this.arena.control.set(this.#control, this.#live, "live");
  }

  /** Makes every access in every thread throw `REGION_REVOKED`, for good. */
  revoke(): void {
    if (this.state !== "revoked") this.arena.control.close(this.#control, this.#live);
  }

  [Symbol.dispose](): void {
    this.revoke();
  }
}
