// What software-offload.ts does for a frame that is sent, in emitted loops.
import type { Body } from "../../memory/emitter.ts";
import type { Operand, Value } from "../../memory/emitter-value.ts";
import { EtherType, EthernetField, MAC_BYTES, VLAN_TAG_BYTES } from "../../specs/ethernet/index.ts";
import type { Words } from "../net/emitted-words.ts";
import { IPV4_CHECKSUM_AT } from "./software-offload.ts";

export const SUMMING = { sum: "i32", from: "i32", to: "i32" } as const;
type Summing = Words<keyof typeof SUMMING>;

/** Stores 16 bits with the most significant byte first. */
function put16(body: Body, address: Value<"i32">, value: Value<"i32">, offset = 0): void {
  body.store8(address, value.shr(8), offset);
  body.store8(address, value, offset + 1);
}

/** Puts a tag into the frame at `frame`, which then begins {@link VLAN_TAG_BYTES} earlier. */
export function insertTag(body: Body, { frame, tag }: Words<"frame" | "tag">): void {
  body.set(frame, frame.sub(VLAN_TAG_BYTES));
  for (let at = 0; at < 2 * MAC_BYTES; at += 4) body.store32(frame, body.own32(frame, at + VLAN_TAG_BYTES), at);
  body.store8(frame, EtherType.VLAN >>> 8, EthernetField.TYPE);
  body.store8(frame, EtherType.VLAN, EthernetField.TYPE + 1);
  put16(body, frame, tag, EthernetField.TAG);
}

/** Sets `sum` to what completes a checksum over `size` bytes at `from`. */
function finish(body: Body, { sum, from, to }: Summing, size: Operand<"i32">): void {
  body.set(to, from.add(size));
  body.set(sum, 0);
  body.loop((loop) => {
    body.leave(loop, from.add(1).ge(to));
    body.set(sum, sum.add(body.load8(from).shl(8)).add(body.load8(from, 1)));
    body.set(from, from.add(2));
  });
  // The last word may lack its second byte.
  body.if(from.lt(to), () => body.set(sum, sum.add(body.load8(from).shl(8))));
  for (let carries = 0; carries < 2; carries++) body.set(sum, sum.and(0xffff).add(sum.shr(16)));
  body.set(sum, sum.xor(0xffff));
}

/** Computes the checksum of the IPv4 header of `ipBytes` at `ip`. */
export function computeIpv4Checksum(body: Body, locals: Summing & Words<"ip" | "ipBytes">): void {
  const { ip, ipBytes, from, sum } = locals;
  body.store8(ip, 0, IPV4_CHECKSUM_AT);
  body.store8(ip, 0, IPV4_CHECKSUM_AT + 1);
  body.set(from, ip);
  finish(body, locals, ipBytes);
  put16(body, ip, sum, IPV4_CHECKSUM_AT);
}

/** Completes a checksum that has the pseudo header's sum already, over `size` bytes from `from` on; its field is at `field`. */
export function computeL4Checksum(body: Body, locals: Summing & Words<"field">, size: Value<"i32">): void {
  const { sum, field } = locals;
  finish(body, locals, size);
  body.if(sum.not(), () => body.set(sum, 0xffff));
  put16(body, field, sum);
}
