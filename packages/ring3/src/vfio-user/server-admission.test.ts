// Who gets a function, who is told why not, and how an administrator takes it back.
// seconds: 1
import assert from "node:assert/strict";
import { test } from "node:test";
import { ServedFunction } from "../../../../tests/contract/served-function.ts";
import { Ring3Error } from "../binary/error.ts";
import { createMemoryFile } from "../linux/index.ts";
import { connect } from "./client.ts";
import { FakeClient, message, turn, until, versionPayload } from "./fake-client.ts";
import { Register, type Served, serveTestDevice } from "./fake-served.ts";
import { Command, DmaMap, HeaderFlag, RegionAccess, WireErrno } from "./messages.ts";
import type { ConnectingPeer, ServerEvent } from "./server-options.ts";

const { EACCES, EIO } = WireErrno;
const sample = new URL("../../../../tests/fakes/sample-device.ts", import.meta.url);

function registerWrite(offset: number, value: number): Uint8Array {
  return Uint8Array.of(
    ...RegionAccess.bytes({ offset: BigInt(offset), region: 0, count: 4 }),
    ...new Uint8Array(Uint32Array.of(value).buffer),
  );
}

test("a hook refuses a client with an errno and a sentence, which whoever asks for it is sent", async () => {
  const peers: (ConnectingPeer & { readonly told: readonly number[] | undefined })[] = [];
  await using served = await serveTestDevice({
    admit: (peer) => {
      peers.push({ ...peer, told: peer.groups() });
      throw new Ring3Error("NOT_YOURS", "card 3 is for the group video", { errno: "EACCES" });
    },
  });
  using plain = FakeClient.connect(served.path);
  assert.equal(await plain.errno(Command.VERSION, versionPayload({ max_msg_fds: 1 })), EACCES);
  await plain.hangUp();
  using asking = FakeClient.connect(served.path);
  const reply = await asking.request(Command.VERSION, versionPayload({ refusal_text: true }));
  assert.deepEqual([reply.errno, reply.flags], [EACCES, HeaderFlag.REPLY | HeaderFlag.ERROR]);
  assert.equal(new TextDecoder().decode(reply.payload), "card 3 is for the group video");
  await asking.hangUp();
  const expected = {
    type: "refused",
    pid: process.pid,
    uid: process.getuid?.(),
    reason: "NOT_YOURS: card 3 is for the group video",
  };
  assert.deepEqual(served.events, [expected, expected]);
  assert.deepEqual(
    [peers[0]?.pid, peers[0]?.uid, peers[0]?.gid],
    [process.pid, process.getuid?.(), process.getgid?.()],
  );
  const gid = process.getgid?.() ?? 0;
  // Node counts the group of the process among the additional ones.
  assert.deepEqual(new Set([gid, ...(peers[0]?.told ?? [])]), new Set([gid, ...(process.getgroups?.() ?? [])]));
});

test("a hook that lets in, one that fails, and one that is not asked", async () => {
  let asked = 0;
  await using open = await serveTestDevice({ admit: () => void asked++ });
  using client = await FakeClient.open(open.path);
  assert.equal(await client.errno(Command.REGION_WRITE, registerWrite(8, 1)), 0);
  assert.equal(asked, 1);
  await using failing = await serveTestDevice({
    admit: () => {
      throw new TypeError("no such table");
    },
  });
  using refused = FakeClient.connect(failing.path);
  // A sentence that was not meant for clients is not sent to them.
  const { errno, payload } = await refused.request(Command.VERSION, versionPayload({ refusal_text: true }));
  assert.deepEqual([errno, payload.length], [EIO, 0]);
  await using closed = await serveTestDevice({ allowUids: [4711], admit: () => void asked++ });
  using other = FakeClient.connect(closed.path);
  assert.equal(await other.errno(Command.VERSION, versionPayload()), EACCES);
  assert.equal(asked, 1);
});

test("a client of ours says why it was refused", async () => {
  await using served = await ServedFunction.start({
    module: sample,
    create: "new device.SampleDevice()",
    options: { allowUids: [4711] },
  });
  await assert.rejects(connect(served.path), {
    code: "SERVER_REFUSED",
    errno: "EACCES",
    message:
      `SERVER_REFUSED: the vfio-user server refuses the connection (EACCES): uid ${process.getuid?.()} is not among those ` +
      "that may connect; whoever serves the function can let it in",
  });
});

test("an administrator takes the function from its client; the next finds it as new", async () => {
  await using served = await serveTestDevice();
  const { device, server, events } = served;
  await server.disconnect("nobody has it");
  for (let round = 1; round <= 3; round++) {
    using memory = createMemoryFile(0x1000);
    using client = await FakeClient.open(served.path);
    const map = DmaMap.bytes({ argsz: 32, flags: 3, address: 0n, size: 0x1000n });
    assert.equal(await client.errno(Command.DMA_MAP, map, { fds: [memory] }), 0);
    assert.equal(await client.errno(Command.REGION_WRITE, registerWrite(8, 7)), 0);
    const { resets } = device;
    await server.disconnect("the card is needed elsewhere");
    assert.deepEqual([device.resets, device.words[2], device.memory.count], [resets + 1, 0, 0]);
    assert.deepEqual([device.connectedTo, server.client, server.closed], [undefined, undefined, false]);
    const last = events.at(-1);
    assert.deepEqual(last, { type: "disconnected", pid: process.pid, reason: "the card is needed elsewhere" });
    await client.hangUp();
  }
});

test("the function is taken back in the middle of a command, and while its client is being waited for", async () => {
  for (const command of ["REGION_WRITE", "DMA_READ"]) {
    let taken: Promise<void> | undefined;
    await using served: Served = await serveTestDevice({
      clientTimeoutMs: 50,
      onMessage: (seen) => {
        if (seen.command === command && seen.kind === "command") taken ??= served.server.disconnect("now");
      },
    });
    using client = await FakeClient.open(served.path);
    // The device reads memory of the client to do what it is told.
    const map = DmaMap.bytes({ argsz: 32, flags: 3, address: 0n, size: 0x1000n });
    assert.equal(await client.errno(Command.DMA_MAP, map), 0);
    served.device.memory.busMaster = true;
    client.raw(message(Command.REGION_WRITE, registerWrite(Register.READ, 4)));
    await until(() => taken !== undefined, "the function was taken");
    await taken;
    assert.deepEqual(served.events.at(-1), { type: "disconnected", pid: process.pid, reason: "now" });
    using next = await FakeClient.open(served.path);
    assert.equal(await next.errno(Command.DMA_MAP, map), 0);
  }
});

test("whoever hears that a client has the function may take it away at once, or close the server", async () => {
  for (const act of ["disconnect", "close"] as const) {
    for (const waits of [false, true]) {
      let armed = !waits;
      let done: Promise<void> | undefined;
      const onEvent = ({ type }: ServerEvent): void => {
        if (armed && type === "connected")
          done = act === "close" ? served.server.close() : served.server.disconnect("no");
      };
      await using served: Served = await serveTestDevice({ queue: 1, onEvent });
      const holder = waits ? await FakeClient.open(served.path) : undefined;
      using client = FakeClient.connect(served.path);
      client.send(Command.VERSION, versionPayload());
      if (holder !== undefined) await until(() => served.server.statistics.waiting === 1, "it waits");
      armed = true;
      holder?.[Symbol.dispose]();
      await until(() => done !== undefined, "it had the function");
      await done;
      assert.deepEqual([served.device.connectedTo, served.server.clients], [undefined, []]);
      assert.equal(served.device.memory.count, 0);
    }
  }
});

test("the function is taken back while it takes its time for an answer", async () => {
  await using served = await serveTestDevice();
  const { device, server } = served;
  const { promise, resolve } = Promise.withResolvers<void>();
  device.resetByUser = () => promise.then(() => "flr");
  using client = await FakeClient.open(served.path);
  client.send(Command.DEVICE_RESET);
  await until(() => (server.statistics.messages["DEVICE_RESET"] ?? 0) === 1, "the reset began");
  await server.disconnect("it takes too long");
  await client.hangUp();
  resolve();
  await turn();
  using next = await FakeClient.open(served.path);
  assert.equal(await next.errno(Command.REGION_WRITE, registerWrite(8, 7)), 0);
  assert.equal(device.words[2], 7);
});
