// A PciFunction with a tap between it and its driver: the whole interface over any other implementation. Hard about it: the
// end may come from either side, and whoever waits must then be told what the function itself would say.
import { isRing3Error, Ring3Error } from "../../binary/error.ts";
import { ConfigSpace } from "../../pci/config-space.ts";
import { FunctionEventSource } from "../../pci/events.ts";
import type {
  BarIndex,
  FunctionEvent,
  FunctionEventName,
  FunctionHandle,
  FunctionIdentity,
  PciFunction,
  Power,
  ResetMethod,
  Rom,
} from "../../pci/function.ts";
import { Header } from "../../pci/header.ts";
import { type AccessFrame, TappedBar } from "./bar.ts";
import { TappedDma } from "./dma.ts";
import { TappedInterrupts } from "./interrupts.ts";
import { Pump } from "./pump.ts";
import type { Area, FunctionTap } from "./tap.ts";

export interface TappedOptions {
  /** BARs whose accesses are not seen, so that they can be mapped. */
  readonly passthrough?: readonly BarIndex[];
  /** Whether driver and device have memory of their own, so that it is seen who wrote what. */
  readonly bounced?: boolean;
  /** Nanoseconds on a monotonic clock. */
  readonly nowNs?: () => number;
}

const barIndexes: readonly BarIndex[] = [0, 1, 2, 3, 4, 5];
const eventNames: readonly FunctionEventName[] = [
  "removal-requested",
  "removed",
  "error",
  "recovered",
  "power",
  "resumed",
  "reset",
];
const CONFIG: Area = { space: "config", bar: 0, base: 0 };
const ROM: Area = { space: "rom", bar: 0, base: 0 };

export const systemNowNs = (): number => performance.now() * 1e6;

export class TappedFunction implements PciFunction {
  readonly identity: FunctionIdentity;
  readonly config: ConfigSpace;
  readonly rom: Rom | undefined;
  readonly interrupts: TappedInterrupts;
  readonly dma: TappedDma;
  readonly resetMethods: readonly ResetMethod[];
  readonly power: Power;
  readonly events: FunctionEventSource;
  readonly #inner: PciFunction;
  readonly #tap: FunctionTap;
  readonly #bars: readonly TappedBar[];
  readonly #gone: AbortController = new AbortController();
  readonly #listening: DisposableStack = new DisposableStack();
  readonly #pump: Pump | undefined;
  readonly #nowNs: () => number;
  #removed: Ring3Error | undefined;
  /** What the function tells is not the driver's business. */
  #quiet = false;

  constructor(inner: PciFunction, tap: FunctionTap, options: TappedOptions = {}) {
    this.#inner = inner;
    this.#tap = tap;
    this.#nowNs = options.nowNs ?? systemNowNs;
    this.identity = inner.identity;
    this.resetMethods = inner.resetMethods;
    this.events = new FunctionEventSource();
    this.config = this.#configOf(inner);
    this.rom = inner.rom === undefined ? undefined : this.#romOf(inner.rom);
    const bounced = options.bounced === true;
    this.dma = new TappedDma(inner.dma, tap, bounced);
    this.#pump = bounced ? new Pump(() => this.#inStep()) : undefined;
    const frame = this.#frameOf();
    const passthrough = options.passthrough ?? [];
    this.#bars = barIndexes.map((index) => new TappedBar(inner.bar(index), frame, passthrough.includes(index)));
    this.interrupts = new TappedInterrupts(
      inner.interrupts,
      (kind, vector, count) => {
        this.dma.toDriver();
        return tap.interrupt(kind, vector, count);
      },
      (kind, first, count) => tap.happened({ type: "interrupts", kind, first, count }),
      (error) => this.events.emit("error", { description: `an interrupt's listener threw: ${String(error)}` }),
    );
    this.power = this.#powerOf(inner.power);
    for (const name of eventNames) this.#listening.use(inner.events.on(name, (event) => this.tell(name, event)));
    if (inner.gone.aborted) this.#end(inner.gone.reason);
    else inner.gone.addEventListener("abort", () => this.#end(inner.gone.reason), { once: true });
  }

  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  get busMaster(): boolean {
    return this.config.read(Header.COMMAND).BUS_MASTER === 1;
  }

  set busMaster(on: boolean) {
    this.config.write(Header.COMMAND, { BUS_MASTER: on ? 1 : 0 });
  }

  bar(index: BarIndex): TappedBar {
    const bar = this.#bars[index];
    if (bar === undefined) throw new RangeError(`a function has BARs 0 to 5, not ${String(index)}`);
    return bar;
  }

  async reset(): Promise<ResetMethod> {
    this.#check();
    const startedNs = this.#nowNs();
    try {
      if (this.interrupts.active !== "none") this.interrupts.disable();
      const method = await this.#inner.reset();
      this.#tap.happened({ type: "reset", startedNs, method });
      return method;
    } catch (error) {
      this.#tap.happened({ type: "reset", startedNs, error: codeOf(error) });
      throw this.#removed ?? error;
    }
  }

  /**
   * A worker reaches mapped registers and memory by itself, and is not seen. Where memory is bounced no worker can attach:
   * it would reach the device's memory, and the driver's is another one.
   */
  handle(): FunctionHandle {
    this.#check();
    if (this.#pump === undefined) return this.#inner.handle();
    return { identity: this.identity, arena: this.dma.arena.handle() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner[Symbol.asyncDispose]();
    this.#end(new Ring3Error("FUNCTION_CLOSED", `${this.identity.address} was closed`));
  }

  /** Emits an event to the driver: one of the function, or one that a tap makes. */
  tell(name: FunctionEventName, event: unknown): void {
    if (this.#gone.signal.aborted || this.#quiet) return;
    if (name !== "power" && name !== "error") this.config.invalidate();
    this.#tap.happened({ type: "event", event: { ...(event as object), type: name } as FunctionEvent });
    this.events.emit(name, event as never);
  }

  /** The function is gone for its driver, as if unplugged; behind the tap it is closed in order. */
  remove(reason: string): void {
    if (this.#gone.signal.aborted) return;
    const error = new Ring3Error("FUNCTION_REMOVED", `${this.identity.address} was removed: ${reason}`);
    this.#removed = error;
    this.tell("removed", { reason });
    this.#end(error);
    void Promise.resolve(this.#inner[Symbol.asyncDispose]()).catch(() => undefined);
  }

  /** The platform resets the function, which the driver hears afterwards: its interrupts are off, its memory stays mapped. */
  async resetBehind(reset: () => Promise<ResetMethod>): Promise<void> {
    this.#quiet = true;
    try {
      if (this.interrupts.active !== "none") this.interrupts.disable();
      await reset();
    } finally {
      this.#quiet = false;
    }
  }

  #check(): void {
    if (this.#gone.signal.aborted) throw this.#gone.signal.reason;
  }

  #end(reason: unknown): void {
    if (this.#gone.signal.aborted) return;
    const error = isRing3Error(reason) ? reason : new Ring3Error("FUNCTION_CLOSED", String(reason));
    this.#listening.dispose();
    this.#pump?.stop();
    const closed = error.code === "FUNCTION_CLOSED";
    const toWaiters = closed ? new Ring3Error("INTERRUPT_CLOSED", "the function was closed", { cause: error }) : error;
    this.interrupts.end(error, toWaiters);
    this.dma.end(error);
    this.#gone.abort(error);
    this.events.close();
    this.#tap.ended(error);
  }

  #inStep(): boolean {
    this.dma.toDevice();
    return this.dma.toDriver();
  }

  #frameOf(): AccessFrame {
    const { dma } = this;
    const pump = this.#pump;
    const check = (): void => {
      if (this.#removed !== undefined) throw this.#removed;
    };
    const open = (): void => this.#check();
    if (pump === undefined) return { tap: this.#tap, check: open, before: check, after: () => undefined };
    return {
      tap: this.#tap,
      check: open,
      before: () => {
        check();
        dma.toDevice();
      },
      after: () => {
        dma.toDriver();
        pump.kick();
      },
    };
  }

  #configOf({ config }: PciFunction): ConfigSpace {
    const tap = this.#tap;
    const target = { readBytes: config.readBytes.bind(config), writeBytes: config.writeBytes.bind(config) };
    const check = (): void => {
      if (this.#removed !== undefined) throw this.#removed;
    };
    return new ConfigSpace({
      get size() {
        return config.size;
      },
      read: (offset, width) => (check(), tap.read(CONFIG, config, offset, width)),
      write: (offset, width, value) => (check(), tap.write(CONFIG, config, offset, width, value)),
      readBytes: (offset, size) => (check(), tap.readBytes(CONFIG, target, offset, size)),
    });
  }

  #romOf(rom: Rom): Rom {
    const target = { readBytes: (offset: number, size: number) => rom.read(offset, size), writeBytes: () => undefined };
    return { size: rom.size, read: (offset, size) => this.#tap.readBytes(ROM, target, offset, size) };
  }

  #powerOf(inner: Power): Power {
    const tap = this.#tap;
    const nowNs = this.#nowNs;
    const told = async (state: "D0" | "D3hot" | "D3cold", act: () => Promise<void>): Promise<void> => {
      this.#check();
      const startedNs = nowNs();
      try {
        await act();
        tap.happened({ type: "power", startedNs, state });
      } catch (error) {
        tap.happened({ type: "power", startedNs, state, error: codeOf(error) });
        throw error;
      }
    };
    return {
      get state() {
        return inner.state;
      },
      set: (state) => told(state, () => inner.set(state)),
      enterLowPower: () => told("D3cold", () => inner.enterLowPower()),
      exitLowPower: () => told("D0", () => inner.exitLowPower()),
    };
  }
}

export function codeOf(error: unknown): string {
  return isRing3Error(error) ? error.code : String(error);
}
