// Whoever watches a server sees each access of the client, with what it gave, and each signal. It stands between the messages
// and the function, so that a server that nobody watches pays nothing.
import type { BarIndex } from "../pci/function.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import type { InterruptKind } from "../virtual/interrupts.ts";

/** An access of the client to the function: of `width` bytes, or a run of bytes (`width` 0). */
export interface ServedAccess {
  readonly space: "config" | "bar" | "rom";
  /** 0 for other spaces. */
  readonly bar: BarIndex;
  readonly op: "read" | "write";
  readonly offset: number;
  readonly width: 0 | 1 | 2 | 4;
  readonly value: number;
  /** Of a run; not to be kept. */
  readonly bytes: Uint8Array | undefined;
  /** As `performance.now()` gives it, before and after. */
  readonly startedMs: number;
  readonly endedMs: number;
}

/** What hears of accesses and signals; it must not throw. */
export interface ServerWatch {
  /** An access begins, which {@link access} will tell; signals until then are its consequence. */
  began(): void;
  access(access: ServedAccess): void;
  signal(kind: InterruptKind, vector: number): void;
}

/** What stands between the client and the function, and may change what either sees of the other. */
export interface ServerBetween {
  /** What messages reach instead of the function. */
  bus(bus: RegisterBus): RegisterBus;
  /** The function signals: `deliver` takes it to the client, at once, later, or never. */
  signal(kind: InterruptKind, vector: number, deliver: () => void): void;
}

/** What messages do to a function. */
export interface RegisterBus {
  readonly config: Pick<VirtualFunction["config"], "size" | "read" | "write" | "readInto" | "writeFrom">;
  readonly bars: VirtualFunction["bars"];
  barRead(bar: BarIndex, offset: number, width: 1 | 2 | 4): number;
  barWrite(bar: BarIndex, offset: number, width: 1 | 2 | 4, value: number): void;
  readBar(bar: BarIndex, offset: number, target: Uint8Array): boolean;
  writeBar(bar: BarIndex, offset: number, source: Uint8Array): boolean;
  readRom(offset: number, target: Uint8Array): boolean;
}

/** What messages reach: the function, or what stands before it, seen by who watches. */
export function busOf(fn: VirtualFunction, { between, watch }: ServerSight): RegisterBus {
  const bus = between === undefined ? fn : between.bus(fn);
  return watch === undefined ? bus : new WatchedBus(bus, watch);
}

/** Who sees what happens between client and function. */
export interface ServerSight {
  readonly between?: ServerBetween | undefined;
  readonly watch?: ServerWatch | undefined;
}

type Place = Pick<ServedAccess, "space" | "bar" | "op" | "offset">;

class WatchedBus implements RegisterBus {
  readonly config: RegisterBus["config"];
  readonly #fn: RegisterBus;
  readonly #watch: ServerWatch;

  constructor(fn: RegisterBus, watch: ServerWatch) {
    this.#fn = fn;
    this.#watch = watch;
    const { config } = fn;
    const at = (op: "read" | "write", offset: number): Place => ({ space: "config", bar: 0, op, offset });
    this.config = {
      size: config.size,
      read: (offset, width) => this.#single(at("read", offset), width, () => config.read(offset, width)),
      write: (offset, width, value) =>
        void this.#single(at("write", offset), width, () => (config.write(offset, width, value), value)),
      readInto: (offset, target) => this.#run(at("read", offset), target, () => config.readInto(offset, target)),
      writeFrom: (offset, source) => this.#run(at("write", offset), source, () => config.writeFrom(offset, source)),
    };
  }

  get bars(): VirtualFunction["bars"] {
    return this.#fn.bars;
  }

  barRead(bar: BarIndex, offset: number, width: 1 | 2 | 4): number {
    return this.#single({ space: "bar", bar, op: "read", offset }, width, () => this.#fn.barRead(bar, offset, width));
  }

  barWrite(bar: BarIndex, offset: number, width: 1 | 2 | 4, value: number): void {
    const write = (): number => (this.#fn.barWrite(bar, offset, width, value), value);
    this.#single({ space: "bar", bar, op: "write", offset }, width, write);
  }

  readBar(bar: BarIndex, offset: number, target: Uint8Array): boolean {
    return this.#run({ space: "bar", bar, op: "read", offset }, target, () => this.#fn.readBar(bar, offset, target));
  }

  writeBar(bar: BarIndex, offset: number, source: Uint8Array): boolean {
    return this.#run({ space: "bar", bar, op: "write", offset }, source, () => this.#fn.writeBar(bar, offset, source));
  }

  readRom(offset: number, target: Uint8Array): boolean {
    return this.#run({ space: "rom", bar: 0, op: "read", offset }, target, () => this.#fn.readRom(offset, target));
  }

  #single(place: Place, width: 1 | 2 | 4, act: () => number): number {
    this.#watch.began();
    const startedMs = performance.now();
    const value = act();
    this.#watch.access({ ...place, width, value, bytes: undefined, startedMs, endedMs: performance.now() });
    return value;
  }

  #run<T>(place: Place, bytes: Uint8Array, act: () => T): T {
    this.#watch.began();
    const startedMs = performance.now();
    const result = act();
    this.#watch.access({ ...place, width: 0, value: 0, bytes, startedMs, endedMs: performance.now() });
    return result;
  }
}
