// The transmit loop as WebAssembly; VirtioNetQueue has its reference.
import type { Body, Loop } from "../../memory/emitter.ts";
import type { Local, Value } from "../../memory/emitter-value.ts";
import { ETHERNET_HEADER_BYTES, VLAN_TAG_BYTES } from "../../specs/ethernet/index.ts";
import { NetHeaderFlag } from "../../specs/virtio/structs.ts";
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
import { PacketFlag, TRANSMIT_FLAGS } from "../net/packets.ts";
import { QueueWord } from "../net/queue-state.ts";
import { computeIpv4Checksum, computeL4Checksum, insertTag, SUMMING } from "./offload-emitted.ts";
import { NET_HEADER_BYTES, PairFeature, PairWord, type VirtioQueuePlace } from "./queue-place.ts";
import { isBroken, RING, type Ring, type RingCode } from "./ring-emitted.ts";
import { ChecksumOffset } from "./software-offload.ts";

const HEADER = NET_HEADER_BYTES;
const { PLACE, LENGTH, FLAGS, OFFLOAD } = PacketOffset;
const { VLAN, IPV4_CHECKSUM, UDP_CHECKSUM, TCP_CHECKSUM } = PacketFlag;

const OWN = {
  end: "i32",
  start: "i32",
  frameBytes: "i32",
  unused: "i32",
  size: "i32",
  offloads: "i32",
  offload: "i32",
  frame: "i32",
  tag: "i32",
  ip: "i32",
  ipBytes: "i32",
  l4: "i32",
  field: "i32",
  first: "i32",
  second: "i32",
  third: "i32",
  bytes: "i32",
  refused: "i32",
  taken: "i32",
} as const;
export const SENDING: typeof RING & typeof SUMMING & typeof OWN = { ...RING, ...SUMMING, ...OWN };
export type Sending = Ring & Words<keyof typeof SUMMING | keyof typeof OWN | "packets" | "count">;

/** Sets `free`, after a look at what has been sent where less than half of the ring is free. */
export function prepare(body: Body, place: VirtioQueuePlace, code: RingCode, locals: Sending): void {
  code.load(body, locals);
  body.if(locals.free.lt(Math.ceil(place.transmit.size / 2)), () => {
    reclaim(body, place, code, locals);
    code.store(body, locals);
  });
}

/** Sends up to `count` packets; then `taken` says how many. */
export function transmit(body: Body, place: VirtioQueuePlace, code: RingCode, locals: Sending): void {
  const { packets, count, free, start, end, frameBytes, token, size, offloads, frame } = locals;
  const { first, second, third, bytes, refused, taken } = locals;
  const { pool, poolIova } = place;
  code.load(body, locals);
  code.fetch(body, locals);
  body.if(free.lt(count), () => reclaim(body, place, code, locals));
  body.set(frameBytes, body.own32(stateOf(place, PairWord.FRAME_BYTES)));
  body.set(start, packets);
  body.set(end, packets.add(count.shl(PACKET_SHIFT)));
  body.set(bytes, 0);
  body.set(refused, 0);
  body.loop((loop) => {
    body.leave(loop, packets.eq(end).or(free.not()));
    body.set(token, body.own32(packets, PLACE));
    body.set(size, body.own32(packets, LENGTH));
    body.set(offloads, body.own32(packets, FLAGS).and(TRANSMIT_FLAGS));
    body.if(isNoFrame(place, locals), () => refuse(body, loop, place, locals));
    body.set(first, 0);
    body.set(second, 0);
    body.set(third, 0);
    body.set(frame, token.add(pool.offset));
    body.if(offloads, () => offloaded(body, loop, place, locals));
    // A plain store may have any alignment.
    body.store64(frame.sub(HEADER), first.wide().or(second.wide().shl(32)));
    body.store32(frame.sub(HEADER), third, 8);
    code.put(body, locals, token.wide().add(poolIova - HEADER), size.add(HEADER));
    body.set(bytes, bytes.add(size));
    body.set(packets, packets.add(PACKET_BYTES));
  });
  code.publish(body, locals);
  code.store(body, locals);
  body.set(taken, packets.sub(start).shr(PACKET_SHIFT));
  add(body, stateOf(place, QueueWord.TX_PACKETS), taken.sub(refused));
  addWide(body, stateOf(place, QueueWord.TX_BYTES_LOW), bytes);
}

/** Gives sent buffers back to the pool. */
function reclaim(body: Body, place: VirtioQueuePlace, code: RingCode, locals: Sending): void {
  const { free, token, unused } = locals;
  const { stateOffset, bufferBytes } = place.pool;
  body.if(isBroken(body, place.transmit).not(), () => {
    body.set(unused, body.own32(stateOffset));
    body.loop((loop) => {
      body.leave(loop, free.eq(place.transmit.size));
      code.take(body, locals, loop);
      body.store32(unused.shl(2).add(stateOffset), token.and(-bufferBytes), word(POOL_STACK_WORD));
      body.set(unused, unused.add(1));
    });
    body.store32(stateOffset, unused);
  });
}

/** `value - other`, or `number - other`. */
function minus(value: Local<"i32"> | number, other: Value<"i32">): Value<"i32"> {
  return typeof value === "number" ? other.xor(-1).add(value + 1) : value.sub(other);
}

/** 1 where a frame does not lie in one buffer with room for the header before it, else 0. */
function isNoFrame(
  { pool }: VirtioQueuePlace,
  { token, size, frameBytes }: Words<"token" | "size" | "frameBytes">,
): Value<"i32"> {
  const { buffers, bufferBytes } = pool;
  const offset = token.and(bufferBytes - 1);
  // One test for all bounds: each of these is negative where a bound is broken.
  return token
    .or(minus(buffers * bufferBytes - 1, token))
    .or(offset.sub(HEADER))
    .or(size.sub(ETHERNET_HEADER_BYTES))
    .or(minus(frameBytes, size))
    .or(minus(bufferBytes, offset.add(size)))
    .shr(31);
}

/** Drops a packet that no frame can be, and gives its buffer back where it is one. */
function refuse(body: Body, loop: Loop, place: VirtioQueuePlace, locals: Sending): void {
  const { token, unused, refused, packets } = locals;
  const { buffers, bufferBytes, stateOffset } = place.pool;
  add(body, stateOf(place, QueueWord.TX_ERRORS), 1);
  body.set(refused, refused.add(1));
  body.if(token.lt(buffers * bufferBytes), () => {
    body.set(unused, body.own32(stateOffset));
    body.store32(unused.shl(2).add(stateOffset), token.and(-bufferBytes), word(POOL_STACK_WORD));
    body.store32(stateOffset, unused.add(1));
  });
  body.set(packets, packets.add(PACKET_BYTES));
  body.again(loop);
}

/** What a packet with offloads needs: done here, or said in its header. */
function offloaded(body: Body, loop: Loop, place: VirtioQueuePlace, locals: Sending): void {
  const { token, size, offloads, offload, packets, frame, tag, ip, ipBytes, l4, field } = locals;
  const { first, second, third, from, sum } = locals;
  const ethernetBytes = offload.shr(9).and(0x7f);
  const refuses = (condition: Value<"i32">): void => body.if(condition, () => refuse(body, loop, place, locals));
  body.set(offload, body.own32(packets, OFFLOAD));
  body.set(ipBytes, offload.and(0x1ff));
  // Where the checksum field begins in the header of UDP or TCP.
  body.set(field, ChecksumOffset.UDP);
  body.if(offloads.and(TCP_CHECKSUM), () => body.set(field, ChecksumOffset.TCP));
  const headers = ethernetBytes.add(ipBytes);
  body.if(
    offloads.and(TCP_CHECKSUM | UDP_CHECKSUM),
    () => refuses(headers.add(field).add(2).gt(size)),
    () => body.if(offloads.and(IPV4_CHECKSUM), () => refuses(ipBytes.lt(20).or(headers.gt(size)))),
  );
  body.set(ip, ethernetBytes);
  body.if(offloads.and(VLAN), () => {
    body.set(token, token.sub(VLAN_TAG_BYTES));
    body.set(size, size.add(VLAN_TAG_BYTES));
    body.set(sum, isNoFrame(place, locals));
    refuses(sum);
    body.set(tag, offload.shr(16));
    insertTag(body, locals);
    body.set(ip, ip.add(VLAN_TAG_BYTES));
  });
  body.set(l4, ip.add(ipBytes));
  body.set(ip, frame.add(ip));
  body.if(offloads.and(IPV4_CHECKSUM), () => computeIpv4Checksum(body, locals));
  body.if(offloads.and(TCP_CHECKSUM | UDP_CHECKSUM), () => {
    body.if(
      body.own32(stateOf(place, PairWord.FEATURES)).and(PairFeature.CHECKSUM),
      () => {
        // flags and gso_type; csum_start and csum_offset lie in the second and third word.
        body.set(first, NetHeaderFlag.NEEDS_CSUM);
        body.set(second, l4.shl(16));
        body.set(third, field);
      },
      () => {
        body.set(from, frame.add(l4));
        body.set(field, field.add(from));
        computeL4Checksum(body, locals, size.sub(l4));
      },
    );
  });
}
