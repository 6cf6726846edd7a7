// What the emitted loops have in common: the words of a queue and of packets as addresses.
import type { Body } from "../../memory/emitter.ts";
import type { Local, Operand } from "../../memory/emitter-value.ts";
import { PACKET_WORDS, PacketWord } from "./packets.ts";

/** The byte offset of a word. */
export const word = (index: number): number => 4 * index;
/** Byte offsets in a packet's words. */
export const PacketOffset: { readonly [K in keyof typeof PacketWord]: number } = {
  PLACE: word(PacketWord.PLACE),
  LENGTH: word(PacketWord.LENGTH),
  FLAGS: word(PacketWord.FLAGS),
  OFFLOAD: word(PacketWord.OFFLOAD),
};
export const PACKET_BYTES: number = word(PACKET_WORDS);
export const PACKET_SHIFT: number = Math.log2(PACKET_BYTES);

export type Words<Name extends string> = { readonly [K in Name]: Local<"i32"> };

/** The state word's address. */
export function stateOf({ state }: { readonly state: number }, index: number): number {
  return state + word(index);
}

export function add(body: Body, address: number, value: Operand<"i32">): void {
  body.store32(address, body.own32(address).add(value));
}

/** Adds to a counter of 64 bits. */
export function addWide(body: Body, address: number, value: Local<"i32">): void {
  body.store64(address, body.load64(address).add(value.wide()));
}

/** Goes on to the next index of a ring. */
export function advance(body: Body, { entries }: { readonly entries: number }, index: Local<"i32">): void {
  body.set(index, index.add(1));
  body.if(index.eq(entries), () => body.set(index, 0));
}
