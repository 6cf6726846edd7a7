import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import test, { type TestContext } from "node:test";
import { VirtualFunction } from "../../../ring3/src/virtual/index.ts";
import { Context } from "../context.ts";
import { Interruption } from "../interruption.ts";
import { NO_SETTINGS } from "./no-settings.ts";
import { type StartServer, serveFunctions } from "./serve-functions.ts";

interface Scene {
  readonly context: Context;
  readonly controller: AbortController;
  readonly stdout: PassThrough;
  /** What happened, in order. */
  readonly story: string[];
  readonly start: StartServer;
  readonly options: Parameters<StartServer>[2][];
}

/** A context, and servers that only write down what is done with them. */
function scene(json = false): Scene {
  const controller = new AbortController();
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const surroundings = { stdin, stdout, stderr, environment: {}, signal: controller.signal };
  const context = new Context(surroundings, { json, quiet: true, root: "/" });
  const story: string[] = [];
  const options: Parameters<StartServer>[2][] = [];
  const start: StartServer = async (fn, path, given) => {
    story.push(`open ${path}`);
    options.push(given);
    const server = {
      path,
      fn,
      client: undefined,
      statistics: { messages: { REGION_READ: 2 }, commandsSent: {}, faults: 1 },
      [Symbol.asyncDispose]: async () => void story.push(`close ${path}`),
    };
    return server as unknown as Awaited<ReturnType<StartServer>>;
  };
  return { context, controller, stdout, story, start, options };
}

function device(): VirtualFunction {
  return new VirtualFunction({ name: "toy", vendorId: 0x1234, deviceId: 0x11, classCode: 0xff0000 });
}

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "ring3-serve-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function text(stream: PassThrough): Promise<string> {
  if (stream.readableLength === 0) await new Promise((resolve) => stream.once("readable", resolve));
  return String(stream.read());
}

test("ready in one line; a signal closes the servers, the last first, and is no failure", async () => {
  const { context, controller, stdout, story, start } = scene();
  const functions = [
    { fn: device(), path: "/tmp/a.sock" },
    { fn: device(), path: "/tmp/b.sock" },
  ];
  const serving = serveFunctions({ device: "toy", summary: "a toy", functions }, NO_SETTINGS, context, start);
  const line = await text(stdout);
  assert.equal(
    line,
    "serving toy [1234:0011] a toy, at vfio-user:/tmp/a.sock, vfio-user:/tmp/b.sock; Ctrl-C ends it\n",
  );
  controller.abort(new Interruption("stopped by SIGTERM", 143));
  await serving;
  assert.deepEqual(story, ["open /tmp/a.sock", "open /tmp/b.sock", "close /tmp/b.sock", "close /tmp/a.sock"]);
});

test("--json: the same as one line of JSON", async () => {
  const { context, controller, stdout, start } = scene(true);
  const functions = [{ fn: device(), path: "/tmp/a.sock" }];
  const serving = serveFunctions({ device: "toy", summary: "", functions }, NO_SETTINGS, context, start);
  const line = await text(stdout);
  assert.equal(line.trimEnd().includes("\n"), false);
  const ready = JSON.parse(line) as Record<string, unknown>;
  assert.deepEqual(Object.keys(ready), ["event", "device", "pid", "functions"]);
  const [first] = ready["functions"] as Record<string, unknown>[];
  assert.deepEqual([first?.["address"], first?.["name"]], ["vfio-user:/tmp/a.sock", "toy"]);
  controller.abort(new Interruption("stopped by SIGINT", 130));
  await serving;
});

test("settings reach the server; what it tells and what the function does is in the log, numbers in the metrics", async (t) => {
  const directory = place(t);
  const [log, metrics] = [join(directory, "events.jsonl"), join(directory, "metrics.sock")];
  const { context, controller, stdout, start, options } = scene();
  const fn = Object.assign(device(), { statistics: { readCommands: 4, name: "x" } });
  const settings = {
    ...NO_SETTINGS,
    mode: 0o660,
    allowUids: [7],
    openings: 2,
    queue: 3,
    state: "/s",
    keepState: true,
    log,
    metrics,
    logMessages: true,
  };
  const serving = serveFunctions(
    { device: "toy", summary: "", functions: [{ fn, path: "/x" }] },
    settings,
    context,
    start,
  );
  await text(stdout);
  const [given] = options;
  assert.deepEqual(
    [given?.mode, given?.allowUids, given?.state, given?.keepState, given?.twinSocket, given?.owner],
    [0o660, [7], "/s", true, true, undefined],
  );
  assert.deepEqual([given?.openings, given?.queue], [2, 3]);
  given?.onEvent?.({ type: "connected", pid: 1, uid: 2, gid: 3 });
  given?.onMessage?.({
    direction: "received",
    command: "VERSION",
    kind: "command",
    messageId: 0,
    size: 16,
    fds: 0,
    errno: 0,
  });
  fn.resetForUser();
  const { connect } = await import("node:net");
  const socket = connect({ path: metrics, allowHalfOpen: true });
  socket.end();
  let said = "";
  for await (const chunk of socket.setEncoding("utf8")) said += chunk;
  assert.match(said, /^ring3_messages_total\{socket="\/x",command="region_read"\} 2$/m);
  assert.match(said, /^ring3_faults_total\{socket="\/x"\} 1$/m);
  assert.match(said, /^ring3_device_read_commands_total\{socket="\/x"\} 4$/m);
  assert.doesNotMatch(said, /ring3_device_name/);
  assert.match(said, /^ring3_connected\{socket="\/x"\} 0$/m);
  controller.abort(new Interruption("stopped by SIGTERM", 143));
  await serving;
  assert.equal(existsSync(metrics), false);
  const lines = readFileSync(log, "utf8").trimEnd().split("\n");
  const events = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    events.map(({ event }) => event),
    ["ready", "connected", "message", "reset", "stopping"],
  );
  assert.deepEqual([events[1]?.["socket"], events[1]?.["uid"]], ["/x", 2]);
  assert.equal(events.at(-1)?.["reason"], "stopped by SIGTERM");
});

test("a server that cannot start closes those that did", async () => {
  const { context, story, start } = scene();
  const failing: StartServer = async (fn, path, options) => {
    if (path === "/b") throw Object.assign(new Error("no"), { code: "SOCKET_BUSY" });
    return await start(fn, path, options);
  };
  const functions = ["/a", "/b"].map((path) => ({ fn: device(), path }));
  await assert.rejects(serveFunctions({ device: "toy", summary: "", functions }, NO_SETTINGS, context, failing), /no/);
  assert.deepEqual(story, ["open /a", "close /a"]);
});
