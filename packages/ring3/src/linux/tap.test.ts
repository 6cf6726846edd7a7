import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { existsSync } from "node:fs";
import test from "node:test";
import { Tap } from "./tap.ts";

test("names that no interface has are refused", () => {
  for (const name of ["", "a b", "sixteen-letters-", "../x"]) assert.throws(() => new Tap(name), /TAP_NAME/);
});

test("frames of the machine come here, and ours go there", { timeout: 20_000 }, async (t) => {
  if (process.geteuid?.() !== 0 || !existsSync("/dev/net/tun") || spawnSync("ip", ["-V"]).status !== 0) {
    return t.skip("needs root, /dev/net/tun and ip");
  }
  const name = `r3t${process.pid}`;
  using tap = new Tap(name);
  assert.throws(() => new Tap(name), /EBUSY.*another process has it open/);
  const up = [
    ["link", "set", name, "up"],
    ["addr", "add", "198.18.77.1/24", "dev", name],
  ];
  for (const words of up) if (spawnSync("ip", words).status !== 0) return t.skip(`ip ${words.join(" ")} failed`);
  const { promise, resolve } = Promise.withResolvers<Uint8Array>();
  const mine = Uint8Array.of(0x02, 0, 0, 0, 0, 2);
  const receive = (frame: Uint8Array): boolean => {
    const type = ((frame[12] ?? 0) << 8) | (frame[13] ?? 0);
    // Asked who has 198.18.77.2, answers that it is here; then the datagram comes.
    if (type === 0x0806 && frame[41] === 2) tap.send(arpReply(frame, mine));
    else if (type === 0x0800 && frame[23] === 17) resolve(frame.slice());
    return true;
  };
  tap.attach({ receive });
  const socket = createSocket("udp4");
  t.after(() => socket.close());
  socket.send("hello", 9, "198.18.77.2");
  const datagram = await promise;
  assert.deepEqual([...datagram.subarray(0, 6)], [...mine]);
  assert.equal(Buffer.from(datagram.subarray(42, 47)).toString(), "hello");
});

/** RFC 826: the request with both sides exchanged and the answer filled in. */
function arpReply(request: Uint8Array, mine: Uint8Array): Uint8Array {
  const reply = request.slice();
  reply.set(request.subarray(6, 12), 0);
  reply.set(mine, 6);
  reply[21] = 2;
  reply.set(mine, 22);
  reply.set(request.subarray(38, 42), 28);
  reply.set(request.subarray(22, 32), 32);
  return reply;
}
