import assert from "node:assert/strict";
import { fstatSync, readdirSync } from "node:fs";
import { test } from "node:test";
import * as fc from "fast-check";
import { createMemoryFile, type FileDescriptor, SocketChannel, UnixSocket } from "../linux/index.ts";
import { message } from "./fake-client.ts";
import { closeAll, FrameReader, inputBytesFor } from "./framing.ts";

const MAXIMUM = 512;

function pair(): { peer: UnixSocket; channel: SocketChannel; reader: FrameReader } & Disposable {
  const [peer, socket] = UnixSocket.pair();
  const channel = new SocketChannel(socket.fd, { inputBytes: inputBytesFor(MAXIMUM), outputBytes: 4096 });
  const reader = new FrameReader(channel, MAXIMUM);
  return {
    peer,
    channel,
    reader,
    [Symbol.dispose]: () => {
      reader.close();
      channel[Symbol.dispose]();
      peer[Symbol.dispose]();
    },
  };
}

function inode(fd: FileDescriptor): number {
  return fstatSync(fd.number).ino;
}

function openFds(): number {
  return readdirSync("/proc/self/fd").length;
}

test("messages come out as they went in, each with its descriptors, however they are cut", () => {
  using file = createMemoryFile(4096);
  const frame = fc.record({ size: fc.integer({ min: 16, max: MAXIMUM }), fds: fc.nat(3) });
  const before = openFds();
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 40 }), fc.array(fc.integer({ min: 1, max: 700 })), (frames, cuts) => {
      using ends = pair();
      const got: { command: number; size: number; fds: number }[] = [];
      const collect = (): void => {
        for (;;) {
          while (ends.reader.next()) {
            const fds = ends.reader.takeFds();
            for (const fd of fds) assert.equal(inode(fd), inode(file));
            const command = ends.channel.input.view.getUint16(ends.reader.frame + 2, true);
            got.push({ command, size: ends.reader.size, fds: fds.length });
            closeAll(fds);
            ends.reader.consume();
          }
          if (ends.reader.fill() <= 0) return;
        }
      };
      let cut = 0;
      for (const [i, { size, fds }] of frames.entries()) {
        const bytes = message(i, new Uint8Array(size - 16));
        // The descriptors go with the first piece.
        for (let at = 0; at < bytes.length; ) {
          const length = Math.min(cuts[cut++ % Math.max(cuts.length, 1)] ?? 700, bytes.length - at);
          const sent = at === 0 ? Array.from({ length: fds }, () => file) : [];
          assert.equal(ends.peer.send([bytes.subarray(at, at + length)], sent), length);
          at += length;
          if (cut % 5 === 0) collect();
        }
      }
      collect();
      assert.deepEqual(
        got,
        frames.map(({ size, fds }, command) => ({ command, size, fds })),
      );
    }),
    { numRuns: 200 },
  );
  assert.equal(openFds(), before);
});

test("descriptors that belong to no message are closed", () => {
  using file = createMemoryFile(4096);
  using ends = pair();
  const before = openFds();
  const bytes = message(1, new Uint8Array(100));
  ends.peer.send([bytes.subarray(0, 50)]);
  assert.equal(ends.reader.fill(), 50);
  // They come with the second half, in which no message starts.
  ends.peer.send([bytes.subarray(50)], [file, file]);
  assert.equal(ends.reader.fill(), 66);
  assert.ok(ends.reader.next());
  assert.equal(ends.reader.takeFds().length, 0);
  assert.equal(openFds(), before);
});

test("what cannot be a message is refused", () => {
  for (const size of [0, 15, MAXIMUM + 1, 0xffff_ffff]) {
    using ends = pair();
    ends.peer.send([message(9, new Uint8Array(0), { size })]);
    ends.reader.fill();
    assert.throws(() => ends.reader.next(), { code: "MESSAGE_INVALID" });
  }
});

test("a message that is held stays where it is while others are read", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 16, max: MAXIMUM }), { minLength: 2, maxLength: 60 }),
      fc.integer({ min: 1, max: 300 }),
      (sizes, step) => {
        using ends = pair();
        const all = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0));
        let place = 0;
        for (const [i, size] of sizes.entries()) {
          all.set(message(i, new Uint8Array(size - 16).fill(i)), place);
          place += size;
        }
        let sent = 0;
        const feed = (): boolean => {
          const piece = all.subarray(sent, sent + step);
          if (piece.length > 0) ends.peer.send([piece]);
          sent += piece.length;
          return ends.reader.fill() > 0;
        };
        const command = (): number => ends.channel.input.view.getUint16(ends.reader.frame + 2, true);
        while (!ends.reader.next()) assert.ok(feed());
        const { frame, size } = ends.reader;
        const held = ends.channel.input.bytes.slice(frame, frame + size);
        const release = ends.reader.hold();
        let expected = 1;
        // All but the last one, which is read after the release.
        while (expected < sizes.length - 1) {
          while (!ends.reader.next()) assert.ok(feed());
          assert.equal(command(), expected);
          assert.equal(ends.reader.size, sizes[expected]);
          expected++;
          ends.reader.consume();
        }
        assert.deepEqual(ends.channel.input.bytes.slice(frame, frame + size), held);
        release();
        assert.equal(ends.reader.frame, frame);
        ends.reader.consume();
        if (expected === sizes.length) return;
        while (!ends.reader.next()) assert.ok(feed());
        assert.equal(command(), expected);
        const { frame: at, size: last } = ends.reader;
        assert.ok(ends.channel.input.bytes.subarray(at + 16, at + last).every((byte) => byte === (expected & 0xff)));
      },
    ),
    { numRuns: 200 },
  );
});
