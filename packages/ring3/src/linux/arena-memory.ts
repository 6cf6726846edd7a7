// The arena on Linux: where it lies, how its pages go back to the system, and whether windows can be mapped into it. A
// start-up test decides between WebAssembly memory and a plain mapping.
import { Arena, type ArenaHandle, type ArenaOptions } from "../memory/arena.ts";
import { defaultArena as threadArena } from "../memory/default-arena.ts";
import { createMemoryFile } from "./memory-file.ts";
import { ADVICE, MAP, mapAnonymousOver, mapAnywhere, mapOver, pageSize } from "./memory-map.ts";
import * as native from "./native.ts";
import { addressInArena, registerArena } from "./pointers.ts";

export interface LinuxArenaOptions extends ArenaOptions {
  /** `webassembly` where it works (the default), or `mapped` for memory without emitted loops. */
  readonly backing?: "webassembly" | "mapped";
}

const LARGEST_MAPPING = 2 ** 32;
const SMALLEST_MAPPING = 2 ** 26;

/** Makes an arena whose pages devices and windows can use. It lives as long as the process. */
export function createArena(options: LinuxArenaOptions = {}): Arena {
  if (options.backing !== "mapped") {
    // A fall-back inside `create` is thrown away: here a mapping is the better one.
    const arena = Arena.create({ ...options, fallbackBytes: 65536 });
    if (arena.memory !== undefined && takesWindows(arena)) return withSystem(arena);
  }
  return mappedArena(options.maximumBytes ?? LARGEST_MAPPING);
}

/** Opens another thread's arena; as `Arena.attach`, but for every kind of arena. */
export function attachArena(handle: ArenaHandle, own?: { readonly offset: number; readonly size: number }): Arena {
  const { mapping } = handle;
  const arena =
    handle.memory === undefined && mapping !== undefined
      ? Arena.attachOver(native.viewAt(mapping.token, mapping.size), own)
      : Arena.attach(handle, own);
  registerArena(arena);
  return arena;
}

let processArena: Arena | undefined;

/**
 * The arena that this thread uses where nobody says otherwise: made at the first call. One that a browser-safe floor made
 * before is taken over, unless windows cannot be mapped into it.
 */
export function defaultArena(): Arena {
  if (processArena === undefined) {
    let made: Arena | undefined;
    const found = threadArena(() => {
      made = createArena();
      return made;
    });
    if (found === made) processArena = found;
    else processArena = found.memory !== undefined && takesWindows(found) ? withSystem(found) : createArena();
  }
  return processArena;
}

/** Arenas that files can be mapped into, and whose large free ranges go back to the system. */
const adopted = new WeakSet<Arena>();

/**
 * Whether files can be mapped into `arena`. One that a browser-safe floor made is tried and taken over: from then on its
 * free ranges go back to the system too.
 */
export function adoptArena(arena: Arena): boolean {
  if (adopted.has(arena)) return true;
  if (arena.attached || arena.memory === undefined || !takesWindows(arena)) return false;
  withSystem(arena);
  return true;
}

/** Asks for 2 MiB pages under a range that is aligned to them; the kernel may decline without saying so. */
export function adviseHugePages(range: {
  readonly arena: Arena;
  readonly offset: number;
  readonly size: number;
}): boolean {
  const address = addressInArena(range.arena, range.offset);
  return native.attemptCall(() => native.madvise(address, range.size, ADVICE.HUGEPAGE)) === 0;
}

function withSystem(arena: Arena, mapping?: { readonly token: bigint; readonly size: number }): Arena {
  registerArena(arena);
  adopted.add(arena);
  arena.useSystem({
    discard: (offset, size) => {
      if (offset % pageSize !== 0 || size % pageSize !== 0) return false;
      const address = addressInArena(arena, offset);
      return native.attemptCall(() => native.madvise(address, size, ADVICE.DONTNEED)) === 0;
    },
    ...(mapping === undefined ? {} : { mapping }),
  });
  return arena;
}

/** A reservation without commitment; smaller where the system or a limit does not allow more. */
function mappedArena(maximumBytes: number): Arena {
  for (let size = Math.min(maximumBytes, LARGEST_MAPPING); ; size /= 2) {
    try {
      const address = mapAnywhere(-1, 0, size, MAP.PRIVATE | MAP.ANONYMOUS | MAP.NORESERVE);
      return withSystem(Arena.over(native.viewAt(address, size)), { token: BigInt(address), size });
    } catch (error) {
      if (size / 2 < SMALLEST_MAPPING) throw error;
    }
  }
}

/** V8 promises none of this: a page-aligned base that stays, and windows that survive growth. */
function takesWindows(arena: Arena): boolean {
  const base = native.addressOfView(new Uint8Array(arena.buffer));
  if (base % 65536 !== 0) return false;
  using file = createMemoryFile(pageSize, { name: "ring3-self-test" });
  using range = arena.reserve(pageSize, Math.max(pageSize, 4096));
  const words = range.words;
  const seen = new Uint32Array(1);
  try {
    mapOver(base + range.offset, file.number, 0, pageSize, MAP.SHARED);
    words[0] = 0x1234_5678;
    arena.grow(65536);
    const same = native.addressOfView(new Uint8Array(arena.buffer)) === base;
    native.pread(file.number, new Uint8Array(seen.buffer), 4, 0);
    return same && seen[0] === 0x1234_5678 && arena.accessors.load32(range.offset) === 0x1234_5678;
  } catch {
    return false;
  } finally {
    mapAnonymousOver(base + range.offset, pageSize);
  }
}
