// A function in a worker thread: its mapped registers and DMA memory by their place in the shared arena, and interrupt
// vectors that were handed over. The thread that opened the function keeps it; the worker holds nothing that outlives it.
// How to open an arena of another thread, and a vector, the back end says.
import { Ring3Error } from "../binary/error.ts";
import type { Arena } from "../memory/arena.ts";
import type { Registers } from "../memory/registers.ts";
import { ArenaWindow, type WindowHandle } from "../memory/window.ts";
import { CountedInterrupt, type SignalSource } from "./counted-interrupt.ts";
import { MappedBuffer } from "./dma-buffer.ts";
import type {
  BarIndex,
  ByteRange,
  DmaBuffer,
  DmaPermission,
  FunctionHandle,
  FunctionIdentity,
  Interrupt,
} from "./function.ts";

/** Structured-cloneable; for one worker, once: the vectors' descriptors belong to whoever attaches. */
export interface SharedFunctionHandle extends FunctionHandle {
  readonly windows: readonly { readonly bar: BarIndex; readonly offset: number; readonly window: WindowHandle }[];
  readonly buffers: readonly {
    readonly iova: number;
    readonly size: number;
    readonly arenaOffset: number;
    readonly permission: DmaPermission;
  }[];
  readonly vectors: readonly { readonly vector: number; readonly eventfd: number }[];
  /** A control word that says whether the function still lives. */
  readonly life: { readonly index: number; readonly live: number };
}

/** A vector that was handed over. */
export interface VectorWire extends Disposable {
  readonly source: SignalSource;
}

/** What a worker has of a function. Disposal lets go of the vectors and detaches from the arena. */
export class AttachedFunction implements Disposable {
  readonly identity: FunctionIdentity;
  readonly arena: Arena;
  /** By vector number. */
  readonly interrupts: ReadonlyMap<number, Interrupt>;
  readonly #handle: SharedFunctionHandle;
  readonly #wires: readonly VectorWire[];
  #disposed = false;

  /** `arena` is the owner's, attached; `openVector` takes a vector's descriptor over. */
  constructor(handle: SharedFunctionHandle, arena: Arena, openVector: (eventfd: number) => VectorWire) {
    this.#handle = handle;
    this.identity = handle.identity;
    this.arena = arena;
    const interrupts = new Map<number, Interrupt>();
    const wires: VectorWire[] = [];
    for (const { vector, eventfd } of handle.vectors) {
      const wire = openVector(eventfd);
      wires.push(wire);
      interrupts.set(vector, this.#interrupt(vector, wire.source));
    }
    this.interrupts = interrupts;
    this.#wires = wires;
  }

  /** Registers of a BAR that the owner had mapped when it made the handle. Throws `NOT_MAPPED`. */
  registers(bar: BarIndex, range?: ByteRange): Registers {
    for (const { bar: index, offset, window } of this.#handle.windows) {
      if (index !== bar) continue;
      const { offset: start, size } = range ?? { offset, size: window.size };
      if (start < offset || start + size > offset + window.size) continue;
      return ArenaWindow.attach(this.arena, window).slice(start - offset, size);
    }
    throw new Ring3Error(
      "NOT_MAPPED",
      `the owner had not mapped these registers of BAR ${bar}: call registers() there before handle()`,
    );
  }

  /** A DMA buffer of the owner by its IOVA; disposing it here changes nothing there. Throws `NOT_MAPPED`. */
  buffer(iova: number): DmaBuffer {
    const found = this.#handle.buffers.find((one) => one.iova === iova);
    if (found === undefined)
      throw new Ring3Error("NOT_MAPPED", `the owner had no buffer at IOVA 0x${iova.toString(16)}`);
    return new MappedBuffer({ ...found, arena: this.arena }, () => undefined);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const interrupt of this.interrupts.values()) interrupt[Symbol.dispose]();
    for (const wire of this.#wires) wire[Symbol.dispose]();
    this.arena.detach();
  }

  /** The owner signals the descriptor when the function ends, so that whoever waits here looks and is told. */
  #interrupt(vector: number, source: SignalSource): CountedInterrupt {
    const { index, live } = this.#handle.life;
    const refuse = (): void => {
      throw new Ring3Error(
        "NOT_SUPPORTED",
        "a worker cannot raise interrupts; ask the thread that opened the function",
      );
    };
    const rethrow = (error: unknown): void =>
      queueMicrotask(() => {
        throw error;
      });
    const interrupt: CountedInterrupt = new CountedInterrupt(
      vector,
      {
        take: () => {
          const count = source.take();
          if (this.arena.control.state(index, live) === "live") return count;
          interrupt.close(
            new Ring3Error("FUNCTION_CLOSED", "the function was closed or removed by the thread that opened it"),
          );
          return 0;
        },
        watch: (wake) => source.watch(wake),
      },
      refuse,
      rethrow,
    );
    return interrupt;
  }
}

/** Whether a handle is of this kind. */
export function isSharedFunctionHandle(handle: FunctionHandle): handle is SharedFunctionHandle {
  return "life" in handle && "windows" in handle && "vectors" in handle;
}
