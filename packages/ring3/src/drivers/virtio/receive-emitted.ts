// The receive loop as WebAssembly; VirtioNetQueue has its reference.
import type { Body } from "../../memory/emitter.ts";
import type { Value } from "../../memory/emitter-value.ts";
import { ETHERNET_HEADER_BYTES } from "../../specs/ethernet/index.ts";
import { NetHeader, NetHeaderFlag } from "../../specs/virtio/structs.ts";
import {
  add,
  addWide,
  PACKET_BYTES,
  PACKET_SHIFT,
  PacketOffset,
  stateOf,
  type Words,
  word,
} from "../net/emitted-words.ts";
import { POOL_STACK_WORD } from "../net/packet-pool.ts";
import { PacketFlag } from "../net/packets.ts";
import { QueueWord } from "../net/queue-state.ts";
import { NET_HEADER_BYTES, PairFeature, PairWord, type VirtioQueuePlace } from "./queue-place.ts";
import { isBroken, RING, type Ring, type RingCode } from "./ring-emitted.ts";

const HEADER = NET_HEADER_BYTES;
const { PLACE, LENGTH, FLAGS } = PacketOffset;
const { NEEDS_CSUM, DATA_VALID } = NetHeaderFlag;
const PARTIAL = PacketFlag.L4_CHECKED | PacketFlag.L4_PARTIAL;

const OWN = {
  start: "i32",
  end: "i32",
  skip: "i32",
  unused: "i32",
  mergeable: "i32",
  buffers: "i32",
  flags: "i32",
  header: "i32",
  bytes: "i32",
  taken: "i32",
} as const;
export const RECEIVING: typeof RING & typeof OWN = { ...RING, ...OWN };
export type Receiving = Ring & Words<keyof typeof OWN | "packets" | "max">;

/** Takes up to `max` packets; then `taken` says how many, and `packets` is behind the last. */
export function receive(body: Body, place: VirtioQueuePlace, code: RingCode, locals: Receiving): void {
  const { packets, max, start, end, skip, unused, mergeable, buffers, flags, header, bytes, taken } = locals;
  const { token, length } = locals;
  const { pool } = place;
  code.load(body, locals);
  code.fetch(body, locals);
  body.set(unused, body.own32(pool.stateOffset));
  body.set(skip, body.own32(stateOf(place, PairWord.RX_SKIP)));
  body.set(mergeable, body.own32(stateOf(place, PairWord.FEATURES)).and(PairFeature.MERGEABLE));
  body.set(start, packets);
  body.set(end, packets.add(max.shl(PACKET_SHIFT)));
  body.set(bytes, 0);
  body.if(isBroken(body, place.receive).not(), () => {
    body.loop((loop) => {
      body.leave(loop, packets.eq(end));
      code.take(body, locals, loop);
      body.set(length, length.sub(HEADER));
      body.set(header, token.add(pool.offset - HEADER));
      body.set(buffers, 1);
      body.if(mergeable, () => body.set(buffers, numBuffers(body, place, locals)));
      const short = length.sub(ETHERNET_HEADER_BYTES).shr(31);
      body.if(skip.or(buffers.xor(1)).or(short), () => {
        drop(body, place, locals);
        body.again(loop);
      });
      body.set(flags, body.load8(header, NetHeader.offsets.flags));
      body.store32(packets, token, PLACE);
      body.store32(packets, length, LENGTH);
      // With no offload word, which follows the flags.
      const valid = flags.and(DATA_VALID).mul(PacketFlag.L4_CHECKED / DATA_VALID);
      body.store64(
        packets,
        flags
          .and(NEEDS_CSUM)
          .mul(PARTIAL / NEEDS_CSUM)
          .or(valid)
          .wide(),
        FLAGS,
      );
      body.set(bytes, bytes.add(length));
      body.set(packets, packets.add(PACKET_BYTES));
    });
  });
  refill(body, place, code, locals);
  code.publish(body, locals);
  code.store(body, locals);
  body.set(taken, packets.sub(start).shr(PACKET_SHIFT));
  body.store32(pool.stateOffset, unused);
  body.store32(stateOf(place, PairWord.RX_SKIP), skip);
  add(body, stateOf(place, QueueWord.RX_PACKETS), taken);
  addWide(body, stateOf(place, QueueWord.RX_BYTES_LOW), bytes);
}

/** How many buffers the frame has. A pool's headroom may be odd, and then so is its place. */
function numBuffers(body: Body, { pool }: VirtioQueuePlace, { header }: Words<"header">): Value<"i32"> {
  const at = NetHeader.offsets.num_buffers;
  if (pool.headroom % 2 === 0) return body.load16(header, at);
  return body.load8(header, at).or(body.load8(header, at + 1).shl(8));
}

/** Drops a frame in several buffers, or what is no frame, and gives its buffer back. */
function drop(
  body: Body,
  place: VirtioQueuePlace,
  { token, unused, skip, buffers }: Words<"token" | "unused" | "skip" | "buffers">,
): void {
  const { stateOffset, bufferBytes } = place.pool;
  body.store32(unused.shl(2).add(stateOffset), token.and(-bufferBytes), word(POOL_STACK_WORD));
  body.set(unused, unused.add(1));
  body.if(
    skip,
    () => body.set(skip, skip.sub(1)),
    () => {
      add(body, stateOf(place, QueueWord.RX_LENGTH_ERRORS), 1);
      // More than one, and no more than the ring has.
      body.if(buffers.sub(2).lt(place.receive.size - 1), () => body.set(skip, buffers.sub(1)));
    },
  );
}

/** Puts a buffer wherever there is room for one. */
function refill(body: Body, place: VirtioQueuePlace, code: RingCode, locals: Receiving): void {
  const { free, unused, token, limit } = locals;
  const { pool, poolIova } = place;
  body.loop((loop) => {
    body.leave(loop, free.not());
    body.if(unused.not(), () => {
      add(body, stateOf(place, QueueWord.RX_NO_BUFFER), 1);
      body.leave(loop);
    });
    body.set(unused, unused.sub(1));
    const top = body.own32(unused.shl(2).add(pool.stateOffset), word(POOL_STACK_WORD));
    body.set(token, top.add(pool.headroom));
    code.put(body, locals, token.wide().add(poolIova - HEADER), limit);
  });
}
