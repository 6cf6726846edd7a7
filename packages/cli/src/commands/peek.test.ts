// seconds: 1
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { captured } from "../captured-run.ts";
import { parseRegisterPlace } from "../register-place.ts";

test("places: area, offset, width, value and mask", () => {
  const parsed = (text: string) => {
    const { area, bar, offset, width, value, mask } = parseRegisterPlace(text);
    return [area, bar, offset, width, value, mask];
  };
  assert.deepEqual(parsed("bar0+0x14"), ["bar", 0, 0x14, 4, undefined, undefined]);
  assert.deepEqual(parsed("BAR2.Q"), ["bar", 2, 0, 8, undefined, undefined]);
  assert.deepEqual(parsed("config+6.w=0x10:0xff"), ["config", 0, 6, 2, 0x10n, 0xffn]);
  assert.deepEqual(parsed("rom+4.b"), ["rom", 0, 4, 1, undefined, undefined]);
  for (const text of ["bar6", "bar0+2", "bar0+0x1.w", "bar0.b=256", "bar0=1:0x100000000", "bar0+14h", "", "bar0="]) {
    assert.throws(() => parseRegisterPlace(text), { code: "USAGE" }, text);
  }
});

test("peek and poke a served device, and reset it", { timeout: 60_000 }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "ring3-peek-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const socket = join(directory, "edu.sock");
  const child = spawn(process.execPath, [join(import.meta.dirname, "../main.ts"), "serve", "edu", "--socket", socket]);
  t.after(() => child.kill("SIGKILL"));
  await once(child.stdout, "data");
  const address = `vfio-user:${socket}`;
  // edu's identification, and the register that answers with every bit inverted.
  assert.equal((await captured(["peek", address, "bar0"])).stdout, "0x010000ed\n");
  const several = await captured(["peek", address, "config.w", "bar0", "--count", "2"]);
  assert.match(
    several.stdout,
    /^config\+0x0: 0x1234\nconfig\+0x2: 0x11e8\nbar0\+0x0: 0x010000ed\nbar0\+0x4: 0x[0-9a-f]{8}\n$/,
  );
  const poked = await captured(["poke", address, "bar0+4=0x5a5a5a5a", "bar0+4", "config+0x3c.b=0x70:0xf0", "--yes"]);
  assert.deepEqual([poked.status, poked.stderr], [0, ""]);
  assert.match(
    poked.stdout,
    /^bar0\+4=0x5a5a5a5a: 0x5a5a5a5a\nbar0\+4: 0xa5a5a5a5\nconfig.*: 0x0[0-9a-f] -> 0x7[0-9a-f]\n$/,
  );
  const { values } = JSON.parse((await captured(["peek", address, "bar0", "--json"])).stdout) as {
    values: { value: number }[];
  };
  assert.equal(values[0]?.value, 0x010000ed);
  const done = await captured(["reset", address, "--json"]);
  assert.equal((JSON.parse(done.stdout) as { method: string }).method, "device_specific", done.stderr);
  const failing: [status: number, message: RegExp, ...words: string[]][] = [
    [2, /that is ring3 poke/, "peek", address, "bar0=1"],
    [2, /PLACE is missing/, "peek", address],
    [2, /nothing to write/, "poke", address, "bar0", "--yes"],
    [2, /say --yes/, "poke", address, "bar0=1"],
    [2, /no BAR 3/, "peek", address, "bar3"],
    [2, /no ROM/, "peek", address, "rom"],
    [1, /range|beyond|leaves|outside/i, "peek", address, "bar0+0x10000000"],
  ];
  for (const [status, message, ...words] of failing) {
    const result = await captured(words);
    assert.deepEqual([result.status, result.stdout], [status, ""], `${words.join(" ")}: ${result.stderr}`);
    assert.match(result.stderr, message);
  }
});
