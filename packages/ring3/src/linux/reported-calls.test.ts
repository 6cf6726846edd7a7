// The channel on which system calls are told: what it says, and that nobody listening changes nothing.
import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import test from "node:test";
import { SYSTEM_CALLS, type SystemCallReport } from "../binary/diagnostics.ts";
import { FileDescriptor, OPEN } from "./file-descriptor.ts";
import { ioctl, tryIoctl } from "./ioctl.ts";

const FIONREAD = 0x541b;

test("calls are told in words, with what they returned, while somebody listens", () => {
  const told: SystemCallReport[] = [];
  const listen = (message: unknown): void => void told.push(message as SystemCallReport);
  subscribe(SYSTEM_CALLS, listen);
  try {
    using file = FileDescriptor.open("/dev/null", OPEN.READ);
    assert.throws(() => FileDescriptor.open("/nowhere/at-all", OPEN.READ), { errno: "ENOENT" });
    assert.throws(() => ioctl(file, "FIONREAD", FIONREAD, new Uint8Array(4)), { call: "ioctl FIONREAD" });
    tryIoctl(file, FIONREAD, 0);
    assert.deepEqual(
      told.map(({ call, result }) => [call, result]),
      [
        ["open /dev/null", file.number],
        ["open /nowhere/at-all", -2],
        ["ioctl FIONREAD", -25],
        ["ioctl 0x541b", -25],
      ],
    );
    assert.ok(told.every(({ tookMs }) => tookMs >= 0));
  } finally {
    unsubscribe(SYSTEM_CALLS, listen);
  }
  const { length } = told;
  using _file = FileDescriptor.open("/dev/null", OPEN.READ);
  assert.equal(told.length, length);
});
