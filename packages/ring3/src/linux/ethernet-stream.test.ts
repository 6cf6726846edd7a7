import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import fc from "fast-check";
import { isRing3Error } from "../binary/error.ts";
import type { NetLink } from "../devices/virtio/index.ts";
import { EthernetStream } from "./ethernet-stream.ts";
import { FrameAssembler } from "./frame-assembler.ts";

const UNINTERESTED = { linkChanged: () => undefined, writable: () => undefined };

/** QEMU's side: a server and its one connection. */
async function qemu(t: TestContext): Promise<{ path: string; server: Server; connection: Promise<Socket> }> {
  const directory = mkdtempSync(join(tmpdir(), "ring3-stream-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "net.sock");
  const server = createServer();
  t.after(() => server.close());
  const connection = once(server, "connection").then(([socket]) => {
    t.after(() => (socket as Socket).destroy());
    return socket as Socket;
  });
  await once(server.listen(path), "listening");
  return { path, server, connection };
}

function framed(...frames: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    frames.flatMap((frame) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(frame.length);
      return [length, frame];
    }),
  );
}

test("frames go both ways, whole, however the stream is cut", async (t) => {
  const { path, connection } = await qemu(t);
  using link = new EthernetStream(path);
  const peer = await connection;
  const frames = [new Uint8Array(60).fill(1), new Uint8Array(1514).fill(2), new Uint8Array(65_000).fill(3)];
  const got: Uint8Array[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  link.attach({
    ...UNINTERESTED,
    receive: (frame) => {
      got.push(Uint8Array.from(frame));
      if (got.length === frames.length) resolve();
      return true;
    },
  });
  const bytes = framed(...frames);
  for (const [from, to] of [
    [0, 3],
    [3, 70],
    [70, 71],
    [71, bytes.length],
  ] as const)
    peer.write(bytes.subarray(from, to));
  await promise;
  assert.deepEqual(got, frames);

  const wanted = framed(...frames);
  let received = Buffer.alloc(0);
  const all = Promise.withResolvers<void>();
  peer.on("data", (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    if (received.length >= wanted.length) all.resolve();
  });
  for (const frame of frames) assert.equal(link.send(frame), true);
  await all.promise;
  assert.ok(received.equals(wanted));
  assert.equal(link.dropped, 0);
});

test("nobody there: frames are lost and counted; a stream out of step is cut", async (t) => {
  const { path, connection } = await qemu(t);
  using absent = new EthernetStream(`${path}-absent`);
  assert.equal(absent.send(new Uint8Array(60)), false);
  assert.equal(absent.dropped, 1);
  using link = new EthernetStream(path);
  const peer = await connection;
  link.attach({ ...UNINTERESTED, receive: () => assert.fail("no frame was whole") });
  const closed = once(peer, "close");
  peer.write(Uint8Array.of(0xff, 0xff, 0xff, 0xff));
  await closed;
});

test("the carrier comes and goes with the peer, and comes back", { timeout: 20_000 }, async (t) => {
  const { path, server, connection } = await qemu(t);
  using link = new EthernetStream(path, { retryMs: 1 });
  const changes: boolean[] = [];
  let heard = Promise.withResolvers<void>();
  link.attach({
    receive: () => true,
    writable: () => undefined,
    linkChanged: (up) => {
      changes.push(up);
      heard.resolve();
    },
  });
  await heard.promise;
  assert.equal(link.up, true);
  heard = Promise.withResolvers<void>();
  (await connection).destroy();
  await heard.promise;
  heard = Promise.withResolvers<void>();
  const again = once(server, "connection");
  await heard.promise;
  const [socket] = (await again) as [Socket];
  socket.destroy();
  assert.deepEqual(changes.slice(0, 3), [true, false, true]);
});

test("two of them, one that listens: over a UNIX socket, and over TCP on this machine", {
  timeout: 20_000,
}, async (t) => {
  const { path } = await qemu(t);
  for (const address of [`${path}-listening`, { port: 0 }, { port: 0, host: "::1" }]) {
    const listening = await EthernetStream.listen(address).catch((error: unknown) => error);
    // A machine may have no IPv6.
    if (!(listening instanceof EthernetStream)) {
      assert.ok(typeof address === "object" && isRing3Error(listening, "STREAM_LISTEN"));
      continue;
    }
    using server: EthernetStream & NetLink = listening;
    const port = Number(server.address.split(":").at(-1));
    using client = new EthernetStream(typeof address === "string" ? address : { ...address, port }, { retryMs: 1 });
    const got = Promise.withResolvers<Uint8Array>();
    const answered = Promise.withResolvers<Uint8Array>();
    server.attach({
      ...UNINTERESTED,
      receive(frame) {
        answered.resolve(frame.slice());
        return server.send(frame);
      },
    });
    client.attach({
      writable: () => undefined,
      linkChanged: (up) => up && client.send(new Uint8Array(64).fill(9)),
      receive(frame) {
        got.resolve(frame.slice());
        return true;
      },
    });
    assert.deepEqual(await answered.promise, new Uint8Array(64).fill(9));
    assert.deepEqual(await got.promise, new Uint8Array(64).fill(9));
    assert.equal(server.send(new Uint8Array(80_000)), false, "no frame is that long");
    await assert.rejects(EthernetStream.listen(typeof address === "string" ? address : { ...address, port }), (error) =>
      isRing3Error(error, "STREAM_LISTEN"),
    );
  }
});

test("frames do not leave the machine unprotected", () => {
  for (const host of ["192.0.2.1", "example.org", "0.0.0.0", "::"]) {
    assert.throws(
      () => new EthernetStream({ host, port: 1 }),
      (error) => isRing3Error(error, "STREAM_ADDRESS"),
    );
  }
});

test("a stream comes apart into the same frames wherever it is cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 200 }),
      (frames, cuts) => {
        const stream = framed(...frames);
        const assembler = new FrameAssembler(50);
        const got: Uint8Array[] = [];
        let at = 0;
        for (const size of [...cuts, stream.length]) {
          assert.ok(assembler.push(stream.subarray(at, at + size), (frame) => got.push(Uint8Array.from(frame))));
          at += size;
        }
        assert.deepEqual(got, frames);
      },
    ),
  );
  const none = (): void => assert.fail("no frame was whole");
  const assembler = new FrameAssembler(50);
  assert.equal(assembler.push(Uint8Array.of(0, 0, 0), none), true);
  assert.equal(assembler.push(Uint8Array.of(51), none), false);
  assert.equal(new FrameAssembler(50).push(Uint8Array.of(0x80, 0, 0, 0, 1), none), false);
});
