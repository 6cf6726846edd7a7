// A PciFunction in process, for tests: config bytes, BAR handlers, interrupts raised from JavaScript, DMA under an IOVA map.
// It keeps the whole contract; the device behind it is whatever the test wires to `bars`, `onReset` and the device side.
import { Ring3Error } from "../../packages/ring3/src/binary/error.ts";
import { Arena } from "../../packages/ring3/src/memory/arena.ts";
import { ConfigSpace } from "../../packages/ring3/src/pci/config-space.ts";
import { FunctionEventSource } from "../../packages/ring3/src/pci/events.ts";
import type {
  BarIndex,
  FunctionHandle,
  FunctionIdentity,
  PciFunction,
  Power,
  PowerState,
  ResetMethod,
} from "../../packages/ring3/src/pci/function.ts";
import { FakeBar, type FakeBarOptions } from "./fake-bar.ts";
import { CONFIG_OFFSETS, fakeConfig } from "./fake-config.ts";
import { FakeDma } from "./fake-dma.ts";
import { FakeInterrupts } from "./fake-interrupts.ts";

export interface FakeFunctionOptions {
  readonly address?: string;
  readonly vendorId?: number;
  readonly deviceId?: number;
  readonly classCode?: number;
  readonly bars?: Readonly<Partial<Record<BarIndex, FakeBarOptions>>>;
  readonly intx?: boolean;
  /** Vectors: 0, or a power of two up to 32. */
  readonly msi?: number;
  readonly msix?: number;
  readonly arena?: Arena;
  /** The device's part of a reset. */
  readonly onReset?: () => void;
  /** What `reset` says that it can; empty for a function without reset. */
  readonly resetMethods?: readonly ResetMethod[];
}

const MEMORY_SPACE = 2;
const BUS_MASTER = 4;
const barIndexes: readonly BarIndex[] = [0, 1, 2, 3, 4, 5];

export class FakeFunction implements PciFunction {
  readonly identity: FunctionIdentity;
  readonly config: ConfigSpace;
  readonly rom: undefined = undefined;
  readonly interrupts: FakeInterrupts;
  readonly dma: FakeDma;
  readonly power: Power;
  readonly events: FunctionEventSource;
  readonly resetMethods: readonly ResetMethod[];
  readonly #bars: readonly FakeBar[];
  readonly #configBytes: Uint8Array;
  readonly #gone: AbortController = new AbortController();
  readonly #onReset: () => void;
  #ended: Ring3Error | undefined;
  #sleeping = false;

  constructor(options: FakeFunctionOptions = {}) {
    const { vendorId = 0x1234, deviceId = 0xfa4e, classCode = 0xff0000, msi = 0, msix = 0 } = options;
    const ids = { vendorId, deviceId, classCode, revision: 1, subsystemVendorId: vendorId, subsystemId: 1 };
    this.identity = { address: options.address ?? "fake:0", backend: "fake", modelVersion: 1, ...ids };
    const arena = options.arena ?? Arena.create();
    const check = (): void => this.#check();
    const checkDecoding = (): void => this.#checkDecoding();
    this.#bars = barIndexes.map((index) => new FakeBar(index, options.bars?.[index], arena, checkDecoding));
    const bars = this.#bars
      .filter(({ kind }) => kind !== "none")
      .map(({ index, size, kind, prefetchable }) => ({
        index,
        size,
        flags: (kind === "io" ? 1 : kind === "memory64" ? 4 : 0) | (prefetchable ? 8 : 0),
      }));
    const { access, bytes } = fakeConfig(
      { ...ids, interruptPin: options.intx === true, msi, msix, bars },
      { check, command: () => this.#gate(), power: (state) => this.#setPower(state === 3 ? "D3hot" : "D0") },
    );
    this.#configBytes = bytes;
    this.config = new ConfigSpace(access);
    this.events = new FunctionEventSource({
      onListenerError: (error) => this.events.emit("error", { description: `a listener threw: ${String(error)}` }),
    });
    const failed = (error: unknown): void => this.events.emit("error", { description: String(error) });
    this.interrupts = new FakeInterrupts({ intx: options.intx === true ? 1 : 0, msi, msix }, check, failed);
    this.dma = new FakeDma(arena, check, () => this.#ended === undefined && (this.#command & BUS_MASTER) !== 0);
    this.resetMethods = options.resetMethods ?? ["flr"];
    this.#onReset = options.onReset ?? ((): void => {});
    const state = (): PowerState => (this.#sleeping ? "D3hot" : "D0");
    this.power = {
      get state() {
        return state();
      },
      set: async (wanted) => {
        this.#check();
        this.config.write8(CONFIG_OFFSETS.PM + 4, wanted === "D3hot" ? 3 : 0);
      },
      enterLowPower: () => Promise.reject(new Ring3Error("NOT_SUPPORTED", "the fake has no low power state")),
      exitLowPower: () => Promise.reject(new Ring3Error("NOT_SUPPORTED", "the fake has no low power state")),
    };
  }

  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  get #command(): number {
    return this.#configBytes[CONFIG_OFFSETS.COMMAND] ?? 0;
  }

  bar(index: BarIndex): FakeBar {
    const bar = this.#bars[index];
    if (bar === undefined) throw new RangeError(`there is no BAR ${index}`);
    return bar;
  }

  get busMaster(): boolean {
    this.#check();
    return (this.#command & BUS_MASTER) !== 0;
  }

  set busMaster(on: boolean) {
    const command = this.config.read16(CONFIG_OFFSETS.COMMAND);
    this.config.write16(CONFIG_OFFSETS.COMMAND, on ? command | BUS_MASTER : command & ~BUS_MASTER);
  }

  async reset(): Promise<ResetMethod> {
    this.#check();
    const [method] = this.resetMethods;
    if (method === undefined) throw new Ring3Error("NOT_SUPPORTED", "the fake cannot be reset");
    this.interrupts.disable();
    this.#configBytes[CONFIG_OFFSETS.COMMAND] = this.#command & ~BUS_MASTER;
    this.#onReset();
    await new Promise((resolve) => setImmediate(resolve));
    this.#check();
    this.events.emit("reset", { method });
    return method;
  }

  handle(): FunctionHandle {
    return { identity: this.identity, arena: this.dma.arena.handle() };
  }

  /** The device's side: it is pulled out. */
  remove(reason = "unplugged"): void {
    this.#end(new Ring3Error("FUNCTION_REMOVED", `${this.identity.address} was removed: ${reason}`), reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended === undefined) this.#configBytes[CONFIG_OFFSETS.COMMAND] = this.#command & ~BUS_MASTER;
    this.#end(new Ring3Error("FUNCTION_CLOSED", `${this.identity.address} was closed`), undefined);
  }

  #end(error: Ring3Error, removed: string | undefined): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.interrupts.close(
      removed === undefined ? new Ring3Error("INTERRUPT_CLOSED", "the function was closed") : error,
    );
    this.dma.unmapAll();
    for (const bar of this.#bars) bar.close();
    if (removed !== undefined) this.events.emit("removed", { reason: removed });
    this.#gone.abort(error);
    this.events.close();
  }

  #setPower(state: "D0" | "D3hot"): void {
    const sleeping = state === "D3hot";
    if (sleeping === this.#sleeping) return;
    this.#sleeping = sleeping;
    this.#gate();
    this.events.emit("power", { state });
  }

  #gate(): void {
    for (const bar of this.#bars) bar.enable((this.#command & MEMORY_SPACE) !== 0 && !this.#sleeping);
  }

  #check(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }

  #checkDecoding(): void {
    this.#check();
    if ((this.#command & MEMORY_SPACE) === 0 || this.#sleeping) {
      throw new Ring3Error("REGION_DISABLED", "memory decoding is off, or the function sleeps");
    }
  }
}
