// Socket activation: somebody else made the socket, holds it while no server runs, and passes it to each that does.
// seconds: 2
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, fchmodSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { test } from "node:test";
import { UnixListener } from "../linux/index.ts";
import { FakeClient, versionPayload } from "./fake-client.ts";
import { openDescriptors, ServedTestDevice } from "./fake-served.ts";
import { Command } from "./messages.ts";
import { serve } from "./server.ts";

interface Activation extends Disposable {
  readonly path: string;
  /** Number of another descriptor of the socket, for a server to take over. */
  pass(): number;
}

function activation(): Activation {
  const directory = mkdtempSync(join(tmpdir(), "ring3-activation-"));
  const path = join(directory, "s");
  const listener = UnixListener.listen(path, { backlog: 16, before: (fd) => fchmodSync(fd.number, 0o640) });
  return {
    path,
    pass: () => listener.fd.duplicate().number,
    [Symbol.dispose]: () => {
      listener[Symbol.dispose]();
      rmSync(directory, { recursive: true });
    },
  };
}

test("clients that came before the server are served; path and permissions stay, and so does the socket", async () => {
  using socket = activation();
  const { path } = socket;
  using device = new ServedTestDevice();
  const open: number[] = [];
  for (let round = 0; round < 3; round++) {
    using early = FakeClient.connect(path);
    early.send(Command.VERSION, versionPayload());
    {
      const listenFd = socket.pass();
      await using server = await serve(device, path, { listenFd });
      assert.equal(server.path, path);
      assert.equal((await early.next()).errno, 0);
      assert.equal(statSync(path).mode & 0o777, 0o640);
      // Not for programs that this process starts.
      const flags = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${listenFd}`, "utf8"))?.[1] ?? "0";
      assert.equal(Number.parseInt(flags, 8) & 0o2000000, 0o2000000);
    }
    await early.hangUp();
    assert.ok(existsSync(path));
    open.push(openDescriptors());
  }
  assert.equal(open[2], open[1]);
});

test("what does not listen is refused, and so are permissions for a socket of somebody else", async () => {
  using socket = activation();
  using device = new ServedTestDevice();
  using client = FakeClient.connect(socket.path);
  const before = openDescriptors();
  const { number } = client.socket.fd;
  await assert.rejects(serve(device, socket.path, { listenFd: number }), { code: "LISTEN_FD_INVALID" });
  await assert.rejects(serve(device, socket.path, { listenFd: 9999 }), { code: "LISTEN_FD_INVALID" });
  for (const options of [{ mode: 0o600 }, { owner: { uid: 0, gid: 0 } }]) {
    const listenFd = socket.pass();
    await assert.rejects(serve(device, socket.path, { listenFd, ...options }), { code: "OPTION_CONFLICT" });
    // It was not taken over.
    UnixListener.inherited(listenFd)[Symbol.dispose]();
  }
  assert.equal(openDescriptors(), before);
});

test("a program that is started with the socket as its descriptor 3", async () => {
  using socket = activation();
  const text = `
    import { serve } from ${JSON.stringify(new URL("./server.ts", import.meta.url).href)};
    import { ServedTestDevice } from ${JSON.stringify(new URL("./fake-served.ts", import.meta.url).href)};
    await serve(new ServedTestDevice(), ${JSON.stringify(socket.path)}, { listenFd: 3 });
    process.stdout.write("ready");
  `;
  for (let round = 0; round < 2; round++) {
    const passed = UnixListener.inherited(socket.pass());
    const child = spawn(process.execPath, ["--input-type=module", "-e", text], {
      stdio: ["ignore", "pipe", "inherit", passed.fd.number],
    });
    passed[Symbol.dispose]();
    const exited = once(child, "exit");
    using client = FakeClient.connect(socket.path);
    client.send(Command.VERSION, versionPayload());
    await once(child.stdout as Readable, "data");
    assert.equal((await client.next()).errno, 0);
    child.kill("SIGKILL");
    await exited;
    await client.hangUp();
  }
});
