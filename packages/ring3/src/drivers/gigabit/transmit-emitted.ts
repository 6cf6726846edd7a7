// The transmit loop as WebAssembly; transmit-ring.ts has its reference. Hard about it: the two must agree word by word, since
// they may take turns on one queue.
import type { Body, Loop } from "../../memory/emitter.ts";
import type { Local, Value } from "../../memory/emitter-value.ts";
import { ContextCommand, TransmitCommand, TransmitStatus, TransmitWord } from "../../specs/gigabit/descriptors.ts";
import { POOL_STACK_WORD } from "../net/packet-pool.ts";
import { PacketFlag, TRANSMIT_FLAGS } from "../net/packets.ts";
import { QueueWord } from "../net/queue-state.ts";
import {
  add,
  addWide,
  advance,
  PACKET_BYTES,
  PACKET_SHIFT,
  PacketOffset,
  stateOf,
  type Words,
  word,
} from "../net/emitted-words.ts";
import { LEAST_FRAME_BYTES, type QueuePlace, SEGMENT_PACKETS, StateWord, slotOffsets } from "./queue-place.ts";
import { dataCommand } from "./transmit-ring.ts";

const { PLACE, LENGTH, FLAGS, OFFLOAD } = PacketOffset;

export const SENDING = {
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

export type Sending = Words<keyof typeof SENDING | "packets" | "count">;

/** Sends up to `count` packets; then `taken` says how many. */
export function transmit(body: Body, place: QueuePlace, tailRegister: number, locals: Sending): void {
  const { tail, free, end, stop, segment, bytes, at, size, offloads, command, options, packets, taken } = locals;
  const { count, refused } = locals;
  const { entries, poolIova, frameBytes, format } = place;
  const { buffers, bufferBytes } = place.pool;
  const slots = slotOffsets(place).transmit;
  load(body, place, locals);
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
      stateOf(place, QueueWord.TX_PACKETS),
      body.own32(stateOf(place, QueueWord.TX_PACKETS)).add(taken.sub(refused)),
    );
    addWide(body, stateOf(place, QueueWord.TX_BYTES_LOW), bytes);
    body.store32(tailRegister, tail);
  });
}

/** Loads the ring's indices, and sets `free`. */
export function load(body: Body, place: QueuePlace, locals: Words<"free" | "clean" | "tail">): void {
  body.set(locals.tail, body.own32(stateOf(place, StateWord.TX_TAIL)));
  body.set(locals.clean, body.own32(stateOf(place, StateWord.TX_CLEAN)));
  room(body, place, locals);
}

/** Sets `free` to the descriptors that can be posted. */
export function room(
  body: Body,
  { entries }: QueuePlace,
  { free, clean, tail }: Words<"free" | "clean" | "tail">,
): void {
  body.set(free, clean.sub(tail).sub(1));
  body.if(clean.le(tail), () => body.set(free, free.add(entries)));
}

/** Drops a packet that no frame can be, and gives its buffer back where it is one. */
function refuse(body: Body, place: QueuePlace, locals: Words<"place" | "unused" | "refused">): void {
  const { buffers, bufferBytes, stateOffset } = place.pool;
  add(body, stateOf(place, QueueWord.TX_ERRORS), 1);
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

/** Gives sent buffers back to the pool. */
export function cleanUp(body: Body, place: QueuePlace, locals: Sending): void {
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
