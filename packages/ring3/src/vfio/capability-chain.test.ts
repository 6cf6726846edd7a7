import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { u32 } from "../binary/struct.ts";
import { growingCall, infoCapabilities, infoCapability, trailingElements } from "./capability-chain.ts";
import { CapabilityHeader, IovaRange } from "./uapi-structs.ts";

function answer(size: number, ...capabilities: { at: number; id: number; next: number }[]): Uint8Array {
  const bytes = new Uint8Array(size);
  for (const { at, id, next } of capabilities) bytes.set(CapabilityHeader.bytes({ id, version: 1, next }), at);
  return bytes;
}

test("a chain is walked in its order", () => {
  const bytes = answer(96, { at: 64, id: 1, next: 32 }, { at: 32, id: 3, next: 0 });
  const found = infoCapabilities(bytes, 64);
  assert.deepEqual(
    found.map(({ id }) => id),
    [1, 3],
  );
  assert.equal(infoCapability(found, 3)?.bytes.length, 64);
  assert.equal(infoCapability(found, 2), undefined);
});

test("loops, offsets outside and truncated headers end the walk", () => {
  assert.equal(infoCapabilities(answer(64, { at: 32, id: 1, next: 40 }, { at: 40, id: 2, next: 32 }), 32).length, 2);
  assert.equal(infoCapabilities(answer(64, { at: 32, id: 1, next: 0xffff_fff0 }), 32).length, 1);
  assert.equal(infoCapabilities(answer(64, { at: 32, id: 1, next: 60 }), 32).length, 1);
  assert.equal(infoCapabilities(answer(64, { at: 32, id: 1, next: 33 }), 32).length, 1);
  assert.equal(infoCapabilities(new Uint8Array(64), 0).length, 0);
});

test("whatever the kernel answers, the walk ends and stays inside", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 256 }), fc.nat(300), (bytes, first) => {
      const found = infoCapabilities(bytes, first);
      assert.ok(found.length <= bytes.length / 4);
      for (const { bytes: rest } of found) assert.ok(rest.length >= CapabilityHeader.size);
    }),
  );
});

test("elements that do not fit are left out", () => {
  const bytes = new Uint8Array(16 + 2 * IovaRange.size + 3);
  bytes.set(IovaRange.bytes({ start: 5n, end: 9n }), 16 + IovaRange.size);
  assert.deepEqual(trailingElements(bytes, 16, IovaRange, 1000), [
    { start: 0n, end: 0n },
    { start: 5n, end: 9n },
  ]);
  assert.deepEqual(trailingElements(bytes, 100, IovaRange, 3), []);
});

test("a call is repeated with the size that the kernel names, within reason", () => {
  const sizes: number[] = [];
  const grown = growingCall(new Uint8Array(16), (buffer) => {
    sizes.push(buffer.length);
    u32.encode(new DataView(buffer.buffer), 0, 80);
  });
  assert.deepEqual(sizes, [16, 80]);
  assert.equal(grown.length, 80);
  const unbelieved = growingCall(new Uint8Array(16), (buffer) =>
    u32.encode(new DataView(buffer.buffer), 0, 0xffff_ffff),
  );
  assert.equal(unbelieved.length, 16);
});
