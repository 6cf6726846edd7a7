// Keeps the tables of the emitted loop (fast-lane-emitted.ts) in step with the controller: namespaces, the maps that data
// was seen in, page size. Hard about it: what the tables say is not checked again, so a map is out of them before its
// memory goes, and a reset starts with none.
import type { Arena, ArenaRange } from "../../memory/arena.ts";
import { CommandWord, IoOpcode } from "../../specs/nvme/commands.ts";
import type { GuestMemory, MemoryMap } from "../../virtual/guest-memory.ts";
import type { Doorbells } from "./doorbells.ts";
import {
  ENTRY_WORDS,
  emittedLane,
  LANE_WORDS,
  LaneAccess,
  type LaneLoop,
  LaneMap,
  LaneNamespace,
  LaneNamespaceFlag,
  LaneWord,
} from "./fast-lane-emitted.ts";
import type { DeviceNamespace } from "./namespace.ts";
import type { IoCounters } from "./range-commands.ts";
import type { SubmissionQueue } from "./submission-queue.ts";

const HIGH = 2 ** 32;
/** Namespaces by id, and maps at a time, that the loop knows; commands with others go the general way. */
const NAMESPACES = 16;
const MAPS = 16;
const TABLE_BYTES = 4 * (LANE_WORDS + ENTRY_WORDS * (NAMESPACES + MAPS));
const { HEAD, TAIL, COMPLETION_TAIL, PHASE, STOPPED, READS, WRITES, BYTES_READ, BYTES_WRITTEN } = LaneWord;

export interface FastLaneParts {
  readonly arena: Arena;
  readonly memory: GuestMemory;
  readonly doorbells: Doorbells;
  /** Where the first doorbell lies in the arena, and bytes from one to the next. */
  readonly doorbellOffset: number;
  readonly doorbellBytes: number;
  readonly namespaces: readonly (DeviceNamespace | undefined)[];
  readonly maxTransferBytes: number;
  readonly counters: IoCounters;
  readonly pageSize: () => number;
}

export class FastLane implements Disposable {
  /** Whether the queue served last has a command, or a doorbell, for the general way. */
  stopped = false;
  readonly #parts: FastLaneParts;
  #range: ArenaRange | undefined;
  #loop: LaneLoop | undefined;
  #loopOffset = 0;
  #state: Uint32Array = new Uint32Array();
  #maps: Uint32Array = new Uint32Array();
  #known: (MemoryMap | undefined)[] = [];
  #next = 0;

  constructor(parts: FastLaneParts) {
    this.#parts = parts;
  }

  /** Executes up to `budget` commands of `queue`, as far as all is plain; how many. */
  serve(queue: SubmissionQueue, budget: number): number {
    const { completion } = queue;
    const { memory, doorbells } = this.#parts;
    this.stopped = true;
    if (queue.id === 0 || completion.waiting.length > 0 || memory.dirty.active || doorbells.shadowed(queue.id))
      return 0;
    const submissionPlace = queue.arenaOffset;
    const completionPlace = completion.arenaOffset;
    if (submissionPlace === undefined || completionPlace === undefined) return 0;
    const loop = this.#range === undefined ? this.#start() : (this.#loop as LaneLoop);
    const served = loop(
      submissionPlace | 0,
      completionPlace | 0,
      (this.#parts.doorbellOffset + 2 * queue.id * this.#parts.doorbellBytes) | 0,
      queue.entries,
      completion.entries,
      queue.id,
      queue.head,
      queue.tail,
      completion.head,
      completion.tail,
      completion.phase,
      budget,
    );
    const state = this.#state;
    this.stopped = state[STOPPED] !== 0;
    if (served === 0) return 0;
    queue.head = state[HEAD] as number;
    queue.tail = state[TAIL] as number;
    completion.tail = state[COMPLETION_TAIL] as number;
    completion.phase = state[PHASE] as number;
    completion.unsignalled = true;
    const { counters } = this.#parts;
    counters.readCommands += state[READS] as number;
    counters.writeCommands += state[WRITES] as number;
    counters.bytesRead += state[BYTES_READ] as number;
    counters.bytesWritten += state[BYTES_WRITTEN] as number;
    return served;
  }

  /** Remembers the maps of a command that was executed the general way. */
  learn(words: Uint32Array): void {
    if (this.#range === undefined) return;
    const opcode = (words[CommandWord.CDW0] as number) & 0xff;
    if (opcode !== IoOpcode.READ && opcode !== IoOpcode.WRITE) return;
    for (let at: number = CommandWord.PRP1_LOW; at <= CommandWord.PRP2_LOW; at += 2) {
      const iova = (words[at] as number) + (words[at + 1] as number) * HIGH;
      const map = this.#parts.memory.find(iova, 1, "read") ?? this.#parts.memory.find(iova, 1, "write");
      if (map?.arenaOffset === undefined || this.#known.includes(map)) continue;
      this.#put(this.#next, map);
      this.#next = (this.#next + 1) % MAPS;
    }
  }

  /** A map is about to go. */
  forget(map: MemoryMap): void {
    const at = this.#known.indexOf(map);
    if (at >= 0) this.#put(at, undefined);
  }

  /** Something in the list of namespaces is different now. */
  namespacesChanged(): void {
    if (this.#range === undefined) return;
    for (let id = 1; id <= NAMESPACES; id++) this.#putNamespace(id);
  }

  /** Forgets everything and gives the tables' memory back. */
  reset(): void {
    this.#range?.[Symbol.dispose]();
    this.#range = undefined;
    this.#known = [];
    this.#next = 0;
  }

  [Symbol.dispose](): void {
    this.reset();
  }

  #start(): LaneLoop {
    const { arena, maxTransferBytes, pageSize } = this.#parts;
    const range = arena.reserve(TABLE_BYTES, 64);
    this.#range = range;
    const { words } = range;
    this.#state = words.subarray(0, LANE_WORDS);
    this.#state[LaneWord.PAGE_SIZE] = pageSize();
    this.#maps = words.subarray(LANE_WORDS + ENTRY_WORDS * NAMESPACES);
    this.namespacesChanged();
    const state = range.offset;
    const namespaces = state + 4 * LANE_WORDS;
    if (this.#loop === undefined || this.#loopOffset !== state) {
      const maps = namespaces + 4 * ENTRY_WORDS * NAMESPACES;
      this.#loop = emittedLane(arena, {
        state,
        namespaces,
        namespaceCount: NAMESPACES,
        maps,
        mapCount: MAPS,
        maxTransferBytes,
      });
      this.#loopOffset = state;
    }
    return this.#loop;
  }

  #put(at: number, map: MemoryMap | undefined): void {
    this.#known[at] = map;
    const entry = this.#maps.subarray(at * ENTRY_WORDS, (at + 1) * ENTRY_WORDS).fill(0);
    if (map?.arenaOffset === undefined) return;
    entry[LaneMap.IOVA_LOW] = map.iova % HIGH;
    entry[LaneMap.IOVA_HIGH] = Math.floor(map.iova / HIGH);
    entry[LaneMap.SIZE_LOW] = map.size % HIGH;
    entry[LaneMap.SIZE_HIGH] = Math.floor(map.size / HIGH);
    entry[LaneMap.ARENA_OFFSET] = map.arenaOffset;
    entry[LaneMap.ACCESS] = (map.readable ? LaneAccess.READABLE : 0) | (map.writable ? LaneAccess.WRITABLE : 0);
  }

  #putNamespace(id: number): void {
    const { arena, namespaces } = this.#parts;
    const from = LANE_WORDS + ENTRY_WORDS * (id - 1);
    const entry = (this.#range as ArenaRange).words.subarray(from, from + ENTRY_WORDS).fill(0);
    const namespace = namespaces[id];
    if (namespace === undefined) return;
    const { contents, range } = namespace.backing;
    // Memory elsewhere than in the arena is out of the loop's reach.
    if (contents === undefined || (contents !== null && range?.arena !== arena)) return;
    entry[LaneNamespace.BLOCKS_LOW] = namespace.blocks % HIGH;
    entry[LaneNamespace.BLOCKS_HIGH] = Math.floor(namespace.blocks / HIGH);
    entry[LaneNamespace.CONTENTS] = range?.offset ?? 0;
    entry[LaneNamespace.FLAGS] =
      LaneNamespaceFlag.USABLE |
      (contents === null ? LaneNamespaceFlag.KEEPS_NOTHING : 0) |
      (namespace.readOnly ? LaneNamespaceFlag.READ_ONLY : 0);
    entry[LaneNamespace.SHIFT] = namespace.shift;
  }
}
