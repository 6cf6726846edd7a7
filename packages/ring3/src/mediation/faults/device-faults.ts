// The same faults before a device that is served: they happen to a guest and its own driver. What the device writes to its
// client's memory is not seen from here, so faults of memory are for drivers (`faulty`).
import { Ring3Error } from "../../binary/error.ts";
import type { DeviceRegisters } from "../../binary/register-map.ts";
import type { BarIndex } from "../../pci/function.ts";
import type { VirtualFunction } from "../../virtual/function.ts";
import type { InterruptKind } from "../../virtual/interrupts.ts";
import type { Area, BytesTarget, Target } from "../tap/tap.ts";
import { AccessDecoder } from "../trace/decoder.ts";
import { FaultTap, type Injection } from "./fault-tap.ts";
import { checkFaultPlan, type FaultPlan } from "./plan.ts";

/** What messages of a client do to a function. */
interface Bus {
  readonly config: Pick<VirtualFunction["config"], "size" | "read" | "write" | "readInto" | "writeFrom">;
  readonly bars: VirtualFunction["bars"];
  barRead(bar: BarIndex, offset: number, width: 1 | 2 | 4): number;
  barWrite(bar: BarIndex, offset: number, width: 1 | 2 | 4, value: number): void;
  readBar(bar: BarIndex, offset: number, target: Uint8Array): boolean;
  writeBar(bar: BarIndex, offset: number, source: Uint8Array): boolean;
  readRom(offset: number, target: Uint8Array): boolean;
}

export interface DeviceFaultsOptions {
  readonly registers?: DeviceRegisters | undefined;
  readonly onInjected?: (injection: Injection) => void;
  readonly after?: (delayMs: number, callback: () => void) => Disposable;
}

const CONFIG: Area = { space: "config", bar: 0, base: 0 };

/**
 * Faults between a served device and its client: pass it to `serve` as `between`. Throws `FAULT_PLAN`, also for faults of
 * memory (`bad-completion`, `dma-corruption`).
 *
 * @example
 * import { EduDevice } from "ring3/devices/edu";
 * import { DeviceFaults } from "ring3/faults";
 * import { serve } from "ring3/vfio-user";
 * const device = new EduDevice();
 * const between = new DeviceFaults(device, { faults: [{ kind: "lost-interrupt" }] });
 * await using server = await serve(device, "/run/edu.sock", { between });
 */
export class DeviceFaults {
  readonly #device: VirtualFunction;
  readonly #tap: FaultTap;
  /** A signal that a fault makes, which no other fault touches. */
  #raising = false;

  constructor(device: VirtualFunction, plan: FaultPlan, options: DeviceFaultsOptions = {}) {
    const checked = checkFaultPlan(plan);
    const ofMemory = checked.faults.find(({ kind }) => kind === "bad-completion" || kind === "dma-corruption");
    if (ofMemory !== undefined) {
      const message = `${ofMemory.kind} is for the driver's side (a command's --faults): the memory of a device's client is its own`;
      throw new Ring3Error("FAULT_PLAN", message);
    }
    this.#device = device;
    const config = new Uint8Array(device.config.size);
    device.config.readInto(0, config);
    this.#tap = new FaultTap(checked, new AccessDecoder(config, options.registers), options);
    this.#tap.attach({
      get gone() {
        return device.removed !== undefined;
      },
      view: () => undefined,
      raise: (vector, count) => this.#raise(vector, count),
      tell: (what) => {
        if (what === "error") device.interrupts.signalError();
      },
      remove: (reason) => device.remove(reason),
      reset: async () => void device.resetForUser(),
    });
  }

  bus(bus: Bus): Bus {
    const tap = this.#tap;
    const config: Target & BytesTarget = {
      ...lanes(
        (offset, width) => bus.config.read(offset, width),
        (offset, width, value) => bus.config.write(offset, width, value),
      ),
      ...runs(
        (offset, bytes) => bus.config.readInto(offset, bytes),
        (offset, bytes) => bus.config.writeFrom(offset, bytes),
      ),
    };
    const bars = ([0, 1, 2, 3, 4, 5] as const).map((bar) => ({
      area: { space: "bar", bar, base: 0 } satisfies Area,
      target: {
        ...lanes(
          (offset, width) => bus.barRead(bar, offset, width),
          (offset, width, value) => bus.barWrite(bar, offset, width, value),
        ),
        ...runs(
          (offset, bytes) => bus.readBar(bar, offset, bytes),
          (offset, bytes) => bus.writeBar(bar, offset, bytes),
        ),
      },
    }));
    const of = (bar: BarIndex): (typeof bars)[number] => bars[bar] as (typeof bars)[number];
    return {
      bars: bus.bars,
      config: {
        size: bus.config.size,
        read: (offset, width) => tap.read(CONFIG, config, offset, width),
        write: (offset, width, value) => tap.write(CONFIG, config, offset, width, value),
        readInto: (offset, bytes) => bytes.set(tap.readBytes(CONFIG, config, offset, bytes.length)),
        writeFrom: (offset, bytes) => tap.writeBytes(CONFIG, config, offset, bytes),
      },
      barRead: (bar, offset, width) => tap.read(of(bar).area, of(bar).target, offset, width),
      barWrite: (bar, offset, width, value) => tap.write(of(bar).area, of(bar).target, offset, width, value),
      readBar: (bar, offset, bytes) => (
        bytes.set(tap.readBytes(of(bar).area, of(bar).target, offset, bytes.length)), true
      ),
      writeBar: (bar, offset, bytes) => (tap.writeBytes(of(bar).area, of(bar).target, offset, bytes), true),
      readRom: (offset, bytes) => bus.readRom(offset, bytes),
    };
  }

  signal(kind: InterruptKind, vector: number, deliver: () => void): void {
    const counted = kind === "intx" || kind === "msi" || kind === "msix";
    if (this.#raising || !counted || this.#tap.interrupt(kind, vector, 1) > 0) deliver();
  }

  #raise(vector: number, count: number): void {
    const { interrupts } = this.#device;
    const { mode } = interrupts;
    if (mode === "none") return;
    this.#raising = true;
    for (let i = 0; i < count; i++) interrupts.trigger(mode, vector);
    this.#raising = false;
  }
}

type Read = (offset: number, width: 1 | 2 | 4) => number;
type Write = (offset: number, width: 1 | 2 | 4, value: number) => void;

function lanes(read: Read, write: Write): Target {
  return {
    read8: (offset) => read(offset, 1),
    read16: (offset) => read(offset, 2),
    read32: (offset) => read(offset, 4),
    write8: (offset, value) => write(offset, 1, value),
    write16: (offset, value) => write(offset, 2, value),
    write32: (offset, value) => write(offset, 4, value),
  };
}

function runs(
  read: (offset: number, bytes: Uint8Array) => void,
  write: (offset: number, bytes: Uint8Array) => void,
): BytesTarget {
  return {
    readBytes(offset, size) {
      const bytes = new Uint8Array(size);
      read(offset, bytes);
      return bytes;
    },
    writeBytes: write,
  };
}
