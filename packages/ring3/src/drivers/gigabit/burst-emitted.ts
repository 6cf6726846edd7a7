// The receive and transmit loops as WebAssembly; receive-ring.ts and transmit-ring.ts have their references, queue-place.ts
// says what the words mean. Hard about it: the two must agree word by word, since they may take turns on one queue.
import type { Arena } from "../../memory/arena.ts";
import { type Body, emit, emitted, type Loop } from "../../memory/emitter.ts";
import type { Local, Value } from "../../memory/emitter-value.ts";
import {
  ContextCommand,
  ReceiveStatus,
  ReceiveWriteBack,
  TransmitCommand,
  TransmitStatus,
  TransmitWord,
} from "../../specs/gigabit/descriptors.ts";
import { POOL_STACK_WORD } from "../net/packet-pool.ts";
import { PACKET_WORDS, PacketFlag, PacketWord, TRANSMIT_FLAGS } from "../net/packets.ts";
import {
  damagedMask,
  LEAST_FRAME_BYTES,
  type QueuePlace,
  SEGMENT_PACKETS,
  StateWord,
  slotOffsets,
} from "./queue-place.ts";
import { dataCommand } from "./transmit-ring.ts";

/** The loops of one queue; `packets` is the arena offset of the first packet's words. */
export interface EmittedBursts {
  receive(packets: number, max: number): number;
  transmit(packets: number, count: number): number;
}

const word = (index: number): number => 4 * index;
const [PLACE, LENGTH] = [word(PacketWord.PLACE), word(PacketWord.LENGTH)];
const [FLAGS, OFFLOAD] = [word(PacketWord.FLAGS), word(PacketWord.OFFLOAD)];
const PACKET_BYTES = word(PACKET_WORDS);
const PACKET_SHIFT = Math.log2(PACKET_BYTES);
/** VP, L4CS and IPCS stand in the status as in a packet's flags; L4E and IPE are 21 bits higher. */
const PLAIN_FLAGS = PacketFlag.VLAN | PacketFlag.L4_CHECKED | PacketFlag.IPV4_CHECKED;
const BAD_FLAGS = PacketFlag.L4_BAD | PacketFlag.IPV4_BAD;
const BAD_SHIFT = 21;

type Words<Name extends string> = { readonly [K in Name]: Local<"i32"> };

// Few of these live through a round of the loops, so that all of those stay in registers.
const RECEIVING = {
  head: "i32",
  expected: "i32",
  free: "i32",
  end: "i32",
  dropped: "i32",
  bytes: "i32",
  at: "i32",
  status: "i32",
  size: "i32",
  place: "i32",
  taken: "i32",
  report: "i64",
} as const;
const SENDING = {
  tail: "i32",
  clean: "i32",
  free: "i32",
  end: "i32",
  stop: "i32",
  segment: "i32",
  bytes: "i32",
  at: "i32",
  place: "i32",
  size: "i32",
  offloads: "i32",
  offload: "i32",
  command: "i32",
  options: "i32",
  unused: "i32",
  last: "i32",
  done: "i32",
  ip: "i32",
  refused: "i32",
  taken: "i32",
} as const;

/** The loops over `place`; the tail registers are arena offsets. */
export function emittedBursts(
  arena: Arena,
  place: QueuePlace,
  receiveTail: number,
  transmitTail: number,
): EmittedBursts {
  return emit(arena, {
    receive: emitted(["packets", "max"], RECEIVING, (body, locals) => {
      receive(body, place, receiveTail, locals);
      return locals.taken;
    }),
    transmit: emitted(["packets", "count"], SENDING, (body, locals) => {
      transmit(body, place, transmitTail, locals);
      return locals.taken;
    }),
  });
}

/** The state word's address. */
function stateOf({ state }: QueuePlace, index: number): number {
  return state + word(index);
}

function add(body: Body, address: number, value: Local<"i32"> | number): void {
  body.store32(address, body.own32(address).add(value));
}

/** Adds to a counter of 64 bits. */
function addWide(body: Body, address: number, value: Local<"i32">): void {
  body.store64(address, body.load64(address).add(value.wide()));
}

type Receiving = Words<Exclude<keyof typeof RECEIVING, "report"> | "packets" | "max"> & {
  readonly report: Local<"i64">;
};

function receive(body: Body, place: QueuePlace, tail: number, locals: Receiving): void {
  const { head, expected, free, end, dropped, bytes, at, report, status, size, packets, taken } = locals;
  const { entries, receiveBytes, poolIova } = place;
  const { stateOffset, headroom } = place.pool;
  const { DD, EOP } = ReceiveStatus;
  const slots = slotOffsets(place).receive;
  const damaged = damagedMask(place.format);
  const arm = (): void => {
    body.store64(at, locals.place.wide().add(poolIova));
    body.store64(at, 0, word(ReceiveWriteBack.STATUS));
  };
  body.set(head, body.own32(stateOf(place, StateWord.RX_HEAD)));
  // What an undamaged frame in one buffer reports; amidst a frame that is dropped nothing is as expected.
  body.set(expected, EOP);
  body.if(body.own32(stateOf(place, StateWord.RX_SKIP)), () => body.set(expected, -1));
  body.set(free, body.own32(stateOffset));
  body.set(taken, packets);
  body.set(end, packets.add(locals.max.shl(PACKET_SHIFT)));
  body.loop((loop) => {
    body.leave(loop, packets.eq(end));
    body.set(at, head.shl(4).add(place.receive));
    // The word that says that the others are written, and in the same access the one with the length.
    body.set(report, body.load64(at, word(ReceiveWriteBack.STATUS)));
    body.set(status, report.low());
    body.leave(loop, status.and(DD).not());
    body.set(size, report.shr(32).low());
    body.set(locals.place, body.own32(head.shl(2).add(slots)));
    const unexpected = status.and(EOP | damaged).xor(expected);
    const long = size
      .and(0xffff)
      .sub(LEAST_FRAME_BYTES)
      .gt(receiveBytes - LEAST_FRAME_BYTES);
    body.if(
      unexpected.or(long),
      () => {
        body.leave(loop, dropped.eq(entries));
        body.set(dropped, dropped.add(1));
        body.if(
          status.and(EOP),
          () => {
            body.if(
              status.and(damaged),
              () => add(body, stateOf(place, StateWord.RX_ERRORS), 1),
              () => add(body, stateOf(place, StateWord.RX_LENGTH_ERRORS), 1),
            );
            body.set(expected, EOP);
          },
          () => body.set(expected, -1),
        );
        arm();
      },
      () => {
        body.if(free.not(), () => {
          add(body, stateOf(place, StateWord.RX_NO_BUFFER), 1);
          body.leave(loop);
        });
        body.store32(packets, locals.place, PLACE);
        body.store32(packets, size.and(-0x1_0000), OFFLOAD);
        body.set(size, size.and(0xffff));
        body.store32(packets, size, LENGTH);
        body.store32(packets, status.and(PLAIN_FLAGS).or(status.shr(BAD_SHIFT).and(BAD_FLAGS)), FLAGS);
        body.set(free, free.sub(1));
        body.set(locals.place, body.own32(free.shl(2).add(stateOffset), word(POOL_STACK_WORD)).add(headroom));
        body.store32(head.shl(2).add(slots), locals.place);
        arm();
        body.set(packets, packets.add(PACKET_BYTES));
        body.set(bytes, bytes.add(size));
      },
    );
    advance(body, place, head);
  });
  body.set(taken, packets.sub(taken).shr(PACKET_SHIFT));
  body.if(taken.or(dropped), () => {
    body.store32(stateOffset, free);
    body.store32(stateOf(place, StateWord.RX_SKIP), expected.shr(31));
    body.store32(stateOf(place, StateWord.RX_HEAD), head);
    add(body, stateOf(place, StateWord.RX_PACKETS), taken);
    addWide(body, stateOf(place, StateWord.RX_BYTES_LOW), bytes);
    body.if(head.not(), () => body.set(head, entries));
    body.store32(tail, head.sub(1));
  });
}

type Sending = Words<keyof typeof SENDING | "packets" | "count">;

function transmit(body: Body, place: QueuePlace, tailRegister: number, locals: Sending): void {
  const { tail, clean, free, end, stop, segment, bytes, at, size, offloads, command, options, packets, taken } = locals;
  const { count, refused } = locals;
  const { entries, poolIova, frameBytes, format } = place;
  const { buffers, bufferBytes } = place.pool;
  const slots = slotOffsets(place).transmit;
  body.set(tail, body.own32(stateOf(place, StateWord.TX_TAIL)));
  body.set(clean, body.own32(stateOf(place, StateWord.TX_CLEAN)));
  room(body, place, locals);
  // Half a ring is left alone, so that a look at what the device has done pays.
  body.if(free.le(count).or(free.lt(entries / 2)), () => cleanUp(body, place, locals));
  body.set(taken, packets);
  body.set(end, packets.add(count.shl(PACKET_SHIFT)));
  body.loop((segments) => {
    // As many packets as a segment may have, as there are, and as fit.
    room(body, place, locals);
    body.set(stop, packets.add(free.shl(PACKET_SHIFT)));
    body.if(free.gt(SEGMENT_PACKETS), () => body.set(stop, packets.add(SEGMENT_PACKETS * PACKET_BYTES)));
    body.if(stop.gt(end), () => body.set(stop, end));
    body.leave(segments, stop.eq(packets));
    body.set(segment, tail);
    body.loop((loop) => {
      body.leave(loop, packets.eq(stop));
      body.set(locals.place, body.own32(packets, PLACE));
      body.set(size, body.own32(packets, LENGTH));
      body.set(offloads, body.own32(packets, FLAGS).and(TRANSMIT_FLAGS));
      // One test for all bounds: each of these is negative where a bound is broken.
      const inside = locals.place.and(bufferBytes - 1).add(size);
      const outside = locals.place
        .or(minus(buffers * bufferBytes - 1, locals.place))
        .or(size.sub(LEAST_FRAME_BYTES))
        .or(minus(frameBytes, size))
        .or(minus(bufferBytes, inside))
        .ge(0x8000_0000);
      body.if(outside, () => {
        refuse(body, place, locals);
        body.set(packets, packets.add(PACKET_BYTES));
        body.again(loop);
      });
      body.set(command, size.or(dataCommand(format)));
      body.set(options, format === "igb" ? size.shl(TransmitStatus.PAYLEN_SHIFT) : 0);
      body.if(offloads, () => offloaded(body, loop, place, locals));
      body.set(at, tail.shl(4).add(place.transmit));
      body.store64(at, locals.place.wide().add(poolIova));
      body.store32(at, command, word(TransmitWord.COMMAND));
      body.store32(at, options, word(TransmitWord.STATUS));
      body.store32(tail.shl(3).add(slots), locals.place);
      advance(body, place, tail);
      body.set(bytes, bytes.add(size));
      body.set(packets, packets.add(PACKET_BYTES));
    });
    body.if(tail.ne(segment), () => close(body, place, locals));
  });
  body.set(taken, packets.sub(taken).shr(PACKET_SHIFT));
  body.if(taken.ne(refused), () => {
    body.store32(stateOf(place, StateWord.TX_TAIL), tail);
    body.store32(
      stateOf(place, StateWord.TX_PACKETS),
      body.own32(stateOf(place, StateWord.TX_PACKETS)).add(taken.sub(refused)),
    );
    addWide(body, stateOf(place, StateWord.TX_BYTES_LOW), bytes);
    body.store32(tailRegister, tail);
  });
}

/** Sets `free` to the descriptors that can be posted. */
function room(body: Body, { entries }: QueuePlace, { free, clean, tail }: Words<"free" | "clean" | "tail">): void {
  body.set(free, clean.sub(tail).sub(1));
  body.if(clean.le(tail), () => body.set(free, free.add(entries)));
}

/** Drops a packet that no frame can be, and gives its buffer back where it is one. */
function refuse(body: Body, place: QueuePlace, locals: Words<"place" | "unused" | "refused">): void {
  const { buffers, bufferBytes, stateOffset } = place.pool;
  add(body, stateOf(place, StateWord.TX_ERRORS), 1);
  body.set(locals.refused, locals.refused.add(1));
  body.if(locals.place.lt(buffers * bufferBytes), () => {
    body.set(locals.unused, body.own32(stateOffset));
    give(body, place, locals);
    body.store32(stateOffset, locals.unused);
  });
}

/** `number - value`. */
function minus(number: number, value: Value<"i32">): Value<"i32"> {
  return value.xor(-1).add(number + 1);
}

function advance(body: Body, { entries }: QueuePlace, index: Local<"i32">): void {
  body.set(index, index.add(1));
  body.if(index.eq(entries), () => body.set(index, 0));
}

/** Puts the buffer of `place` onto the stack, of which `unused` is the count. */
function give(body: Body, { pool }: QueuePlace, { place, unused }: Words<"place" | "unused">): void {
  body.store32(unused.shl(2).add(pool.stateOffset), place.and(-pool.bufferBytes), word(POOL_STACK_WORD));
  body.set(unused, unused.add(1));
}

/** Asks for the report at the segment's last descriptor, the one before the tail. */
function close(
  body: Body,
  place: QueuePlace,
  { segment, last, done, tail }: Words<"segment" | "last" | "done" | "tail">,
): void {
  body.set(last, tail.sub(1));
  body.if(tail.not(), () => body.set(last, place.entries - 1));
  body.store32(segment.shl(3).add(slotOffsets(place).transmit), last, 4);
  body.set(done, last.shl(4).add(place.transmit));
  const command = body.load32(done, word(TransmitWord.COMMAND));
  body.store32(done, command.or(TransmitCommand.RS), word(TransmitWord.COMMAND));
}

function cleanUp(body: Body, place: QueuePlace, locals: Sending): void {
  const { clean, tail, last, done, unused } = locals;
  const slots = slotOffsets(place).transmit;
  body.set(unused, body.own32(place.pool.stateOffset));
  body.loop((loop) => {
    body.leave(loop, clean.eq(tail));
    body.set(last, body.own32(clean.shl(3).add(slots), 4));
    body.set(done, body.load32(last.shl(4).add(place.transmit), word(TransmitWord.STATUS)).and(TransmitStatus.DD));
    body.leave(loop, done.not());
    body.loop((inner) => {
      body.set(locals.place, body.own32(clean.shl(3).add(slots)));
      // A context's slot holds -1, more than any place.
      body.if(locals.place.lt(0x8000_0000), () => give(body, place, locals));
      body.set(done, clean.eq(last));
      advance(body, place, clean);
      body.leave(inner, done);
    });
  });
  body.store32(place.pool.stateOffset, unused);
  body.store32(stateOf(place, StateWord.TX_CLEAN), clean);
}

/** What a packet with offloads needs: a context where the device's is another, and the bits of its own descriptor. */
function offloaded(body: Body, loop: Loop, place: QueuePlace, locals: Sending): void {
  const { offloads, offload, command, options, free, tail, at, ip, packets, end, stop } = locals;
  const [flagsWord, offloadWord] = [stateOf(place, StateWord.TX_FLAGS), stateOf(place, StateWord.TX_OFFLOAD)];
  const { VLAN, IPV4_CHECKSUM, UDP_CHECKSUM, TCP_CHECKSUM } = PacketFlag;
  body.set(offload, body.own32(packets, OFFLOAD));
  body.if(body.own32(flagsWord).xor(offloads).or(body.own32(offloadWord).xor(offload)), () => {
    room(body, place, locals);
    body.if(free.lt(2), () => {
      body.set(end, packets);
      body.leave(loop);
    });
    body.store32(flagsWord, offloads);
    body.store32(offloadWord, offload);
    body.set(at, tail.shl(4).add(place.transmit));
    const { DEXT, CONTEXT_IGB } = TransmitCommand;
    if (place.format === "igb") {
      const { TCP, IPV4 } = ContextCommand.IGB;
      body.store64(at, offload.wide());
      const bits = flag(offloads, TCP_CHECKSUM, TCP).or(flag(offloads, IPV4_CHECKSUM, IPV4));
      body.store32(at, bits.or(DEXT | CONTEXT_IGB), 8);
    } else {
      const { TCP, IPV4 } = ContextCommand.E1000E;
      body.set(ip, offload.shr(9).and(0x7f));
      const l4 = ip.add(offload.and(0x1ff));
      const low = ip.or(ip.add(10).and(0xff).shl(8)).or(l4.sub(1).shl(16));
      body.store32(at, low);
      const place4 = l4
        .add(6)
        .add(flag(offloads, TCP_CHECKSUM, 8))
        .add(flag(offloads, TCP_CHECKSUM, 2));
      body.store32(at, l4.and(0xff).or(place4.and(0xff).shl(8)), 4);
      const bits = flag(offloads, TCP_CHECKSUM, TCP).or(flag(offloads, IPV4_CHECKSUM, IPV4));
      body.store32(at, bits.or(DEXT), 8);
    }
    body.store32(at, 0, 12);
    body.store32(tail.shl(3).add(slotOffsets(place).transmit), -1);
    advance(body, place, tail);
    // The context took the place of a packet.
    body.if(stop.gt(packets.add(free.sub(1).shl(PACKET_SHIFT))), () => {
      body.set(stop, packets.add(free.sub(1).shl(PACKET_SHIFT)));
    });
  });
  body.set(command, command.or(flag(offloads, VLAN, TransmitCommand.VLE)));
  const l4 = flag(offloads, UDP_CHECKSUM, TransmitStatus.TXSM).or(flag(offloads, TCP_CHECKSUM, TransmitStatus.TXSM));
  body.set(options, options.or(l4).or(flag(offloads, IPV4_CHECKSUM, TransmitStatus.IXSM)));
  if (place.format === "e1000e") body.set(options, options.or(offload.and(-0x1_0000)));
}

/** `bit` where the flag is set, else 0; both are powers of two. */
function flag(flags: Local<"i32">, from: number, bit: number): ReturnType<Local<"i32">["and"]> {
  const distance = Math.log2(bit) - Math.log2(from);
  const moved = flags.and(from);
  return distance >= 0 ? moved.shl(distance) : moved.shr(-distance);
}
