// A disk whose operations end when the test says so: for what happens while the backing is at work.
import type { BlockBacking, Cancellation } from "../../packages/ring3/src/devices/block-backing.ts";

interface Held {
  readonly kind: "read" | "write" | "flush" | "discard" | "zero";
  readonly offset: number;
  readonly size: number;
  readonly finish: () => void;
  readonly fail: (error: unknown) => void;
}

export class HeldBacking implements BlockBacking {
  readonly sizeBytes: number;
  readonly bytes: Uint8Array;
  /** Operations under way, oldest first. */
  readonly held: Held[] = [];
  /** What was done, in order. */
  readonly done: string[] = [];
  /** Without holding, everything is done at once. */
  holding = true;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.bytes = new Uint8Array(sizeBytes);
  }

  read(offset: number, target: Uint8Array, cancellation?: Cancellation): Promise<void> | void {
    return this.#hold("read", offset, target.length, () => {
      if (cancellation?.aborted !== true) target.set(this.bytes.subarray(offset, offset + target.length));
    });
  }

  write(offset: number, source: Uint8Array): Promise<void> | void {
    const copy = source.slice();
    return this.#hold("write", offset, copy.length, () => this.bytes.set(copy, offset));
  }

  flush(): Promise<void> | void {
    return this.#hold("flush", 0, 0, () => {});
  }

  discard(offset: number, size: number): Promise<void> | void {
    return this.#hold("discard", offset, size, () => void this.bytes.fill(0, offset, offset + size));
  }

  zero(offset: number, size: number): Promise<void> | void {
    return this.#hold("zero", offset, size, () => void this.bytes.fill(0, offset, offset + size));
  }

  /** Ends the oldest operation, or all. */
  release(count: number = Number.POSITIVE_INFINITY): void {
    for (let i = 0; i < count && this.held.length > 0; i++) this.held.shift()?.finish();
  }

  /** The oldest operation fails. */
  fail(errno: string): void {
    this.held.shift()?.fail(Object.assign(new Error(errno), { code: errno }));
  }

  #hold(kind: Held["kind"], offset: number, size: number, act: () => void): Promise<void> | void {
    const finish = (): void => {
      act();
      this.done.push(kind);
    };
    if (!this.holding) return finish();
    return new Promise((resolve, reject) => {
      this.held.push({
        kind,
        offset,
        size,
        finish: () => {
          finish();
          resolve();
        },
        fail: reject,
      });
    });
  }
}
