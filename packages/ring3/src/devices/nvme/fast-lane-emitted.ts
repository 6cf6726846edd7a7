// The common I/O command as an emitted loop: reads and writes of a disk that is memory or nothing, with one or two PRP
// entries, by a driver whose queues, data and doorbells lie in the arena. Hard about it: the driver wrote everything that is
// read here, so each word is loaded once and checked before it is used; whatever is not plain success is left to the
// TypeScript of io-commands.ts, which is the reference.
import type { Arena } from "../../memory/arena.ts";
import { type Body, emit, emitted, type Loop } from "../../memory/emitter.ts";
import type { Local } from "../../memory/emitter-value.ts";
import { CommandWord, CompletionWord, IoOpcode } from "../../specs/nvme/commands.ts";

/** Words that the loop leaves behind. STOPPED: the command at the head is for the reference, or the tail is no tail. */
export const LaneWord = {
  HEAD: 0,
  TAIL: 1,
  COMPLETION_TAIL: 2,
  PHASE: 3,
  STOPPED: 4,
  READS: 5,
  WRITES: 6,
  BYTES_READ: 7,
  BYTES_WRITTEN: 8,
  /** Set by TypeScript: the memory page size. */
  PAGE_SIZE: 9,
} as const;
export const LANE_WORDS = 16;

/** Words of a namespace's entry: its block count (64 bits), where its bytes are in the arena, FLAGS, log2 of a block. */
export const LaneNamespace = { BLOCKS_LOW: 0, BLOCKS_HIGH: 1, CONTENTS: 2, FLAGS: 3, SHIFT: 4 } as const;
export const LaneNamespaceFlag = { USABLE: 1, KEEPS_NOTHING: 2, READ_ONLY: 4 } as const;
/** Words of a map's entry: IOVA and size (64 bits each), place in the arena, what the device may do. Size 0: none. */
export const LaneMap = { IOVA_LOW: 0, IOVA_HIGH: 1, SIZE_LOW: 2, SIZE_HIGH: 3, ARENA_OFFSET: 4, ACCESS: 5 } as const;
/** The opcode of the command that needs the access. */
export const LaneAccess = { READABLE: 1, WRITABLE: 2 } as const;
export const ENTRY_WORDS = 8;

/** Where the tables lie in the arena, in memory that no client maps, and what holds for all commands. */
export interface LanePlace {
  /** `LANE_WORDS` words. */
  readonly state: number;
  /** An entry for each namespace id from 1 on. */
  readonly namespaces: number;
  readonly namespaceCount: number;
  readonly maps: number;
  readonly mapCount: number;
  readonly maxTransferBytes: number;
}

const PARAMETERS = [
  "submission",
  "completion",
  "doorbell",
  "entries",
  "completionEntries",
  "queueId",
  "head",
  "tail",
  "completionHead",
  "completionTail",
  "phase",
  "budget",
] as const;

/** Everything by arena offsets in bytes; the number of commands that were executed. */
export type LaneLoop = (
  submission: number,
  completion: number,
  doorbell: number,
  entries: number,
  completionEntries: number,
  queueId: number,
  head: number,
  tail: number,
  completionHead: number,
  completionTail: number,
  phase: number,
  budget: number,
) => number;

const LOCALS = {
  served: "i32",
  stopped: "i32",
  next: "i32",
  at: "i32",
  command: "i32",
  opcode: "i32",
  namespace: "i32",
  flags: "i32",
  blocks: "i32",
  size: "i32",
  size1: "i32",
  size2: "i32",
  page: "i32",
  map: "i32",
  place: "i32",
  place1: "i32",
  place2: "i32",
  found: "i32",
  disk: "i32",
  reads: "i32",
  writes: "i32",
  bytesRead: "i32",
  bytesWritten: "i32",
  lba: "i64",
  total: "i64",
  prp: "i64",
  inMap: "i64",
  mapSize: "i64",
} as const;
type Names = { readonly [K in (typeof PARAMETERS)[number]]: Local<"i32"> } & {
  readonly [K in keyof typeof LOCALS]: Local<(typeof LOCALS)[K]>;
};

const word = (index: number): number => 4 * index;
const PHASE = 0x10000;

/** Emits the loop for the tables at `place`. */
export function emittedLane(arena: Arena, place: LanePlace): LaneLoop {
  return emit(arena, {
    serve: emitted(PARAMETERS, LOCALS, (body, locals) => {
      serve(body, place, locals);
      return locals.served;
    }),
  }).serve;
}

function serve(body: Body, place: LanePlace, locals: Names): void {
  const { head, tail, served, budget, stopped, doorbell, entries, page } = locals;
  body.set(page, body.load32(place.state + word(LaneWord.PAGE_SIZE)));
  body.loop((loop) => {
    body.leave(loop, served.ge(budget));
    body.if(head.eq(tail), () => {
      body.set(tail, body.load32(doorbell));
      body.if(tail.ge(entries), () => {
        body.set(stopped, 1);
        body.set(tail, head);
        body.leave(loop);
      });
      body.leave(loop, tail.eq(head));
    });
    body.set(stopped, 1);
    check(body, loop, place, locals);
    move(body, locals);
    complete(body, locals);
    body.set(stopped, 0);
    body.set(served, served.add(1));
  });
  const { state } = place;
  const { completionTail, phase, reads, writes, bytesRead, bytesWritten } = locals;
  body.store32(state, head, word(LaneWord.HEAD));
  body.store32(state, tail, word(LaneWord.TAIL));
  body.store32(state, completionTail, word(LaneWord.COMPLETION_TAIL));
  body.store32(state, phase, word(LaneWord.PHASE));
  body.store32(state, stopped, word(LaneWord.STOPPED));
  body.store32(state, reads, word(LaneWord.READS));
  body.store32(state, writes, word(LaneWord.WRITES));
  body.store32(state, bytesRead, word(LaneWord.BYTES_READ));
  body.store32(state, bytesWritten, word(LaneWord.BYTES_WRITTEN));
}

/** Leaves the loop unless the command at the head can be executed with success. */
function check(body: Body, loop: Loop, place: LanePlace, locals: Names): void {
  const { head, at, submission, command, opcode, namespace, flags, blocks, size, size1, size2, lba, total, prp } =
    locals;
  const { completionTail, completionEntries, completionHead, next, page, place1, place2 } = locals;
  body.set(next, completionTail.add(1));
  body.if(next.eq(completionEntries), () => body.set(next, 0));
  body.leave(loop, next.eq(completionHead));
  body.set(at, head.shl(6).add(submission));
  body.set(command, body.load32(at));
  // Neither fused nor with SGLs, and read or write.
  body.leave(loop, command.and(0xff00).ne(0));
  body.set(opcode, command.and(0xff));
  body.leave(loop, opcode.sub(IoOpcode.WRITE).gt(IoOpcode.READ - IoOpcode.WRITE));
  body.set(namespace, body.load32(at, word(CommandWord.NSID)).sub(1));
  body.leave(loop, namespace.ge(place.namespaceCount));
  body.set(namespace, namespace.mul(word(ENTRY_WORDS)).add(place.namespaces));
  body.set(flags, body.load32(namespace, word(LaneNamespace.FLAGS)));
  body.leave(loop, flags.eq(0));
  body.leave(loop, opcode.eq(IoOpcode.WRITE).and(flags.and(LaneNamespaceFlag.READ_ONLY).ne(0)));
  body.set(blocks, body.load32(at, word(CommandWord.CDW12)).and(0xffff).add(1));
  body.set(size, blocks.shl(body.load32(namespace, word(LaneNamespace.SHIFT))));
  body.leave(loop, size.gt(place.maxTransferBytes));
  body.set(lba, body.load64(at, word(CommandWord.CDW10)));
  body.set(total, body.load64(namespace, word(LaneNamespace.BLOCKS_LOW)));
  body.leave(loop, lba.ge(total));
  body.leave(loop, total.sub(lba).lt(blocks.wide()));
  body.set(prp, body.load64(at, word(CommandWord.PRP1_LOW)));
  body.leave(loop, prp.low().and(3).ne(0));
  body.set(size1, page.sub(prp.low().and(page.sub(1))));
  body.if(size1.gt(size), () => body.set(size1, size));
  body.set(size2, size.sub(size1));
  find(body, loop, place, locals, size1, place1);
  body.if(size2.ne(0), () => {
    body.leave(loop, size2.gt(page));
    body.set(prp, body.load64(at, word(CommandWord.PRP2_LOW)));
    body.leave(loop, prp.low().and(page.sub(1)).ne(0));
    find(body, loop, place, locals, size2, place2);
  });
}

/** Where the `size` bytes at `prp` are in the arena; leaves `outer` where no map that permits the access holds them all. */
function find(
  body: Body,
  outer: Loop,
  { maps, mapCount }: LanePlace,
  { map, prp, inMap, mapSize, opcode, found }: Names,
  size: Local<"i32">,
  into: Local<"i32">,
): void {
  body.set(map, maps);
  body.set(found, 0);
  body.loop((loop) => {
    // An address below the map wraps around, beyond every size.
    body.set(inMap, prp.sub(body.load64(map, word(LaneMap.IOVA_LOW))));
    body.set(mapSize, body.load64(map, word(LaneMap.SIZE_LOW)));
    body.if(inMap.lt(mapSize).and(mapSize.sub(inMap).ge(size.wide())), () => {
      body.set(found, body.load32(map, word(LaneMap.ACCESS)).and(opcode));
      body.set(into, body.load32(map, word(LaneMap.ARENA_OFFSET)).add(inMap.low()));
      body.leave(loop);
    });
    body.set(map, map.add(word(ENTRY_WORDS)));
    body.leave(loop, map.ge(maps + mapCount * word(ENTRY_WORDS)));
  });
  body.leave(outer, found.eq(0));
}

function move(body: Body, locals: Names): void {
  const { flags, opcode, disk, lba, namespace, size, size1, size2, place1, place2 } = locals;
  const { reads, writes, bytesRead, bytesWritten } = locals;
  const keeps = (): ReturnType<typeof flags.eq> => flags.and(LaneNamespaceFlag.KEEPS_NOTHING).eq(0);
  body.if(keeps(), () =>
    body.set(
      disk,
      lba
        .low()
        .shl(body.load32(namespace, word(LaneNamespace.SHIFT)))
        .add(body.load32(namespace, word(LaneNamespace.CONTENTS))),
    ),
  );
  body.if(
    opcode.eq(IoOpcode.READ),
    () => {
      body.set(reads, reads.add(1));
      body.set(bytesRead, bytesRead.add(size));
      body.if(keeps(), () => {
        body.copy(place1, disk, size1);
        body.if(size2.ne(0), () => body.copy(place2, disk.add(size1), size2));
      });
    },
    () => {
      body.set(writes, writes.add(1));
      body.set(bytesWritten, bytesWritten.add(size));
      body.if(keeps(), () => {
        body.copy(disk, place1, size1);
        body.if(size2.ne(0), () => body.copy(disk.add(size1), place2, size2));
      });
    },
  );
}

/** Success, as `CompletionQueue` writes it: the word with the phase last. */
function complete(body: Body, locals: Names): void {
  const { head, entries, at, completion, completionTail, next, queueId, command, phase } = locals;
  body.set(head, head.add(1));
  body.if(head.eq(entries), () => body.set(head, 0));
  body.set(at, completionTail.shl(4).add(completion));
  body.store64(at, 0);
  body.store32(at, head.or(queueId.shl(16)), word(CompletionWord.SQ));
  body.publish32(at, command.shr(16).or(phase), word(CompletionWord.STATUS));
  body.set(completionTail, next);
  body.if(next.eq(0), () => body.set(phase, phase.xor(PHASE)));
}
