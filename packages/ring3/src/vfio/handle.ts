// A function in a worker thread: its mapped registers and DMA memory by their place in the shared arena, and interrupt
// vectors that were handed over. The thread that opened the function keeps it; the worker holds nothing that outlives it.
import { Ring3Error } from "../binary/error.ts";
import { attachArena } from "../linux/arena-memory.ts";
import { EventFd } from "../linux/event-fd.ts";
import { FileDescriptor } from "../linux/file-descriptor.ts";
import type { Arena } from "../memory/arena.ts";
import type { Registers } from "../memory/registers.ts";
import { ArenaWindow, type WindowHandle } from "../memory/window.ts";
import { CountedInterrupt } from "../pci/counted-interrupt.ts";
import { MappedBuffer } from "../pci/dma-buffer.ts";
import type {
  BarIndex,
  ByteRange,
  DmaBuffer,
  DmaPermission,
  FunctionHandle,
  FunctionIdentity,
  Interrupt,
} from "../pci/function.ts";
import { eventFdSource } from "./interrupts.ts";

/** Structured-cloneable; for one worker, once: the vectors' descriptors belong to whoever attaches. */
export interface VfioFunctionHandle extends FunctionHandle {
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

/** What a worker has of a function. Disposal lets go of the vectors and detaches from the arena. */
export class AttachedFunction implements Disposable {
  readonly identity: FunctionIdentity;
  readonly arena: Arena;
  /** By vector number. */
  readonly interrupts: ReadonlyMap<number, Interrupt>;
  readonly #handle: VfioFunctionHandle;
  readonly #eventFds: readonly EventFd[];
  #disposed = false;

  constructor(handle: VfioFunctionHandle) {
    this.#handle = handle;
    this.identity = handle.identity;
    this.arena = attachArena(handle.arena);
    const interrupts = new Map<number, Interrupt>();
    const eventFds: EventFd[] = [];
    for (const { vector, eventfd } of handle.vectors) {
      const eventFd = new EventFd(new FileDescriptor(eventfd));
      eventFds.push(eventFd);
      interrupts.set(vector, this.#interrupt(vector, eventFd));
    }
    this.interrupts = interrupts;
    this.#eventFds = eventFds;
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
    for (const eventFd of this.#eventFds) eventFd[Symbol.dispose]();
    this.arena.detach();
  }

  /** The owner signals the descriptor when the function ends, so that whoever waits here looks and is told. */
  #interrupt(vector: number, eventFd: EventFd): CountedInterrupt {
    const { index, live } = this.#handle.life;
    const source = eventFdSource(eventFd);
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

/** Attaches to a function of another thread of this process. Throws `HANDLE_INVALID`. */
export function attachFunction(handle: FunctionHandle): AttachedFunction {
  if (!("life" in handle && "windows" in handle)) {
    throw new Ring3Error("HANDLE_INVALID", "this is no handle of a function over the kernel's VFIO");
  }
  return new AttachedFunction(handle as VfioFunctionHandle);
}
