// A function in a worker thread, over the kernel's eventfds.
import { Ring3Error } from "../binary/error.ts";
import { attachArena } from "../linux/arena-memory.ts";
import { EventFd } from "../linux/event-fd.ts";
import { FileDescriptor } from "../linux/file-descriptor.ts";
import { AttachedFunction, isSharedFunctionHandle, type SharedFunctionHandle } from "../pci/attached-function.ts";
import type { FunctionHandle } from "../pci/function.ts";
import { eventFdSource } from "./interrupts.ts";

export { AttachedFunction } from "../pci/attached-function.ts";
export type VfioFunctionHandle = SharedFunctionHandle;

/** Attaches to a function of another thread of this process. Throws `HANDLE_INVALID`. */
export function attachFunction(handle: FunctionHandle): AttachedFunction {
  if (!isSharedFunctionHandle(handle)) {
    throw new Ring3Error("HANDLE_INVALID", "this is no handle of a function over the kernel's VFIO");
  }
  return new AttachedFunction(handle, attachArena(handle.arena), (eventfd) => {
    const eventFd = new EventFd(new FileDescriptor(eventfd));
    return { source: eventFdSource(eventFd), [Symbol.dispose]: () => eventFd[Symbol.dispose]() };
  });
}
