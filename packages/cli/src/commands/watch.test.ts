// seconds: 3
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { FakeMachine } from "../../../ring3/src/host/fake-machine.ts";
import { captured } from "../captured-run.ts";
import { Interruption } from "../interruption.ts";
import { styleFor } from "../text.ts";
import { watchLine } from "../watch/watch-line.ts";

const address = "0000:01:00.0";

test("lines for people", () => {
  const line = (event: Parameters<typeof watchLine>[1]): string =>
    watchLine(new Date(2026, 0, 2, 3, 4, 5), event, styleFor(false, {})).slice("03:04:05 ".length);
  assert.equal(line({ type: "added", address }), `${address} added`);
  assert.equal(line({ type: "bound", address, driver: "vfio-pci" }), `${address} bound to vfio-pci`);
  assert.equal(line({ type: "node-removed", node: "/dev/vfio/14", address: undefined }), "/dev/vfio/14 is gone");
  assert.equal(
    line({ type: "error", address, phase: "BEGIN_RECOVERY" }),
    `${address} the kernel's error handling: begin recovery`,
  );
  const before = { speed: "8.0 GT/s PCIe", width: 4 };
  assert.equal(
    line({ type: "link", address, before, link: { speed: "2.5 GT/s PCIe", width: 1 } }),
    `${address} link 8.0 GT/s PCIe x4 -> 2.5 GT/s PCIe x1`,
  );
  assert.equal(
    line({
      type: "aer",
      address,
      severity: "fatal",
      errors: { MALFORMED_TLP: 1, ECRC_ERROR: 2 },
      first: "ECRC_ERROR",
      packet: {
        dwords: [0x40000001, 0x0100000f, 0xfee00000, 0],
        header: { type: "MWr", meaning: "memory write", lengthDwords: 1, trafficClass: 0, poisoned: true },
        source: "kernel-log",
      },
    }),
    `${address} fatal error: Malformed TLP, ECRC Error x2; first ECRC Error; ` +
      "packet MWr (memory write), poisoned [40000001 0100000f fee00000 00000000]",
  );
  assert.equal(
    line({ type: "function-event", address: "vfio-user:/a", event: "removal-requested", facts: { graceMs: 500 } }),
    "vfio-user:/a removal requested: graceMs 500",
  );
});

test("changes of a machine as one JSON object a line, and an end after some", { timeout: 60_000 }, async () => {
  using machine = new FakeMachine([{ address }, { address: "0000:02:00.0" }]);
  const state = (at: string): string => join(machine.paths.sysfsRoot, "bus/pci/devices", at, "power_state");
  const watching = captured(["watch", address, "--json", "--count", "2", "--interval", "10", "--root", machine.root]);
  // Nobody tells when the first look is over: it goes on changing until enough was seen.
  let on = true;
  const changing = setInterval(() => {
    on = !on;
    for (const at of [address, "0000:02:00.0"]) writeFileSync(state(at), on ? "D0\n" : "D3hot\n");
  }, 30);
  const { status, stdout, stderr } = await watching;
  clearInterval(changing);
  assert.equal(status, 0);
  assert.match(stderr, /out of sight: error counters.*\nwatching 0000:01:00\.0; Ctrl-C ends it\n$/s);
  const events = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    events.map((event) => [event["type"], event["address"]]),
    [
      ["power", address],
      ["power", address],
    ],
  );
  assert.deepEqual(Object.keys(events[0] ?? {}), ["time", "type", "address", "state", "before"]);
});

test("Ctrl-C and --for are how a watch ends; quiet says nothing", async () => {
  using machine = new FakeMachine([{ address }]);
  const controller = new AbortController();
  const watching = captured(["watch", "-q", "--root", machine.root], { signal: controller.signal });
  controller.abort(new Interruption("stopped by SIGINT", 130));
  assert.deepEqual(await watching, { status: 0, stdout: "", stderr: "" });
  assert.equal((await captured(["watch", "-q", "--for", "1", "--root", machine.root])).status, 0);
});

test("what a served function tells is shown only where it may be opened", { timeout: 60_000 }, async (t) => {
  assert.equal((await captured(["watch", "vfio-user:/x.sock"])).status, 2);
  assert.equal((await captured(["watch", "--open"])).status, 2);
  const directory = mkdtempSync(join(tmpdir(), "ring3-watch-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const socket = join(directory, "edu.sock");
  const child = spawn(process.execPath, [join(import.meta.dirname, "../main.mjs"), "serve", "edu", "--socket", socket]);
  await once(child.stdout, "data");
  const watching = spawn(process.execPath, [
    join(import.meta.dirname, "../main.mjs"),
    "watch",
    `vfio-user:${socket}`,
    "--open",
    "--json",
  ]);
  let [stdout, stderr] = ["", ""];
  watching.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
  const closed = once(watching, "close");
  for await (const data of watching.stderr) {
    stderr += String(data);
    if (stderr.includes("watching")) break;
  }
  child.kill("SIGKILL");
  assert.deepEqual(await closed, [0, null], "nothing is left to watch");
  const event = JSON.parse(stdout) as Record<string, unknown>;
  assert.deepEqual([event["type"], event["event"]], ["function-event", "removed"]);
});

test("docs/watch.md names every event and every key", () => {
  const text = readFileSync(join(import.meta.dirname, "../../../../docs/watch.md"), "utf8");
  const types = "added removed bound unbound error node-added node-removed overflow aer link power function-event";
  for (const name of types.split(" ")) assert.ok(text.includes(`| \`${name}\` |`), name);
});
