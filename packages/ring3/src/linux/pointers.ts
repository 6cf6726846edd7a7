// Addresses of memory: known here, given to calls of this folder, shown to nobody else.
import { Ring3Error } from "../binary/error.ts";
import type { Arena } from "../memory/arena.ts";
import { MappedMemory } from "./mapped-memory.ts";
import { addressOfView } from "./native.ts";

/** Memory that a system call can be pointed to. */
export type Pointable = { readonly arena: Arena; readonly offset: number } | Uint8Array | MappedMemory;

/**
 * Where each arena lies. It holds the arenas strongly: a collected one would take its windows, and memory that the IOMMU
 * still maps, with it.
 */
const bases = new Map<Arena, number>();

/** Remembers where `arena` lies. */
export function registerArena(arena: Arena): number {
  const base = addressOfView(new Uint8Array(arena.buffer));
  bases.set(arena, base);
  return base;
}

/** Address of `offset` in `arena`. */
export function addressInArena(arena: Arena, offset: number): number {
  return (bases.get(arena) ?? registerArena(arena)) + offset;
}

export function addressOf(memory: Pointable): number {
  if (memory instanceof Uint8Array) return addressOfView(memory);
  if (memory instanceof MappedMemory) return addressOfView(memory.bytes);
  if (!(memory.offset >= 0 && memory.offset < memory.arena.size)) {
    throw new Ring3Error(
      "ARENA_RANGE",
      `offset ${memory.offset} does not lie in the arena's ${memory.arena.size} bytes`,
    );
  }
  return addressInArena(memory.arena, memory.offset);
}
