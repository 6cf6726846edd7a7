// A QEMU guest as a user of ring3d: a disk that one process serves, behind ring3d with every BAR access trapped and traced, and
// Linux that boots from ring3d's socket.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { program } from "../hostile/killed-service.ts";
import { DONE, diskSystem, ROOT_IS, WRITTEN } from "./disk-system.ts";
import { fileSystemTools } from "./ext4.ts";
import { Firmware, PORT } from "./firmware.ts";
import { probingIn } from "./probing.ts";
import { Served, vfioUserDevice } from "./served.ts";
import { skipping } from "./skipping.ts";

const COMMAND = join(import.meta.dirname, "../../packages/cli/src/main.ts");
/** Emulated machines are slow, and those of continuous integration are slower. */
const BOOT_TIMEOUT_MS = 300_000;

test("Linux boots from a disk behind ring3d, and the trace of its user reads like the probing of its driver", (t) =>
  skipping(t, async () => {
    const progress = (line: string): void => t.diagnostic(line);
    const directory = mkdtempSync(join(tmpdir(), "ring3-mediated-"));
    t.after(() => rmSync(directory, { recursive: true }));
    const at = (name: string): string => join(directory, name);
    const { image, qemu } = await diskSystem(directory, progress);
    await using served = await Served.start(["nvme", "--file", image]);
    writeFileSync(
      at("ring3d.yaml"),
      `control: ${at("control.sock")}
users-socket: ${at("users.sock")}
traces: ${directory}
functions:
  disk: { address: "vfio-user:${served.socket}", socket: ${at("disk.sock")}, users: [${process.geteuid?.() ?? 0}],
    trap: all, trace: ${at("disk.jsonl")} }
`,
    );
    const ring3d = program([COMMAND, "daemon", "--config", at("ring3d.yaml")]);
    t.after(() => void ring3d.child.kill("SIGKILL"));
    await ring3d.line(/ready/);
    {
      await using machine = await Firmware.start([...vfioUserDevice(PORT, at("disk.sock")), ...qemu], progress);
      await machine.says(DONE, 1, BOOT_TIMEOUT_MS);
      assert.ok(machine.output.includes(ROOT_IS), machine.output);
    }
    await t.test("in JSON lines and in tshark", () => probingIn(at("disk.jsonl"), t));
    ring3d.child.kill("SIGTERM");
    assert.equal(await ring3d.ended, 0);
    await served.isClean();
    assert.equal(await served.metric("faults_total"), 0, served.log);
    const run = await fileSystemTools(progress);
    // Throws where it finds anything to repair.
    run("e2fsck", ["-fn", image]);
    assert.equal(run("debugfs", ["-R", `cat ${WRITTEN.path}`, image]).toString(), WRITTEN.text);
    assert.equal(await served.stop(), 0);
  }));
