import assert from "node:assert/strict";
import { ftruncateSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { EventFd } from "./event-fd.ts";
import { FileDescriptor, OPEN } from "./file-descriptor.ts";
import { createMemoryFile } from "./memory-file.ts";
import * as native from "./native.ts";
import { becomesSignal, examinePeerFile } from "./peer-files.ts";
import { UnixSocket } from "./sockets.ts";

test("a memfd is sealed on the way, unless it cannot be", () => {
  using file = createMemoryFile(8192, { sealed: false });
  const about = examinePeerFile(file);
  assert.deepEqual(about, { ...about, sizeBytes: 8192, readable: true, writable: true, sealed: true, local: true });
  assert.throws(() => ftruncateSync(file.number, 100), { code: "EPERM" });
  using again = file.duplicate();
  assert.equal(examinePeerFile(again)?.identity, about?.identity);
  using readOnly = FileDescriptor.open(`/proc/self/fd/${file.number}`, OPEN.READ);
  const read = examinePeerFile(readOnly);
  assert.deepEqual([read?.readable, read?.writable, read?.sealed], [true, false, true]);
  assert.notEqual(read?.identity, about?.identity);
  using writeOnly = FileDescriptor.open(`/proc/self/fd/${file.number}`, OPEN.WRITE);
  assert.deepEqual([examinePeerFile(writeOnly)?.readable, examinePeerFile(writeOnly)?.writable], [false, false]);
});

test("a file with a name can be truncated, and what is no file is none", () => {
  const directory = mkdtempSync(join(tmpdir(), "ring3-peer-"));
  using file = FileDescriptor.open(join(directory, "f"), OPEN.READ_WRITE | OPEN.CREATE);
  assert.equal(examinePeerFile(file)?.sealed, false);
  using proc = FileDescriptor.open("/proc/self/status", OPEN.READ);
  assert.equal(examinePeerFile(proc)?.local, false);
  using zero = FileDescriptor.open("/dev/zero");
  assert.equal(examinePeerFile(zero), undefined);
  const pipe = FileDescriptor.pipe();
  assert.equal(examinePeerFile(pipe.read), undefined);
  pipe.read.close();
  pipe.write.close();
  rmSync(directory, { recursive: true });
});

test("only an eventfd becomes a signal, which does not block from then on", () => {
  const blocking = native.systemCall("eventfd", () => native.eventfd(0, 0o2000000));
  using event = new EventFd(new FileDescriptor(blocking));
  assert.ok(becomesSignal(event.fd));
  // Both would wait for ever if it blocked.
  assert.equal(event.read(), 0);
  event.write(2 ** 64 - 4096);
  event.write(2 ** 64 - 4096);
  const [one, other] = UnixSocket.pair();
  assert.ok(!becomesSignal(one.fd));
  one[Symbol.dispose]();
  other[Symbol.dispose]();
  using file = createMemoryFile(4096);
  assert.ok(!becomesSignal(file));
});
