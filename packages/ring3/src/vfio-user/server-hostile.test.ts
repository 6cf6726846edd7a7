import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { createMemoryFile, EventFd, type FileDescriptor } from "../linux/index.ts";
import { BARE_VERSION, FakeClient, message, turn, until } from "./fake-client.ts";
import { openDescriptors, serveTestDevice } from "./fake-served.ts";
import { Command, DeviceInfo } from "./messages.ts";

const interesting = fc.oneof(
  fc.constantFrom(0n, 1n, 4n, 16n, 32n, 0x1000n, 0xffff_ffffn, 2n ** 31n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n),
  fc.bigInt({ min: 0n, max: 0x4000n }),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);
const word = fc.oneof(
  fc.nat(64),
  fc.constantFrom(0x21, 0x22, 0x24, 0x1000, 0xffff_ffff),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);

/** Payloads that look like something: words and quadwords that the structures might have at their places. */
const payload = fc
  .array(fc.oneof({ arbitrary: word, weight: 3 }, { arbitrary: interesting, weight: 2 }), { maxLength: 12 })
  .map((values) => {
    const bytes: number[] = [];
    for (const value of values) {
      const width = typeof value === "bigint" ? 8 : 4;
      for (let i = 0; i < width; i++) bytes.push(Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
    }
    return Uint8Array.from(bytes);
  });

const sent = fc.record({
  command: fc.oneof(fc.constantFrom(...Object.values(Command)), fc.nat(30)),
  payload: fc.oneof(payload, fc.uint8Array({ maxLength: 80 })),
  flags: fc.oneof(fc.constantFrom(0, 0, 0, 0x10), fc.constantFrom(1, 2, 0x20, 0x30, 0xffff_fff0)),
  fds: fc.array(fc.nat(3), { maxLength: 4 }),
  /** What the header claims beyond the truth; mostly nothing. */
  more: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, -1, 1000),
});

test("no sequence of messages stops the server, or leaves descriptors or maps behind", async () => {
  await using served = await serveTestDevice({ clientTimeoutMs: 1 });
  using file = createMemoryFile(0x10_0000);
  using event = new EventFd();
  // The client's own socket too: kept by the server it would make the client look alive for ever.
  const kinds = (client: FakeClient): readonly FileDescriptor[] => [
    file,
    event.fd,
    client.socket.fd,
    served.server.closed ? file : event.fd,
  ];
  await turn();
  const before = openDescriptors();
  let answered = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(sent, { minLength: 1, maxLength: 25 }), fc.boolean(), async (messages, greets) => {
      using client = FakeClient.connect(served.path);
      client.raw(message(Command.VERSION, greets ? BARE_VERSION : Uint8Array.of(9)));
      for (const { command, payload: body, flags, fds, more } of messages) {
        const bytes = message(command, body, { flags, size: 16 + body.length + more });
        const choice = kinds(client);
        client.socket.send(
          [bytes],
          fds.map((kind) => choice[kind] as FileDescriptor),
        );
        if (command === Command.REGION_READ) await turn();
      }
      await turn();
      await turn();
    }),
    { numRuns: 400 },
  );
  await until(() => served.server.client === undefined, "the last client is gone");
  using client = await FakeClient.open(served.path);
  answered += (await client.request(Command.DEVICE_GET_INFO, DeviceInfo.bytes({ argsz: 16 }))).errno === 0 ? 1 : 0;
  client[Symbol.dispose]();
  await until(() => served.server.client === undefined, "it is gone");
  await until(() => openDescriptors() === before, `${before} descriptors are open again`);
  assert.equal(answered, 1);
  assert.equal(served.device.memory.count, 0);
});
