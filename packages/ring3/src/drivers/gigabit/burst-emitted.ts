// The receive and transmit loops as WebAssembly; receive-ring.ts and transmit-ring.ts have their references, queue-place.ts
// says what the words mean. Hard about it: the two must agree word by word, since they may take turns on one queue.
import type { Arena } from "../../memory/arena.ts";
import { type Body, emit, emitted, type Loop } from "../../memory/emitter.ts";
import type { Local } from "../../memory/emitter-value.ts";
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
/** VP, L4CS and IPCS stand in the status as in a packet's flags; L4E and IPE are 21 bits higher. */
const PLAIN_FLAGS = PacketFlag.VLAN | PacketFlag.L4_CHECKED | PacketFlag.IPV4_CHECKED;
const BAD_FLAGS = PacketFlag.L4_BAD | PacketFlag.IPV4_BAD;
const BAD_SHIFT = 21;

type Words<Name extends string> = { readonly [K in Name]: Local<"i32"> };

const RECEIVING = {
  head: "i32",
  skip: "i32",
  free: "i32",
  taken: "i32",
  dropped: "i32",
  bytes: "i32",
  at: "i32",
  slot: "i32",
  status: "i32",
  size: "i32",
  place: "i32",
} as const;
const SENDING = {
  tail: "i32",
  clean: "i32",
  free: "i32",
  unused: "i32",
  last: "i32",
  done: "i32",
  segment: "i32",
  open: "i32",
  taken: "i32",
  sent: "i32",
  bytes: "i32",
  at: "i32",
  slot: "i32",
  place: "i32",
  size: "i32",
  offloads: "i32",
  offload: "i32",
  command: "i32",
  options: "i32",
  ip: "i32",
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
    transmit: emitted(["packets", "count"], { ...SENDING, wide: "i64" }, (body, locals) => {
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
  body.store32(address, body.load32(address).add(value));
}

/** Adds to a counter of 64 bits. */
function addWide(body: Body, address: number, value: Local<"i32">): void {
  body.store64(address, body.load64(address).add(value.wide()));
}

function receive(
  body: Body,
  place: QueuePlace,
  tail: number,
  locals: Words<keyof typeof RECEIVING | "packets" | "max">,
): void {
  const { head, skip, free, taken, dropped, bytes, at, slot, status, size, packets, max } = locals;
  const { entries, receiveBytes, poolIova } = place;
  const { stateOffset, headroom } = place.pool;
  const { DD, EOP } = ReceiveStatus;
  const slots = slotOffsets(place).receive;
  const damaged = damagedMask(place.format);
  const arm = (): void => {
    body.store64(at, locals.place.wide().add(poolIova));
    body.store64(at, 0, word(ReceiveWriteBack.STATUS));
  };
  body.set(head, body.load32(stateOf(place, StateWord.RX_HEAD)));
  body.set(skip, body.load32(stateOf(place, StateWord.RX_SKIP)));
  body.set(free, body.load32(stateOffset));
  body.loop((loop) => {
    body.leave(loop, taken.ge(max));
    body.set(at, head.shl(4).add(place.receive));
    // The word that says that the others are written: first, once.
    body.set(status, body.load32(at, word(ReceiveWriteBack.STATUS)));
    body.leave(loop, status.and(DD).not());
    body.set(size, body.load32(at, word(ReceiveWriteBack.LENGTH)));
    body.set(slot, head.shl(2).add(slots));
    body.set(locals.place, body.load32(slot));
    const odd = status
      .and(EOP | damaged)
      .xor(EOP)
      .or(skip)
      .or(
        size
          .and(0xffff)
          .sub(LEAST_FRAME_BYTES)
          .gt(receiveBytes - LEAST_FRAME_BYTES),
      );
    body.if(
      odd,
      () => {
        body.leave(loop, dropped.eq(entries));
        body.set(dropped, dropped.add(1));
        body.set(skip, status.and(EOP).not());
        body.if(skip.not(), () => {
          body.if(
            status.and(damaged),
            () => add(body, stateOf(place, StateWord.RX_ERRORS), 1),
            () => add(body, stateOf(place, StateWord.RX_LENGTH_ERRORS), 1),
          );
        });
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
        body.set(locals.place, body.load32(free.shl(2).add(stateOffset), word(POOL_STACK_WORD)).add(headroom));
        body.store32(slot, locals.place);
        arm();
        body.set(packets, packets.add(PACKET_BYTES));
        body.set(bytes, bytes.add(size));
        body.set(taken, taken.add(1));
      },
    );
    body.set(head, head.add(1));
    body.if(head.eq(entries), () => body.set(head, 0));
  });
  body.if(taken.or(dropped), () => {
    body.store32(stateOffset, free);
    body.store32(stateOf(place, StateWord.RX_SKIP), skip);
    body.store32(stateOf(place, StateWord.RX_HEAD), head);
    add(body, stateOf(place, StateWord.RX_PACKETS), taken);
    addWide(body, stateOf(place, StateWord.RX_BYTES_LOW), bytes);
    body.if(head.not(), () => body.set(head, entries));
    body.store32(tail, head.sub(1));
  });
}

type Sending = Words<keyof typeof SENDING | "packets" | "count">;

function transmit(body: Body, place: QueuePlace, tailRegister: number, locals: Sending): void {
  const { tail, clean, free, taken, sent, bytes, segment, open, at, slot, last, size } = locals;
  const { offloads, command, options, packets, count, unused } = locals;
  const { entries, poolIova, frameBytes, format } = place;
  const { buffers, bufferBytes } = place.pool;
  const slots = slotOffsets(place).transmit;
  body.set(tail, body.load32(stateOf(place, StateWord.TX_TAIL)));
  body.set(clean, body.load32(stateOf(place, StateWord.TX_CLEAN)));
  const room = (): void => {
    body.set(free, clean.sub(tail).sub(1));
    body.if(clean.le(tail), () => body.set(free, free.add(entries)));
  };
  room();
  // Half a ring is left alone, so that a look at what the device has done pays.
  body.if(free.le(count).or(free.lt(entries / 2)), () => {
    cleanUp(body, place, locals);
    room();
  });
  body.set(segment, tail);
  body.loop((loop) => {
    body.leave(loop, taken.ge(count).or(free.not()));
    body.set(locals.place, body.load32(packets, PLACE));
    body.set(size, body.load32(packets, LENGTH));
    body.set(offloads, body.load32(packets, FLAGS).and(TRANSMIT_FLAGS));
    const outside = locals.place
      .ge(buffers * bufferBytes)
      .or(size.sub(LEAST_FRAME_BYTES).gt(frameBytes - LEAST_FRAME_BYTES))
      .or(
        locals.place
          .and(bufferBytes - 1)
          .add(size)
          .gt(bufferBytes),
      );
    body.if(outside, () => {
      add(body, stateOf(place, StateWord.TX_ERRORS), 1);
      body.if(locals.place.lt(buffers * bufferBytes), () => {
        body.set(unused, body.load32(place.pool.stateOffset));
        give(body, place, locals);
        body.store32(place.pool.stateOffset, unused);
      });
      body.set(taken, taken.add(1));
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
    body.set(slot, tail.shl(3).add(slots));
    body.store32(slot, locals.place);
    body.set(last, tail);
    advance(body, place, tail);
    body.set(free, free.sub(1));
    body.set(bytes, bytes.add(size));
    body.set(packets, packets.add(PACKET_BYTES));
    body.set(taken, taken.add(1));
    body.set(sent, sent.add(1));
    body.set(open, open.add(1));
    body.if(open.eq(SEGMENT_PACKETS), () => {
      close(body, place, locals);
      body.set(segment, tail);
      body.set(open, 0);
    });
  });
  body.if(open, () => close(body, place, locals));
  body.if(sent, () => {
    body.store32(stateOf(place, StateWord.TX_TAIL), tail);
    add(body, stateOf(place, StateWord.TX_PACKETS), sent);
    addWide(body, stateOf(place, StateWord.TX_BYTES_LOW), bytes);
    body.store32(tailRegister, tail);
  });
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

/** Asks for the report at the segment's last descriptor. */
function close(body: Body, place: QueuePlace, { segment, last, done }: Words<"segment" | "last" | "done">): void {
  body.store32(segment.shl(3).add(slotOffsets(place).transmit), last, 4);
  body.set(done, last.shl(4).add(place.transmit));
  const command = body.load32(done, word(TransmitWord.COMMAND));
  body.store32(done, command.or(TransmitCommand.RS), word(TransmitWord.COMMAND));
}

function cleanUp(body: Body, place: QueuePlace, locals: Sending): void {
  const { clean, tail, last, done, unused, slot } = locals;
  const slots = slotOffsets(place).transmit;
  body.set(unused, body.load32(place.pool.stateOffset));
  body.loop((loop) => {
    body.leave(loop, clean.eq(tail));
    body.set(last, body.load32(clean.shl(3).add(slots), 4));
    body.set(done, body.load32(last.shl(4).add(place.transmit), word(TransmitWord.STATUS)).and(TransmitStatus.DD));
    body.leave(loop, done.not());
    body.loop((inner) => {
      body.set(slot, clean.shl(3).add(slots));
      body.set(locals.place, body.load32(slot));
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
  const { offloads, offload, command, options, free, tail, at, slot, ip } = locals;
  const [flagsWord, offloadWord] = [stateOf(place, StateWord.TX_FLAGS), stateOf(place, StateWord.TX_OFFLOAD)];
  const { VLAN, IPV4_CHECKSUM, UDP_CHECKSUM, TCP_CHECKSUM } = PacketFlag;
  body.set(offload, body.load32(locals.packets, OFFLOAD));
  body.if(body.load32(flagsWord).xor(offloads).or(body.load32(offloadWord).xor(offload)), () => {
    body.leave(loop, free.lt(2));
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
    body.set(slot, tail.shl(3).add(slotOffsets(place).transmit));
    body.store32(slot, -1);
    advance(body, place, tail);
    body.set(free, free.sub(1));
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
