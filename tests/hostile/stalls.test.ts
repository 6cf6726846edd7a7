// Clients that waste time on purpose: a client that behaves, at another function of the same process, is answered soon all
// the same, and the one that wastes time loses its function where it must.
import assert from "node:assert/strict";
import { constants } from "node:os";
import { test } from "node:test";
import { UnixSocket, waitReadable } from "../../packages/ring3/src/linux/index.ts";
import { Command, HEADER_SIZE } from "../../packages/ring3/src/vfio-user/messages.ts";
import { beginningsFor, frame } from "./arbitraries.ts";
import { Bystander } from "./bystander.ts";
import { Serving } from "./serving.ts";

const { ECONNRESET } = constants.errno;
const CLIENT_TIMEOUT_MS = 300;
/** One patience of the server, and what a loaded machine adds. */
const BOUND_MS = 2500;

interface Attack {
  readonly serving: Serving;
  readonly bystander: Bystander;
  readonly socket: UnixSocket;
}

async function attack(device: string, act: (attack: Attack) => void): Promise<void> {
  await using serving = await Serving.start({ clientTimeoutMs: CLIENT_TIMEOUT_MS });
  using bystander = new Bystander(serving.socket("bystander"), BOUND_MS);
  using socket = UnixSocket.connect(serving.socket(device));
  socket.send([frame(Command.VERSION, new Uint8Array(4))]);
  const into = new Uint8Array(256);
  assert.ok(socket.receive(into, true).size > 0);
  act({ serving, bystander, socket });
  bystander.look();
  assert.ok(bystander.answers > 0);
}

/** Looks after the bystander for so long, or until the server hangs up: whether it did. */
function untilHangUp({ bystander, socket }: Attack, forMs: number, heard: (bytes: Buffer) => void): boolean {
  const into = new Uint8Array(65536);
  for (const until = performance.now() + forMs; performance.now() < until; ) {
    waitReadable([socket.fd, bystander.fd], 5);
    bystander.look();
    const { size, fds } = socket.receive(into);
    for (const fd of fds) fd.close();
    if (size === 0 || size === -ECONNRESET) return true;
    if (size > 0) heard(Buffer.from(into.subarray(0, size)));
  }
  return false;
}

/** DMA_READ commands in what came, which is whole messages here. */
function questions(bytes: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at + HEADER_SIZE <= bytes.length; at += Math.max(HEADER_SIZE, bytes.readUInt32LE(at + 4))) {
    if (bytes.readUInt16LE(at + 2) === Command.DMA_READ && bytes.readUInt32LE(at + 8) === 0)
      found.push(bytes.subarray(at));
  }
  return found;
}

for (const [name, answerMs] of [
  ["does not answer", Number.POSITIVE_INFINITY],
  ["answers late, again and again", CLIENT_TIMEOUT_MS / 2],
] as const) {
  test(`a client whose memory the device needs ${name}`, () =>
    attack("virtio-blk", (it) => {
      let asked = 0;
      for (const { bytes } of beginningsFor("virtio-blk")[1]) it.socket.send([bytes]);
      const gone = untilHangUp(it, 8000, (bytes) => {
        for (const question of questions(bytes)) {
          asked++;
          if (!Number.isFinite(answerMs)) continue;
          for (const until = performance.now() + answerMs; performance.now() < until; ) it.bystander.look();
          const payload = Buffer.alloc(16 + question.readUInt32LE(HEADER_SIZE + 8), 1);
          question.copy(payload, 0, HEADER_SIZE, HEADER_SIZE + 16);
          it.socket.send([frame(Command.DMA_READ, payload, { id: question.readUInt16LE(0), flags: 1 })]);
        }
      });
      assert.ok(asked > 0, "the device never asked");
      assert.ok(gone, "the server goes on waiting");
      assert.ok(asked < 8, `${asked} late answers were accepted`);
    }));
}

test("a client that reads none of its replies, with descriptors among them", () =>
  attack("nvme-polled", ({ bystander, socket }) => {
    // The doorbells' memory: a descriptor with each reply.
    const ask = frame(Command.DEVICE_GET_REGION_INFO, Buffer.concat([Uint8Array.of(0, 16, 0, 0), new Uint8Array(28)]));
    for (let i = 0; i < 4000; i++) {
      socket.send([ask]);
      bystander.look();
    }
    for (const until = performance.now() + 2000; performance.now() < until; ) {
      waitReadable([bystander.fd], 5);
      bystander.look();
    }
  }));

test("a client that sends half a message", () =>
  attack("edu", (it) => {
    it.socket.send([frame(Command.DEVICE_RESET, new Uint8Array(0)).subarray(0, 9)]);
    assert.ok(untilHangUp(it, 5000, () => undefined));
  }));

test("clients that say nothing", async () => {
  await attack("edu", (it) => {
    const silent = Array.from({ length: 40 }, () => UnixSocket.connect(it.serving.socket("nvme")));
    untilHangUp(it, 300, () => undefined);
    for (const each of silent) each[Symbol.dispose]();
  });
});
