// A client of ours that waits for a function, and what it says where it waits in vain.
// seconds: 2
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Script, LyingServer } from "../../../../tests/fakes/lying-server.ts";
import { ServedFunction } from "../../../../tests/contract/served-function.ts";
import { SAMPLE_CONSTANT, Sample } from "../../../../tests/fakes/sample-device.ts";
import { open } from "../index.ts";
import { openFilesCount } from "../linux/limits.ts";
import { connect } from "./client.ts";
import { Command } from "./messages.ts";

const sample = new URL("../../../../tests/fakes/sample-device.ts", import.meta.url);
const LONG_MS = 60_000;

async function served(options: Readonly<Record<string, number>>): Promise<ServedFunction> {
  return await ServedFunction.start({
    module: sample,
    create: "new device.SampleDevice()",
    options,
    afterwards: "server.on(({ type }) => say(type)); onTold((text) => say(String(server.statistics[text])));",
  });
}

describe("a function that another client has", () => {
  test("is awaited without holding up the thread, and is as new then", async () => {
    await using server = await served({ queue: 1 });
    const first = await connect(server.path);
    assert.equal(await server.line(), "connected");
    first.bar(0).write32(Sample.SCRATCH, 7);
    const awaited = open(`vfio-user:${server.path}`, { waitMs: LONG_MS });
    assert.equal(await server.line(), "waiting");
    // This thread works on.
    assert.equal(first.bar(0).read32(Sample.SCRATCH), 7);
    server.tell("waiting");
    assert.equal(await server.line(), "1");
    await first[Symbol.asyncDispose]();
    await using second = await awaited;
    assert.equal(second.bar(0).read32(Sample.SCRATCH), 0);
    assert.equal(second.bar(0).read32(Sample.CONSTANT), SAMPLE_CONSTANT);
  });

  test("is not to be had: the server says who has it, or the client that it may wait longer", async () => {
    await using server = await served({ queue: 1, queueMs: 50 });
    await using holder = await connect(server.path);
    const refused = { code: "SERVER_REFUSED", errno: "EBUSY", message: new RegExp(`in use by pid ${process.pid} `) };
    await assert.rejects(connect(server.path, { waitMs: LONG_MS }), refused);
    await using patient = await served({ queue: 1 });
    await using other = await connect(patient.path);
    const late = { code: "SERVER_TIMEOUT", errno: "ETIMEDOUT" };
    await assert.rejects(connect(patient.path, { timeoutMs: 20 }), { ...late, message: /has clients wait .*waitMs/ });
    const inVain = connect(patient.path, { timeoutMs: 20, waitMs: 20 });
    await assert.rejects(inVain, { ...late, message: /within 40 ms: another client has it.*waitMs/ });
    // Who gave up left the line, and nobody else is disturbed.
    await assert.rejects(connect(server.path, { waitMs: LONG_MS }), refused);
    for (const fn of [holder, other]) assert.equal(fn.bar(0).read32(Sample.CONSTANT), SAMPLE_CONSTANT);
  });
});

test("whatever a server does to a client that waits, it is left with an error and nothing else", async () => {
  const lies: readonly (readonly [script: Script, code: string])[] = [
    [[{ command: Command.VERSION, pieces: [] }], "SERVER_TIMEOUT"],
    [[{ command: Command.VERSION, pieces: ["close"] }], "CONNECTION_LOST"],
    [[{ command: Command.VERSION, pieces: [{ raw: new Uint8Array(7) }] }], "SERVER_TIMEOUT"],
    [
      [{ command: Command.VERSION, pieces: [{ payload: new Uint8Array(0), flags: 0x21, error: 16 }] }],
      "SERVER_REFUSED",
    ],
    [[], "nothing"],
  ];
  const round = async (): Promise<number> => {
    {
      await using server = await LyingServer.start(...lies.map(([script]) => script));
      for (const [, expected] of lies) {
        let code = "nothing";
        try {
          // Only silence takes as long as it may.
          const timeoutMs = expected === "SERVER_TIMEOUT" ? 30 : LONG_MS;
          await using _fn = await connect(server.path, { timeoutMs, waitMs: timeoutMs, doorbells: false });
        } catch (error) {
          ({ code } = error as { code: string });
        }
        assert.equal(code, expected);
      }
      await server.heard();
    }
    return openFilesCount();
  };
  // A first round opens what stays open for good.
  const before = await round();
  assert.equal(await round(), before);
});
