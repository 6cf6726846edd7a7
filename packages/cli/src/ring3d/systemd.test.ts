// seconds: 2
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { FileDescriptor, UnixSocket } from "ring3/linux";
import * as native from "../../../ring3/src/linux/native.ts";
import { listenFds, notify } from "./systemd.ts";

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "ring3-systemd-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A socket that takes datagrams, as the manager's. */
function manager(address: string): UnixSocket {
  const [AF_UNIX, SOCK_DGRAM] = [1, 2];
  const bytes = new TextEncoder().encode(`\x01\0${address.replace(/^@/, "\0")}`);
  const number = native.systemCall("socket", () => native.socket(AF_UNIX, SOCK_DGRAM, 0));
  native.systemCall("bind", () => native.bind(number, bytes, bytes.length));
  return new UnixSocket(new FileDescriptor(number));
}

test("the manager is told, at a path and at an abstract name", (t) => {
  const addresses = [join(directory(t), "notify"), `@ring3-notify-${process.pid}`];
  for (const NOTIFY_SOCKET of addresses) {
    using socket = manager(NOTIFY_SOCKET);
    const heard = (): string => {
      const into = new Uint8Array(1000);
      const { size } = socket.receive(into);
      return new TextDecoder().decode(into.subarray(0, Math.max(0, size)));
    };
    assert.ok(notify({ NOTIFY_SOCKET }, { READY: 1, STATUS: "serving 2\nfunctions" }));
    assert.equal(heard(), "READY=1\nSTATUS=serving 2 functions");
    assert.ok(notify({ NOTIFY_SOCKET }, { RELOADING: 1, MONOTONIC_USEC: 12_345 }));
    assert.ok(notify({ NOTIFY_SOCKET }, { STOPPING: 1 }));
    assert.equal(heard(), "RELOADING=1\nMONOTONIC_USEC=12345");
    assert.equal(heard(), "STOPPING=1");
  }
});

test("without a manager nobody is told, and that is no failure", (t) => {
  for (const NOTIFY_SOCKET of [undefined, "", "@", "relative", "vsock:2:1", join(directory(t), "nobody"), "@nobody"]) {
    assert.equal(notify({ NOTIFY_SOCKET }, { READY: 1 }), false);
  }
});

test("sockets for another process are not ours; variables that no manager writes are refused", () => {
  const others = { LISTEN_PID: "1", LISTEN_FDS: "1", LISTEN_FDNAMES: "control", PATH: "/bin" };
  assert.deepEqual(listenFds(others), []);
  assert.deepEqual(others, { PATH: "/bin" });
  assert.deepEqual(listenFds({}), []);
  for (const LISTEN_FDS of ["-1", "1e3", "99999", "x"]) {
    assert.throws(() => listenFds({ LISTEN_PID: "7", LISTEN_FDS }, 7), { code: "USAGE" });
  }
});

const activate = "systemd-socket-activate";
const skip = spawnSync(activate, ["--version"]).status === 0 ? false : `${activate} is not installed`;

test("systemd's own activation: the control socket is there before the service, and its client is answered", {
  skip,
}, async (t) => {
  const place = directory(t);
  const path = join(place, "control.sock");
  const here = (file: string): string => JSON.stringify(join(import.meta.dirname, file));
  writeFileSync(
    join(place, "service.mjs"),
    `import { readFileSync } from "node:fs";
    import { basename } from "node:path";
    import { serveControl } from ${here("control-socket.ts")};
    import { FakeService, status } from ${here("fake-service.ts")};
    import { byPath, listenFds } from ${here("systemd.ts")};
    const passed = listenFds(process.env);
    const find = byPath(passed);
    const path = ${JSON.stringify(path)};
    const closesOnExec = ({ number }) => {
      const flags = /^flags:\\s*(\\d+)/m.exec(readFileSync("/proc/self/fdinfo/" + number, "utf8"))[1];
      return (parseInt(flags, 8) & 0o2000000) !== 0;
    };
    const facts = {
      sockets: passed.map(({ name, path, fd }) => [name, basename(path), closesOnExec(fd)]),
      others: find("/elsewhere") ?? null,
      left: Object.keys(process.env).filter((name) => name.startsWith("LISTEN_")),
    };
    const service = new FakeService(status(JSON.stringify(facts)));
    // A first user of the socket ends, and the next one finds it again.
    await (await serveControl(service, path, { listenFd: find(path) }))[Symbol.asyncDispose]();
    await serveControl(service, path, { listenFd: find(path) });`,
  );
  const sockets = [path, join(place, "users.sock"), join(place, "more.sock")].flatMap((socket) => ["--listen", socket]);
  const words = [...sockets, "--fdname=control:users:users", process.execPath, join(place, "service.mjs")];
  const child = spawn(activate, words, { stdio: ["ignore", "ignore", "pipe"] });
  t.after(() => child.kill());
  // It says so once it listens.
  const listening = Promise.withResolvers<void>();
  let said = "";
  child.stderr.on("data", (chunk) => {
    said += String(chunk);
    if (said.includes("more.sock")) listening.resolve();
  });
  child.once("exit", () => listening.reject(new Error(said)));
  await listening.promise;
  const client = connect(path);
  client.write('{"request":"status"}\n');
  const [answer] = (await once(client, "data")) as [Buffer];
  client.destroy();
  const { result } = JSON.parse(String(answer)) as { result: { functions: { name: string }[] } };
  assert.deepEqual(JSON.parse(result.functions[0]?.name ?? ""), {
    sockets: [
      ["control", "control.sock", true],
      ["users", "users.sock", true],
      ["users", "more.sock", true],
    ],
    others: null,
    left: [],
  });
});

const UNITS = join(import.meta.dirname, "../../systemd");
const hasAnalyze = spawnSync("systemd-analyze", ["--version"]).status === 0;
const analyzed = { skip: hasAnalyze ? false : "systemd-analyze is not installed" };

/** The units with programs that are there, since ring3d may not be installed. */
function installed(t: TestContext): { services: string[]; sockets: string[] } {
  const place = directory(t);
  for (const name of readdirSync(UNITS)) {
    const text = readFileSync(join(UNITS, name), "utf8").replaceAll(
      /^(Exec\w+=-?)ring3d? /gm,
      `$1${process.execPath} `,
    );
    // A template is looked at as an instance of it.
    writeFileSync(join(place, name.replace("@.", "@disk.")), text);
  }
  const paths = readdirSync(place).map((name) => join(place, name));
  return {
    services: paths.filter((path) => path.endsWith(".service")),
    sockets: paths.filter((path) => path.endsWith(".socket")),
  };
}

test("systemd takes the units without a word", analyzed, (t) => {
  const { services, sockets } = installed(t);
  assert.deepEqual([services.length, sockets.length], [2, 3]);
  const verified = spawnSync("systemd-analyze", ["verify", "--man=no", ...services, ...sockets], { encoding: "utf8" });
  assert.deepEqual([verified.status, verified.stdout, verified.stderr], [0, "", ""]);
});

test("systemd's own judgement of the services' exposure is below 2 of 10", analyzed, (t) => {
  for (const service of installed(t).services) {
    const words = ["security", "--offline=yes", "--no-pager", "--threshold=19", service];
    const judged = spawnSync("systemd-analyze", words, { encoding: "utf8" });
    assert.equal(judged.status, 0, judged.stdout + judged.stderr);
  }
});

const asRoot = process.getuid?.() === 0 && spawnSync("setpriv", ["--version"]).status === 0;
const limited = { skip: asRoot ? false : "needs root and setpriv (util-linux)" };

test(
  "the unit's capabilities suffice for sockets of users and groups, made anew after a crash; less does not",
  limited,
  (t) => {
    const place = directory(t);
    const unit = readFileSync(join(UNITS, "ring3d.service"), "utf8");
    const [, bounding = ""] = /^CapabilityBoundingSet=(.*)$/m.exec(unit) ?? [];
    const kept = bounding.split(" ").map((name) => name.replace("CAP_", "+").toLowerCase());
    const library = JSON.stringify(join(import.meta.dirname, "../../../ring3/src/linux/server-socket.ts"));
    writeFileSync(
      join(place, "crash.mjs"),
      `import { listenAt } from ${library};
    listenAt(${JSON.stringify(join(place, "user.sock"))}, { mode: 0o600, owner: { uid: 1000, gid: 0 } });
    listenAt(${JSON.stringify(join(place, "group.sock"))}, { mode: 0o660, owner: { uid: 0, gid: 4321 } });
    process.kill(process.pid, "SIGKILL");`,
    );
    const run = (capabilities: readonly string[]): string | null => {
      const words = ["--no-new-privs", `--bounding-set=${["-all", ...capabilities].join(",")}`];
      return spawnSync("setpriv", [...words, process.execPath, join(place, "crash.mjs")]).signal;
    };
    for (let time = 0; time < 2; time++) {
      assert.equal(run(kept), "SIGKILL");
      const { uid, mode } = statSync(join(place, "user.sock"));
      assert.deepEqual([uid, mode & 0o777, statSync(join(place, "group.sock")).gid], [1000, 0o600, 4321]);
    }
    assert.equal(run([]), null);
  },
);
