// The loops of a queue as WebAssembly functions: a burst to receive, a burst to send, and both with a program between. What a burst
// does on a family's rings is that family's code; here it is joined into functions.
import type { Arena } from "../../memory/arena.ts";
import { type Body, emit, emitted } from "../../memory/emitter.ts";
import type { Local, NumberType } from "../../memory/emitter-value.ts";
import { PACKET_BYTES, PACKET_SHIFT, PacketOffset, type Words } from "./emitted-words.ts";
import type { PacketPoolHandle } from "./packet-pool.ts";

/** `packets`: arena offset of the first packet's words, behind the last afterwards. `taken`: how many were received. */
type ReceiveLocals = Words<"packets" | "max" | "taken">;
/** `count` packets from `packets` on are to be sent; `taken` says how many were. `free`: how many the ring has room for. */
type SendLocals = Words<"packets" | "count" | "taken" | "free">;
type LocalTypes = Readonly<Record<string, NumberType>>;

/** What the bursts of a queue do, written into whatever function is emitted. */
export interface BurstCode {
  readonly pool: PacketPoolHandle;
  /** Locals of `receive`, all 0 at first, besides `packets` and `max`. */
  readonly receiving: LocalTypes;
  /** Locals of `prepare` and `transmit`, besides `packets` and `count`. */
  readonly sending: LocalTypes;
  receive(body: Body, locals: ReceiveLocals): void;
  /** Sets `free`, after a look at what has been sent where that is little. `transmit` follows in the same function. */
  prepare(body: Body, locals: SendLocals): void;
  transmit(body: Body, locals: SendLocals): void;
}

/** The loops of one queue; `packets` is the arena offset of the first packet's words, `max` and `count` are not negative. */
export interface EmittedBursts {
  receive(packets: number, max: number): number;
  transmit(packets: number, count: number): number;
}

type Named = Readonly<Record<string, Local<NumberType>>>;

/** Compiles a queue's bursts. Throws `NOT_SUPPORTED` where nothing can be emitted. */
export function emittedBursts(arena: Arena, code: BurstCode): EmittedBursts {
  return emit(arena, {
    receive: emitted(["packets", "max"], code.receiving, (body, named: Named) => {
      const locals = named as ReceiveLocals;
      code.receive(body, locals);
      return locals.taken;
    }),
    transmit: emitted(["packets", "count"], code.sending, (body, named: Named) => {
      const locals = named as SendLocals;
      code.transmit(body, locals);
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
  readonly from: BurstCode;
  readonly to: BurstCode;
  /** Arena offset of the words of as many packets as a burst may have. */
  readonly packets: number;
  /** Arena offset of a word: how many of the last packets could not be sent for want of room for what they ask. */
  readonly left: number;
}

/** Two queues' locals in one function are told apart by what their names begin with. */
function renamed(locals: LocalTypes, prefix: string): LocalTypes {
  return Object.fromEntries(Object.entries(locals).map(([name, type]) => [`${prefix}_${name}`, type]));
}

function part(all: Named, prefix: string): Named {
  return Object.fromEntries(
    Object.entries(all)
      .filter(([name]) => name.startsWith(`${prefix}_`))
      .map(([name, local]) => [name.slice(prefix.length + 1), local]),
  );
}

/**
 * One function for all three steps of a burst: it receives up to `max` packets, runs `each` over them, sends them, and returns
 * how many it received: not more than there is room to send, but a packet may need more than its own descriptor.
 */
export function emittedForward(
  arena: Arena,
  { from, to, packets, left }: ForwardPlace,
  each: (body: Body, packet: PassingPacket) => void,
): (max: number) => number {
  const receiving = renamed({ ...from.receiving, packets: "i32", max: "i32" }, "in");
  const sending = renamed({ ...to.sending, packets: "i32", count: "i32" }, "out");
  const own = { at: "i32", address: "i32", length: "i32" } as const;
  const { forward } = emit(arena, {
    forward: emitted(["max"], { ...receiving, ...sending, ...own }, (body, all: Named) => {
      const incoming = part(all, "in") as ReceiveLocals;
      const outgoing = part(all, "out") as SendLocals;
      const { max, at, address, length } = all as Words<"max" | keyof typeof own>;
      to.prepare(body, outgoing);
      body.set(incoming.max, max);
      body.if(outgoing.free.lt(max), () => body.set(incoming.max, outgoing.free));
      body.set(incoming.packets, packets);
      from.receive(body, incoming);
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
        to.transmit(body, outgoing);
        body.store32(left, incoming.taken.sub(outgoing.taken));
      });
      return incoming.taken;
    }),
  });
  return forward;
}
