// A virtual function as its driver sees it, in the driver's own process and thread: no kernel, no socket, and nothing that a
// browser lacks. It behaves as the other back ends do, so that a driver cannot tell.
import { Ring3Error } from "../binary/error.ts";
import type { WindowHandle } from "../memory/window.ts";
import { PowerManagement } from "../pci/capabilities/power-management.ts";
import { ConfigSpace } from "../pci/config-space.ts";
import { FunctionEventSource } from "../pci/events.ts";
import type {
  BarIndex,
  FunctionHandle,
  FunctionIdentity,
  PciFunction,
  Power,
  ResetMethod,
  Rom,
} from "../pci/function.ts";
import { Header } from "../pci/header.ts";
import type { SwitchedInterrupts } from "../pci/switched-interrupts.ts";
import type { VirtualFunction } from "./function.ts";
import { InProcessBar } from "./in-process-bar.ts";
import { InProcessDma, type InProcessMapping } from "./in-process-dma.ts";
import { inProcessInterrupts, type SignalCounter } from "./in-process-interrupts.ts";
import { PollLoop } from "./poll-loop.ts";
import { inLaterTurn, keepAlive } from "./turns.ts";
import { readUserRegisters, type UserRegisters, writeUserRegisters } from "./user-registers.ts";

export interface InProcessOptions {
  /** Shown as the function's address; the device's name by default. */
  readonly address?: string;
  /** How long the driver gets to let go when the function is asked back; 3000 ms by default. */
  readonly removalGraceMs?: number;
}

/** What a worker needs of a function in process; structured-cloneable. Interrupts stay in the thread of the device. */
export interface InProcessHandle extends FunctionHandle {
  readonly windows: readonly { readonly bar: BarIndex; readonly offset: number; readonly window: WindowHandle }[];
  readonly buffers: readonly InProcessMapping[];
  readonly vectors: readonly [];
  /** A control word that says whether the function still lives. */
  readonly life: { readonly index: number; readonly live: number };
}

/**
 * Opens a device for a driver in the same thread. Throws `FUNCTION_BUSY` where somebody uses it already.
 *
 * @example run
 * import { inProcess, VirtualFunction } from "ring3/virtual";
 * const device = new VirtualFunction({
 *   vendorId: 0x1234,
 *   deviceId: 0x0add,
 *   classCode: 0xff0000,
 *   bars: { 0: { size: 4096, read32: (offset) => offset + 1 } },
 * });
 * await using fn = inProcess(device);
 * fn.bar(0).read32(8); // 9
 */
export function inProcess(device: VirtualFunction, options: InProcessOptions = {}): InProcessFunction {
  return new InProcessFunction(device, options);
}

const barIndexes: readonly BarIndex[] = [0, 1, 2, 3, 4, 5];

export class InProcessFunction implements PciFunction {
  /** The other side. */
  readonly device: VirtualFunction;
  readonly identity: FunctionIdentity;
  readonly config: ConfigSpace;
  readonly rom: Rom | undefined;
  readonly interrupts: SwitchedInterrupts<SignalCounter>;
  readonly dma: InProcessDma;
  readonly resetMethods: readonly ResetMethod[];
  readonly power: Power;
  readonly events: FunctionEventSource;
  readonly #bars: readonly InProcessBar[];
  readonly #gone: AbortController = new AbortController();
  readonly #listening: DisposableStack = new DisposableStack();
  #life: { readonly index: number; readonly live: number } | undefined;
  readonly #loop: PollLoop;
  readonly #removalGraceMs: number;
  #awaited = 0;
  #ended: Ring3Error | undefined;
  #removal: string | undefined;
  #graceTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(device: VirtualFunction, options: InProcessOptions) {
    const address = options.address ?? device.name;
    if (device.settling !== undefined) {
      throw new Ring3Error("FUNCTION_BUSY", `${device.name} is being reset after its last user; await its settling`, {
        errno: "EBUSY",
      });
    }
    device.connect({ name: `a driver in this process (${address})` });
    this.device = device;
    this.identity = { ...device.identity, address, backend: "in-process" };
    this.#removalGraceMs = options.removalGraceMs ?? 3000;
    this.resetMethods = device.resetMethods;
    this.events = new FunctionEventSource();
    this.#loop = new PollLoop(device, () => this.#awaited > 0);
    const check = (): void => this.#check();
    this.config = new ConfigSpace({
      size: device.config.size,
      read: (offset, width) => {
        check();
        return device.config.read(offset, width);
      },
      write: (offset, width, value) => {
        check();
        device.config.write(offset, width, value);
        this.#loop.wake();
      },
    });
    this.#bars = barIndexes.map((index) => new InProcessBar(index, device, check, () => this.#loop.wake()));
    this.rom = device.rom === undefined ? undefined : romOf(device, device.rom.length, check);
    this.interrupts = inProcessInterrupts(
      device.interrupts,
      (error) => this.events.emit("error", { description: `an interrupt's listener threw: ${String(error)}` }),
      (change) => {
        this.#awaited += change;
        if (change > 0) this.#loop.wake();
        else this.#loop.follow();
      },
    );
    this.dma = new InProcessDma(device.arena, device.memory, device.dmaRanges);
    this.power = this.#powerOf(device);
    this.#listen();
    this.#loop.wake();
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

  bar(index: BarIndex): InProcessBar {
    const bar = this.#bars[index];
    if (bar === undefined) throw new RangeError(`a function has BARs 0 to 5, not ${String(index)}`);
    return bar;
  }

  async reset(): Promise<ResetMethod> {
    this.#check();
    this.interrupts.disable();
    const method = await this.device.resetByUser();
    this.config.invalidate();
    await new Promise<void>((resolve) => inLaterTurn(resolve));
    this.#check();
    this.events.emit("reset", { method });
    return method;
  }

  handle(): InProcessHandle {
    this.#check();
    this.#life ??= this.device.arena.control.open();
    return {
      identity: this.identity,
      arena: this.dma.arena.handle(),
      windows: this.#bars.flatMap((bar) => bar.windows()),
      buffers: this.dma.mappings(),
      vectors: [],
      life: this.#life,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#removal === undefined) {
      const reason = new Ring3Error("FUNCTION_CLOSED", `${this.identity.address} was closed`);
      this.#end(reason, new Ring3Error("INTERRUPT_CLOSED", "the function was closed", { cause: reason }));
    } else this.#remove(this.#removal);
    await Promise.resolve();
  }

  #check(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }

  #listen(): void {
    const { device } = this;
    const listening = this.#listening;
    listening.use(device.events.on("decoding", () => this.#followDecoding()));
    listening.use(
      device.events.on("resized", ({ bar }) => {
        this.#bars[bar]?.resized();
        this.config.invalidate();
      }),
    );
    listening.use(device.events.on("power", ({ state }) => this.events.emit("power", { state })));
    listening.use(
      device.events.on("reset", ({ byUser }) => {
        this.config.invalidate();
        if (!byUser) this.#recover();
      }),
    );
    listening.use(
      device.events.on("error", ({ description }) =>
        this.events.emit("error", { description: `the platform reported an uncorrected error: ${description}` }),
      ),
    );
    listening.use(device.events.on("removal-requested", () => this.#removalRequested()));
    listening.use(device.events.on("removed", ({ reason }) => this.#remove(reason)));
  }

  #followDecoding(): void {
    for (const bar of this.#bars) bar.enable(bar.kind !== "none" && this.device.decodes(bar.index));
  }

  /** Somebody else reset the function: its BARs answer again, as they do after a kernel's recovery; the rest is the driver's. */
  #recover(): void {
    if (this.#ended !== undefined) return;
    const { IO, MEMORY } = Header.COMMAND.fields;
    this.device.config.write(Header.COMMAND.offset, 2, IO.mask | MEMORY.mask);
    this.events.emit("recovered", { description: "the function was reset; its registers are as after a reset" });
  }

  #powerOf(device: VirtualFunction): Power {
    const refuse = async (): Promise<void> => {
      this.#check();
      throw new Ring3Error("NOT_SUPPORTED", "a function in process has no platform that could switch it off");
    };
    const { config } = this;
    const there = device.config.has(PowerManagement.PMCSR);
    const check = (): void => this.#check();
    let saved: UserRegisters | undefined;
    return {
      get state() {
        check();
        return there ? device.powerState : "unknown";
      },
      async set(state): Promise<void> {
        check();
        if (!there) {
          throw new Ring3Error("NOT_SUPPORTED", "the function has no power management capability: it is always in D0");
        }
        const before = device.powerState;
        if (before === "D0") saved = readUserRegisters(device.config);
        const command = config.readRaw(Header.COMMAND);
        config.write(PowerManagement.PMCSR, { POWER_STATE: state === "D0" ? 0 : 3 });
        // Leaving D3hot may reset the function. A kernel saves its registers before and gives them back.
        if (before !== "D0" && device.powerState === "D0" && config.readRaw(Header.COMMAND) !== command) {
          if (saved !== undefined) writeUserRegisters(device.config, saved);
          config.writeRaw(Header.COMMAND, command);
          device.interrupts.reconnect();
        }
        const after = device.powerState;
        if (after !== state) {
          throw new Ring3Error("POWER_REFUSED", `the function stayed in ${after} when told to enter ${state}`);
        }
        await Promise.resolve();
      },
      enterLowPower: refuse,
      exitLowPower: refuse,
    };
  }

  #removalRequested(): void {
    // Asked repeatedly, the driver hears it once.
    if (this.#removal !== undefined || this.#ended !== undefined) return;
    const graceMs = this.#removalGraceMs;
    this.#removal = "its removal was requested";
    this.#graceTimer = setTimeout(() => void this[Symbol.asyncDispose](), graceMs);
    keepAlive(this.#graceTimer, false);
    this.events.emit("removal-requested", { graceMs });
  }

  #remove(why: string): void {
    if (this.#ended !== undefined) return;
    const reason = new Ring3Error("FUNCTION_REMOVED", `${this.identity.address} was removed: ${why}`);
    this.#end(reason, reason, why);
  }

  /** The safe order: bus master, interrupts, DMA, windows, then the device itself. */
  #end(reason: Ring3Error, toWaiters: Ring3Error, removed?: string): void {
    if (this.#ended !== undefined) return;
    if (this.#graceTimer !== undefined) clearTimeout(this.#graceTimer);
    const { device } = this;
    device.config.write(Header.COMMAND.offset, 2, device.config.read(Header.COMMAND.offset, 2) & ~busMasterBit);
    this.#ended = reason;
    this.#loop[Symbol.dispose]();
    this.#listening.dispose();
    this.interrupts.end(reason, toWaiters);
    this.dma.end(reason);
    for (const bar of this.#bars) bar.close();
    if (this.#life !== undefined) device.arena.control.close(this.#life.index, this.#life.live);
    device.disconnect();
    if (removed !== undefined) this.events.emit("removed", { reason: removed });
    this.#gone.abort(reason);
    this.events.close();
  }
}

const busMasterBit = Header.COMMAND.fields.BUS_MASTER.mask;

function romOf(device: VirtualFunction, size: number, check: () => void): Rom {
  return {
    size,
    read(offset, count) {
      check();
      const inside = Number.isSafeInteger(offset) && Number.isSafeInteger(count) && offset >= 0 && count >= 0;
      if (!inside || offset + count > size) {
        throw new Ring3Error("REGISTER_RANGE", `${count} bytes at ${offset} leave the ${size} of the ROM`);
      }
      const bytes = new Uint8Array(count);
      device.readRom(offset, bytes);
      return bytes;
    },
  };
}
