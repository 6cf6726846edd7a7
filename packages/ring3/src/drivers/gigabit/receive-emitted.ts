// The receive loop as WebAssembly; receive-ring.ts has its reference. Hard about it: the two must agree word by word, since they
// may take turns on one queue.
import type { Body } from "../../memory/emitter.ts";
import type { Local } from "../../memory/emitter-value.ts";
import { ReceiveStatus, ReceiveWriteBack } from "../../specs/gigabit/descriptors.ts";
import { POOL_STACK_WORD } from "../net/packet-pool.ts";
import { PacketFlag } from "../net/packets.ts";
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
import { damagedMask, LEAST_FRAME_BYTES, type QueuePlace, StateWord, slotOffsets } from "./queue-place.ts";

const { PLACE, LENGTH, FLAGS, OFFLOAD } = PacketOffset;
/** VP, L4CS and IPCS stand in the status as in a packet's flags; L4E and IPE are 21 bits higher. */
const PLAIN_FLAGS = PacketFlag.VLAN | PacketFlag.L4_CHECKED | PacketFlag.IPV4_CHECKED;
const BAD_FLAGS = PacketFlag.L4_BAD | PacketFlag.IPV4_BAD;
const BAD_SHIFT = 21;

// Few of these live through a round of the loops, so that all of those stay in registers.
export const RECEIVING = {
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
export type Receiving = Words<Exclude<keyof typeof RECEIVING, "report"> | "packets" | "max"> & {
  readonly report: Local<"i64">;
};

/** Takes up to `max` packets; then `taken` says how many, and `packets` is behind the last. */
export function receive(body: Body, place: QueuePlace, tail: number, locals: Receiving): void {
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
              () => add(body, stateOf(place, QueueWord.RX_ERRORS), 1),
              () => add(body, stateOf(place, QueueWord.RX_LENGTH_ERRORS), 1),
            );
            body.set(expected, EOP);
          },
          () => body.set(expected, -1),
        );
        arm();
      },
      () => {
        body.if(free.not(), () => {
          add(body, stateOf(place, QueueWord.RX_NO_BUFFER), 1);
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
    add(body, stateOf(place, QueueWord.RX_PACKETS), taken);
    addWide(body, stateOf(place, QueueWord.RX_BYTES_LOW), bytes);
    body.if(head.not(), () => body.set(head, entries));
    body.store32(tail, head.sub(1));
  });
}
