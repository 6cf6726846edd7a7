// Information calls answer with a fixed structure and a chain of capabilities behind it. The chain is walked as if the
// kernel could lie: an offset outside, backwards or misaligned ends it.
import type { Struct } from "../binary/struct.ts";
import { CapabilityHeader } from "./uapi-structs.ts";

/** One capability; `bytes` starts at its header and ends with the answer. */
export interface InfoCapability {
  readonly id: number;
  readonly version: number;
  readonly bytes: Uint8Array;
}

/** The capabilities of `answer` from `firstOffset` on; 0 means none. */
export function infoCapabilities(answer: Uint8Array, firstOffset: number): InfoCapability[] {
  const found: InfoCapability[] = [];
  const seen = new Set<number>();
  let at = firstOffset;
  while (at !== 0 && at % 4 === 0 && at + CapabilityHeader.size <= answer.length && !seen.has(at)) {
    seen.add(at);
    const { id, version, next } = CapabilityHeader.from(answer, at);
    found.push({ id, version, bytes: answer.subarray(at) });
    at = next;
  }
  return found;
}

/** The capability with this id, where there is one. */
export function infoCapability(capabilities: readonly InfoCapability[], id: number): InfoCapability | undefined {
  return capabilities.find((capability) => capability.id === id);
}

/** Decodes up to `count` elements that follow `skip` bytes of header; what lies outside the answer is left out. */
export function trailingElements<T>(bytes: Uint8Array, skip: number, element: Struct<T>, count: number): T[] {
  const there = Math.max(0, Math.floor((bytes.length - skip) / element.size));
  return Array.from({ length: Math.min(count, there) }, (_, i) => element.from(bytes, skip + i * element.size));
}

/** No answer is larger: a kernel that asks for more is not believed. */
const largestAnswer = 1 << 20;

/**
 * Makes an information call and makes it again with a larger buffer while the kernel says, by a larger `argsz`, that its
 * answer did not fit. `request` is the fixed part; `call` performs the call on the buffer that it is given.
 */
export function growingCall(request: Uint8Array, call: (buffer: Uint8Array) => void): Uint8Array {
  let size = request.length;
  for (;;) {
    const buffer = new Uint8Array(size);
    buffer.set(request);
    new DataView(buffer.buffer).setUint32(0, size, true);
    call(buffer);
    const wanted = new DataView(buffer.buffer).getUint32(0, true);
    if (wanted <= size || wanted > largestAnswer) return buffer;
    size = wanted;
  }
}
