// A served function in a worker thread: mapped registers, DMA memory and vectors. Registers that are not mapped go through
// the connection, which belongs to the thread that opened it.
import { Ring3Error } from "../binary/error.ts";
import { attachArena } from "../linux/arena-memory.ts";
import { EventFd } from "../linux/event-fd.ts";
import { FileDescriptor } from "../linux/file-descriptor.ts";
import { AttachedFunction, isSharedFunctionHandle } from "../pci/attached-function.ts";
import type { FunctionHandle } from "../pci/function.ts";
import { eventFdSource } from "./client-interrupts.ts";

/** Attaches to a served function of another thread of this process. Throws `HANDLE_INVALID`. */
export function attachServedFunction(handle: FunctionHandle): AttachedFunction {
  if (!isSharedFunctionHandle(handle)) {
    throw new Ring3Error("HANDLE_INVALID", "this is no handle of a function over a vfio-user socket");
  }
  return new AttachedFunction(handle, attachArena(handle.arena), (eventfd) => {
    const eventFd = new EventFd(new FileDescriptor(eventfd));
    return { source: eventFdSource(eventFd), [Symbol.dispose]: () => eventFd[Symbol.dispose]() };
  });
}
