// Whatever an administrator's program sends, however it is cut into pieces: each whole line has one answer, in order, and nothing
// happens to the service but what was asked for.
// seconds: 4
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import fc from "fast-check";
import { openFilesCount } from "ring3/linux";
import { serveControl } from "./control-socket.ts";
import { FakeService, status } from "./fake-service.ts";

/** What comes back until the service ends the connection, when `pieces` are sent one after the other. */
async function answered(path: string, pieces: readonly Uint8Array[]): Promise<string[]> {
  const socket = connect({ path, allowHalfOpen: true }).on("error", () => undefined);
  await once(socket, "connect");
  let text = "";
  socket.on("data", (chunk) => (text += String(chunk)));
  const ended = once(socket, "close");
  for (const piece of pieces) {
    socket.write(piece);
    await new Promise((resolve) => setImmediate(resolve));
  }
  socket.end();
  await ended;
  return text.split("\n").slice(0, -1);
}

const odd: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: "binary", maxLength: 40 }).map((text) => text.replaceAll("\n", "")),
  fc.json().map((text) => text.replaceAll("\n", "")),
  fc
    .record(
      {
        id: fc.oneof(fc.integer(), fc.string(), fc.constant(null)),
        request: fc.constantFrom("status", "users", "kick", "trace", "reload", "stop", "__proto__", "toString", 7),
        function: fc.constantFrom("disk", "card", "", "constructor", 1, null),
        on: fc.constantFrom(true, false, 0, "true"),
        reason: fc.oneof(fc.string(), fc.constant({})),
      },
      { requiredKeys: ["request"] },
    )
    .map((request) => JSON.stringify(request)),
);

test("every line has its answer, whatever it is and however it comes", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "ring3-control-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "control.sock");
  const service = new FakeService(status("disk"), status("card"));
  const control = await serveControl(service, path);
  t.after(() => control[Symbol.asyncDispose]());
  await fc.assert(
    fc.asyncProperty(
      fc.array(odd, { maxLength: 12 }),
      fc.array(fc.nat({ max: 400 }), { maxLength: 6 }),
      async (lines, cuts) => {
        service.asked.length = 0;
        const bytes = new TextEncoder().encode(lines.map((line) => `${line}\n`).join(""));
        const ends = [...cuts.map((cut) => Math.min(cut, bytes.length)).toSorted((a, b) => a - b), bytes.length];
        const pieces = ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end));
        const answers = (await answered(path, pieces)).map((answer) => JSON.parse(answer) as Record<string, unknown>);
        const asked = lines.filter((line) => line.trim() !== "");
        assert.equal(answers.length, asked.length);
        for (const [index, answer] of answers.entries()) {
          assert.ok("result" in answer !== "error" in answer, JSON.stringify(answer));
          if ("id" in answer) assert.deepEqual(answer["id"], (JSON.parse(asked[index] ?? "") as { id: unknown }).id);
        }
        const meant = asked.filter((line) => /"request":"(?:kick|trace|reload)"/.test(line));
        assert.ok(service.asked.length <= meant.length);
      },
    ),
    { numRuns: 150 },
  );
  assert.deepEqual(await answered(path, [new TextEncoder().encode('{"request":"users"}\n')]), [
    '{"result":{"users":[]}}',
  ]);
});

const asRoot = { skip: process.getuid?.() === 0 ? false : "only root can be somebody else" };

test("strangers who connect and say nothing keep no administrator out, and cost few descriptors", asRoot, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "ring3-control-"));
  chmodSync(directory, 0o755);
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "control.sock");
  const control = await serveControl(new FakeService(status("disk")), path);
  t.after(() => control[Symbol.asyncDispose]());
  chmodSync(path, 0o666);
  const before = openFilesCount();
  const program = `
    process.setgroups([]); process.setgid(1000); process.setuid(1000);
    let open = 0;
    // More than the kernel keeps waiting are turned away by it, and try again.
    const connect = () => {
      const socket = require("node:net").connect(${JSON.stringify(path)});
      socket.once("error", (error) => { if (error.code === "EAGAIN") setImmediate(connect); });
      socket.once("connect", () => { if (++open === 500) process.stdout.write("all"); });
    };
    for (let count = 0; count < 500; count++) connect();
    setInterval(() => undefined, 1000);`;
  const stranger = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => stranger.kill());
  await once(stranger.stdout, "data");
  assert.deepEqual(await answered(path, [new TextEncoder().encode('{"request":"users"}\n')]), [
    '{"result":{"users":[]}}',
  ]);
  const more = openFilesCount() - before;
  // Those that are heard, and the pipe to the other process.
  assert.ok(more <= 8 + 4, `${more} descriptors more`);
});
