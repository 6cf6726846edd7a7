// A run of the arena that somebody owns. Disposal gives it back, but not before everything that points to it (an IOMMU
// mapping, a window) has let go.
import { Ring3Error } from "../binary/error.ts";
import type { Arena } from "./arena.ts";

/** Memory of the arena: `offset` never changes, the bytes are zero at first. */
export class ArenaRange implements Disposable {
  readonly arena: Arena;
  /** Offset of the first byte in the arena. */
  readonly offset: number;
  /** Size in bytes, as rounded up by `reserve`. */
  readonly size: number;
  readonly #release: () => void;
  #views: { bytes?: Uint8Array; halfwords?: Uint16Array; words?: Uint32Array; longwords?: BigUint64Array } = {};
  #holds = 0;
  #beforeRelease: (() => void) | undefined;
  #disposed = false;

  /** Made by `Arena.reserve`. */
  constructor(arena: Arena, offset: number, size: number, release: () => void) {
    this.arena = arena;
    this.offset = offset;
    this.size = size;
    this.#release = release;
  }

  /** The bytes; payload only. Throws `RANGE_DISPOSED` after disposal, as the other views do. */
  get bytes(): Uint8Array {
    this.#checkAlive();
    this.#views.bytes ??= this.arena.bytes(this.offset, this.size);
    return this.#views.bytes;
  }

  get halfwords(): Uint16Array {
    this.#checkAlive();
    this.#views.halfwords ??= this.arena.halfwords(this.offset, this.size / 2);
    return this.#views.halfwords;
  }

  get words(): Uint32Array {
    this.#checkAlive();
    this.#views.words ??= this.arena.words(this.offset, this.size / 4);
    return this.#views.words;
  }

  get longwords(): BigUint64Array {
    this.#checkAlive();
    this.#views.longwords ??= this.arena.longwords(this.offset, this.size / 8);
    return this.#views.longwords;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Whether somebody keeps the memory from being reused. */
  get held(): boolean {
    return this.#holds > 0;
  }

  /** Keeps the memory from being reused until the hold is disposed, even when the range is disposed before. */
  hold(): Disposable {
    this.#checkAlive();
    this.#holds++;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#holds--;
        this.#releaseWhenFree();
      },
    };
  }

  /** Has `action` run just before the memory can be reused: whoever mapped something over it takes that away then. */
  beforeRelease(action: () => void): void {
    this.#checkAlive();
    this.#beforeRelease = action;
  }

  /** Gives the memory back, at the latest when the last hold is gone. Views made before must not be used any more. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#views = {};
    this.#releaseWhenFree();
  }

  #releaseWhenFree(): void {
    if (!this.#disposed || this.#holds > 0) return;
    this.#beforeRelease?.();
    this.#release();
  }

  #checkAlive(): void {
    if (this.#disposed) {
      throw new Ring3Error("RANGE_DISPOSED", `the ${this.size} bytes at arena offset ${this.offset} were given back`);
    }
  }
}
