// The whole service as systemd starts it: by a user who connects, with the sockets passed, told of when it is ready.
// seconds: 2
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { FileDescriptor, UnixSocket, watch } from "ring3/linux";
import { connect } from "ring3/vfio-user";
import * as native from "../../../ring3/src/linux/native.ts";
import { captured } from "../captured-run.ts";

const activate = "systemd-socket-activate";
const skip = spawnSync(activate, ["--version"]).status === 0 ? false : `${activate} is not installed`;
const MAIN = join(import.meta.dirname, "../main.mjs");

/** A manager's socket for datagrams; `until` resolves when something was said in one of them. */
function manager(t: TestContext, path: string): { until: (words: string) => Promise<string> } {
  const [AF_UNIX, SOCK_DGRAM] = [1, 2];
  const address = new TextEncoder().encode(`\x01\0${path}\0`);
  const number = native.systemCall("socket", () => native.socket(AF_UNIX, SOCK_DGRAM, 0));
  native.systemCall("bind", () => native.bind(number, address, address.length));
  const socket = new UnixSocket(new FileDescriptor(number));
  t.after(() => socket[Symbol.dispose]());
  const heard: string[] = [];
  let look = (): void => undefined;
  watch(socket.fd, () => {
    const into = new Uint8Array(4096);
    heard.push(new TextDecoder().decode(into.subarray(0, Math.max(0, socket.receive(into).size))));
    look();
  });
  return {
    until: (words) =>
      new Promise((resolve) => {
        look = () => {
          const found = heard.find((text) => text.includes(words));
          if (found !== undefined) resolve(found);
        };
        look();
      }),
  };
}

test("whoever connects first starts the service; its users are served at the sockets that were passed", {
  skip,
}, async (t) => {
  const place = mkdtempSync(join(tmpdir(), "ring3-activation-"));
  t.after(() => rmSync(place, { recursive: true, force: true }));
  const at = (name: string): string => join(place, name);
  const device = spawn(process.execPath, [MAIN, "serve", "edu", "--socket", at("hardware.sock")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => device.kill());
  await once(device.stdout, "data");
  writeFileSync(
    at("ring3d.yaml"),
    JSON.stringify({
      control: at("control.sock"),
      "users-socket": at("users.sock"),
      traces: place,
      functions: {
        edu: { address: `vfio-user:${at("hardware.sock")}`, socket: at("edu.sock"), users: [process.getuid?.()] },
      },
    }),
  );
  // As the command is installed: a link of that name.
  const program = `import ${JSON.stringify(MAIN)};`;
  writeFileSync(at("ring3d"), program);
  const systemd = manager(t, at("notify.sock"));
  const sockets = ["control", "users", "edu"].flatMap((name) => ["--listen", at(`${name}.sock`)]);
  const words = [...sockets, "-E", `NOTIFY_SOCKET=${at("notify.sock")}`, process.execPath, at("ring3d")];
  const service = spawn(activate, [...words, "--config", at("ring3d.yaml")], { stdio: ["ignore", "ignore", "pipe"] });
  t.after(() => service.kill("SIGKILL"));
  const listening = Promise.withResolvers<void>();
  let said = "";
  service.stderr.on("data", (chunk) => {
    said += String(chunk);
    if (said.includes("edu.sock")) listening.resolve();
  });
  const exited = once(service, "exit");
  void exited.then(() => listening.reject(new Error(said)));
  await listening.promise;
  const first = await captured(["ctl", "users", "--socket", at("control.sock")]);
  assert.equal(first.stdout, "nobody has a function of the service\n", first.stderr);
  assert.equal(await systemd.until("READY=1"), "READY=1\nSTATUS=1 function: 1 ready");
  await using fn = await connect(at("edu.sock"));
  assert.equal(fn.identity.vendorId, 0x1234);
  const status = await captured(["ctl", "status", "--socket", at("control.sock"), "--json"]);
  assert.equal(status.status, 0, status.stderr);
  const { functions } = JSON.parse(status.stdout) as { functions: { state: string; users: { pid: number }[] }[] };
  assert.deepEqual(
    functions.map(({ state, users }) => [state, users.map(({ pid }) => pid)]),
    [["used", [process.pid]]],
  );
  const kicked = await captured(["ctl", "kick", "edu", "--socket", at("control.sock")]);
  assert.match(kicked.stdout, /^edu was taken from .* \(pid \d+\)\n$/);
  service.kill("SIGTERM");
  await systemd.until("STOPPING=1");
  const [code] = (await exited) as [number];
  assert.equal(code, 0, said);
  // They are the manager's, for the next service.
  for (const name of ["control", "users", "edu"]) assert.ok(existsSync(at(`${name}.sock`)), name);
});
