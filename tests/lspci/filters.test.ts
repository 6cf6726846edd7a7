// Expressions of -s and -d: what the real lspci takes and what it refuses, with the functions that it then shows.
import assert from "node:assert/strict";
import test, { after } from "node:test";
import { hexdump } from "../../packages/ring3/src/binary/hexdump.ts";
import { PciAddress } from "../../packages/ring3/src/pci/address.ts";
import { type Lspci, lspciPair } from "./real.ts";

const pair: Lspci | undefined = await lspciPair();
const skip = pair === undefined ? "the real lspci cannot be fetched here" : false;
after(() => pair?.[Symbol.dispose]());

const FUNCTIONS = [
  ["0000:00:00.0", 0x8086, 0x29c0, 0x0600],
  ["0000:00:01.0", 0x1b36, 0x000c, 0x0604],
  ["0000:01:00.0", 0x8086, 0x10c9, 0x0200],
  ["0000:01:1f.2", 0x8086, 0x2922, 0x0106],
  ["0003:01:00.0", 0x1b36, 0x0010, 0x0108],
  ["0003:1f:00.7", 0x1234, 0x11e8, 0x00ff],
] as const;
const SLOTS =
  " 0 00 1 01: 1:0 1:0.0 0:1:0.0 3: 3:: 3:*:*.* 0003:01: :: : . .0 *.0 * 1f 1f. 1f.2 20 1.8 100: 0:0:0:0 0.0.0 x 0x1: 0x: ffffffff:: 80000000:: 0001f +1";
const IDS =
  " : 8086: 8086:10c9 *:* :: ::: ::06 ::0604 ::06xx ::6xx ::xx04 ::x 1b36:0010::02 :::02 10000: g: 8086 :::: ::12345 *:*:*:* :10c9 1B36: 0x8086: ::0x";

test("the same expressions are taken and refused, and choose the same functions", { skip }, async () => {
  assert.ok(pair !== undefined);
  const dump = FUNCTIONS.map(([address, vendorId, deviceId, classCode]) => {
    const view = new DataView(new ArrayBuffer(64));
    view.setUint16(0x00, vendorId, true);
    view.setUint16(0x02, deviceId, true);
    view.setUint16(0x0a, classCode, true);
    return `${PciAddress.parse(address).toString()} x\n${hexdump(new Uint8Array(view.buffer))}\n\n`;
  }).join("");
  for (const [option, expressions] of [["-s", SLOTS] as const, ["-d", IDS] as const]) {
    for (const expression of expressions.split(" ")) {
      const words = ["-n", option, expression];
      const real = pair.real(dump, words);
      const ours = await pair.ours(dump, words);
      assert.deepEqual([ours.stdout, ours.status === 0], [real.stdout, real.status === 0], words.join(" "));
      // The message is lspci's own.
      if (real.status !== 0) assert.ok(ours.stderr.includes(real.stderr.trim().replace("lspci: ", "")), real.stderr);
    }
  }
});
