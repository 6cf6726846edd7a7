// A driver of virtio functions for tests: finds the structures by their capabilities, negotiates, sets up queues and counts
// interrupts. Its numbers are those of virtio 1.3, section 4.1, written out once more.
import type { BarIndex } from "../../pci/function.ts";
import type { VirtualFunction } from "../../virtual/function.ts";
import { FakeGuest, FakePackedRing, type FakeRing, FakeSplitRing } from "./fake-driver.ts";

export interface FakeStart {
  /** Feature bits to accept besides VERSION_1; those not offered are left out. */
  readonly features?: readonly number[];
  readonly queueSize?: number;
  readonly interrupts?: "msix" | "intx";
  /** Queues to set up; all by default. */
  readonly queues?: readonly number[];
}

interface Place {
  readonly bar: BarIndex;
  readonly offset: number;
  readonly length: number;
}

/** Bits of the status register. */
export const FakeStatus = {
  ACKNOWLEDGE: 1,
  DRIVER: 2,
  DRIVER_OK: 4,
  FEATURES_OK: 8,
  NEEDS_RESET: 64,
  FAILED: 128,
} as const;

export class FakeVirtioDriver {
  readonly fn: VirtualFunction;
  readonly guest: FakeGuest;
  readonly places: Map<number, Place & { readonly at: number; readonly multiplier: number }> = new Map();
  rings: FakeRing[] = [];
  /** Interrupts by vector; with INTx all are counted at 0. */
  signals: number[] = [];
  #waiting: (() => void)[] = [];

  constructor(fn: VirtualFunction, options: { readonly remote?: boolean; readonly size?: number } = {}) {
    this.fn = fn;
    fn.connect({ name: "a test" });
    this.guest = new FakeGuest({ memory: fn.memory, size: options.size ?? 1 << 22, remote: options.remote ?? false });
    for (let at = fn.config.read(0x34, 1); at !== 0; at = fn.config.read(at + 1, 1)) {
      if (fn.config.read(at, 1) !== 9) continue;
      const type = fn.config.read(at + 3, 1);
      this.places.set(type, {
        at,
        bar: fn.config.read(at + 4, 1) as BarIndex,
        offset: fn.config.read(at + 8, 4),
        length: fn.config.read(at + 12, 4),
        multiplier: type === 2 ? fn.config.read(at + 16, 4) : 0,
      });
    }
    this.busMaster(true);
  }

  busMaster(on: boolean): void {
    this.fn.config.write(4, 2, on ? 6 : 2);
  }

  #place(type: number): Place & { readonly multiplier: number } {
    const place = this.places.get(type);
    if (place === undefined) throw new Error(`the function has no capability of type ${type}`);
    return place;
  }

  readCommon(offset: number, width: 1 | 2 | 4): number {
    const { bar, offset: base } = this.#place(1);
    return this.fn.barRead(bar, base + offset, width);
  }

  writeCommon(offset: number, width: 1 | 2 | 4, value: number): void {
    const { bar, offset: base } = this.#place(1);
    this.fn.barWrite(bar, base + offset, width, value);
  }

  get status(): number {
    return this.readCommon(0x14, 1);
  }

  set status(value: number) {
    this.writeCommon(0x14, 1, value);
  }

  readIsr(): number {
    const { bar, offset } = this.#place(3);
    return this.fn.barRead(bar, offset, 1);
  }

  readConfig(offset: number, width: 1 | 2 | 4): number {
    const place = this.#place(4);
    return this.fn.barRead(place.bar, place.offset + offset, width);
  }

  writeConfig(offset: number, width: 1 | 2 | 4, value: number): void {
    const place = this.#place(4);
    this.fn.barWrite(place.bar, place.offset + offset, width, value);
  }

  offered(): Set<number> {
    const features = new Set<number>();
    for (const select of [0, 1]) {
      this.writeCommon(0, 4, select);
      const word = this.readCommon(4, 4);
      for (let bit = 0; bit < 32; bit++) if ((word >>> bit) & 1) features.add(32 * select + bit);
    }
    return features;
  }

  accept(features: Iterable<number>): void {
    const words = [0, 0];
    for (const feature of features) words[feature >> 5] = ((words[feature >> 5] ?? 0) | (1 << (feature & 31))) >>> 0;
    for (const select of [0, 1]) {
      this.writeCommon(8, 4, select);
      this.writeCommon(12, 4, words[select] ?? 0);
    }
  }

  /** The whole of section 3.1.1: reset, features, queues, DRIVER_OK. */
  start(options: FakeStart = {}): this {
    this.status = 0;
    this.status = FakeStatus.ACKNOWLEDGE;
    this.status = FakeStatus.ACKNOWLEDGE | FakeStatus.DRIVER;
    const offered = this.offered();
    const features = new Set([32, ...(options.features ?? []).filter((feature) => offered.has(feature))]);
    this.accept(features);
    this.status = 11;
    if (this.status !== 11) throw new Error(`FEATURES_OK was refused: status ${this.status}`);
    this.connectInterrupts(options.interrupts ?? "msix");
    const count = this.readCommon(0x12, 2);
    this.rings = [];
    for (const index of options.queues ?? Array.from({ length: count }, (_, i) => i)) {
      this.setUpQueue(index, features, options.queueSize);
    }
    this.status = 15;
    return this;
  }

  connectInterrupts(kind: "msix" | "intx"): void {
    this.signals = [];
    const vectors = kind === "msix" ? this.fn.interrupts.available.msix : 1;
    for (let vector = 0; vector < vectors; vector++) {
      this.signals.push(0);
      const signal = (): void => {
        this.signals[vector] = (this.signals[vector] ?? 0) + 1;
        for (const wake of this.#waiting.splice(0)) wake();
      };
      this.fn.interrupts.connect(kind, vector, { signal });
    }
    if (kind === "msix") this.writeCommon(0x10, 2, 0);
  }

  setUpQueue(index: number, features: ReadonlySet<number>, size?: number): FakeRing {
    this.writeCommon(0x16, 2, index);
    if (size !== undefined) this.writeCommon(0x18, 2, size);
    const entries = this.readCommon(0x18, 2);
    const options = { eventIndex: features.has(29) };
    const ring = features.has(34)
      ? new FakePackedRing(this.guest, entries, options)
      : new FakeSplitRing(this.guest, entries, options);
    this.rings[index] = ring;
    if (this.fn.interrupts.mode === "msix") this.writeCommon(0x1a, 2, index + 1);
    for (const [at, iova] of [
      [0x20, ring.areas.descriptor],
      [0x28, ring.areas.driver],
      [0x30, ring.areas.device],
    ] as const) {
      this.writeCommon(at, 4, iova % 2 ** 32);
      this.writeCommon(at + 4, 4, Math.floor(iova / 2 ** 32));
    }
    this.writeCommon(0x1c, 2, 1);
    return ring;
  }

  ring(index: number): FakeRing {
    const ring = this.rings[index];
    if (ring === undefined) throw new Error(`queue ${index} was not set up`);
    return ring;
  }

  notify(index: number): void {
    const { bar, offset, multiplier } = this.#place(2);
    this.writeCommon(0x16, 2, index);
    const at = this.readCommon(0x1e, 2) * multiplier;
    this.fn.barWrite(bar, offset + at, 2, index);
  }

  /** The next interrupt of any vector. */
  interrupt(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
