import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { captured } from "../captured-run.ts";
import { deviceSettings, loadDevice } from "./load-device.ts";

/** Writes `text` to a file outside any project and returns its path. */
function file(t: TestContext, text: string, name = "device.ts"): string {
  const directory = mkdtempSync(join(tmpdir(), "ring3-load-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

const IMPORT = 'import { VirtualFunction } from "ring3/virtual";\n';
const DECLARATION = '{ name: "mine", vendorId: 0x1234, deviceId: 1, classCode: 0xff0000 }';

test("a function, a class, a maker, a promise, and a default export are all devices", async (t) => {
  const forms = [
    `export const device = new VirtualFunction(${DECLARATION});`,
    `export class device extends VirtualFunction { constructor(options: object) { super(${DECLARATION}); } }`,
    `export function device(): VirtualFunction { return new VirtualFunction(${DECLARATION}); }`,
    `export const device = async () => new VirtualFunction(${DECLARATION});`,
    `export default class extends VirtualFunction { constructor() { super(${DECLARATION}); } }`,
  ];
  for (const form of forms) {
    using fn = await loadDevice(file(t, `${IMPORT}${form}\n`), {});
    assert.equal(fn.identity.address, "mine", form);
  }
});

test("settings reach class and maker", async (t) => {
  const path = file(
    t,
    `${IMPORT}export const device = ({ id = "1" }: { id?: string }) =>
       new VirtualFunction({ vendorId: 0x1234, deviceId: Number(id), classCode: 0xff0000 });\n`,
  );
  using fn = await loadDevice(path, deviceSettings(["id=7"]));
  assert.equal(fn.identity.deviceId, 7);
  assert.deepEqual(deviceSettings(["a=1", "b=x=y", "c="]), { a: "1", b: "x=y", c: "" });
  assert.throws(() => deviceSettings(["=1"]), /NAME=VALUE/);
});

test("what is no device is refused with the rule", async (t) => {
  await assert.rejects(
    loadDevice(file(t, "export const gadget = 1;\n"), {}),
    /exports gadget only; export a VirtualFunction/,
  );
  await assert.rejects(loadDevice(file(t, "export {};\n"), {}), /exports nothing; export/);
  await assert.rejects(loadDevice(file(t, "export const device = () => 3;\n"), {}), /is no VirtualFunction; export/);
  await assert.rejects(loadDevice(file(t, 'import "nowhere";\n'), {}), /cannot be loaded: .*nowhere/);
  await assert.rejects(loadDevice(file(t, "export const device = (;\n"), {}), /cannot be loaded/);
  await assert.rejects(loadDevice(join(tmpdir(), "ring3-no-such-device.ts"), {}), /ring3 new device/);
});

test("as a command: exit statuses of a file that is missing or has no device", async (t) => {
  const words = (path: string): string[] => ["serve", path, "--socket", "/nowhere/x.sock"];
  assert.equal((await captured(words("./no-such-device.ts"))).status, 4);
  const wrong = await captured(words(file(t, "export const gadget = 1;\n")));
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /exports gadget only/);
  const help = await captured(["serve", "./x.ts", "--help"]);
  assert.match(help.stdout, /^Usage: ring3 serve FILE \[OPTION\.\.\.\]/);
  assert.match((await captured(["serve", "--help"])).stdout, /\n {2}FILE +serve a device of your own/);
  assert.match((await captured(["serve", "nvm"])).stderr, /did you mean ring3 serve nvme\?/);
  assert.match((await captured(["serve", "zzz"])).stderr, /it knows nvme, edu, virtio-blk, virtio-net, pci, FILE/);
});
