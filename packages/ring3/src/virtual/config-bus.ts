// What the bus does to config space: reads of any place and width, and writes through masks, guards and hooks, in this
// order. Nothing here throws: offsets and lengths are the client's, and hooks are the model's.

import type { RegisterWrite } from "./capability-builder.ts";
import { type ConfigBits, get, put } from "./config-bits.ts";

/** What happens at a register when the bus writes it. */
export interface WriteAction {
  readonly at: number;
  readonly width: number;
  readonly guard?: (written: RegisterWrite) => number;
  readonly act?: (written: RegisterWrite) => void;
}

/** What runs before the bus reads a register. */
export interface ReadAction {
  readonly at: number;
  readonly width: number;
  readonly act: () => void;
}

export class ConfigBus {
  readonly #size: number;
  readonly #bits: ConfigBits;
  readonly #fault: (error: unknown) => void;
  /** By dword; most have none. No register crosses a dword. */
  readonly #writes = new Map<number, WriteAction[]>();
  readonly #reads: ReadAction[] = [];

  constructor(size: number, bits: ConfigBits, fault: (error: unknown) => void) {
    this.#size = size;
    this.#bits = bits;
    this.#fault = fault;
  }

  addWriteAction(action: WriteAction): Disposable {
    const key = action.at >> 2;
    const list = this.#writes.get(key) ?? [];
    list.push(action);
    this.#writes.set(key, list);
    return {
      [Symbol.dispose]: () => {
        const at = list.indexOf(action);
        if (at >= 0) list.splice(at, 1);
      },
    };
  }

  addReadAction(action: ReadAction): void {
    this.#reads.push(action);
  }

  read(offset: number, width: 1 | 2 | 4): number {
    const { live, extent } = this.#bits;
    if (this.#reads.length > 0) this.#beforeRead(offset, width);
    if (offset >= 0 && offset + width <= extent) {
      const low = live[offset] ?? 0xff;
      if (width === 1) return low;
      const half = low | ((live[offset + 1] ?? 0xff) << 8);
      if (width === 2) return half;
      return (half | ((live[offset + 2] ?? 0xff) << 16) | ((live[offset + 3] ?? 0xff) << 24)) >>> 0;
    }
    let value = 0;
    for (let index = width - 1; index >= 0; index--) value = value * 256 + this.#byte(offset + index);
    return value;
  }

  readInto(offset: number, target: Uint8Array): void {
    if (this.#reads.length > 0) this.#beforeRead(offset, target.length);
    for (let index = 0; index < target.length; index++) target[index] = this.#byte(offset + index);
  }

  write(offset: number, width: 1 | 2 | 4, value: number): void {
    if (!Number.isInteger(offset)) return;
    if (offset % width === 0) {
      this.#writePiece(offset, width, value);
      return;
    }
    for (let done = 0; done < width; ) {
      const piece = (offset + done) % 2 === 0 && width - done >= 2 ? 2 : 1;
      this.#writePiece(offset + done, piece, value >>> (8 * done));
      done += piece;
    }
  }

  writeFrom(offset: number, source: Uint8Array): void {
    if (!Number.isInteger(offset)) return;
    const length = Math.min(source.length, this.#size - offset);
    for (let done = Math.max(0, -offset); done < length; ) {
      const at = offset + done;
      const left = length - done;
      const width = at % 4 === 0 && left >= 4 ? 4 : at % 2 === 0 && left >= 2 ? 2 : 1;
      this.#writePiece(at, width, get(source, done, width));
      done += width;
    }
  }

  /** Runs a hook of the model, whose exceptions are reported and felt by nobody. */
  safely<T>(act: () => T): T | undefined {
    try {
      return act();
    } catch (error) {
      this.#fault(error);
      return undefined;
    }
  }

  #byte(at: number): number {
    if (!Number.isInteger(at) || at < 0 || at >= this.#size) return 0xff;
    return this.#bits.live[at] ?? 0;
  }

  #beforeRead(offset: number, size: number): void {
    for (const { at, width, act } of this.#reads) {
      if (at < offset + size && offset < at + width) this.safely(act);
    }
  }

  /** Changes the bits that software may change. */
  #store(offset: number, width: number, value: number): void {
    const { live, writable, oneToClear } = this.#bits;
    for (let index = 0; index < width; index++) {
      const at = offset + index;
      const mask = writable[at] ?? 0;
      const written = (value >>> (8 * index)) & 0xff;
      live[at] = (((live[at] ?? 0) & ~mask) | (written & mask)) & ~(written & (oneToClear[at] ?? 0));
    }
  }

  #writePiece(offset: number, width: number, value: number): void {
    const { live, extent } = this.#bits;
    if (offset < 0 || offset >= extent) return;
    const actions = this.#writes.get(offset >> 2);
    if (actions === undefined) {
      this.#store(offset, width, value);
      return;
    }
    const touched = actions.filter(({ at, width: size }) => at < offset + width && offset < at + size);
    const before = touched.map(({ at, width: size }) => get(live, at, size));
    this.#store(offset, width, value);
    const written = (index: number, { at, width: size }: WriteAction): RegisterWrite => ({
      before: before[index] ?? 0,
      value: get(live, at, size),
      ...overlap(at, size, offset, width, value),
    });
    for (const [index, action] of touched.entries()) {
      const { at, width: size, guard } = action;
      if (guard === undefined) continue;
      const kept = this.safely(() => guard(written(index, action)));
      put(live, at, size, kept ?? before[index] ?? 0);
    }
    for (const [index, action] of touched.entries()) {
      const { act } = action;
      if (act !== undefined) this.safely(() => act(written(index, action)));
    }
  }
}

/** What an access wrote of the register at `at`, in the register's bits; 0 where it did not reach. */
function overlap(
  at: number,
  size: number,
  offset: number,
  width: number,
  value: number,
): { readonly raw: number; readonly covered: number } {
  let raw = 0;
  let covered = 0;
  for (let index = 0; index < width; index++) {
    const byte = offset + index - at;
    if (byte < 0 || byte >= size) continue;
    raw |= ((value >>> (8 * index)) & 0xff) << (8 * byte);
    covered |= 0xff << (8 * byte);
  }
  return { raw: raw >>> 0, covered: covered >>> 0 };
}
