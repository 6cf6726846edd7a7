import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { FileDescriptor, UnixSocket } from "ring3/linux";
import * as native from "../../../ring3/src/linux/native.ts";
import { ALICE, EVERY_EVENT, FakeService, status } from "./fake-service.ts";
import { statusText, tellManager } from "./manager-status.ts";

test("functions by state, with the reasons of those that have failed", () => {
  const failed = { state: "failed", reason: "the reset did not end" } as const;
  const functions = [status("a", { state: "used", users: [ALICE] }), status("b", failed), status("c"), status("d")];
  assert.equal(statusText(functions), "4 functions: 1 used, 1 failed (b: the reset did not end), 2 ready");
  assert.equal(statusText([status("a")]), "1 function: 1 ready");
  assert.equal(statusText([]), "no functions");
});

test("the manager hears of a change, once however many events there are", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const directory = mkdtempSync(join(tmpdir(), "ring3-manager-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const NOTIFY_SOCKET = join(directory, "notify");
  const [AF_UNIX, SOCK_DGRAM] = [1, 2];
  const address = new TextEncoder().encode(`\x01\0${NOTIFY_SOCKET}\0`);
  const number = native.systemCall("socket", () => native.socket(AF_UNIX, SOCK_DGRAM, 0));
  native.systemCall("bind", () => native.bind(number, address, address.length));
  using manager = new UnixSocket(new FileDescriptor(number));
  const heard = (): string | undefined => {
    const into = new Uint8Array(1000);
    const { size } = manager.receive(into);
    return size < 0 ? undefined : new TextDecoder().decode(into.subarray(0, size));
  };
  const service = new FakeService(status("disk"));
  const telling = tellManager(service, { NOTIFY_SOCKET });
  for (let count = 0; count < 1000; count++) service.emit(EVERY_EVENT.opened);
  t.mock.timers.tick(1000);
  assert.equal(heard(), "STATUS=1 function: 1 ready");
  assert.equal(heard(), undefined);
  service.emit(EVERY_EVENT.closed);
  t.mock.timers.tick(1000);
  assert.equal(heard(), undefined, "nothing has changed");
  service.list = [status("disk", { state: "failed", reason: "gone" })];
  service.emit(EVERY_EVENT.failed);
  t.mock.timers.tick(1000);
  assert.equal(heard(), "STATUS=1 function: 1 failed (disk: gone)");
  telling[Symbol.dispose]();
  assert.equal(service.listeners, 0);
});
