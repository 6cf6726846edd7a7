// The part of WebAssembly that the arena uses, typed here because neither the language's library nor Node's types have it,
// and looked up at run time because some places do not have it at all.

/** A `WebAssembly.Memory`, as far as the arena uses it. */
export interface SharedMemory {
  readonly buffer: ArrayBufferLike;
  /** Grows by `pages` of 64 KiB and returns the former count; throws `RangeError` where the system refuses. */
  grow(pages: number): number;
}

/** Functions of an instantiated module, by name. */
export type ModuleFunctions = Readonly<Record<string, (...values: never[]) => unknown>>;

interface WebAssemblyLibrary {
  readonly Memory: new (limits: { initial: number; maximum: number; shared: boolean }) => SharedMemory;
  readonly Module: new (code: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: ModuleFunctions };
}

export const PAGE_BYTES: number = 65536;

function library(): WebAssemblyLibrary | undefined {
  return (globalThis as { WebAssembly?: WebAssemblyLibrary }).WebAssembly;
}

/** A shared memory, or `undefined` where WebAssembly or shared memory is missing or the address space is too small. */
export function createSharedMemory(initialBytes: number, maximumBytes: number): SharedMemory | undefined {
  const webAssembly = library();
  if (webAssembly === undefined || typeof SharedArrayBuffer === "undefined") return undefined;
  try {
    const memory = new webAssembly.Memory({
      initial: Math.ceil(initialBytes / PAGE_BYTES),
      maximum: Math.ceil(maximumBytes / PAGE_BYTES),
      shared: true,
    });
    return memory.buffer instanceof SharedArrayBuffer ? memory : undefined;
  } catch (error) {
    if (error instanceof RangeError || error instanceof TypeError) return undefined;
    throw error;
  }
}

/** Whether `value` is a shared `WebAssembly.Memory`; a handle comes from another thread and is looked at first. */
export function isSharedMemory(value: unknown): value is SharedMemory {
  const webAssembly = library();
  return webAssembly !== undefined && value instanceof webAssembly.Memory && value.buffer instanceof SharedArrayBuffer;
}

/** Compiles `code` and binds its one import, the memory. */
export function instantiate(code: Uint8Array, memory: SharedMemory): ModuleFunctions {
  const webAssembly = library();
  if (webAssembly === undefined) throw new RangeError("a memory exists without WebAssembly");
  return new webAssembly.Instance(new webAssembly.Module(code), { ring3: { memory } }).exports;
}
