import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { serveMetrics } from "./metrics-socket.ts";

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "ring3-metrics-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "metrics.sock");
}

async function ask(
  socketPath: string,
  path: string,
  method = "GET",
): Promise<{ status: number; body: string; type: string }> {
  const sent = request({ socketPath, path, method });
  sent.end();
  const [response] = (await once(sent, "response")) as [import("node:http").IncomingMessage];
  let body = "";
  for await (const chunk of response.setEncoding("utf8")) body += chunk;
  return { status: response.statusCode ?? 0, body, type: response.headers["content-type"] ?? "" };
}

/** Connects, says `words`, and ends its side where asked; what came back. */
async function plain(path: string, words: string, end: boolean): Promise<string> {
  const socket = connect({ path, allowHalfOpen: true });
  if (end) socket.end(words);
  else if (words !== "") socket.write(words);
  let text = "";
  for await (const chunk of socket.setEncoding("utf8")) text += chunk;
  socket.destroy();
  return text;
}

test("HTTP GET and HEAD get a response, other paths and methods an answer that says so", async (t) => {
  const path = place(t);
  let count = 0;
  await using _metrics = await serveMetrics(path, () => `ring3_x ${++count}\n`, { silenceMs: 60_000 });
  const first = await ask(path, "/metrics");
  assert.deepEqual(first, { status: 200, body: "ring3_x 1\n", type: "text/plain; version=0.0.4; charset=utf-8" });
  assert.equal((await ask(path, "/metrics?x=1")).body, "ring3_x 2\n", "made anew for each reader");
  assert.deepEqual((await ask(path, "/metrics", "HEAD")).body, "");
  assert.equal((await ask(path, "/else")).status, 404);
  assert.equal((await ask(path, "/metrics", "POST")).status, 405);
});

test("whoever only connects gets the text, whether it ends its side or stays silent", async (t) => {
  const path = place(t);
  {
    await using _impatient = await serveMetrics(path, () => "ring3_x 1\n", { silenceMs: 1 });
    assert.equal(await plain(path, "", false), "ring3_x 1\n");
  }
  await using _metrics = await serveMetrics(path, () => "ring3_x 1\n", { silenceMs: 60_000 });
  assert.equal(await plain(path, "", true), "ring3_x 1\n");
  assert.match(await plain(path, "nonsense\n", true), /^HTTP\/1\.1 400 /);
  assert.match(await plain(path, "GET /metr", true), /^HTTP\/1\.1 400 /);
  assert.equal(await plain(path, "x".repeat(20_000), false).catch(() => ""), "", "an endless request is cut off");
});

test("a socket that is left over is taken over, one in use and a file are not; disposal removes it", async (t) => {
  const path = place(t);
  {
    await using _first = await serveMetrics(path, () => "1\n");
    await assert.rejects(
      serveMetrics(path, () => "2\n"),
      /another process serves metrics there/,
    );
    assert.equal(await plain(path, "", true), "1\n");
  }
  assert.equal(existsSync(path), false);
  // A process that is killed leaves its socket: so does a server whose descriptor is closed behind Node's back.
  const { spawnSync } = await import("node:child_process");
  const program = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
  spawnSync(process.execPath, ["-e", program]);
  assert.equal(existsSync(path), true);
  {
    await using _second = await serveMetrics(path, () => "2\n");
    assert.equal(await plain(path, "", true), "2\n");
  }
  writeFileSync(path, "precious");
  await assert.rejects(
    serveMetrics(path, () => ""),
    /no socket/,
  );
});

test("disposal ends connections that wait", async (t) => {
  const path = place(t);
  const metrics = await serveMetrics(path, () => "1\n", { silenceMs: 60_000 });
  const socket = connect(path);
  await once(socket, "connect");
  const closed = once(socket, "close");
  await metrics[Symbol.asyncDispose]();
  await closed;
  assert.equal(existsSync(path), false);
  // The path is free again for somebody else.
  const other = createServer().listen(path);
  await once(other, "listening");
  other.close();
});

test("a reader that never hangs up is hung up on", async (t) => {
  const path = place(t);
  await using _metrics = await serveMetrics(path, () => "ring3_x 1\n", { silenceMs: 20, lingerMs: 20 });
  const socket = connect({ path, allowHalfOpen: true });
  const gone = new Promise<void>((resolve) => socket.once("error", () => resolve()).once("close", () => resolve()));
  socket.resume();
  await once(socket, "end");
  // Nothing tells a half-open side that the other is gone but the failure of its next write.
  const writing = setInterval(() => socket.write("x"), 30);
  await gone;
  clearInterval(writing);
  socket.destroy();
});

const root = { skip: process.getuid?.() === 0 ? false : "only root may give a socket to any group" };

test("a group may ask where one is named", root, async (t) => {
  const path = place(t);
  await using _metrics = await serveMetrics(path, () => "ring3_up 1\n", { group: 4321 });
  const { mode, gid } = statSync(path);
  assert.deepEqual([mode & 0o777, gid], [0o660, 4321]);
});
