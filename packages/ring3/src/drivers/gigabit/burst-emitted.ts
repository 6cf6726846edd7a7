// The loops of a queue as WebAssembly functions: a burst to receive, a burst to send, and both with a program between.
import type { Arena } from "../../memory/arena.ts";
import { type Body, emit, emitted } from "../../memory/emitter.ts";
import type { Local, NumberType } from "../../memory/emitter-value.ts";
import { PACKET_BYTES, PACKET_SHIFT, PacketOffset } from "./emitted-words.ts";
import type { QueuePlace } from "./queue-place.ts";
import { RECEIVING, type Receiving, receive } from "./receive-emitted.ts";
import { cleanUp, load, room, SENDING, type Sending, transmit } from "./transmit-emitted.ts";

/** The loops of one queue; `packets` is the arena offset of the first packet's words. */
export interface EmittedBursts {
  receive(packets: number, max: number): number;
  transmit(packets: number, count: number): number;
}

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

/** A packet on its way through an emitted program: where its first byte lies in the arena, and its length in bytes. */
export interface PassingPacket {
  readonly address: Local<"i32">;
  readonly length: Local<"i32">;
}

export interface ForwardPlace {
  readonly from: QueuePlace;
  readonly to: QueuePlace;
  /** Arena offsets of the tail registers: where `from` receives and `to` sends. */
  readonly receiveTail: number;
  readonly transmitTail: number;
  /** Arena offset of the words of as many packets as a burst may have. */
  readonly packets: number;
  /** Arena offset of a word: how many of the last packets could not be sent for want of room for their contexts. */
  readonly left: number;
}

type Renamed<L extends object, P extends string> = { readonly [K in keyof L & string as `${P}_${K}`]: L[K] };

function renamed<const L extends Readonly<Record<string, NumberType>>, const P extends string>(
  locals: L,
  prefix: P,
): Renamed<L, P> {
  return Object.fromEntries(Object.entries(locals).map(([name, type]) => [`${prefix}_${name}`, type])) as Renamed<L, P>;
}

/**
 * One function for all three steps of a burst: it receives up to `max` packets, runs `each` over them, sends them, and returns
 * how many it received: not more than there is room to send, but a packet with offloads may need a context as well.
 */
export function emittedForward(
  arena: Arena,
  place: ForwardPlace,
  each: (body: Body, packet: PassingPacket) => void,
): (max: number) => number {
  const { from, to, packets } = place;
  const receiving = renamed({ ...RECEIVING, packets: "i32", max: "i32" }, "in");
  const sending = renamed({ ...SENDING, packets: "i32", count: "i32" }, "out");
  const locals = { ...receiving, ...sending, at: "i32", address: "i32", length: "i32" } as const;
  const { forward } = emit(arena, {
    forward: emitted(["max"], locals, (body, all) => {
      const part = (prefix: string): object =>
        Object.fromEntries(
          Object.entries(all)
            .filter(([name]) => name.startsWith(`${prefix}_`))
            .map(([name, local]) => [name.slice(prefix.length + 1), local]),
        );
      const incoming = part("in") as Receiving;
      const outgoing = part("out") as Sending;
      const { max, at, address, length } = all;
      prepare(body, to, outgoing);
      body.set(incoming.max, max);
      body.if(outgoing.free.lt(max), () => body.set(incoming.max, outgoing.free));
      body.set(incoming.packets, packets);
      receive(body, from, place.receiveTail, incoming);
      body.if(incoming.taken, () => {
        body.set(at, packets);
        body.loop((loop) => {
          body.set(address, body.own32(at, PacketOffset.PLACE).add(from.pool.offset));
          body.set(length, body.own32(at, PacketOffset.LENGTH));
          each(body, { address, length });
          body.set(at, at.add(PACKET_BYTES));
          body.leave(loop, at.eq(incoming.taken.shl(PACKET_SHIFT).add(packets)));
        });
        body.set(outgoing.packets, packets);
        body.set(outgoing.count, incoming.taken);
        transmit(body, to, place.transmitTail, outgoing);
        body.store32(place.left, incoming.taken.sub(outgoing.taken));
      });
      return incoming.taken;
    }),
  });
  return forward;
}

/** Sets `free` to what can be sent, after a look at what has been where that is little. */
function prepare(body: Body, to: QueuePlace, outgoing: Sending): void {
  load(body, to, outgoing);
  body.if(outgoing.free.lt(to.entries / 2), () => {
    cleanUp(body, to, outgoing);
    room(body, to, outgoing);
  });
}
