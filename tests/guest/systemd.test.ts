// ring3d under a systemd that is PID 1, on Debian's kernel: the packages as they would be published, installed and enabled as
// docs/ring3d.md tells an administrator, and driven by an ordinary user.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { installPackages } from "../../scripts/packaging.ts";
import { GuestUnavailable } from "./cache.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { runSuite } from "./run.ts";

/** The guest is as slow as the machine is busy: systemd starts sixty programs before it is up, and the tests the service six times. */
const BOOT_TIMEOUT_MS = 900_000;
const TIMEOUT_MS = 1_800_000;

test("ring3d under Debian's systemd", { timeout: BOOT_TIMEOUT_MS + 2 * TIMEOUT_MS }, async (t) => {
  const place = mkdtempSync(join(tmpdir(), "ring3-installed-"));
  t.after(() => rmSync(place, { recursive: true, force: true }));
  const modules = await installPackages(place);
  let guest: Guest;
  try {
    guest = await bootGuest({
      kernel: "debian",
      init: "systemd",
      bind: false,
      bootTimeoutMs: BOOT_TIMEOUT_MS,
      machine: { append: "TERM=dumb" },
      progress: (line) => t.diagnostic(line),
    });
  } catch (error) {
    if (!(error instanceof GuestUnavailable)) throw error;
    t.skip(error.message);
    return;
  }
  await using running = guest;
  t.diagnostic(`systemd's guest is up after ${(running.bootTimes.readyMs / 1000).toFixed(1)} s`);
  await running.share("installed", modules);
  const path = "/ring3/tests/guest/systemd/service.guest.js";
  await runSuite(t, running, "debian", { name: "service", path, timeoutMs: TIMEOUT_MS });
});
